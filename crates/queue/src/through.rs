//! Messages that are tried before they are durable, while their submitter waits.
//!
//! Such a message is in memory only, and in no list. When its ticket is settled, what is not done with
//! becomes durable, in one record that says what became of the others; a message that is done with
//! altogether is never written. When the submitter must not wait any longer, [`Queue::keep`] makes the
//! message durable while the attempt goes on, and the ticket is one like all others from then on. A
//! ticket that is dropped before that leaves nothing: nobody was promised anything.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use waypost_mail::{Body, Entry, MessageId, RecipientEntry, RecipientState, Timestamp};
use waypost_mutant::planted;
use waypost_spool::{Arrival, Content, SpoolError, advance};

use crate::finish::finish;
use crate::index::Index;
use crate::schedule::Job;
use crate::settle::{self, Plan};
use crate::shared::{Arriving, Shared};
use crate::ticket::{DROPPED_PAUSE, Fate, Lease, Leased};
use crate::{Prepared, Queue, Settlement, Ticket, delay};

/// A message that is tried before it is durable.
#[derive(Debug)]
pub(crate) struct Passing {
    octets: Octets,
    /// Absent once it is on its way into the spool.
    arrival: Option<Arrival>,
}

impl Queue {
    /// A ticket for all recipients of a message that is not durable: nobody may be told yet that it was
    /// accepted. Where they cannot all be tried at once, by one way, the message comes back as it was: its
    /// destination rests, was in trouble, or has no slot; the class or the tenant may not begin an attempt
    /// now; somebody is held, or is to be tried later; they are too many for one transaction; or the spool
    /// takes nothing, so that what their next hop would leave could not be kept.
    ///
    /// # Errors
    /// The message.
    pub fn pass(&self, prepared: Prepared) -> Result<Ticket, Box<Prepared>> {
        let octets = self.accepting().ok().and_then(|()| Octets::of(&prepared).ok());
        let Some(octets) = octets else { return Err(Box::new(prepared)) };
        let most = self.shared.config.recipients_per_transaction.max(1);
        let mut state = self.shared.state();
        let now = self.shared.look_at_clock(&mut state);
        let one_way =
            one_way(prepared.entry(), most, now).filter(|_| !state.closed && !state.failed);
        let Some(job) = one_way else { return Err(Box::new(prepared)) };
        let entry = prepared.entry();
        let mut index = Index::new(self.shared.classes.clone());
        index.insert(entry);
        let destination = destination(entry);
        let lane = index.lane(job, &destination);
        let class = lane.class;
        let Some(share) = state.schedule.go_through(lane, now) else {
            return Err(Box::new(prepared));
        };
        let delays = &self.shared.classes.get(class).delay_notices;
        let lease = Lease {
            shared: self.shared.clone(),
            job,
            expires: delay::turn_after(entry, job.route, delays, now),
            destination,
            class,
            share: Some(share),
            recipients: leased(entry),
            pause: DROPPED_PAUSE,
            jumps: state.time.jumps(),
        };
        let ticket = ticket(entry, lease);
        state.leases.lease(job.id, entry.recipients.iter().map(|r| r.recipient.id));
        state.counts.leased += entry.recipients.len() as i64;
        state.passing.insert(job.id, Passing { octets, arrival: Some(prepared.into_arrival()) });
        self.shared.publish(&state);
        Ok(ticket)
    }

    /// True while this message is tried before it is durable: it is in no list.
    pub fn is_passing(&self, id: MessageId) -> bool {
        self.shared.state().passing.contains_key(&id)
    }

    /// Makes the message of a ticket of [`Queue::pass`] durable while it is tried: the sender may be told
    /// now that it was accepted. Does nothing for other tickets, and for those of messages that are kept.
    ///
    /// # Errors
    /// As [`Queue::commit`]; nothing is kept then, and the ticket is to be dropped.
    pub async fn keep(&self, ticket: &Ticket) -> Result<(), SpoolError> {
        let (shared, id) = (self.shared.clone(), ticket.id);
        finish(async move {
            let Some(arrival) = shared.passing_arrival(id) else { return Ok(()) };
            let arriving = shared.accept(arrival).await?;
            shared.kept(arriving);
            Ok(())
        })
        .await
    }
}

impl Shared {
    /// The octets of a message that is tried before it is durable.
    pub(crate) fn passing_content(&self, id: MessageId) -> Option<Octets> {
        self.state().passing.get(&id).map(|passing| passing.octets.clone())
    }

    /// What is to be written of a message that is tried before it is durable, unless that was begun.
    pub(crate) fn passing_arrival(&self, id: MessageId) -> Option<Arrival> {
        self.state().passing.get_mut(&id)?.arrival.take()
    }

    /// A message has become durable while it is tried.
    fn kept(&self, arriving: Arriving) {
        let id = arriving.entry.id;
        let mut state = self.state();
        if state.passing.remove(&id).is_none() {
            // The attempt has ended meanwhile, and nobody has it in hand.
            drop(state);
            return self.arrived(arriving);
        }
        let now = self.look_at_clock(&mut state);
        let entry = state.time.overtake(arriving.entry, arriving.jumps, now);
        state.arriving.remove(&id);
        state.index.insert(&entry);
    }
}

/// Ends a ticket whose message is in memory only: writes what is not done with, if anything.
pub(crate) async fn settle(
    shared: Arc<Shared>,
    lease: Lease,
    arrival: Arrival,
    settlement: Settlement,
) -> Result<(), SpoolError> {
    let Plan { mut states, detours, fates, labels, answered, .. } =
        Plan::new(&shared, &lease, settlement.states);
    states.extend(postponed(&states, &fates));
    let change = |entry: &mut Entry| {
        advance(entry, &states, &detours);
    };
    let arriving = match is_done_with(&arrival.entry, &states) {
        true => None,
        false if planted!("what the next hop leaves is not kept") => None,
        // Where the clock jumped meanwhile, what came of them was thought of by the new one.
        false => Some(shared.accept_as(arrival, change).await?),
    };
    settle::tell(&shared, &lease, &labels, answered);
    let Some(arriving) = arriving else {
        lease.end(&HashMap::new(), None);
        return Ok(());
    };
    // The slot goes back before the rest is scheduled: nobody looks for whom somebody has in hand. What
    // was learned of the destination must not be forgotten in between, as if nothing waited for it.
    let destination = lease.destination.clone();
    shared.state().schedule.count(&destination, 1);
    lease.end(&HashMap::new(), None);
    shared.arrived(arriving);
    shared.state().schedule.count(&destination, -1);
    Ok(())
}

/// Nothing is left of the message.
fn is_done_with(entry: &Entry, states: &[(u32, RecipientState)]) -> bool {
    let is_done = |id| states.iter().any(|(known, state)| *known == id && state.is_done());
    entry.recipients.iter().all(|entry| is_done(entry.recipient.id))
}

/// When recipients are due that are tried later, which is not written of others.
fn postponed(
    states: &[(u32, RecipientState)],
    fates: &HashMap<u32, Fate>,
) -> Vec<(u32, RecipientState)> {
    let said = |id: &u32| states.iter().any(|(known, _)| known == id);
    let later = |(id, fate): (&u32, &Fate)| match fate {
        Fate::Due(due) if !said(id) => Some((*id, RecipientState::fresh(*due))),
        _ => None,
    };
    fates.iter().filter_map(later).collect()
}

/// The one job that a new message is, if it is one and due.
fn one_way(entry: &Entry, most: usize, now: Timestamp) -> Option<Job> {
    let route = entry.recipients.first()?.route;
    let fits = |recipient: &RecipientEntry| {
        let new = |due: Timestamp, tries| due <= now && tries == 0;
        recipient.route == route
            && matches!(recipient.state, RecipientState::Waiting { due, tries, last: None } if new(due, tries))
    };
    let there = entry.routes.get(usize::from(route)).is_some_and(|route| !route.hops.is_empty());
    let fit = there && entry.recipients.len() <= most && entry.recipients.iter().all(fits);
    (fit && entry.expires > now).then_some(Job { id: entry.id, route })
}

fn destination(entry: &Entry) -> String {
    let first = entry.recipients.first().and_then(|first| entry.route_of(first));
    first.map(|route| route.destination()).unwrap_or_default()
}

/// In the order of their ids.
fn leased(entry: &Entry) -> Vec<Leased> {
    let mut leased: Vec<Leased> = entry.recipients.iter().map(Leased::from).collect();
    leased.sort_unstable_by_key(|leased| leased.id);
    leased
}

fn ticket(entry: &Entry, lease: Lease) -> Ticket {
    let at = usize::from(lease.job.route);
    Ticket {
        id: entry.id,
        destination: lease.destination.clone(),
        // It was looked for before the lease was made.
        route: entry.routes[at].clone(),
        entry: Arc::new(entry.clone()),
        recipients: entry.recipients.clone(),
        expired: false,
        out_of_turn: false,
        late: Vec::new(),
        held: Vec::new(),
        lease,
    }
}

/// A message's bytes before the spool has them. They stay readable while it takes them.
#[derive(Debug, Clone)]
pub(crate) struct Octets {
    id: MessageId,
    header: Bytes,
    body: Part,
}

#[derive(Debug, Clone)]
enum Part {
    Memory(Bytes),
    File { file: Arc<File>, offset: u64, len: u64 },
}

impl Octets {
    fn of(prepared: &Prepared) -> io::Result<Octets> {
        let Arrival { entry, header, body, .. } = prepared.arrival();
        let body = match body {
            Body::Memory(bytes) => Part::Memory(bytes.clone()),
            Body::File { file, offset, len } => {
                Part::File { file: Arc::new(File::open(file.path())?), offset: *offset, len: *len }
            }
        };
        Ok(Octets { id: entry.id, header: header.clone(), body })
    }
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Part::Memory(bytes) => bytes.len() as u64,
            Part::File { len, .. } => *len,
        }
    }

    fn read_at(&self, at: u64, max: usize) -> io::Result<Bytes> {
        let count = self.len().saturating_sub(at).min(max as u64) as usize;
        match self {
            _ if count == 0 => Ok(Bytes::new()),
            Part::Memory(bytes) => Ok(bytes.slice(at as usize..at as usize + count)),
            Part::File { file, offset, .. } => {
                let mut octets = vec![0; count];
                file.read_exact_at(&mut octets, offset + at)?;
                Ok(octets.into())
            }
        }
    }
}

impl Content for Octets {
    fn len(&self) -> u64 {
        self.header.len() as u64 + self.body.len()
    }

    fn read_at(&self, offset: u64, max: usize) -> Result<Bytes, SpoolError> {
        let header = self.header.len() as u64;
        if offset < header {
            let at = offset as usize;
            return Ok(self.header.slice(at..self.header.len().min(at.saturating_add(max))));
        }
        let read = self.body.read_at(offset - header, max);
        read.map_err(|error| SpoolError::NotNow(self.id, error.to_string()))
    }
}

#[cfg(test)]
mod tests;
