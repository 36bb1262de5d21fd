//! The end of a lease: one change in the spool, then in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use waypost_mail::{Outcome, RecipientState, Timestamp, Why};
use waypost_spool::{Change, Detours, SpoolError};

use crate::classes::ClassId;
use crate::index::marks;
use crate::metrics::SettledLabels;
use crate::shared::Shared;
use crate::ticket::{Fate, Lease, Leased};
use crate::{Prepared, Settled, Settlement, through};
use waypost_mutant::planted;

/// What could not be written may have been delivered: it does not come again at once.
const UNWRITTEN_PAUSE: Duration = Duration::from_secs(60);
/// Reasons are cut here, in octets.
const MAX_REASON: usize = 512;

/// What a settlement comes to.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) states: Vec<(u32, RecipientState)>,
    pub(crate) detours: Detours,
    pub(crate) fates: HashMap<u32, Fate>,
    pub(crate) labels: Vec<SettledLabels>,
    pub(crate) answered: bool,
    /// The clock jumped while it was in hand.
    overtaken: bool,
}

/// Writes the settlement and ends the lease.
pub(crate) async fn settle(
    shared: Arc<Shared>,
    mut lease: Lease,
    settlement: Settlement,
) -> Result<(), SpoolError> {
    if let Some(arrival) = shared.passing_arrival(lease.job.id) {
        return through::settle(shared, lease, arrival, settlement).await;
    }
    let mut plan = Plan::new(&shared, &lease, settlement.states);
    plan.detours.told = settlement.told;
    lease.pause = UNWRITTEN_PAUSE;
    let Plan { states, detours, fates, labels, answered, .. } = plan;
    let moved = !detours.routes.is_empty();
    if planted!("a lease ends before its settlement is written") {
        let (now, mut state) = (shared.clock.now(), shared.state());
        let recipients = lease.recipients.iter().map(|leased| leased.id);
        state.leases.give_back(lease.job.id, recipients);
        state.plan(lease.job, &lease.destination, now, lease.expires, now);
    }
    let marks = marks(&states);
    write(&shared, &lease, states, detours, settlement.notice).await?;
    tell(&shared, &lease, &labels, answered);
    // Before they are given back: nobody else changes them now.
    let moved = moved.then(|| shared.spool.load(lease.job.id)).transpose();
    if let Err(error) = &moved {
        tracing::error!(
            message = %lease.job.id, %error,
            "recipients with another way cannot be read; they go on after a restart"
        );
    }
    let mut moved = moved.unwrap_or_default();
    match &mut moved {
        Some(entry) => {
            let mut state = shared.state();
            state.put_right(entry, |id| fates.contains_key(&id));
            state.index.insert(entry);
        }
        None => shared.state().index.set(lease.job.id, marks),
    }
    lease.end(&fates, moved.as_ref());
    Ok(())
}

/// What follows from it for the metrics and for the destination.
pub(crate) fn tell(shared: &Shared, lease: &Lease, labels: &[SettledLabels], answered: bool) {
    for label in labels {
        shared.metrics.settled.get_or_create(label).inc();
    }
    if answered {
        let now = shared.clock.now();
        shared.state().schedule.answered(&lease.destination, now);
    }
}

/// One change for all of it; none when nothing lasting happened.
async fn write(
    shared: &Arc<Shared>,
    lease: &Lease,
    states: Vec<(u32, RecipientState)>,
    detours: Detours,
    notice: Option<Prepared>,
) -> Result<(), SpoolError> {
    let mut arrival = notice.map(Prepared::into_arrival);
    if states.is_empty() && detours.told.is_empty() && arrival.is_none() {
        return Ok(());
    }
    let arriving = match &mut arrival {
        Some(arrival) => {
            let (stored, arriving) = shared.arriving(arrival.entry.clone())?;
            arrival.entry = stored;
            Some(arriving)
        }
        None => None,
    };
    let notice = arrival.map(Box::new).filter(|_| !planted!("a bounce without its notice"));
    let result = shared.change(Change::Settle { id: lease.job.id, states, detours, notice }).await;
    match (&result, arriving) {
        (Ok(()), Some(arriving)) => shared.arrived(arriving),
        (Err(_), Some(arriving)) => {
            shared.state().arriving.remove(&arriving.entry.id);
        }
        (_, None) => {}
    }
    result
}

impl Plan {
    pub(crate) fn new(shared: &Shared, lease: &Lease, states: Vec<(u32, Settled)>) -> Plan {
        let jumps = shared.state().time.jumps();
        let mut plan = Plan { overtaken: jumps != lease.jumps, ..Plan::default() };
        for (id, settled) in states {
            match lease.recipient(id) {
                Some(leased) if !plan.fates.contains_key(&id) => {
                    plan.add(shared, lease.class, leased, settled)
                }
                _ => {
                    tracing::warn!(message = %lease.job.id, rcpt = id, "settled without a lease");
                }
            }
        }
        plan
    }

    fn add(&mut self, shared: &Shared, class: ClassId, leased: Leased, settled: Settled) {
        // A moment thought of before the clock fell may be in years.
        let longest = self.overtaken.then(|| shared.classes.get(class).retry.longest());
        let limit = longest.map(|longest| shared.clock.now().after(longest));
        match settled {
            Settled::Done(Outcome::Deferred(why)) => {
                self.again(leased, shared.retry_at(class, leased.tries.saturating_add(1)), why);
            }
            Settled::Again { at, why } => {
                self.again(leased, limit.map_or(at, |limit| at.min(limit)), why);
            }
            Settled::Rested { at, why } => {
                let at = limit.map_or(at, |limit| at.min(limit));
                self.later(leased, at, leased.tries, why);
            }
            Settled::Later { at } => {
                let fate = if leased.held { Fate::Held } else { Fate::Due(at) };
                self.fates.insert(leased.id, fate);
            }
            Settled::Held(reason) => {
                let reason = bounded(reason);
                let state = RecipientState::Held { tries: leased.tries, reason };
                self.set(leased.id, state, Fate::Held, "held", "");
            }
            Settled::Rerouted { route, at, why } => {
                let at = limit.map_or(at, |limit| at.min(limit));
                self.detours.routes.push((leased.id, route));
                self.detours.counted = true;
                self.again(leased, at, why);
                self.fates.insert(leased.id, Fate::Elsewhere(at));
            }
            Settled::Routed { route, at } => {
                self.detours.routes.push((leased.id, route));
                let state = RecipientState::Waiting { due: at, tries: leased.tries, last: None };
                self.states.push((leased.id, state));
                self.fates.insert(leased.id, Fate::Elsewhere(at));
            }
            Settled::Doomed(why) => {
                let (due, cause) = (shared.clock.now(), why.label());
                let last = Some(why.bounded());
                let state = RecipientState::Waiting { due, tries: 0, last };
                self.set(leased.id, state, Fate::Due(due), "deferred", cause);
            }
            Settled::Done(outcome) => self.done(leased, outcome),
        }
    }

    fn again(&mut self, leased: Leased, at: Timestamp, why: Why) {
        self.later(leased, at, leased.tries.saturating_add(1), why);
    }

    fn later(&mut self, leased: Leased, at: Timestamp, tries: u32, why: Why) {
        let cause = why.label();
        let state = RecipientState::Waiting { due: at, tries, last: Some(why.bounded()) };
        self.set(leased.id, state, Fate::Due(at), "deferred", cause);
    }

    fn done(&mut self, leased: Leased, outcome: Outcome) {
        self.answered |= matches!(outcome, Outcome::Delivered { .. });
        let (label, cause) = (outcome.label(), outcome.why().map_or("", Why::label));
        let state = RecipientState::Done(match outcome {
            Outcome::Bounced(why) => Outcome::Bounced(why.bounded()),
            Outcome::Unknown(why) => Outcome::Unknown(why.bounded()),
            other => other,
        });
        self.set(leased.id, state, Fate::Done, label, cause);
    }

    fn set(
        &mut self,
        id: u32,
        state: RecipientState,
        fate: Fate,
        outcome: &'static str,
        cause: &'static str,
    ) {
        self.states.push((id, state));
        self.fates.insert(id, fate);
        self.labels.push(SettledLabels { outcome, cause });
    }
}

/// A reason short enough to be kept.
pub(crate) fn bounded(mut reason: String) -> String {
    if reason.len() > MAX_REASON {
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
    }
    reason
}
