//! Makes a message and its state durable, and finds them again after anything.
//!
//! An append-only log is the truth; sled is its index and the state in use. Whoever changes
//! something hands a [`Change`] to [`Spool::commit`]; when that returns, the change has been
//! appended and synced to the log, applied to sled, and flushed.

#![deny(unsafe_code)]

mod ahead;
mod compact;
mod config;
mod content;
mod digest;
mod dirs;
mod disk;
mod fault;
mod fresh;
mod index;
mod inspect;
mod job;
mod legacy;
mod lock;
mod log;
mod memory;
mod metrics;
mod opening;
mod reconcile;
mod record;
mod repair;
mod replay;
mod row;
mod rows;
#[cfg(test)]
mod samples;
mod scrub;
mod segment;
mod sled_rows;
mod space;
mod spool;
mod survey;
#[cfg(target_os = "linux")]
mod sync_override;
mod waiting;
mod writer;

pub use config::{Config, OpenError, Report};
pub use disk::{Disk, DiskFile, RealDisk};
pub use fault::{FaultPoint, Faults};
pub use inspect::Inspector;
pub use memory::MemorySpool;
pub use metrics::Metrics;
pub use repair::{Done, Repair};
pub use row::Writes;
pub use rows::{Rows, RowsError, RowsPlace};
pub use sled_rows::SledRows;
pub use spool::{Driver, LogSpool};
pub use survey::{Problem, Survey};

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
#[cfg(doc)]
use waypost_mail::RecipientEntry;
use waypost_mail::ledger::Fact;
use waypost_mail::{Body, Entry, Ledger, MessageId, RecipientState, Route, Timestamp};

/// A message about to become durable: final bytes, nothing left to decide.
#[derive(Debug)]
pub struct Arrival {
    /// Everything about it but its bytes.
    pub entry: Entry,
    /// The header fields, each with its CRLF, and the blank line.
    pub header: Bytes,
    /// What follows the blank line.
    pub body: Body,
    /// What becomes durable in the same record and outlives the message: who finds the message can
    /// find these, and who finds none of them knows that there never was one.
    pub facts: Vec<Fact>,
}

/// One change of what is kept. Each is applied whole or not at all.
#[derive(Debug)]
pub enum Change {
    /// A message arrived (record MSG).
    Accept(Box<Arrival>),
    /// Recipients of a message have another state (record DONE). When afterwards all recipients
    /// are done, the message is gone.
    Settle {
        /// The message.
        id: MessageId,
        /// Recipient id and its new state.
        states: Vec<(u32, RecipientState)>,
        /// Recipients that go another way from now on, durable in the same record.
        detours: Detours,
        /// The notice this causes, durable in the same record.
        notice: Option<Box<Arrival>>,
    },
    /// An operator's or policy's change of recipients that are not done: hold, release, retry
    /// (record STATE).
    Administer {
        /// The message.
        id: MessageId,
        /// Recipient id and its new state.
        states: Vec<(u32, RecipientState)>,
    },
    /// The message is gone, whatever its recipients' states (record TOMB).
    Remove {
        /// The message.
        id: MessageId,
    },
}

/// What changes for a message besides its recipients' states: the way of some, whether their sender was
/// told of a delay, and how long it is tried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detours {
    /// Recipient id and its new way. Of no effect for a recipient that is done.
    pub routes: Vec<(u32, Route)>,
    /// They come after an attempt by another way: counted in [`Entry::reroutes`], once for all.
    pub counted: bool,
    /// Recipient id and how many notices of delay have been sent about it ([`RecipientEntry::told`]).
    pub told: Vec<(u32, u8)>,
    /// When what is left of the message bounces from now on ([`Entry::expires`]).
    pub expires: Option<Timestamp>,
}

/// Why a change or a read failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SpoolError {
    /// Less space is left than the configuration keeps free; new mail is refused, settling goes on.
    #[error(
        "the spool's file system is nearly full: free some space, mail is taken again by itself"
    )]
    NoSpace,
    /// Storage failed. Nothing more is acknowledged until the program is started anew.
    #[error("the spool failed and stopped taking mail: {0}; check the disk, then restart")]
    Failed(Arc<str>),
    /// The record of this message is absent or damaged.
    #[error("the record of message {0} is damaged: {1}")]
    Damaged(MessageId, String),
    /// The message cannot be read for want of descriptors or memory; nothing is wrong with it.
    #[error("message {0} cannot be read now: {1}; it is tried again")]
    NotNow(MessageId, String),
    /// There is no such message.
    #[error("there is no message {0} in the spool")]
    Unknown(MessageId),
}

/// The stored bytes of one message, read in pieces.
pub trait Content: Send + Sync + fmt::Debug {
    /// Octets of header, blank line and body together.
    fn len(&self) -> u64;
    /// True when there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// At most `max` octets from `offset` on; empty at the end. Blocking, served from the page cache
    /// in the ordinary case. The content's checksum was verified when it was opened.
    fn read_at(&self, offset: u64, max: usize) -> Result<Bytes, SpoolError>;
}

/// Hears of every message that a spool keeps, while it is opened.
pub trait Audience {
    /// All that was heard so far is void: it begins anew.
    fn begin(&mut self);
    /// A message with all its recipients, each message once and in any order.
    fn message(&mut self, entry: Entry);
}

/// Nobody listens.
impl Audience for () {
    fn begin(&mut self) {}
    fn message(&mut self, _: Entry) {}
}

/// Durable storage for the queue. Besides sled with a segment log there may be others, such as a
/// replicated log; nothing else in the house knows where records live.
#[async_trait]
pub trait Spool: Send + Sync + fmt::Debug {
    /// Makes the change durable. Changes of concurrent callers share one sync.
    async fn commit(&self, change: Change) -> Result<(), SpoolError>;
    /// The message with all its recipients, done ones included.
    fn load(&self, id: MessageId) -> Result<Entry, SpoolError>;
    /// The message's bytes.
    fn content(&self, id: MessageId) -> Result<Box<dyn Content>, SpoolError>;
    /// Ids of all messages kept, in order, above `after` and at most `limit` of them.
    fn ids(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<MessageId>, SpoolError>;
    /// The highest id ever seen; new ids must be above it.
    fn highest_id(&self) -> u64;
    /// Where messages gather that are too large for memory. On the same file system as the log, and
    /// emptied at start.
    fn incoming(&self) -> PathBuf;
    /// Fails when new mail should be refused, without trying.
    fn accepting(&self, now: Timestamp) -> Result<(), SpoolError>;
    /// Where small facts are kept beside the messages; a spool need not have one.
    fn ledger(&self) -> Option<&dyn Ledger> {
        None
    }
}

/// Gives recipients their new ways and states, and answers which have changed, by place. What is done
/// stays done: a late or repeated settlement changes nothing, nor does one of a recipient the
/// message does not have. So every spool does it, and who has a message that is in none yet.
pub fn advance(
    entry: &mut Entry,
    states: &[(u32, RecipientState)],
    detours: &Detours,
) -> Vec<usize> {
    let mut changed = Vec::with_capacity(states.len());
    entry.expires = detours.expires.unwrap_or(entry.expires);
    for (id, route) in &detours.routes {
        let Some(at) = open_recipient(entry, *id) else { continue };
        if let Some(index) = index_of(&mut entry.routes, route) {
            entry.recipients[at].route = index;
            changed.push(at);
        }
    }
    if detours.counted && !changed.is_empty() {
        entry.reroutes = entry.reroutes.saturating_add(1);
    }
    for (id, told) in &detours.told {
        let Some(at) = open_recipient(entry, *id) else { continue };
        entry.recipients[at].told = *told;
        changed.push(at);
    }
    for (id, state) in states {
        if let Some(at) = open_recipient(entry, *id) {
            entry.recipients[at].state = state.clone();
            changed.push(at);
        }
    }
    changed.sort_unstable();
    changed.dedup();
    changed
}

/// The place of a recipient that is not done.
fn open_recipient(entry: &Entry, id: u32) -> Option<usize> {
    // Ids are usually places, as intake numbers recipients from zero.
    let guess = id as usize;
    let at = match entry.recipients.get(guess) {
        Some(recipient) if recipient.recipient.id == id => guess,
        _ => entry.recipients.iter().position(|r| r.recipient.id == id)?,
    };
    (!entry.recipients[at].state.is_done()).then_some(at)
}

/// Where a way is, entered when it is new; absent when there are more than can be told apart.
fn index_of(routes: &mut Vec<Route>, route: &Route) -> Option<u16> {
    let known = routes.iter().position(|known| known == route);
    let index = u16::try_from(known.unwrap_or(routes.len())).ok()?;
    if known.is_none() {
        routes.push(route.clone());
    }
    Some(index)
}
