//! A lease on some recipients of a message, and what is said when it ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use waypost_mail::{
    Entry, MessageId, Outcome, RecipientEntry, RecipientState, Route, Timestamp, Why,
};

use crate::Prepared;
use crate::classes::ClassId;
use crate::held::Held;
use crate::schedule::{Job, ShareId};
use crate::shared::Shared;
use waypost_mutant::planted;

/// Recipients of a ticket that was dropped are due again after this, so that a task that panics
/// does not spin.
pub(crate) const DROPPED_PAUSE: Duration = Duration::from_secs(1);

/// Recipients of one message that are due and share a route. Nobody else gets them until the ticket
/// is settled; dropping it gives them back, due again after a second.
#[derive(Debug)]
pub struct Ticket {
    /// The message.
    pub id: MessageId,
    /// What the schedule groups by.
    pub destination: String,
    /// The way to go.
    pub route: Route,
    /// The message as it was when the lease was taken. Recipients that are not in this ticket may
    /// have other states by now.
    pub entry: Arc<Entry>,
    /// The recipients this lease covers.
    pub recipients: Vec<RecipientEntry>,
    /// The message's time is over: bounce, do not try. Such a ticket comes even while the
    /// destination rests.
    pub expired: bool,
    /// It comes while its destination rests, or without leave of its class: whose time is over bounces, of
    /// who is late the sender is told, and nobody is to be tried.
    pub out_of_turn: bool,
    /// Recipients about whom the sender is to be told now that they are late, and how many such
    /// notices there are then: for [`Settlement::told`]. Some may not be due: they are here to be told
    /// of, not to be tried.
    pub late: Vec<(u32, u8)>,
    /// What kept it from being handed out when it was due, in order of time.
    pub held: Vec<Held>,
    pub(crate) lease: Lease,
}

/// What became of a ticket's recipients. Those not mentioned are given back.
#[derive(Debug, Default)]
pub struct Settlement {
    /// Recipient id and its fate.
    pub states: Vec<(u32, Settled)>,
    /// The notice this causes, made durable together with it.
    pub notice: Option<Prepared>,
    /// Recipients of whose delay the sender is told now, as [`Ticket::late`] has them.
    pub told: Vec<(u32, u8)>,
}

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// Nothing more will happen. [`Outcome::Deferred`] is taken as `Again` at the retry curve's time.
    Done(Outcome),
    /// To be tried again; this attempt counts.
    Again {
        /// Not before this moment.
        at: Timestamp,
        /// Why it failed.
        why: Why,
    },
    /// To be tried again; this attempt does not count: we sent too much, which is not the message's
    /// fault.
    Rested {
        /// Not before this moment.
        at: Timestamp,
        /// Why it failed.
        why: Why,
    },
    /// To be tried again; no attempt was made. Not written to the spool: after a restart the
    /// recipient is due as before.
    Later {
        /// Not before this moment.
        at: Timestamp,
    },
    /// It bounces at its next turn, without an attempt: what tells its sender is part of the record of that
    /// turn. For a ticket of [`Queue::pass`](crate::Queue::pass) and a permanent reason.
    Doomed(Why),
    /// Kept until an operator releases it; says who holds it and why.
    Held(String),
    /// To be tried again another way; this attempt counts, and the message was rerouted once more.
    Rerouted {
        /// The new way.
        route: Route,
        /// Not before this moment.
        at: Timestamp,
        /// Why the old way failed.
        why: Why,
    },
    /// It has another way now, or one at last; no attempt was made, and why the last one failed is
    /// forgotten.
    Routed {
        /// The way.
        route: Route,
        /// Not before this moment.
        at: Timestamp,
    },
}

/// True when the message's time is over and what is left of it bounces.
pub fn expired(entry: &Entry, now: Timestamp) -> bool {
    if planted!("a message gets half its time") {
        return entry.received.after(entry.expires.since(entry.received) / 2) <= now;
    }
    entry.expires <= now
}

/// Recipients in somebody's hand. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) shared: Arc<Shared>,
    pub(crate) job: Job,
    pub(crate) destination: String,
    pub(crate) expires: Timestamp,
    pub(crate) class: ClassId,
    /// Whose attempt it is, which occupies a slot of the destination; an operator's lease is nobody's.
    pub(crate) share: Option<ShareId>,
    /// Ordered by id; empty once the lease has ended.
    pub(crate) recipients: Vec<Leased>,
    /// How long after a drop the recipients are due again.
    pub(crate) pause: Duration,
    /// How often the clock had jumped when it was taken.
    pub(crate) jumps: usize,
}

/// One recipient in somebody's hand, and how it stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leased {
    pub(crate) id: u32,
    pub(crate) tries: u32,
    pub(crate) held: bool,
}

/// How a recipient goes on after a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Due(Timestamp),
    /// Due then, by a way of its own in the spool.
    Elsewhere(Timestamp),
    Held,
    Done,
}

impl Lease {
    /// The recipient of this id, if the lease covers it.
    pub(crate) fn recipient(&self, id: u32) -> Option<Leased> {
        let at = self.recipients.binary_search_by_key(&id, |leased| leased.id).ok()?;
        self.recipients.get(at).copied()
    }

    /// Ends the lease. Recipients without a fate are given back; `moved` is the message as it is now,
    /// for those that go elsewhere.
    pub(crate) fn end(mut self, fates: &HashMap<u32, Fate>, moved: Option<&Entry>) {
        let shared = self.shared.clone();
        shared.end(&mut self, fates, moved);
    }
}

impl From<&RecipientEntry> for Leased {
    fn from(entry: &RecipientEntry) -> Leased {
        let (tries, held) = match entry.state {
            RecipientState::Waiting { tries, .. } => (tries, false),
            RecipientState::Held { tries, .. } => (tries, true),
            RecipientState::Done(_) => (0, false),
        };
        Leased { id: entry.recipient.id, tries, held }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.recipients.is_empty() && !planted!("a dropped ticket keeps its lease") {
            let shared = self.shared.clone();
            shared.end(self, &HashMap::new(), None);
        }
    }
}
