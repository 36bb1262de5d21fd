//! What is asked and answered, as JSON.

use serde::{Deserialize, Serialize};
use waypost_mail::suppression::{Owner, Target};
use waypost_mail::{MessageId, Suppression, Timestamp};
use waypost_queue::{Field, Group, Status, Touched};
use waypost_smtp::Mailbox;

pub use waypost_queue::Page;

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

/// Messages wanted: `POST /v1/queue/list`, which answers with a [`Page`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListRequest {
    /// Which, as a selector; all of them when empty.
    pub selector: String,
    /// Those above this id alone: [`Page::next`] of the page before.
    pub after: Option<MessageId>,
    /// At most so many; 1000 unless told.
    pub limit: Option<usize>,
}

/// Recipients added up: `POST /v1/queue/summary`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SummaryRequest {
    /// Which, as a selector; all of them when empty.
    #[serde(default)]
    pub selector: String,
    /// By what.
    pub by: Field,
    /// At most so many groups, and one for all others; 50 unless told.
    pub limit: Option<usize>,
}

/// The groups, largest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// By what they are grouped.
    pub by: Field,
    /// The groups.
    pub groups: Vec<Group>,
}

/// A year: no message is given more time at once.
pub const MAX_EXTENSION: u64 = 365 * 86_400;

/// A change wanted: `POST /v1/queue/{hold,release,retry,reroute,bounce,expire,extend,delete}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeRequest {
    /// Of whom, as a selector. An empty one means everybody and needs `all`.
    pub selector: String,
    /// Says that everybody is meant.
    pub all: bool,
    /// Changes nothing and counts who would be changed.
    pub dry_run: bool,
    /// Why, for hold and bounce.
    pub reason: String,
    /// Where to, for reroute: `mx`, `mx:DOMAIN`, a name of `[policy.hops]`, or `HOST:PORT`.
    pub to: String,
    /// How many seconds more, for extend; at most [`MAX_EXTENSION`].
    pub by_seconds: u64,
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

/// What a change did in all, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Nothing was changed, only counted what would be.
    pub dry_run: bool,
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

/// An address that is shut out: `GET /v1/bans` lists them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// The address, or an IPv6 /64: `192.0.2.1/32`.
    pub network: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

/// Who is to be let in again: `POST /v1/bans/lift`. Exactly one of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiftBans {
    /// An address or a network.
    pub network: Option<String>,
    /// Everybody.
    #[serde(default)]
    pub all: bool,
}

/// How many bans that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifted {
    /// So many.
    pub lifted: usize,
}

/// Most entries of the suppression list in one answer.
pub const MAX_SUPPRESSIONS: usize = 10_000;

/// Which entries of the suppression list: `POST /v1/suppressions/list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListSuppressions {
    /// At most so many, and never more than [`MAX_SUPPRESSIONS`]; 1000 when absent.
    #[serde(default)]
    pub limit: Option<usize>,
    /// [`SuppressionPage::next`] of the page before.
    #[serde(default)]
    pub after: Option<String>,
}

/// A part of the suppression list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressionPage {
    /// Its entries.
    pub entries: Vec<Suppression>,
    /// Where the next page begins; null on the last one.
    pub next: Option<String>,
}

/// About whom and whose mail: `POST /v1/suppressions/show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShowSuppressions {
    /// An address, with the entries for its domain, or a domain.
    pub target: Target,
    /// Only what stops the mail of this sender.
    #[serde(default)]
    pub sender: Option<Mailbox>,
    /// And of who is logged in by this name.
    #[serde(default)]
    pub user: Option<String>,
}

/// Entries for the suppression list: `POST /v1/suppressions/add`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suppress {
    /// The entries.
    pub entries: Vec<Suppression>,
}

/// Which entries go from the suppression list: `POST /v1/suppressions/remove`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsuppress {
    /// Addresses and domains.
    pub targets: Vec<Target>,
    /// Whose; everybody's who has such an entry otherwise.
    pub owner: Option<Owner>,
}

/// How many entries were put on the list or taken off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entries {
    /// So many.
    pub entries: usize,
}

/// The policy: `GET /v1/policy`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyView {
    /// The generations that are kept, the one on trial and the current one first.
    pub generations: Vec<Generation>,
    /// The plugins in force, in the order in which they are asked.
    pub plugins: Vec<Plugin>,
}

/// One generation of policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number.
    pub id: u64,
    /// `current`, `canary at N %…` or `kept`.
    pub state: String,
    /// Since when.
    pub since: Timestamp,
    /// Who asked for it.
    pub who: String,
    /// Name and digest of its plugins.
    pub plugins: Vec<(String, String)>,
}

/// One plugin in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plugin {
    /// Its name in the configuration.
    pub name: String,
    /// The component.
    pub file: String,
    /// Its SHA-256.
    pub digest: String,
    /// What it calls itself, and its version.
    pub says: Option<(String, String)>,
    /// `enforce`, `dry-run` or `shadow`.
    pub mode: String,
    /// Number of its generation.
    pub generation: u64,
    /// Octets that an instance takes.
    pub memory: Option<usize>,
    /// Where it is asked.
    pub stages: Vec<PluginStage>,
    /// Its last fault: when, at which stage, what.
    pub last_fault: Option<(Timestamp, String, String)>,
}

/// One plugin at one stage, since its generation came into force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginStage {
    /// The stage.
    pub stage: String,
    /// Calls.
    pub calls: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Answers that refused for good or bounced.
    pub refused: u64,
    /// Answers that refused for now or postponed.
    pub later: u64,
    /// Answers that dropped or held.
    pub taken: u64,
    /// Half of the calls took at most so many microseconds.
    pub median_us: u64,
    /// 99 of 100 did.
    pub p99_us: u64,
    /// It kept failing and is not asked since then.
    pub open_since: Option<Timestamp>,
}

/// Another policy wanted: `POST /v1/policy/reload`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyReload {
    /// On trial first, for this percentage of the transactions.
    pub canary_percent: Option<u8>,
    /// How long the trial lasts; 600 unless told.
    pub canary_seconds: Option<u64>,
}

/// An earlier policy wanted: `POST /v1/policy/rollback`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRollback {
    /// Number of a generation that is kept; the one before the current one unless told.
    pub id: Option<u64>,
}

/// A message that somebody wonders about: `POST /v1/policy/explain`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Address of the peer.
    pub client: String,
    /// Name of the listener.
    pub listener: String,
    /// Argument of EHLO.
    pub helo: Option<String>,
    /// Who is logged in.
    pub identity: Option<String>,
    /// The connection is encrypted.
    pub tls: bool,
    /// The reverse path; empty for the null sender.
    pub from: String,
    /// The recipients.
    pub to: Vec<String>,
    /// Octets of the message.
    pub size: Option<u64>,
    /// Its header fields, whole.
    pub header: Option<String>,
}

/// One stage: every plugin in force, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageExplained {
    /// The stage.
    pub stage: String,
    /// The plugins.
    pub plugins: Vec<PluginExplained>,
}

/// One plugin at a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginExplained {
    /// Its name, with its mode when its answers do not count.
    pub name: String,
    /// Why it would not be asked; nothing when it would.
    pub why_not: Option<String>,
}
