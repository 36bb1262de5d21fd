//! What stands behind a guest while it runs: its rights, its limits, and the message of the call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use waypost_hooks::FaultKind;
use waypost_mail::Text;

use crate::bindings::waypost::policy::types::HostError;
use crate::engine::{TABLE_ELEMENTS, TICK};
use crate::metrics::Series;
use crate::mime::Parts;
use crate::{Grants, Stage, services};

/// Most host calls in one call of a guest; past them functions answer `over-quota`.
const MAX_HOST_CALLS: u32 = 1000;
/// A guest that goes on all the same is stopped.
const STOPPED_AT: u32 = 10 * MAX_HOST_CALLS;
/// Most octets that host calls of one call hand over, both ways together.
const MAX_OCTETS: usize = 16 * 1024 * 1024;
/// Most octets in one transfer from a guest.
const TRANSFER: usize = 4 * 1024 * 1024;
/// Most handles of resources; the contract has none.
const HANDLES: usize = 1024;
/// Most memories, tables and core instances of one instance of a component.
const MOST_OF_EACH: usize = 256;

/// What all instances of one plugin in one generation share.
#[derive(Debug)]
pub(crate) struct Rights {
    pub(crate) plugin: String,
    pub(crate) grants: Grants,
    pub(crate) services: services::Shared,
    pub(crate) series: Arc<Series>,
    /// Log lines that may still be written.
    pub(crate) lines: crate::host::log::Allowance,
}

/// The data of a store.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) rights: Arc<Rights>,
    pub(crate) call: Call,
    memory: Memory,
}

/// One call of a guest.
#[derive(Debug)]
pub(crate) struct Call {
    /// Absent while the instance begins.
    pub(crate) stage: Option<Stage>,
    /// The message that can be read.
    pub(crate) text: Option<Text>,
    pub(crate) parts: Option<Arc<Parts>>,
    pub(crate) began: Instant,
    pub(crate) dns_questions: usize,
    /// Epochs it may still run.
    ticks: u32,
    host_calls: u32,
    octets: usize,
    /// What the host stopped it for.
    pub(crate) stopped: Option<FaultKind>,
}

impl Call {
    /// A call that has `cpu` of processor time.
    pub(crate) fn new(stage: Option<Stage>, cpu: Duration, text: Option<Text>) -> Call {
        let ticks = cpu.as_millis().div_ceil(TICK.as_millis());
        Call {
            stage,
            text,
            parts: None,
            began: now(),
            dns_questions: 0,
            ticks: u32::try_from(ticks).unwrap_or(u32::MAX),
            host_calls: 0,
            octets: 0,
            stopped: None,
        }
    }
}

/// Processor time is measured, not told: tests that own the time of day do not own this.
#[allow(clippy::disallowed_methods, reason = "measures how long guests take")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

impl Context {
    pub(crate) fn new(rights: Arc<Rights>, memory: usize) -> Context {
        let memory = Memory { limit: memory, octets: 0, elements: 0, refused: false };
        Context { rights, call: Call::new(None, Duration::ZERO, None), memory }
    }

    /// A call begins.
    pub(crate) fn begin(&mut self, call: Call) {
        self.call = call;
        self.memory.refused = false;
    }

    /// What is left of the call's quotas after a host call that hands over `octets`.
    ///
    /// # Errors
    /// `over-quota` for the guest; or, past all patience, a trap.
    pub(crate) fn spend(&mut self, octets: usize) -> wasmtime::Result<Result<(), HostError>> {
        self.call.host_calls += 1;
        if self.call.host_calls >= STOPPED_AT {
            self.call.stopped = Some(FaultKind::Quota);
            return Err(wasmtime::format_err!("{STOPPED_AT} host calls in one call"));
        }
        let within = self.may_hand_over(octets) && self.call.host_calls <= MAX_HOST_CALLS;
        Ok(if within { Ok(()) } else { Err(HostError::OverQuota) })
    }

    /// Counts further octets of a host call that was counted, and says whether the quota allows them.
    pub(crate) fn may_hand_over(&mut self, octets: usize) -> bool {
        self.call.octets = self.call.octets.saturating_add(octets);
        self.call.octets <= MAX_OCTETS
    }

    /// True in a hook, false while the instance begins.
    pub(crate) fn in_hook(&self) -> bool {
        self.call.stage.is_some()
    }

    /// The stage for log lines.
    pub(crate) fn place(&self) -> &'static str {
        self.call.stage.map_or("init", Stage::name)
    }

    /// Octets of all its memories.
    pub(crate) fn memory(&self) -> usize {
        self.memory.octets
    }

    /// The call wanted more memory than the instance may have.
    pub(crate) fn wanted_memory(&self) -> bool {
        self.memory.refused
    }

    /// Between calls nothing of a message stays behind.
    pub(crate) fn forget(&mut self) {
        (self.call.text, self.call.parts, self.call.stage) = (None, None, None);
    }

    /// An epoch is over while the guest computes.
    fn ticked(&mut self) -> UpdateDeadline {
        match self.call.ticks.checked_sub(1) {
            Some(left) => {
                self.call.ticks = left;
                UpdateDeadline::Yield(1)
            }
            None => {
                self.call.stopped = Some(FaultKind::Cpu);
                UpdateDeadline::Interrupt
            }
        }
    }
}

/// Puts every limit on a new store.
pub(crate) fn bound(store: &mut Store<Context>) {
    store.limiter(|context| &mut context.memory);
    store.set_hostcall_fuel(TRANSFER);
    store.set_max_component_handles(HANDLES);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut context| Ok(context.data_mut().ticked()));
}

/// Counts all memories and tables of a store together: a limit for each would be none.
#[derive(Debug)]
struct Memory {
    limit: usize,
    octets: usize,
    elements: usize,
    refused: bool,
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let octets = self.octets.saturating_sub(current).saturating_add(desired);
        let fits = octets <= self.limit;
        if fits {
            self.octets = octets;
        }
        self.refused |= !fits;
        Ok(fits)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = self.elements.saturating_sub(current).saturating_add(desired);
        let fits = elements <= TABLE_ELEMENTS;
        if fits {
            self.elements = elements;
        }
        self.refused |= !fits;
        Ok(fits)
    }

    fn instances(&self) -> usize {
        MOST_OF_EACH
    }

    fn tables(&self) -> usize {
        MOST_OF_EACH
    }

    fn memories(&self) -> usize {
        MOST_OF_EACH
    }
}
