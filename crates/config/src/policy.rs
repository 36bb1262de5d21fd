//! Plugins and what they may reach: `[keys]`, `[policy]` and `[[plugin]]`.

mod plugin;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use waypost_delivery::{SourceAddress, Sources};
use waypost_identity::{Keyring, SigningKey};
use waypost_plugin::{Bucket, Compiler, HostConfig, PolicyConfig};
use waypost_smtp::Domain;

use crate::file::{self, Hops, SPAN, Secret};
use crate::mistake::Notes;
use crate::secret;
use crate::section::{At, Section};
use crate::units::Span;

pub(crate) use plugin::Plugin;

/// How names of hops, pools and the like must look.
const NAME: &str = "a name has 1 to 64 of a-z, 0-9, '.', '_' and '-'";

/// What the file says about policy.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    pub(crate) keys: Vec<(At<String>, At<PathBuf>)>,
    directory: Option<PathBuf>,
    compiler: Option<PathBuf>,
    pub(crate) watch: bool,
    keep: Option<usize>,
    order: Option<At<Vec<At<String>>>>,
    tables: BTreeMap<String, PathBuf>,
    limits: BTreeMap<String, Bucket>,
    secrets: Vec<(String, Secret)>,
    pub(crate) hops: Vec<(At<String>, Hops)>,
    sources: Sources,
    pub(crate) plugins: Vec<Plugin>,
}

/// Reads all of it.
pub(crate) fn read(top: &mut Section<'_>, notes: &mut Notes<'_>) -> Policy {
    let mut policy = Policy { keys: keys(top, notes), ..Policy::default() };
    if let Some(mut section) = top.section("policy", notes) {
        policy.directory = file::path(&mut section, "directory", notes).map(|path| path.value);
        policy.compiler = file::path(&mut section, "compiler", notes).map(|path| path.value);
        policy.watch = section.boolean("watch", notes).is_some_and(|watch| watch.value);
        policy.keep = section.integer("keep", 1..101, notes).map(|keep| keep.value as usize);
        policy.order = section.list("order", "names of plugins", notes);
        for (name, path) in section.named_strings("tables", notes) {
            if is_name(&name, notes) {
                policy.tables.insert(name.value, PathBuf::from(path.value));
            }
        }
        policy.limits = limits(&mut section, notes);
        policy.secrets = secrets(&mut section, notes);
        policy.hops = hops(&mut section, notes);
        policy.sources = sources(&mut section, notes);
        section.end(notes);
    }
    let plugins = top.sections("plugin", notes).into_iter();
    policy.plugins = plugins.filter_map(|section| plugin::read(section, notes)).collect();
    policy
}

pub(crate) fn is_name(name: &At<String>, notes: &mut Notes<'_>) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    let fine = (1..=64).contains(&name.value.len()) && name.value.bytes().all(legal);
    if !fine {
        notes.add(&name.at, format!("'{}' cannot be a name here", name.value), NAME);
    }
    fine
}

fn keys(top: &mut Section<'_>, notes: &mut Notes<'_>) -> Vec<(At<String>, At<PathBuf>)> {
    let mut keys = Vec::new();
    for (name, mut section) in top.named_sections("keys", notes) {
        let file = file::path(&mut section, "file", notes);
        let file = section.required("file", file, "the PEM file with the private key", notes);
        section.end(notes);
        if let (true, Some(file)) = (is_name(&name, notes), file) {
            keys.push((name, file));
        }
    }
    keys
}

fn limits(section: &mut Section<'_>, notes: &mut Notes<'_>) -> BTreeMap<String, Bucket> {
    let mut limits = BTreeMap::new();
    for (name, mut section) in section.named_sections("limits", notes) {
        let tokens = section.integer("tokens", 1..1_000_000_001, notes);
        let tokens = section.required("tokens", tokens, "tokens = 100", notes);
        let per = section.parsed::<Span>("per", SPAN, notes);
        let per = section.required("per", per, "per = \"1m\"", notes);
        let burst = section.integer("burst", 1..1_000_000_001, notes);
        section.end(notes);
        let (true, Some(tokens), Some(per)) = (is_name(&name, notes), tokens, per) else {
            continue;
        };
        if per.value.0.is_zero() {
            notes.add(&per.at, "'per' cannot be zero", SPAN);
            continue;
        }
        let whole = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let tokens = whole(tokens.value);
        let burst = burst.map_or(tokens, |burst| whole(burst.value));
        limits.insert(name.value, Bucket { tokens, per: per.value.0, burst });
    }
    limits
}

fn secrets(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Vec<(String, Secret)> {
    let mut secrets = Vec::new();
    for (name, mut section) in section.named_sections("secrets", notes) {
        let file = file::path(&mut section, "file", notes);
        let variable = section.string("env", notes);
        let at = section.at().clone();
        section.end(notes);
        if !is_name(&name, notes) {
            continue;
        }
        match (file, variable) {
            (Some(file), None) => secrets.push((name.value, Secret::File(file))),
            (None, Some(variable)) => secrets.push((name.value, Secret::Environment(variable))),
            (Some(_), Some(_)) => notes.add(&at, "both file and env are given", "keep one of them"),
            (None, None) => {
                let hint = "file = \"/etc/waypost/NAME.secret\" or env = \"VARIABLE\"";
                notes.add(&at, format!("the secret '{}' comes from nowhere", name.value), hint);
            }
        }
    }
    secrets
}

fn hops(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Vec<(At<String>, Hops)> {
    let mut all = Vec::new();
    for (name, section) in section.named_sections("hops", notes) {
        if let (true, Some(hops)) = (is_name(&name, notes), file::hops(section, notes)) {
            all.push((name, hops));
        }
    }
    all
}

fn sources(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Sources {
    let hint =
        "addresses = [\"192.0.2.10\", { address = \"192.0.2.11\", ehlo = \"out.example.org\" }]";
    let mut sources = Sources::new();
    for (name, mut section) in section.named_sections("sources", notes) {
        let mut pool: Vec<SourceAddress> = Vec::new();
        for item in section.strings_or_sections("addresses", notes) {
            let (address, ehlo, at) = match item {
                Ok(text) => match text.value.parse() {
                    Ok(address) => (address, None, text.at),
                    Err(_) => {
                        notes.add(&text.at, format!("'{}' is no address", text.value), hint);
                        continue;
                    }
                },
                Err(mut section) => {
                    let address = section.parsed("address", hint, notes);
                    let address = section.required("address", address, hint, notes);
                    let ehlo = section.parsed::<Domain>("ehlo", "a host name", notes);
                    let at = section.at().clone();
                    section.end(notes);
                    let Some(address) = address else { continue };
                    (address.value, ehlo.map(|ehlo| ehlo.value), at)
                }
            };
            if pool.iter().any(|known| known.address == address) {
                notes.add(&at, format!("{address} is twice in this pool"), "name it once");
                continue;
            }
            pool.push(SourceAddress { address, ehlo });
        }
        let at = section.at().clone();
        section.end(notes);
        if pool.is_empty() {
            notes.add(&at, format!("the pool '{}' has no address", name.value), hint);
        } else if is_name(&name, notes) {
            sources.insert(name.value, pool);
        }
    }
    sources
}

/// Policy as the rooms take it.
pub(crate) struct Lowered {
    pub(crate) host: HostConfig,
    pub(crate) config: PolicyConfig,
    pub(crate) keys: Keyring,
    pub(crate) sources: Sources,
}

impl Policy {
    /// Names of keys.
    pub(crate) fn has_key(&self, name: &str) -> bool {
        self.keys.iter().any(|(known, _)| known.value == name)
    }

    /// Notes what does not fit together.
    pub(crate) fn check(&self, listeners: &[&str], notes: &mut Notes<'_>) {
        let mut seen: HashMap<&str, ()> = HashMap::new();
        for plugin in &self.plugins {
            let name = &plugin.name;
            if seen.insert(&name.value, ()).is_some() {
                let message = format!("two plugins are called '{}'", name.value);
                notes.add(&name.at, message, "give each a name of its own");
            }
            plugin.check(self, listeners, notes);
        }
        let Some(order) = &self.order else { return };
        let hint = "name each plugin once";
        for named in &order.value {
            let times = order.value.iter().filter(|other| other.value == named.value).count();
            if times > 1 {
                notes.add(&named.at, format!("'{}' is named {times} times", named.value), hint);
            } else if !seen.contains_key(named.value.as_str()) {
                notes.add(&named.at, format!("there is no plugin '{}'", named.value), hint);
            }
        }
        for plugin in &self.plugins {
            if !order.value.iter().any(|named| named.value == plugin.name.value) {
                let message =
                    format!("'policy.order' leaves out the plugin '{}'", plugin.name.value);
                notes.add(&order.at, message, hint);
            }
        }
    }

    pub(crate) fn has_table(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }

    pub(crate) fn has_limit(&self, name: &str) -> bool {
        self.limits.contains_key(name)
    }

    pub(crate) fn has_secret(&self, name: &str) -> bool {
        self.secrets.iter().any(|(known, _)| known == name)
    }

    /// Reads what the file names and makes the rooms' own settings.
    pub(crate) fn lower(&self, spool: &Path, notes: &mut Notes<'_>) -> Lowered {
        let program = || std::env::current_exe().unwrap_or_else(|_| PathBuf::from("waypost"));
        let compiler = self.compiler.clone().unwrap_or_else(program);
        let host = HostConfig {
            directory: self.directory.clone().unwrap_or_else(|| spool.join("policy")),
            compiler: Compiler::Child(compiler),
            keep: self.keep.unwrap_or(5),
        };
        let mut secrets = BTreeMap::new();
        for (name, secret) in &self.secrets {
            if let Some(text) = secret::read(secret, notes) {
                secrets.insert(name.clone(), waypost_plugin::Secret::new(text.into_bytes()));
            }
        }
        let mut plugins: Vec<&Plugin> = self.plugins.iter().collect();
        if let Some(order) = &self.order {
            let place = |plugin: &&Plugin| {
                order.value.iter().position(|named| named.value == plugin.name.value)
            };
            plugins.sort_by_key(place);
        }
        let config = PolicyConfig {
            plugins: plugins.into_iter().map(|plugin| plugin.config.clone()).collect(),
            tables: self.tables.clone(),
            limits: self.limits.clone(),
            secrets,
        };
        Lowered { host, config, keys: self.keyring(notes), sources: self.sources.clone() }
    }

    fn keyring(&self, notes: &mut Notes<'_>) -> Keyring {
        let mut keys = Vec::new();
        for (name, file) in &self.keys {
            match SigningKey::load(&file.value) {
                Ok(loaded) if loaded.exposed => {
                    let message = format!(
                        "everybody on this machine can use the key {}",
                        file.value.display()
                    );
                    notes.add(&file.at, message, "chmod 0600, and publish another key");
                }
                Ok(loaded) => keys.push((name.value.clone(), loaded.key)),
                Err(error) => {
                    let hint = "waypost dkim keygen --domain DOMAIN --selector NAME --out FILE";
                    notes.add(&file.at, error.to_string(), hint);
                }
            }
        }
        keys.into_iter().collect()
    }
}

/// The longest a call may take, in sum: RFC 5321 §4.5.3.2 has clients wait five minutes for a reply.
pub(crate) const LONGEST_WALL: Duration = Duration::from_secs(60);
/// The most processor time of one call.
pub(crate) const LONGEST_CPU: Duration = Duration::from_secs(10);
