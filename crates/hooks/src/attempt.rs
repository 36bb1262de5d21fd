//! Before and after one try at one next hop.

use std::time::Duration;

use waypost_mail::{Entry, Outcome, RecipientEntry, SignRequest, Timestamp};
use waypost_smtp::PermanentReply;

use crate::{Readable, Reason, SenderChange, Way};

/// One copy about to be sent.
#[derive(Debug, Clone, Copy)]
pub struct PreparedCopy<'a> {
    /// The message.
    pub entry: &'a Entry,
    /// The recipients of this copy.
    pub recipients: &'a [RecipientEntry],
    /// The next hop, `host[address]:port`.
    pub hop: &'a str,
    /// What the schedule groups it by.
    pub destination: &'a str,
    /// The pool of source addresses, when there is one.
    pub source: Option<&'a str>,
    /// Header and body as stored.
    pub text: &'a dyn Readable,
}

/// Answer about a copy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preparation {
    /// Fields to put in front of this copy, as name and value; the last one comes to stand first.
    pub add_headers: Vec<(String, String)>,
    /// Signatures for this copy, above those fields.
    pub sign: Vec<SignRequest>,
    /// The envelope sender of this copy.
    pub sender: SenderChange,
    /// Do not send now; try again then. Does not count as an attempt.
    pub postpone_until: Option<Timestamp>,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// What an attempt came to for one group of recipients.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// Taken by the next hop.
    Delivered,
    /// Not now.
    Transient,
    /// Not at all.
    Permanent,
    /// The connection was lost after the final dot.
    Unknown,
}

/// One recipient's result, and what the host would do about it.
#[derive(Debug, Clone, Copy)]
pub struct RecipientResult<'a> {
    /// The recipient.
    pub recipient: &'a RecipientEntry,
    /// What became of it.
    pub outcome: &'a Outcome,
    /// When the host would try again, if it would.
    pub planned_retry: Option<Timestamp>,
}

impl RecipientResult<'_> {
    /// The outcome in one word.
    pub fn disposition(&self) -> Disposition {
        match self.outcome {
            Outcome::Delivered { .. } | Outcome::Deleted => Disposition::Delivered,
            Outcome::Deferred(_) => Disposition::Transient,
            Outcome::Bounced(_) => Disposition::Permanent,
            Outcome::Unknown(_) => Disposition::Unknown,
        }
    }
}

/// An attempt that was made.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// The message.
    pub entry: &'a Entry,
    /// The last next hop spoken to, `host[address]:port`, if any.
    pub hop: Option<&'a str>,
    /// Where it was queued.
    pub destination: &'a str,
    /// What it came to, recipient by recipient.
    pub results: &'a [RecipientResult<'a>],
    /// Header and body as stored.
    pub text: &'a dyn Readable,
}

/// What to do about recipients that were not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Try again then.
    RetryAt(Timestamp),
    /// Try again at once, this way; at most [`MAX_REROUTES`] times for a message, then it is held.
    Reroute(Way),
    /// Give up; bounce with this reply.
    Fail(PermanentReply),
    /// Give up and tell nobody. The text goes to the log.
    Drop(String),
    /// Keep until an operator releases it. The text is the reason.
    Hold(String),
}

/// How often one message can be rerouted before it is held. Recipients that one attempt sends other ways
/// count as once.
pub const MAX_REROUTES: usize = 5;

/// Ask the schedule to go easy on a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneAdvice {
    /// Which.
    pub destination: String,
    /// Make no attempt for this long.
    pub pause: Option<Duration>,
    /// At most so many attempts at once.
    pub max_concurrent: Option<usize>,
    /// How long `max_concurrent` stands.
    pub valid: Duration,
}

/// Answer about an attempt. Recipients it does not mention fare as the host planned; a delivered
/// recipient stays delivered whatever is said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttemptAnswer {
    /// Recipient ids and what to do about them.
    pub remedies: Vec<(u32, Remedy)>,
    /// Advice for the schedule.
    pub advice: Vec<LaneAdvice>,
    /// Why.
    pub reasons: Vec<Reason>,
}
