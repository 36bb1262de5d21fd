//! What operators ask: a list, one message, the whole at a glance.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use waypost_mail::{Entry, MessageId, RecipientEntry, RecipientState, Timestamp};
use waypost_smtp::ReversePath;
use waypost_spool::SpoolError;

use crate::classes::Classes;
use crate::index::Index;
use crate::schedule::View;
use crate::selector::{RecipientStanding, Selector};
use crate::{Config, Queue};

/// Destinations looked at between two pauses.
const CHUNK: usize = 256;
/// Destinations shown in a status.
const SHOWN_DESTINATIONS: usize = 100;

/// One message in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its id.
    pub id: MessageId,
    /// When it was accepted.
    pub received: Timestamp,
    /// When what is left of it bounces.
    pub expires: Timestamp,
    /// Where bounces go.
    pub sender: ReversePath,
    /// Octets.
    pub size: u64,
    /// The first recipient that is not done.
    pub recipient: String,
    /// Where that one goes.
    pub destination: String,
    /// Recipients that wait.
    pub waiting: usize,
    /// Recipients that are held.
    pub held: usize,
    /// Recipients that are in flight.
    pub in_flight: usize,
    /// Recipients that are done.
    pub done: usize,
    /// Attempts made for the recipient tried most.
    pub tries: u32,
    /// The next attempt.
    pub due: Option<Timestamp>,
    /// Why the first recipient that is not done is still here, in words.
    pub why: Option<String>,
}

/// Messages of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// In order of their ids, which is the order they came in.
    pub messages: Vec<Summary>,
    /// There are more: ask for those above this id.
    pub next: Option<MessageId>,
}

/// What a selector means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Messages.
    pub messages: usize,
    /// Recipients of them.
    pub recipients: usize,
}

/// The queue at a glance. All numbers but `damaged` count recipients.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Waiting for an attempt.
    pub waiting: usize,
    /// Held.
    pub held: usize,
    /// In flight.
    pub leased: usize,
    /// Messages whose record is damaged; they stay where they are until they are deleted.
    pub damaged: usize,
    /// Storage failed: no ticket is given out until the program is started anew.
    pub failed: bool,
    /// The last time the clock jumped, in this run or at its start.
    pub clock: Option<Jumped>,
    /// The destinations with the most mail, at most 100.
    pub destinations: Vec<DestinationStatus>,
}

/// The clock was set to another time: what waited moved with it and does not expire by that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jumped {
    /// What the clock said then.
    pub at: Timestamp,
    /// By how much: above zero forward, below zero back.
    pub milliseconds: i64,
}

/// One destination at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationStatus {
    /// What the schedule groups by.
    pub name: String,
    /// Recipients waiting.
    pub waiting: usize,
    /// Leases out.
    pub in_flight: usize,
    /// Leases at once at present, for all destinations of its site together.
    pub slots: usize,
    /// The site it belongs to, once an attempt has found that out.
    pub site: Option<String>,
    /// Until when it is left alone.
    pub resting_until: Option<Timestamp>,
    /// Why it rests.
    pub why: Option<String>,
    /// At most so many leases at once, because policy asked for it.
    pub most: Option<usize>,
    /// Until when that stands.
    pub limited_until: Option<Timestamp>,
    /// When something is due next, were it not resting.
    pub next_due: Option<Timestamp>,
}

impl Queue {
    /// Messages of which a recipient is selected, oldest first: those above `after`, at most `limit` of
    /// them. They are found in the index; the spool is read for what the page shows alone. Call it
    /// where blocking is allowed.
    ///
    /// # Errors
    /// When the spool cannot be read. What goes while it is looked at is left out.
    pub fn list(
        &self,
        selector: &Selector,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Page, SpoolError> {
        let (mut ids, mut next) = (Vec::new(), None);
        self.shared.scan(selector, after, |found| {
            if ids.len() == limit {
                next = ids.last().copied();
                return ControlFlow::Break(());
            }
            ids.push(found.message.id());
            ControlFlow::Continue(())
        });
        let mut messages = Vec::with_capacity(ids.len());
        for id in ids {
            let mut entry = match self.shared.spool.load(id) {
                Ok(entry) => entry,
                Err(SpoolError::Unknown(_) | SpoolError::Damaged(..)) => continue,
                Err(error) => return Err(error),
            };
            let state = self.shared.state();
            state.put_right(&mut entry, |_| false);
            let leased = state.leases.of(id).cloned().unwrap_or_default();
            drop(state);
            messages.push(Summary::new(&entry, &leased));
        }
        Ok(Page { messages, next })
    }

    /// How many messages and recipients are selected, done ones among them.
    pub fn count(&self, selector: &Selector) -> Selection {
        let mut selection = Selection::default();
        self.shared.scan(selector, None, |found| {
            selection.messages += 1;
            selection.recipients += found.recipients.len();
            ControlFlow::Continue(())
        });
        selection
    }

    /// One message with all its recipients.
    ///
    /// # Errors
    /// As [`waypost_spool::Spool::load`].
    pub fn show(&self, id: MessageId) -> Result<Entry, SpoolError> {
        let mut entry = self.shared.spool.load(id)?;
        self.shared.state().put_right(&mut entry, |_| false);
        Ok(entry)
    }

    /// The queue at a glance. Looks at every destination, some hundreds at a time.
    pub fn status(&self) -> Status {
        let mut destinations: Vec<View> = Vec::new();
        let mut from = Some(0);
        while let Some(position) = from {
            let (views, next) = self.shared.state().schedule.views(position, CHUNK);
            destinations.extend(views);
            let busiest = |view: &View| std::cmp::Reverse(view.waiting + view.in_flight);
            destinations.sort_by(|a, b| busiest(a).cmp(&busiest(b)).then(a.name.cmp(&b.name)));
            destinations.truncate(SHOWN_DESTINATIONS);
            from = next;
        }
        let state = self.shared.state();
        let number = |count: i64| usize::try_from(count).unwrap_or_default();
        Status {
            waiting: number(state.counts.waiting),
            held: number(state.counts.held),
            leased: number(state.counts.leased),
            damaged: state.damaged.len(),
            failed: state.failed,
            clock: state.time.last(),
            destinations: destinations.into_iter().map(DestinationStatus::from).collect(),
        }
    }
}

impl Selector {
    /// What a list shows of this message if somebody of it is selected: for a spool that no program
    /// runs, so that nothing is in flight. `config` says what its classes and tenant are.
    pub fn find(&self, entry: &Entry, config: &Config, now: Timestamp) -> Option<Summary> {
        let mut index = Index::new(Arc::new(Classes::new(config)));
        index.insert(entry);
        let message = index.get(entry.id)?;
        let selected = message.recipients().any(|r| self.selects(&r.sight(now, false)));
        selected.then(|| Summary::new(entry, &HashSet::new()))
    }
}

impl RecipientStanding {
    fn of(recipient: &RecipientEntry, leased: &HashSet<u32>) -> RecipientStanding {
        match recipient.state {
            RecipientState::Done(_) => RecipientStanding::Done,
            _ if leased.contains(&recipient.recipient.id) => RecipientStanding::InFlight,
            RecipientState::Waiting { .. } => RecipientStanding::Waiting,
            RecipientState::Held { .. } => RecipientStanding::Held,
        }
    }
}

impl Summary {
    fn new(entry: &Entry, leased: &HashSet<u32>) -> Summary {
        let standings: Vec<_> =
            entry.recipients.iter().map(|r| RecipientStanding::of(r, leased)).collect();
        let count = |wanted| standings.iter().filter(|standing| **standing == wanted).count();
        let first = entry.recipients.iter().find(|r| !r.state.is_done());
        let dues = entry.recipients.iter().filter_map(|r| match r.state {
            RecipientState::Waiting { due, .. } => Some(due),
            _ => None,
        });
        Summary {
            id: entry.id,
            received: entry.received,
            expires: entry.expires,
            sender: entry.sender.clone(),
            size: entry.size,
            recipient: first.map(|r| r.recipient.mailbox.to_string()).unwrap_or_default(),
            destination: first.map(|r| destination(entry, r)).unwrap_or_default(),
            waiting: count(RecipientStanding::Waiting),
            held: count(RecipientStanding::Held),
            in_flight: count(RecipientStanding::InFlight),
            done: count(RecipientStanding::Done),
            tries: entry.recipients.iter().map(|r| tries(&r.state)).max().unwrap_or_default(),
            due: dues.min(),
            why: first.and_then(|r| why(&r.state)),
        }
    }
}

impl From<View> for DestinationStatus {
    fn from(view: View) -> DestinationStatus {
        DestinationStatus {
            name: view.name.to_string(),
            waiting: view.waiting,
            in_flight: view.in_flight,
            slots: view.slots,
            site: view.site.map(|site| site.to_string()),
            resting_until: view.resting_until,
            why: view.why,
            most: view.limit.map(|limit| limit.most),
            limited_until: view.limit.map(|limit| limit.until),
            next_due: view.next_due,
        }
    }
}

fn destination(entry: &Entry, recipient: &RecipientEntry) -> String {
    entry.route_of(recipient).map(|route| route.destination()).unwrap_or_default()
}

/// Attempts made for a recipient that is not done.
pub(crate) fn tries(state: &RecipientState) -> u32 {
    match state {
        RecipientState::Waiting { tries, .. } | RecipientState::Held { tries, .. } => *tries,
        RecipientState::Done(_) => 0,
    }
}

fn why(state: &RecipientState) -> Option<String> {
    match state {
        RecipientState::Waiting { last, .. } => last.as_ref().map(ToString::to_string),
        RecipientState::Held { reason, .. } => Some(reason.clone()),
        RecipientState::Done(_) => None,
    }
}

#[cfg(test)]
mod tests;
