//! A lease on some recipients of a message, and what is said when it ends.

use std::sync::Arc;

use waypost_mail::{Entry, MessageId, Outcome, RecipientEntry, Route, Timestamp, Why};

use crate::Prepared;

/// Recipients of one message that are due and share a route. Nobody else gets them until the ticket
/// is settled; dropping it gives them back, due again after a short pause.
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
}

/// What became of a ticket's recipients. Those not mentioned are given back.
#[derive(Debug, Default)]
pub struct Settlement {
    /// Recipient id and its fate.
    pub states: Vec<(u32, Settled)>,
    /// The notice this causes, made durable together with it.
    pub notice: Option<Prepared>,
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
    /// To be tried again; no attempt was made. Not written to the spool: after a restart the
    /// recipient is due as before.
    Later {
        /// Not before this moment.
        at: Timestamp,
    },
    /// Kept until an operator releases it; says who holds it and why.
    Held(String),
}

/// True when the message's time is over and what is left of it bounces.
pub fn expired(entry: &Entry, now: Timestamp) -> bool {
    entry.expires <= now
}
