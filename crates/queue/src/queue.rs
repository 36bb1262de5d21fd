//! The queue: a durable spool with a schedule in memory in front of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use waypost_mail::{Clock, Entry, MessageId, Timestamp};
use waypost_spool::{Content, Spool, SpoolError};

use crate::classes::{ClassId, Doubt};
use crate::finish::finish;
use crate::index::{Index, Seen};
use crate::shared::{Shared, Step};
use crate::{Config, Loading, Metrics, Prepared, Settlement, Site, Ticket, clock, search, settle};

/// The clock may jump, so nobody sleeps longer than this without looking at it.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// What waits. Shared as `Arc<Queue>`. Methods that change something finish what they began even
/// when their caller goes away.
#[derive(Debug)]
pub struct Queue {
    pub(crate) shared: Arc<Shared>,
    /// Held by the one caller of `next` whose turn it is, so that one event wakes one task.
    turn: Mutex<()>,
    tasks: [JoinHandle<()>; 2],
}

impl Queue {
    /// Opens the queue on a spool: reads every message in it once, which [`Loading`] spares. Everything that was in flight
    /// when the last run ended is due again. `seed` feeds the jitter of retries.
    ///
    /// # Errors
    /// When the spool cannot be read. A damaged message is logged, counted and left alone.
    pub async fn open(
        spool: Arc<dyn Spool>,
        config: Config,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Result<Arc<Queue>, SpoolError> {
        let mut loading = Loading::new(config, clock, seed);
        loading.read(&*spool).await?;
        Ok(loading.open(spool).await)
    }

    pub(crate) fn of(shared: Arc<Shared>) -> Arc<Queue> {
        let searcher = tokio::spawn(search::keep_filled(Arc::downgrade(&shared)));
        let keeper = tokio::spawn(clock::keep(Arc::downgrade(&shared)));
        Arc::new(Queue { shared, turn: Mutex::new(()), tasks: [searcher, keeper] })
    }

    /// The settings it was opened with.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The present moment by its clock.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Makes the message durable and schedules it. When this returns an id, the sender may be told
    /// that the message was accepted; on an error it may not.
    ///
    /// # Errors
    /// As [`Spool::commit`]; [`SpoolError::Damaged`] for a message without a route.
    pub async fn commit(&self, prepared: Prepared) -> Result<MessageId, SpoolError> {
        let shared = self.shared.clone();
        finish(async move {
            let arriving = shared.accept(prepared.into_arrival()).await?;
            let id = arriving.entry.id;
            shared.arrived(arriving);
            Ok(id)
        })
        .await
    }

    /// Fails when new mail should be refused, without trying.
    pub fn accepting(&self) -> Result<(), SpoolError> {
        self.shared.spool.accepting(self.shared.clock.now())
    }

    /// Messages that are not done, and their octets together.
    pub fn kept(&self) -> (usize, u64) {
        let state = self.shared.state();
        (state.index.len(), state.index.octets())
    }

    /// Waits until something is due, its destination has a free slot and does not rest; nothing once
    /// the queue is closed. Any number of tasks may wait; dropping the future loses nothing. After
    /// storage failed no ticket comes any more.
    pub async fn next(&self) -> Option<Ticket> {
        let _turn = self.turn.lock().await;
        loop {
            match self.shared.step() {
                Step::Ticket(ticket) => return Some(*ticket),
                Step::Closed => return None,
                Step::Again => tokio::task::consume_budget().await,
                Step::Wait(until) => self.wait(until).await,
            }
        }
    }

    /// From now on there are no more tickets; leases that are out may still be settled.
    pub fn close(&self) {
        self.shared.state().closed = true;
        self.shared.due.notify_one();
    }

    /// Waits until no lease is out.
    pub async fn idle(&self) {
        loop {
            let idle = self.shared.idle.notified();
            if self.shared.state().counts.leased == 0 {
                return;
            }
            idle.await;
        }
    }

    /// The message's bytes.
    ///
    /// # Errors
    /// As [`Spool::content`].
    pub fn content(&self, id: MessageId) -> Result<Box<dyn Content>, SpoolError> {
        match self.shared.passing_content(id) {
            Some(content) => Ok(Box::new(content)),
            None => self.shared.spool.content(id),
        }
    }

    /// When to try again what this ticket is about and has been attempted `tries` times, the last attempt
    /// included: by the curve of its class.
    pub fn retry_at(&self, ticket: &Ticket, tries: u32) -> Timestamp {
        self.shared.retry_at(ticket.lease.class, tries)
    }

    /// What becomes of this ticket's recipients when nobody knows whether they were delivered, by their
    /// class.
    pub fn doubt(&self, ticket: &Ticket) -> Doubt {
        self.shared.classes.get(ticket.lease.class).doubt
    }

    /// True when each recipient of this ticket gets a copy of its own, whose sender says for whom it
    /// is, by their class.
    pub fn verp(&self, ticket: &Ticket) -> bool {
        self.shared.classes.get(ticket.lease.class).verp
    }

    /// How long a message that is about to be committed is tried: as the classes of its recipients say,
    /// the longest of them.
    pub fn lifetime(&self, entry: &Entry) -> Duration {
        let classes = &self.shared.classes;
        if classes.len() == 1 {
            return classes.get(ClassId::default()).lifetime;
        }
        let mut index = Index::new(classes.clone());
        index.insert(entry);
        let recipients = index.get(entry.id).into_iter().flat_map(Seen::recipients);
        let longest = recipients.map(|recipient| classes.get(recipient.class()).lifetime).max();
        longest.unwrap_or(classes.get(ClassId::default()).lifetime)
    }

    /// Ends a lease: writes what became of its recipients, and the notice, as one change.
    ///
    /// # Errors
    /// As [`Spool::commit`]. Nothing was written then, and the recipients are due again after a
    /// minute.
    pub async fn settle(&self, ticket: Ticket, settlement: Settlement) -> Result<(), SpoolError> {
        finish(settle::settle(self.shared.clone(), ticket.lease, settlement)).await
    }

    /// The attempt found out which site is behind the ticket's destination: limits, rate and rests of that
    /// site count from now on. False when the attempt is one too many there, which nobody knew when it
    /// began: then nothing is to be tried, and the ticket's recipients settle as [`crate::Settled::Later`],
    /// due at once. Only the first attempt for a destination is answered so.
    pub fn belongs(&self, ticket: &Ticket, site: &Arc<Site>) -> bool {
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        let goes_on = state.schedule.join(&ticket.destination, site, now);
        self.shared.publish(&state);
        drop(state);
        if !goes_on {
            self.shared.metrics.crowded.inc();
        }
        goes_on
    }

    /// An attempt for a destination that does not belong to the site, a lane say, is about to begin there: it
    /// counts for the rate of the site, which holds for all together.
    ///
    /// # Errors
    /// The moment at which there may be leave, when there is none now; then nothing was counted.
    pub fn charge(&self, site: &Site) -> Result<(), Timestamp> {
        let now = self.shared.clock.now();
        self.shared.state().schedule.charge(site, now)
    }

    /// An attempt was more than the destination's site would bear: it broke off, or asked for less. There are
    /// fewer attempts at once from now on, and a rest when one at a time is too much. Call it before the
    /// ticket is settled.
    pub fn troubled(&self, destination: &str, why: String) {
        let why = settle::bounded(why);
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        if state.schedule.troubled(destination, why, now) {
            self.shared.metrics.narrowed.inc();
        }
        self.shared.publish(&state);
        self.shared.due.notify_one();
    }

    /// The destination could not be tried, which says nothing about others of its site: as
    /// [`Queue::rest`], for this destination alone.
    pub fn rest_alone(&self, destination: &str, why: String) {
        let why = settle::bounded(why);
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        state.schedule.rest_alone(destination, why, now);
        self.shared.publish(&state);
        self.shared.due.notify_one();
    }

    /// The destination could not be reached, nor its site: it rests for a time that grows with every failure in a
    /// row. Other mail for it waits meanwhile, without using up tries; then one ticket at a time finds
    /// out whether it is well again. Call it before the ticket is settled.
    pub fn rest(&self, destination: &str, why: String) {
        let why = settle::bounded(why);
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        state.schedule.rest(destination, why, now);
        self.shared.publish(&state);
        self.shared.due.notify_one();
    }

    /// Policy asks to leave the destination alone for so long, whatever it answers meanwhile. Of no
    /// effect when nothing waits for it and nothing is in flight.
    pub fn pause(&self, destination: &str, pause: Duration, why: String) {
        let why = settle::bounded(why);
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        state.schedule.pause(destination, pause, why, now);
        self.shared.publish(&state);
        self.shared.due.notify_one();
    }

    /// The destination's site asks for a pause: as [`Queue::pause`], for all destinations that share it.
    pub fn pause_site(&self, destination: &str, pause: Duration, why: String) {
        let why = settle::bounded(why);
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        state.schedule.pause_site(destination, pause, why, now);
        self.shared.publish(&state);
        self.shared.due.notify_one();
    }

    /// Policy asks for at most so many attempts at once, for so long. Takes the place of what it asked
    /// before. Of no effect when nothing waits for the destination and nothing is in flight.
    pub fn limit(&self, destination: &str, most: usize, valid: Duration) {
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        state.schedule.limit(destination, most, valid, now);
        self.shared.publish(&state);
        self.shared.due.notify_one();
    }

    /// The destination answered: it is well. Settling a recipient as delivered says the same.
    pub fn answered(&self, destination: &str) {
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        state.schedule.answered(destination, now);
        self.shared.publish(&state);
        self.shared.due.notify_one();
    }

    async fn wait(&self, until: Option<Timestamp>) {
        let left = until.map(|until| until.since(self.shared.clock.now()));
        let sleep = left.unwrap_or(LONGEST_SLEEP).clamp(Duration::from_millis(1), LONGEST_SLEEP);
        tokio::select! {
            () = self.shared.due.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[cfg(test)]
mod tests;
