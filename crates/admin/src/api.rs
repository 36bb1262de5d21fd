//! What is asked and answered, as JSON.

use serde::{Deserialize, Serialize};
use waypost_mail::Timestamp;
use waypost_queue::{Filter, Status, Summary, Touched};

/// How the program fares: `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// The program's version.
    pub version: String,
    /// Our name.
    pub hostname: String,
    /// Process id.
    pub pid: u32,
    /// When it started.
    pub started: Timestamp,
    /// It takes no more mail and ends when what is under way is done.
    pub draining: bool,
    /// The doors: name, kind, address.
    pub listeners: Vec<Listener>,
    /// The queue.
    pub queue: Status,
}

/// One door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its name in the configuration.
    pub name: String,
    /// `relay`, `submission` or `submissions`.
    pub kind: String,
    /// Address and port it listens on.
    pub address: String,
    /// Sessions open on it.
    pub sessions: u64,
}

/// Messages wanted: `POST /v1/queue/list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListRequest {
    /// Which.
    #[serde(default)]
    pub filter: Filter,
    /// At most so many; 1000 unless told.
    pub limit: Option<usize>,
}

/// Messages found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// In order of their ids, which is the order they came in.
    pub messages: Vec<Summary>,
    /// There are more than were asked for.
    pub more: bool,
}

/// A change wanted: `POST /v1/queue/{hold,release,retry,bounce,delete}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeRequest {
    /// Which messages. An empty filter means all of them and needs `all`.
    #[serde(default)]
    pub filter: Filter,
    /// Says that every message is meant.
    #[serde(default)]
    pub all: bool,
    /// Why, for hold and bounce.
    #[serde(default)]
    pub reason: String,
}

/// What a change did to one message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Recipients changed.
    pub changed: usize,
    /// Recipients left alone because an attempt was under way.
    pub in_flight: usize,
}

impl From<Touched> for Verdict {
    fn from(touched: Touched) -> Verdict {
        Verdict { changed: touched.changed, in_flight: touched.in_flight }
    }
}

/// What a change did in all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Messages of which something changed.
    pub messages: usize,
    /// Recipients changed.
    pub recipients: usize,
    /// Recipients left alone because an attempt was under way.
    pub in_flight: usize,
    /// What went wrong, message by message, in words; at most 100 of them.
    pub problems: Vec<String>,
}

/// A few words: the answer to `POST /v1/reload` and `POST /v1/drain`, and every refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    /// What happened.
    pub message: String,
}
