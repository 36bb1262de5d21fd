//! A message in the queue: everything about it but its bytes.

use serde::{Deserialize, Serialize};
use waypost_smtp::ReversePath;

use crate::{
    Attr, Facts, MessageId, Outcome, Recipient, Route, SignRequest, Terms, Timestamp, Why,
};

/// One accepted message. Kept in the log record of the message and, in parts, in sled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its id.
    pub id: MessageId,
    /// When it was accepted.
    pub received: Timestamp,
    /// When undelivered recipients bounce.
    pub expires: Timestamp,
    /// Where bounces go.
    pub sender: ReversePath,
    /// The content has octets over 127: the next hop must offer 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// The header or an address is internationalized: the next hop must offer SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// What else its submitter asked for.
    pub terms: Terms,
    /// Octets of header and body together.
    pub size: u64,
    /// What we know of the peer that brought it.
    pub facts: Facts,
    /// Metadata that policy set.
    pub meta: Vec<Attr>,
    /// Signatures that the message got, so that a converted copy can be signed again.
    pub sign: Vec<SignRequest>,
    /// The ways recipients refer to by index. Ways that nobody takes any more stay where they are.
    pub routes: Vec<Route>,
    /// How often policy sent recipients another way after an attempt.
    pub reroutes: u32,
    /// The recipients and what became of each so far.
    pub recipients: Vec<RecipientEntry>,
}

/// One recipient of an accepted message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientEntry {
    /// Id, address and metadata.
    pub recipient: Recipient,
    /// Index into [`Entry::routes`].
    pub route: u16,
    /// Notices of delay that were sent about it.
    pub told: u8,
    /// What became of it so far.
    pub state: RecipientState,
}

/// What became of a recipient so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecipientState {
    /// To be tried at `due`.
    Waiting {
        /// Not before this moment.
        due: Timestamp,
        /// Attempts made.
        tries: u32,
        /// Why the last attempt did not settle it.
        last: Option<Why>,
    },
    /// Kept until an operator releases it.
    Held {
        /// Attempts made.
        tries: u32,
        /// Who holds it and why, in words.
        reason: String,
    },
    /// Settled for good.
    Done(Outcome),
}

impl RecipientState {
    /// A recipient not tried yet.
    pub fn fresh(due: Timestamp) -> RecipientState {
        RecipientState::Waiting { due, tries: 0, last: None }
    }

    /// True when nothing more will happen.
    pub fn is_done(&self) -> bool {
        matches!(self, RecipientState::Done(_))
    }
}

impl Entry {
    /// The route of one recipient; the first when the index is out of range, which only a damaged
    /// record can cause.
    pub fn route_of(&self, recipient: &RecipientEntry) -> Option<&Route> {
        self.routes.get(recipient.route as usize).or(self.routes.first())
    }

    /// True when every recipient is settled.
    pub fn is_done(&self) -> bool {
        self.recipients.iter().all(|r| r.state.is_done())
    }
}
