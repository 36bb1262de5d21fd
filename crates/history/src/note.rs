//! What can be told of a message. Texts are for people; what programs sort by has a field of its own.

use serde::{Deserialize, Serialize};
use waypost_mail::{Attr, MessageId, Security, SessionId, Timestamp};

/// Whom a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// One message.
    Message(MessageId),
    /// Everybody: the relay itself.
    Relay,
    /// One connection of a peer, and with it the messages that came by it.
    Session(SessionId),
}

/// A note and when it was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// When.
    pub at: Timestamp,
    /// About whom.
    pub about: About,
    /// What.
    pub note: Note,
}

/// One thing that happened. New kinds are added at the end: files of older versions stay readable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Note {
    /// The message was accepted and is durable.
    Accepted(Box<Accepted>),
    /// The message was complete and not accepted.
    Refused(Box<Refused>),
    /// A plugin answered.
    Decided(Box<Decided>),
    /// An attempt to deliver was made, or recipients were settled without one.
    Attempt(Box<Attempt>),
    /// The sender was sent a notice.
    Notice(Notice),
    /// An operator changed something.
    Order(Order),
    /// Policy dropped the complete message without a word to its sender.
    Discarded {
        /// Why.
        reason: String,
    },
    /// The relay started.
    Started {
        /// Its version.
        version: String,
    },
    /// The relay ended as it was told to.
    Ended,
    /// Notes could not be kept, of this message or others.
    Lost {
        /// How many.
        count: u64,
        /// The first of them at this moment.
        since: Timestamp,
    },
}

/// A message that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The session it came by.
    pub session: SessionId,
    /// The listener it came by; `internal` for what the relay wrote itself.
    pub listener: String,
    /// How it came: `esmtp`, `http` and so on.
    pub protocol: String,
    /// The peer's address and port; absent for what the relay wrote itself.
    pub client: Option<String>,
    /// What the peer called itself.
    pub helo: Option<String>,
    /// Version and cipher suite of its connection.
    pub tls: Option<String>,
    /// Who was logged in.
    pub user: Option<String>,
    /// Where bounces go; empty for the null sender.
    pub sender: String,
    /// The recipients and where they go, the first hundred.
    pub recipients: Vec<Goes>,
    /// How many more there are.
    pub more: u32,
    /// Octets.
    pub size: u64,
    /// How urgent: -9 to 9.
    pub priority: i8,
    /// When what is left of it bounces.
    pub expires: Timestamp,
    /// Metadata: what verification found (`verify/…`), and what policy set.
    pub facts: Vec<Attr>,
    /// Domain and selector of each signature it got.
    pub signed: Vec<String>,
    /// The message that this notice is about.
    pub notice_about: Option<MessageId>,
}

/// A recipient and where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goes {
    /// The address.
    pub recipient: String,
    /// Destination and TLS level, or why not yet.
    pub way: String,
}

/// A message that was complete and not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The session it came by.
    pub session: SessionId,
    /// The listener it came by.
    pub listener: String,
    /// The peer's address and port.
    pub client: String,
    /// Its sender; empty for the null sender.
    pub sender: String,
    /// What the peer was told.
    pub reply: String,
}

/// The answer of one plugin at one stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// At which stage.
    pub stage: String,
    /// Whose answer.
    pub plugin: String,
    /// Number of its generation.
    pub generation: u64,
    /// The first digits of its component's SHA-256.
    pub digest: String,
    /// `enforce`, `dry-run` or `shadow`: only the first counts.
    pub mode: String,
    /// About whom in particular, at stages that ask about some of several.
    pub about: String,
    /// What it came to; `proceed` when it had no objection.
    pub verdict: String,
    /// What it changed.
    pub edits: Vec<String>,
    /// Why, as it says: code, text, rule.
    pub reasons: Vec<String>,
    /// Microseconds it took.
    pub took_us: u64,
}

/// One turn of recipients that go the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Counted from 1 for the recipient that was tried most.
    pub number: u32,
    /// Since when it was due: what lies between is what limits and other mail took.
    pub due: Option<Timestamp>,
    /// What held it back between the two, as far as that is known, in order of time.
    pub held: Vec<Held>,
    /// When it began.
    pub began: Timestamp,
    /// Microseconds it took.
    pub took_us: u64,
    /// What the schedule groups by.
    pub destination: String,
    /// What was looked up, and the hosts that were spoken to, in order.
    pub steps: Vec<Step>,
    /// What became of each recipient, the first hundred.
    pub results: Vec<Fared>,
    /// How many more there are.
    pub more: u32,
}

/// One step of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Hosts were looked up.
    Lookup(Box<Lookup>),
    /// A host was tried.
    Visit(Box<Visit>),
    /// A limit kept the attempt waiting, or ended it.
    Held(Box<Held>),
}

/// A limit that kept recipients from being tried, or an attempt from going on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The kind of limit: `rest` of a destination or `site-rest` of its hosts; `policy-slots` or `probe` of
    /// a destination, `site-slots` and `site-rate` of its hosts; `class`, `tenant` and `in-flight` of all
    /// attempts; of an attempt under way `site`, `connections` and `connection-rate`, too.
    pub limit: String,
    /// Whose it is: a destination, a provider or its mail exchangers, a class, a tenant; empty for all.
    pub of: String,
    /// The same for a person.
    pub words: String,
    /// Since when.
    pub since: Timestamp,
    /// Microseconds; none where it ended an attempt.
    pub took_us: u64,
}

/// What was found out about a next hop before anybody was spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// The domain whose exchangers were looked up, or the host.
    pub hop: String,
    /// Microseconds since the attempt began.
    pub at_us: u64,
    /// Microseconds it took.
    pub took_us: u64,
    /// The hosts in the order in which they are tried, the first twenty.
    pub hosts: Vec<String>,
    /// How well their names are proven.
    pub names: String,
    /// What the policy of the domain says (MTA-STS), where it was asked for.
    pub policy: Option<String>,
    /// Why there is no host.
    pub error: Option<String>,
}

/// One host that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// `name[address]:port`.
    pub host: String,
    /// The address it was spoken to from, where the route has a pool of them.
    pub source: Option<String>,
    /// Microseconds since the attempt began.
    pub at_us: u64,
    /// Microseconds it took.
    pub took_us: u64,
    /// What TLS had to prove, and who demanded it.
    pub demand: String,
    /// How the connection was protected, if there was one.
    pub security: Option<Security>,
    /// The verdict about its TLS: what was proven, or why there was none.
    pub tls: String,
    /// Messages that had gone over the connection before this one; absent for a new connection.
    pub reused: Option<u32>,
    /// What the host lacks, and what was done to a copy of the message for that.
    pub conversion: Option<String>,
    /// Microseconds that the host took for each phase.
    pub phases: Vec<(String, u64)>,
    /// Why recipients went on to the next host, or were put off.
    pub error: Option<String>,
    /// What was said, line by line.
    pub dialogue: Vec<Line>,
    /// Octets of the dialogue that were left out.
    pub cut: u64,
}

/// One line of a dialogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Microseconds since the attempt began.
    pub at_us: u64,
    /// Who said it.
    pub who: Speaker,
    /// What, without its end of line. Secrets are `***`.
    pub text: String,
}

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speaker {
    /// The relay.
    We,
    /// The next hop.
    They,
    /// Nobody: what happened between the lines.
    Aside,
}

/// What became of one recipient in an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fared {
    /// The address.
    pub recipient: String,
    /// `delivered`, `deferred`, `unknown`, `bounced`, `deleted`, `dropped`, `postponed`, `rerouted`, `routed`, `held`, or
    /// `cut-off` when the attempt came to no end.
    pub outcome: String,
    /// The cause in one word, as in the metrics.
    pub class: Option<String>,
    /// The status as in a notice: `4.4.1`.
    pub status: Option<String>,
    /// What the failure means: disposition, scope and category.
    pub means: Option<String>,
    /// The rule that read the reply so, if one did.
    pub rule: Option<String>,
    /// The reply, or why, in words.
    pub words: String,
    /// When it is tried again.
    pub next: Option<Timestamp>,
}

/// A notice that the sender was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its id: it has a story of its own.
    pub id: MessageId,
    /// Whom it tells.
    pub to: String,
    /// What of: `failure`, `delay`, `success` and so on.
    pub kinds: Vec<String>,
}

/// What an operator did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// `hold`, `release`, `retry`, `reroute`, `bounce`, `expire`, `extend` or `delete`.
    pub verb: String,
    /// Why, or whereto, or how much.
    pub words: String,
    /// Recipients changed.
    pub changed: u32,
    /// Recipients left alone because an attempt was under way.
    pub in_flight: u32,
}
