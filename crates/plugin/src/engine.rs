//! Engines: how guests are compiled and run, and the clock that interrupts them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::{Config, Enabled, Engine, PoolingAllocationConfig, RegallocAlgorithm};

/// One epoch. A guest that computes gives way to others after this long, and its budget is counted in
/// these.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// The clock rests after this many ticks without a call.
const RESTS_AFTER: u32 = 1000;
/// Stack of a guest, and of the fiber that it and the host's functions share.
const GUEST_STACK: usize = 512 * 1024;
const FIBER_STACK: usize = 1536 * 1024;
/// Most elements of one table.
pub(crate) const TABLE_ELEMENTS: usize = 200_000;
/// Of each memory this much stays mapped when its slot is reused.
const KEEP_RESIDENT: usize = 1024 * 1024;

/// What all engines have in common, so that what one compiled another can run.
fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK)
        .async_stack_size(FIBER_STACK)
        .cranelift_nan_canonicalization(true)
        .cranelift_regalloc_algorithm(RegallocAlgorithm::Backtracking)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(true)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(20))
        .memory_init_cow(true);
    config
}

/// An engine that compiles, and in which components are looked at; nothing runs in it.
///
/// # Errors
/// When this machine cannot run what it would compile.
pub(crate) fn workshop() -> wasmtime::Result<Engine> {
    Engine::new(&config())
}

/// How much room a generation's plugins take when all their slots are in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) instances: u32,
    pub(crate) memories: u32,
    pub(crate) tables: u32,
    pub(crate) memories_of_one: u32,
    pub(crate) tables_of_one: u32,
    /// The largest memory of any plugin, in octets.
    pub(crate) memory: usize,
}

/// An engine with exactly this room.
///
/// # Errors
/// When the system does not give the address space.
pub(crate) fn hall(room: &Room) -> wasmtime::Result<Engine> {
    let mut config = config();
    config.allocation_strategy(pool(room));
    Engine::new(&config)
}

fn pool(room: &Room) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(room.instances.max(1))
        // A scripting language makes dozens of core instances of one component; they are only counted.
        .total_core_instances(room.instances.max(1).saturating_mul(256))
        .max_core_instances_per_component(256)
        .total_memories(room.memories.max(1))
        .max_memories_per_component(room.memories_of_one.max(1))
        .max_memory_size(room.memory.max(64 * 1024).next_multiple_of(64 * 1024))
        .total_tables(room.tables.max(1))
        .max_tables_per_component(room.tables_of_one.max(1))
        .max_tables_per_module(room.tables_of_one.max(1))
        .max_memories_per_module(room.memories_of_one.max(1))
        .table_elements(TABLE_ELEMENTS)
        .total_stacks(room.instances.max(1))
        .max_component_instance_size(4 * 1024 * 1024)
        .max_core_instance_size(4 * 1024 * 1024)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .pagemap_scan(Enabled::Auto)
        .async_stack_keep_resident(64 * 1024);
    pool
}

/// The clock of all engines: a thread that moves their epochs on while guests run.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    engines: Mutex<Vec<Weak<Hand>>>,
    /// Calls begun so far.
    calls: AtomicU64,
    /// Calls under way.
    running: AtomicU64,
    resting: AtomicBool,
    ending: AtomicBool,
}

/// Moves one engine's epoch for as long as somebody keeps it.
#[derive(Debug)]
pub(crate) struct Hand(Muted);

/// `Engine` has no text form of its own.
struct Muted(Engine);

impl std::fmt::Debug for Muted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Ticker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start() -> std::io::Result<Arc<Ticker>> {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread =
            thread::Builder::new().name("waypost-epochs".to_owned()).spawn(move || theirs.run())?;
        Ok(Arc::new(Ticker { shared, thread: Some(thread) }))
    }

    /// Moves this engine's epoch too, until the answer is dropped.
    pub(crate) fn wind(&self, engine: &Engine) -> Arc<Hand> {
        let hand = Arc::new(Hand(Muted(engine.clone())));
        let mut engines = self.shared.engines.lock().unwrap_or_else(PoisonError::into_inner);
        engines.retain(|engine| engine.strong_count() > 0);
        engines.push(Arc::downgrade(&hand));
        hand
    }

    /// A guest is about to run; until the answer is dropped.
    pub(crate) fn running(&self) -> Running<'_> {
        self.shared.calls.fetch_add(1, Ordering::Relaxed);
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.resting.load(Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Running(&self.shared)
    }
}

/// A guest is running.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    fn run(&self) {
        let (mut quiet, mut seen) = (0, 0);
        while !self.ending.load(Ordering::Relaxed) {
            thread::sleep(TICK);
            self.tick();
            let calls = self.calls.load(Ordering::Relaxed);
            let busy = calls != seen || self.running.load(Ordering::SeqCst) > 0;
            (quiet, seen) = (if busy { 0 } else { quiet + 1 }, calls);
            if quiet >= RESTS_AFTER {
                self.rest();
                quiet = 0;
            }
        }
    }

    fn tick(&self) {
        let engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        for hand in engines.iter().filter_map(Weak::upgrade) {
            hand.0.0.increment_epoch();
        }
    }

    /// Sleeps until a call begins. Who begins one sees `resting` or is seen here.
    fn rest(&self) {
        self.resting.store(true, Ordering::SeqCst);
        while self.running.load(Ordering::SeqCst) == 0 && !self.ending.load(Ordering::SeqCst) {
            thread::park();
        }
        self.resting.store(false, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It ends within a tick, and a panic of it has nobody left to hurt.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_engine_compiled_another_can_run() {
        let room = Room {
            instances: 7,
            memories: 21,
            memories_of_one: 3,
            memory: 1 << 26,
            ..Room::default()
        };
        let hash = |engine: &Engine| {
            use std::hash::{DefaultHasher, Hash, Hasher};
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        assert_eq!(hash(&workshop().unwrap()), hash(&hall(&room).unwrap()));
    }
}
