//! What the room is told by the configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use waypost_mail::{Allow, DomainPattern};

use crate::when::Filter;
use crate::{Budget, Digest, OnError, Stage};

/// The whole policy: what one generation is made from.
#[derive(Debug, Clone, Default)]
pub struct PolicyConfig {
    /// The plugins, in the order in which they are asked.
    pub plugins: Vec<PluginConfig>,
    /// Tables by name.
    pub tables: BTreeMap<String, PathBuf>,
    /// Token buckets by name.
    pub limits: BTreeMap<String, Bucket>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Secret>,
}

/// What only a restart changes.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// Where compiled components and the audit log are kept; made, and the owner's alone.
    pub directory: PathBuf,
    /// Who compiles.
    pub compiler: Compiler,
    /// How many generations are kept for a rollback.
    pub keep: usize,
}

/// Who compiles components.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compiler {
    /// This program, started anew as `PROGRAM plugin compile`, with limits: what compiling takes and
    /// what a hostile component does to a compiler stays out of the mail path.
    Child(PathBuf),
    /// This process itself. For tests and for tools that end soon.
    Here,
}

/// One plugin.
#[derive(Debug, Clone)]
pub struct PluginConfig {
    /// Its name: `[a-z0-9-]`, at most 32 octets.
    pub name: String,
    /// The component.
    pub file: PathBuf,
    /// What the component must hash to.
    pub digest: Option<Digest>,
    /// Whether its answers count.
    pub mode: Mode,
    /// Its own section of the configuration, as a JSON object.
    pub config: String,
    /// What it may do.
    pub grants: Grants,
    /// Budgets that differ from the stages' usual ones.
    pub budgets: BTreeMap<Stage, Budget>,
    /// What follows when it fails, where it differs from the usual.
    pub on_error: BTreeMap<Stage, OnError>,
    /// Which sessions and messages it is asked about.
    pub when: Filter,
    /// Most calls at once.
    pub slots: usize,
    /// Most memory of one instance, all its memories and tables together, in octets.
    pub memory: usize,
    /// A new instance for each call.
    pub isolated: bool,
}

impl PluginConfig {
    /// A plugin that is granted nothing and asked about everything.
    pub fn new(name: impl Into<String>, file: impl Into<PathBuf>) -> PluginConfig {
        PluginConfig {
            name: name.into(),
            file: file.into(),
            digest: None,
            mode: Mode::Enforce,
            config: "{}".to_owned(),
            grants: Grants::default(),
            budgets: BTreeMap::new(),
            on_error: BTreeMap::new(),
            when: Filter::default(),
            slots: usual_slots(),
            memory: 128 * 1024 * 1024,
            isolated: false,
        }
    }

    pub(crate) fn budget(&self, stage: Stage) -> Budget {
        self.budgets.get(&stage).copied().unwrap_or_else(|| stage.usual_budget())
    }

    pub(crate) fn remedy(&self, stage: Stage) -> OnError {
        self.on_error.get(&stage).copied().unwrap_or_default()
    }
}

/// Twice the processors: calls that wait for a lookup do not stop the others.
fn usual_slots() -> usize {
    std::thread::available_parallelism().map_or(4, |count| 2 * count.get()).max(4)
}

/// Whether a plugin's answers count.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Mode {
    /// They do.
    #[default]
    Enforce,
    /// They are recorded, not applied.
    DryRun,
    /// As `DryRun`, off the mail path, for this share of the calls (0 to 1).
    Shadow(f64),
}

impl Mode {
    /// Its name in configuration and logs.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::DryRun => "dry-run",
            Mode::Shadow(_) => "shadow",
        }
    }
}

/// What a plugin may do. What is not here answers `denied`.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// Tables it may read.
    pub tables: Vec<String>,
    /// Namespaces it may use, and whether it may write.
    pub kv: BTreeMap<String, Access>,
    /// Buckets it may take from.
    pub limits: Vec<String>,
    /// Most questions to DNS in one call.
    pub dns: Option<usize>,
    /// Where it may ask by HTTP.
    pub http: Option<Allow>,
    /// Secrets it may use without knowing them.
    pub secrets: Vec<String>,
    /// Secrets it may know.
    pub reveal: Vec<String>,
    /// Keys it may have messages signed with.
    pub sign: Vec<String>,
    /// `accept` ends a stage.
    pub accept: bool,
    /// It may drop mail.
    pub discard: bool,
    /// It may see passwords.
    pub auth: bool,
    /// What it may change of a message.
    pub edit: EditGrants,
    /// Domains of recipients that it may add whatever the peer may do.
    pub recipients: Vec<DomainPattern>,
}

/// Access to a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Read and write.
    Write,
}

/// What may be changed of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditGrants {
    /// Patterns (`X-*`) of fields that may be added.
    pub add: Vec<String>,
    /// Patterns of fields that may be removed or changed.
    pub remove: Vec<String>,
    /// Another reverse path.
    pub sender: bool,
    /// Other recipients.
    pub recipients: bool,
    /// Changes of the body.
    pub body: bool,
}

impl Default for EditGrants {
    fn default() -> EditGrants {
        EditGrants {
            add: vec!["*".to_owned()],
            remove: Vec::new(),
            sender: false,
            recipients: false,
            body: false,
        }
    }
}

/// Fields that no plugin touches: they are the host's own, or vouch for what was signed elsewhere. A
/// pattern of the configuration that names one without `*` allows it all the same.
const GUARDED: [&str; 7] = [
    "received",
    "return-path",
    "dkim-signature",
    "authentication-results",
    "arc-seal",
    "arc-message-signature",
    "arc-authentication-results",
];

impl EditGrants {
    pub(crate) fn may_add(&self, name: &str) -> bool {
        allows(&self.add, name)
    }

    pub(crate) fn may_remove(&self, name: &str) -> bool {
        allows(&self.remove, name)
    }
}

fn allows(patterns: &[String], name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let guarded = GUARDED.contains(&name.as_str());
    patterns.iter().any(|pattern| {
        let pattern = pattern.to_ascii_lowercase();
        match pattern.strip_suffix('*') {
            Some(prefix) => !guarded && name.starts_with(prefix),
            None => pattern == name,
        }
    })
}

/// A token bucket for each key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Tokens that are added in `per`.
    pub tokens: u32,
    /// How long that takes.
    pub per: Duration,
    /// Most tokens that gather.
    pub burst: u32,
}

/// A secret; its text form never shows it.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// A secret of these octets.
    pub fn new(octets: impl Into<Arc<[u8]>>) -> Secret {
        Secret(octets.into())
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guarded_fields_want_to_be_named() {
        let all = ["*".to_owned()];
        assert!(allows(&all, "X-Anything") && !allows(&all, "Received"));
        assert!(!allows(&all, "authentication-Results"));
        assert!(allows(&["Authentication-Results".to_owned()], "authentication-results"));
        assert!(!allows(&["X-*".to_owned()], "Subject") && allows(&["x-*".to_owned()], "X-A"));
    }
}
