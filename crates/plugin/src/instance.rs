//! One instance of a component, and the pool from which calls take one.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::component::InstancePre;
use wasmtime::{Store, Trap, WasmBacktrace};
use waypost_hooks::FaultKind;
use waypost_mail::Text;

use crate::bindings::exports::waypost::policy::lifecycle::PluginInfo;
use crate::context::{Call, Context, Rights, bound, now};
use crate::question::{Guests, Hooks, Question};
use crate::{Budget, Stage};

/// An instance is replaced after so many calls, or this long, more or less: state that hides in it does
/// not last, and instances do not all end at once.
const MOST_CALLS: u32 = 1000;
const LONGEST_LIFE: Duration = Duration::from_secs(300);
/// Calls that may wait for a slot, for each slot there is, and for how long.
const WAITERS: usize = 256;
const PATIENCE: Duration = Duration::from_millis(250);
/// What beginning an instance may take.
pub(crate) const BIRTH: Budget =
    Budget { cpu: Duration::from_secs(1), wall: Duration::from_secs(10) };
/// Longest text of an error that is kept.
const MAX_TEXT: usize = 1024;

/// How a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: FaultKind,
    pub(crate) text: String,
}

impl Failure {
    /// The text may be a stranger's: it is cut, and made one printable line.
    pub(crate) fn new(kind: FaultKind, text: impl Into<String>) -> Failure {
        let mut text = text.into();
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        if text.contains(char::is_control) {
            text = text.replace(char::is_control, " ");
        }
        Failure { kind, text }
    }
}

/// One instance, with its own memory.
pub(crate) struct Instance {
    store: Store<Context>,
    guests: Guests,
    calls_left: u32,
    ends: Instant,
}

/// An instance, in a box as it is handed about, and what it says of itself when it begins; the same
/// each time.
pub(crate) type Born = (Box<Instance>, Option<PluginInfo>);

impl Instance {
    /// A new instance, with its functions checked and its `init` called.
    pub(crate) async fn begin(
        pre: &InstancePre<Context>,
        hooks: &Hooks,
        rights: &Arc<Rights>,
        memory: usize,
        config: &str,
    ) -> Result<Born, Failure> {
        let mut store = Store::new(pre.engine(), Context::new(rights.clone(), memory));
        bound(&mut store);
        store.data_mut().begin(Call::new(None, BIRTH.cpu, None));
        let mut birth = Box::pin(async {
            let instance = match pre.instantiate_async(&mut store).await {
                Ok(instance) => instance,
                Err(error) => return Err(failure(&store, &error)),
            };
            let guests = hooks.load(&mut store, &instance).map_err(|e| failure(&store, &e))?;
            let Some(lifecycle) = &guests.lifecycle else { return Ok((guests, None)) };
            match lifecycle.call_init(&mut store, config).await {
                Ok(Ok(info)) => Ok((guests, Some(info))),
                Ok(Err(refusal)) => Err(Failure::new(FaultKind::Reported, refusal)),
                Err(error) => Err(failure(&store, &error)),
            }
        });
        let (guests, info) = guarded(birth.as_mut(), BIRTH.wall).await?;
        drop(birth);
        store.data_mut().forget();
        let jitter = 0.9 + 0.2 * rand::random::<f64>();
        let calls_left = (f64::from(MOST_CALLS) * jitter) as u32;
        let ends = now() + LONGEST_LIFE.mul_f64(jitter);
        Ok((Box::new(Instance { store, guests, calls_left, ends }), info))
    }

    /// Puts a question. After a failure of another kind than `Reported` the instance is not to be used
    /// again.
    pub(crate) async fn put<Q: Question>(
        &mut self,
        question: &Q,
        budget: Budget,
        text: Option<Text>,
    ) -> Result<Q::Answer, Failure> {
        self.calls_left = self.calls_left.saturating_sub(1);
        let Instance { store, guests, .. } = self;
        store.data_mut().begin(Call::new(Some(Q::STAGE), budget.cpu, text));
        store.set_epoch_deadline(1);
        let answer = {
            let call = pin!(async {
                match question.put(&mut *store, guests).await {
                    Ok(Ok(answer)) => Ok(answer),
                    Ok(Err(reported)) => Err(Failure::new(FaultKind::Reported, reported)),
                    Err(error) => Err(failure(store, &error)),
                }
            });
            guarded(call, budget.wall).await
        };
        self.store.data_mut().forget();
        answer
    }

    /// What the component complains of itself.
    pub(crate) async fn self_test(&mut self) -> Result<Vec<String>, Failure> {
        let Instance { store, guests, .. } = self;
        let Some(self_test) = &guests.self_test else { return Ok(Vec::new()) };
        store.data_mut().begin(Call::new(None, BIRTH.cpu, None));
        store.set_epoch_deadline(1);
        let mut call = Box::pin(async {
            self_test.call_self_test(&mut *store).await.map_err(|error| failure(store, &error))
        });
        let complaints = guarded(call.as_mut(), BIRTH.wall).await;
        drop(call);
        self.store.data_mut().forget();
        complaints
    }

    /// Octets of its memories.
    pub(crate) fn memory(&self) -> usize {
        self.store.data().memory()
    }

    fn is_worn(&self, limit: usize) -> bool {
        // When the call began is near enough, and known.
        let worn = self.calls_left == 0 || self.store.data().call.began >= self.ends;
        worn || self.memory() > limit / 4 * 3
    }
}

/// Bounds a call by the clock, and keeps a panic of a host function from taking more than the call.
///
/// The call is pinned by who makes it: handed over by value, it would be copied at every level.
async fn guarded<T>(
    call: Pin<&mut impl Future<Output = Result<T, Failure>>>,
    wall: Duration,
) -> Result<T, Failure> {
    let mut call = AssertUnwindSafe(call).catch_unwind();
    // Most calls end without waiting for anything: they need no clock.
    let answer = match poll_fn(|cx| Poll::Ready(call.poll_unpin(cx))).await {
        Poll::Ready(answer) => Ok(answer),
        Poll::Pending => tokio::time::timeout(wall, call).await,
    };
    match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Failure::new(FaultKind::Host, "a host function failed by a bug")),
        Err(_) => Err(Failure::new(FaultKind::Wall, format!("no answer within {wall:?}"))),
    }
}

/// What kind of failure an error of the engine is. Causes are asked by type, not by text.
fn failure(store: &Store<Context>, error: &wasmtime::Error) -> Failure {
    let context = store.data();
    let trap = error.downcast_ref::<Trap>();
    let kind = match (context.call.stopped, trap) {
        (Some(stopped), _) => stopped,
        (None, Some(Trap::Interrupt)) => FaultKind::Cpu,
        (None, Some(_)) if context.wanted_memory() => FaultKind::Memory,
        (None, Some(_)) => FaultKind::Trap,
        // Before any hook is asked, what does not fit is how it was built.
        (None, None) if context.wanted_memory() => FaultKind::Memory,
        (None, None) if !context.in_hook() => FaultKind::Init,
        // Neither the guest nor the host stopped it: what the guest handed over was too much or could
        // not be read. It was an argument of a host function when the guest was not done yet.
        (None, None) if error.is::<WasmBacktrace>() => FaultKind::Quota,
        (None, None) => FaultKind::BadAnswer,
    };
    Failure::new(kind, format!("{error:#}"))
}

/// The instances of one plugin in one generation.
pub(crate) struct Pool {
    slots: Semaphore,
    waiting: AtomicUsize,
    most_waiting: usize,
    memory: usize,
    free: Mutex<Free>,
}

/// Instances that wait for a call.
#[derive(Default)]
struct Free {
    #[expect(clippy::vec_box, reason = "an instance is large, and moved at every call")]
    instances: Vec<Box<Instance>>,
    /// The generation is not in force: nobody is kept waiting.
    retired: bool,
}

/// The right to have one instance.
#[derive(Debug)]
pub(crate) struct Slot<'a>(
    #[expect(dead_code, reason = "held, not looked at")] SemaphorePermit<'a>,
);

impl Pool {
    pub(crate) fn new(slots: usize, memory: usize) -> Pool {
        Pool {
            slots: Semaphore::new(slots),
            waiting: AtomicUsize::new(0),
            most_waiting: WAITERS * slots,
            memory,
            free: Mutex::default(),
        }
    }

    /// A slot, if one is free.
    pub(crate) fn free_slot(&self) -> Option<Slot<'_>> {
        self.slots.try_acquire().ok().map(Slot)
    }

    /// Waits for a slot, not long and not with too many others.
    pub(crate) async fn slot(&self) -> Result<Slot<'_>, Failure> {
        if let Some(slot) = self.free_slot() {
            return Ok(slot);
        }
        let _waiting = Waiting::join(self)?;
        match tokio::time::timeout(PATIENCE, self.slots.acquire()).await {
            Ok(Ok(permit)) => Ok(Slot(permit)),
            Ok(Err(_)) => Err(Failure::new(FaultKind::Host, "the pool is closed")),
            Err(_) => {
                let text = format!("no instance was free within {PATIENCE:?}; raise its slots");
                Err(Failure::new(FaultKind::Busy, text))
            }
        }
    }

    /// A free instance, the one used last.
    pub(crate) fn take(&self, _slot: &Slot<'_>) -> Option<Box<Instance>> {
        self.waiting_for_work().instances.pop()
    }

    /// Gives an instance back that answered, unless it is worn.
    pub(crate) fn give_back(&self, instance: Box<Instance>) {
        if instance.is_worn(self.memory) {
            return;
        }
        let mut free = self.waiting_for_work();
        if !free.retired {
            free.instances.push(instance);
        }
    }

    /// The generation is in force, or is not any more: then all that are free go, and those at work
    /// when they are done.
    pub(crate) fn retire(&self, retired: bool) {
        let mut free = self.waiting_for_work();
        free.retired = retired;
        let gone = if retired { std::mem::take(&mut free.instances) } else { Vec::new() };
        // Unmapping takes a while, and others wait for the lock.
        drop(free);
        drop(gone);
    }

    /// Octets of the free instance that was used last.
    pub(crate) fn memory_of_one(&self) -> Option<usize> {
        self.waiting_for_work().instances.last().map(|instance| instance.memory())
    }

    /// How many instances are free.
    pub(crate) fn free(&self) -> usize {
        self.waiting_for_work().instances.len()
    }

    fn waiting_for_work(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those that wait.
struct Waiting<'a>(&'a Pool);

impl<'a> Waiting<'a> {
    fn join(pool: &'a Pool) -> Result<Waiting<'a>, Failure> {
        if pool.waiting.fetch_add(1, Ordering::Relaxed) >= pool.most_waiting {
            pool.waiting.fetch_sub(1, Ordering::Relaxed);
            let text = "all instances are busy and too many calls wait; raise its slots";
            return Err(Failure::new(FaultKind::Busy, text));
        }
        Ok(Waiting(pool))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The stages, for messages about one.
pub(crate) fn stages(hooks: &Hooks) -> Vec<Stage> {
    crate::STAGES.into_iter().filter(|stage| hooks.answers(*stage)).collect()
}
