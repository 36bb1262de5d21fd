//! What all parts of the queue share: the spool, the state in memory, and the steps that change both.
//!
//! The lock is held for microseconds and never across a read or write of the spool. Storage changes
//! first, memory follows; between the two the recipients concerned are leased, so that nobody acts
//! on what memory does not know yet.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use tokio::sync::Notify;
use tokio::time::Instant;
use waypost_mail::{Clock, Entry, MessageId, RecipientEntry, Timestamp};
use waypost_spool::{Arrival, Change, Spool, SpoolError};

use crate::classes::{ClassId, Classes};
use crate::pace::Pace;
use crate::schedule::{Job, ShareId, Taken};
use crate::state::{Choice, State, Turn};
use crate::ticket::{DROPPED_PAUSE, Fate, Lease, Leased};
use crate::timekeeper::Jump;
use crate::{Config, JumpLabels, Loading, Metrics, Ticket, expired};
use waypost_mutant::planted;

/// A message that cannot be read now, though it is not damaged, is looked at again after this.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(30);

pub(crate) struct Shared {
    pub(crate) spool: Arc<dyn Spool>,
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    /// What the classes say.
    pub(crate) classes: Arc<Classes>,
    /// When [`Clock::even`] was nothing, if the clock has that.
    began: Instant,
    random: Mutex<StdRng>,
    pace: Mutex<Pace>,
    /// Something may be due; whoever waits in `next` looks again.
    pub(crate) due: Notify,
    /// No lease is out.
    pub(crate) idle: Notify,
    /// The spool should be searched for jobs that memory had no room for.
    pub(crate) search: Arc<Notify>,
    /// The clock jumped: the next run is to know.
    pub(crate) jumped: Arc<Notify>,
    state: Mutex<State>,
}

/// What `next` does next.
#[derive(Debug)]
pub(crate) enum Step {
    Ticket(Box<Ticket>),
    Again,
    Wait(Option<Timestamp>),
    Closed,
}

impl Shared {
    pub(crate) fn new(spool: Arc<dyn Spool>, loaded: Loading) -> Shared {
        let Loading { config, clock, random, pace, state } = loaded;
        Shared {
            spool,
            config,
            clock,
            metrics: Metrics::default(),
            classes: state.classes.clone(),
            random: Mutex::new(random),
            pace: Mutex::new(pace),
            began: Instant::now(),
            due: Notify::new(),
            idle: Notify::new(),
            search: Arc::new(Notify::new()),
            jumped: Arc::new(Notify::new()),
            state: Mutex::new(state),
        }
    }

    /// A panic elsewhere does not make the state wrong: every step leaves it whole.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the change to the spool. A failed spool stops deliveries: what cannot be written would
    /// be delivered again.
    pub(crate) async fn change(&self, change: Change) -> Result<(), SpoolError> {
        let result = self.spool.commit(change).await;
        if let Err(error) = &result {
            self.note_failure(&mut self.state(), error);
        }
        result
    }

    /// The present moment of time that runs evenly.
    pub(crate) fn even(&self) -> Instant {
        self.clock.even().map_or_else(Instant::now, |even| self.began + even)
    }

    /// What the clock says. When it was set to another time since the last look, everything that waits
    /// moves with it, so that nothing expires by that, and nothing is due in years.
    pub(crate) fn look_at_clock(&self, state: &mut State) -> Timestamp {
        let now = self.clock.now();
        // Arrivals on their way into the spool were received before.
        let arriving = state.arriving.iter().max().copied();
        let newest = arriving.max(state.index.newest()).unwrap_or(MessageId(0));
        let there = (state.index.oldest(), newest);
        if let Some((jump, before, lie)) = state.time.look(now, self.even(), there) {
            self.note_jump(jump, now);
            state.index.shift(jump, before, lie);
            state.cache.clear();
            state.schedule.start_anew(now);
            self.search.notify_one();
        }
        now
    }

    /// Says it loudly.
    pub(crate) fn note_jump(&self, jump: Jump, now: Timestamp) {
        let direction = if jump.by < 0 { "back" } else { "forward" };
        self.metrics.clock_jumps.get_or_create(&JumpLabels { direction }).inc();
        let seconds = jump.by / 1000;
        if jump.off {
            tracing::warn!(
                %now, seconds,
                "the relay was off, or the clock jumped forward: this time does not count for what waits"
            );
        } else {
            tracing::error!(
                %now, seconds,
                "the clock jumped: what waits moves with it and expires no sooner; look at the machine's clock"
            );
        }
        self.jumped.notify_one();
    }

    /// A message is on its way into the spool: nobody may lease it yet. What the spool is to keep of it,
    /// and the message as it is meant now.
    ///
    /// # Errors
    /// When it leads nowhere.
    pub(crate) fn arriving(&self, entry: Entry) -> Result<(Entry, Arriving), SpoolError> {
        let mut entry = whole(entry)?;
        let mut state = self.state();
        let now = self.look_at_clock(&mut state);
        let stored = state.time.arrive(&mut entry, now, self.even());
        state.arriving.insert(entry.id);
        Ok((stored, Arriving { jumps: state.time.jumps(), entry: Arc::new(entry) }))
    }

    /// Makes a message durable, which is to be scheduled then.
    ///
    /// # Errors
    /// Nothing is kept of it then.
    pub(crate) async fn accept(&self, arrival: Arrival) -> Result<Arriving, SpoolError> {
        self.accept_as(arrival, |_| ()).await
    }

    /// The same as `change` leaves it, whose moments are the present clock's.
    ///
    /// # Errors
    /// Nothing is kept of it then.
    pub(crate) async fn accept_as(
        &self,
        mut arrival: Arrival,
        change: impl Fn(&mut Entry),
    ) -> Result<Arriving, SpoolError> {
        let (mut stored, mut arriving) = self.arriving(arrival.entry)?;
        change(&mut stored);
        change(Arc::make_mut(&mut arriving.entry));
        arrival.entry = stored;
        if let Err(error) = self.change(Change::Accept(Box::new(arrival))).await {
            self.state().arriving.remove(&arriving.entry.id);
            return Err(error);
        }
        self.metrics.committed.inc();
        Ok(arriving)
    }

    /// Schedules a message that has become durable.
    pub(crate) fn arrived(&self, arriving: Arriving) {
        let Arriving { entry, jumps } = arriving;
        let mut state = self.state();
        let now = self.look_at_clock(&mut state);
        let entry = state.time.overtake(entry, jumps, now);
        state.arriving.remove(&entry.id);
        if !planted!("what arrives is not scheduled") {
            state.enter(&entry, now, |_, due| due);
        }
        state.cache.insert(entry);
        self.publish(&state);
        self.due.notify_one();
    }

    /// One step of `next`: never waits, reads the spool at most for one message.
    pub(crate) fn step(self: &Arc<Self>) -> Step {
        let taken = {
            let mut state = self.state();
            let now = self.look_at_clock(&mut state);
            if state.closed {
                return Step::Closed;
            }
            if state.failed {
                return Step::Wait(None);
            }
            if state.schedule.wants_search(now) {
                self.search.notify_one();
            }
            let Some(taken) = state.schedule.take(now) else {
                return Step::Wait(state.schedule.wake());
            };
            if let Some(entry) = state.cache.get(taken.job.id) {
                return self.lease(&mut state, &entry, &taken, now);
            }
            taken
        };
        self.read(&taken)
    }

    /// Goes on with a job whose message is not in memory.
    fn read(self: &Arc<Self>, taken: &Taken) -> Step {
        let Taken { job, destination, share, expires, .. } = taken;
        let (mut state, loaded) = self.load(job.id);
        let now = state.time.now();
        let error = match loaded {
            Ok(entry) => return self.lease(&mut state, &entry, taken, now),
            Err(error) => error,
        };
        match &error {
            SpoolError::Unknown(_) => state.index.remove(job.id),
            SpoolError::Damaged(..) => state.note_damage(job.id, &error),
            SpoolError::NoSpace | SpoolError::NotNow(..) | SpoolError::Failed(_) => {
                let due = now.after(UNREADABLE_PAUSE);
                state.plan(*job, destination, due, *expires, now);
                self.note_failure(&mut state, &error);
            }
        }
        state.schedule.done(destination, *share, now);
        Step::Again
    }

    /// The present state of a message, from memory or the spool, with the lock that keeps it so.
    pub(crate) fn load(
        &self,
        id: MessageId,
    ) -> (MutexGuard<'_, State>, Result<Arc<Entry>, SpoolError>) {
        loop {
            let mut state = self.state();
            self.look_at_clock(&mut state);
            if let Some(entry) = state.cache.get(id) {
                return (state, Ok(entry));
            }
            let reading = state.leases.begin_read(id);
            drop(state);
            let loaded = self.spool.load(id).and_then(whole);
            let mut state = self.state();
            self.look_at_clock(&mut state);
            if state.leases.end_read(reading) {
                let loaded = loaded.map(|mut entry| {
                    state.put_right(&mut entry, |_| false);
                    Arc::new(entry)
                });
                return (state, loaded);
            }
        }
    }

    /// Leases what is due of a job, if anything is, and enters the rest anew.
    fn lease(
        self: &Arc<Self>,
        state: &mut State,
        entry: &Arc<Entry>,
        taken: &Taken,
        now: Timestamp,
    ) -> Step {
        let Taken { job, destination, share, not_before, held, .. } = taken;
        let over = expired(entry, now);
        let most = self.config.recipients_per_transaction.max(1);
        let turn_by = state.turn_by(entry, job.route, now);
        let soonest = not_before.map(|at| at.max(now.after(Duration::from_millis(1))));
        let turn = Turn { now, over, not_before: soonest.filter(|_| !over) };
        let Choice { recipients, rest } = state.choose(entry, job.route, turn, most);
        if let Some(due) = rest {
            state.plan(*job, destination, due, turn_by, now);
        }
        let route = recipients.first().and_then(|first| entry.route_of(first));
        let (Some(route), false) = (route, state.closed) else {
            if !recipients.is_empty() {
                state.plan(*job, destination, now, turn_by, now);
            }
            state.schedule.done(destination, *share, now);
            return Step::Again;
        };
        if rest.is_some_and(|due| due <= now) {
            state.cache.insert(entry.clone());
        }
        let ticket = Ticket {
            id: entry.id,
            destination: destination.to_string(),
            route: route.clone(),
            entry: entry.clone(),
            expired: over,
            out_of_turn: not_before.is_some(),
            late: state.late(entry, &recipients, now),
            held: held.clone(),
            lease: self.take(state, entry, *job, &recipients, Some(*share)),
            recipients,
        };
        self.publish(state);
        Step::Ticket(Box::new(ticket))
    }

    /// Puts recipients of one job in the caller's hand.
    pub(crate) fn take(
        self: &Arc<Self>,
        state: &mut State,
        entry: &Entry,
        job: Job,
        recipients: &[RecipientEntry],
        share: Option<ShareId>,
    ) -> Lease {
        let mut leased: Vec<Leased> = recipients.iter().map(Leased::from).collect();
        leased.sort_unstable_by_key(|leased| leased.id);
        let first = recipients.first().and_then(|first| entry.route_of(first));
        let destination = first.map(|route| route.destination()).unwrap_or_default();
        let held = leased.iter().filter(|leased| leased.held).count() as i64;
        let waiting = leased.len() as i64 - held;
        state.leases.lease(job.id, leased.iter().map(|leased| leased.id));
        state.counts.leased += leased.len() as i64;
        state.counts.held -= held;
        state.counts.waiting -= waiting;
        state.schedule.count(&destination, -waiting);
        Lease {
            shared: self.clone(),
            job,
            destination,
            expires: state.turn_after(entry, job.route, self.clock.now()),
            class: state.index.class(job),
            share,
            recipients: leased,
            pause: DROPPED_PAUSE,
            jumps: state.time.jumps(),
        }
    }

    /// Ends a lease: its recipients go on as their fates say, or are given back. Those that go
    /// elsewhere do so as `moved` says; without it they are found again at the next start.
    pub(crate) fn end(&self, lease: &mut Lease, fates: &HashMap<u32, Fate>, moved: Option<&Entry>) {
        let recipients = std::mem::take(&mut lease.recipients);
        let mut state = self.state();
        let now = self.look_at_clock(&mut state);
        // What was never kept does not come back.
        let passed = state.passing.remove(&lease.job.id).is_some();
        state.leases.give_back(lease.job.id, recipients.iter().map(|leased| leased.id));
        state.cache.remove(lease.job.id);
        state.counts.leased -= recipients.len() as i64;
        // A moment thought of before the clock jumped may be in years.
        let overtaken = lease.jumps != state.time.jumps();
        let latest = overtaken.then(|| now.after(self.classes.get(lease.class).retry.longest()));
        let soon = |due: Timestamp| latest.map_or(due, |latest| due.min(latest));
        let mut waiting = 0;
        let mut next: Option<Timestamp> = None;
        for leased in &recipients {
            let given_back = match leased.held {
                _ if passed => Fate::Done,
                true => Fate::Held,
                false => Fate::Due(now.after(lease.pause)),
            };
            match fates.get(&leased.id).copied().unwrap_or(given_back) {
                Fate::Due(due) => {
                    let due = soon(due);
                    waiting += 1;
                    state.index.set_due(lease.job.id, leased.id, due);
                    next = Some(next.map_or(due, |next| next.min(due)));
                }
                Fate::Elsewhere(due) => state.move_on(moved, leased.id, soon(due), now),
                Fate::Held => state.counts.held += 1,
                Fate::Done => {}
            }
        }
        state.counts.waiting += waiting;
        state.schedule.count(&lease.destination, waiting);
        if let Some(due) = next {
            state.plan(lease.job, &lease.destination, due, lease.expires, now);
        }
        if let Some(share) = lease.share.take()
            && !planted!("a slot is never given back")
        {
            state.schedule.done(&lease.destination, share, now);
        }
        self.publish(&state);
        self.due.notify_one();
        if state.counts.leased == 0 {
            self.idle.notify_waiters();
        }
    }

    /// When to try again what has been attempted so often, by the curve of its class.
    pub(crate) fn retry_at(&self, class: ClassId, tries: u32) -> Timestamp {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self.classes.get(class).retry.wait(tries, &mut *random);
        self.clock.now().after(wait)
    }

    /// When a recipient of this destination may be due that could be due now.
    pub(crate) fn paced(&self, destination: &str) -> Timestamp {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.due(destination, self.clock.now(), &mut *random)
    }

    /// Shows the state in the metrics.
    pub(crate) fn publish(&self, state: &State) {
        self.metrics.waiting.set(state.counts.waiting);
        self.metrics.held.set(state.counts.held);
        self.metrics.leased.set(state.counts.leased);
        self.metrics.resting.set(state.schedule.resting() as i64);
        self.metrics.sites.set(state.schedule.shared_sites() as i64);
    }

    fn note_failure(&self, state: &mut State, error: &SpoolError) {
        let lasting = matches!(error, SpoolError::Failed(_));
        if lasting && !std::mem::replace(&mut state.failed, true) {
            tracing::error!(%error, "deliveries stop: what becomes of them could not be written");
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A message on its way into the spool.
#[derive(Debug)]
pub(crate) struct Arriving {
    pub(crate) entry: Arc<Entry>,
    /// How often the clock had jumped when it set out.
    pub(crate) jumps: usize,
}

/// A record without routes leads nowhere.
pub(crate) fn whole(entry: Entry) -> Result<Entry, SpoolError> {
    if entry.routes.is_empty() {
        return Err(SpoolError::Damaged(entry.id, "it has no route".to_owned()));
    }
    Ok(entry)
}
