//! What operators ask and change.

use serde::{Deserialize, Serialize};
use waypost_mail::{MessageId, Timestamp};
use waypost_smtp::ReversePath;
use waypost_spool::SpoolError;

/// Which messages: all that is given must hold. `recipient`, `domain`, `destination` and `standing`
/// must hold for one and the same recipient. Without any, every message is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// One of these, unless empty.
    pub ids: Vec<MessageId>,
    /// The envelope sender, letter case aside; `<>` or nothing means the null sender.
    pub sender: Option<String>,
    /// The address of a recipient, letter case aside.
    pub recipient: Option<String>,
    /// The domain of a recipient.
    pub domain: Option<String>,
    /// What the schedule groups by.
    pub destination: Option<String>,
    /// How a recipient stands. Without it, those that are done count too.
    pub state: Option<RecipientStanding>,
}

/// How a recipient stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecipientStanding {
    /// It waits for its next attempt.
    Waiting,
    /// It is held.
    Held,
    /// An attempt is under way.
    InFlight,
    /// It is settled, while others of the same message are not.
    Done,
}

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

/// What an operator's change did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// Recipients changed.
    pub changed: usize,
    /// Recipients left alone because an attempt was under way.
    pub in_flight: usize,
}

/// Why an operator's change was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AdminError {
    /// There is no such message, or nothing of it is left to change.
    #[error("there is no message {0} in the queue")]
    Unknown(MessageId),
    /// Every recipient it would change is being attempted right now.
    #[error("{1} recipients of message {0} are being delivered right now; try again in a moment")]
    InFlight(MessageId, usize),
    /// Storage failed.
    #[error(transparent)]
    Spool(SpoolError),
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
    /// The destinations with the most mail, at most 100 of them.
    pub destinations: Vec<DestinationStatus>,
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
    /// Until when it is left alone.
    pub resting_until: Option<Timestamp>,
    /// Why it rests.
    pub why: Option<String>,
    /// When something is due next, were it not resting.
    pub next_due: Option<Timestamp>,
}
