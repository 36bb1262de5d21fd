//! One `[[plugin]]`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use waypost_mail::{Allow, AllowRule, DomainPattern, Origin};
use waypost_plugin::when::Filter;
use waypost_plugin::{
    Access, Budget, Digest, EditGrants, Grants, Mode, OnError, PluginConfig, STAGES, Stage,
};

use super::{LONGEST_CPU, LONGEST_WALL, Policy};
use crate::file::{self, NETWORK, OCTETS, PATTERN, SPAN};
use crate::mistake::Notes;
use crate::section::{At, Section};
use crate::units::{Octets, Span};

/// What one request to the web may come to.
const WEB_OCTETS: usize = 1024 * 1024;
const WEB_TIME: Duration = Duration::from_secs(30);

/// One plugin, and where its words stand.
#[derive(Debug)]
pub(crate) struct Plugin {
    pub(crate) name: At<String>,
    pub(crate) config: PluginConfig,
    /// Names that something else in the file must have.
    named: Vec<(Kind, At<String>)>,
}

/// What a name must be the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Table,
    Limit,
    Secret,
    Key,
    Listener,
}

/// Reads one; absent when it has no name or file.
pub(super) fn read(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<Plugin> {
    let name = section.string("name", notes);
    let name = section.required("name", name, "name = \"guard\"", notes);
    let file = file::path(&mut section, "file", notes);
    let file = section.required("file", file, "file = \"/etc/waypost/plugins/guard.wasm\"", notes);
    let digest = section.parsed::<Digest>("digest", "sha256: and 64 hexadecimal digits", notes);
    let mode = mode(&mut section, notes);
    let slots = section.integer("slots", 1..1025, notes);
    let memory = section.parsed::<Octets>("memory", OCTETS, notes);
    let isolated = section.boolean("isolated", notes);
    let config = section.json("config");
    let mut named = Vec::new();
    let on_error = on_error(&mut section, notes);
    let budgets = budgets(&mut section, notes);
    let grants = grants(section.section("grants", notes), &mut named, notes);
    let when = when(section.section("when", notes), &mut named, notes);
    section.end(notes);
    let name = name.filter(|name| is_plugin_name(name, notes))?;
    let mut plugin = PluginConfig::new(name.value.clone(), file?.value);
    plugin.digest = digest.map(|digest| digest.value);
    plugin.mode = mode;
    plugin.on_error = on_error;
    plugin.budgets = budgets;
    plugin.grants = grants;
    plugin.when = when;
    plugin.slots = slots.map_or(plugin.slots, |slots| slots.value as usize);
    plugin.isolated = isolated.is_some_and(|isolated| isolated.value);
    if let Some(memory) = memory {
        let legal = 1024 * 1024..=1024 * 1024 * 1024;
        if legal.contains(&memory.value.0) {
            plugin.memory = memory.value.0 as usize;
        } else {
            notes.add(&memory.at, "'plugin.memory' must be from 1MiB to 1GiB", OCTETS);
        }
    }
    if let Some(config) = config {
        if config.value.is_object() {
            plugin.config = config.value.to_string();
        } else {
            notes.add(&config.at, "'plugin.config' must be a table", "[plugin.config]");
        }
    }
    Some(Plugin { name, config: plugin, named })
}

fn is_plugin_name(name: &At<String>, notes: &mut Notes<'_>) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fine = (1..=32).contains(&name.value.len()) && name.value.bytes().all(legal);
    if !fine {
        let message = format!("'{}' cannot be the name of a plugin", name.value);
        notes.add(&name.at, message, "a name has 1 to 32 of a-z, 0-9 and '-'");
    }
    fine
}

fn mode(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Mode {
    let mode = file::one_of(section, "mode", &["enforce", "dry-run", "shadow"], notes);
    let sample = section.number("sample", 0.0..=1.0, notes);
    match (mode.as_deref(), sample) {
        (Some("shadow"), sample) => Mode::Shadow(sample.map_or(1.0, |sample| sample.value)),
        (mode, sample) => {
            if let Some(sample) = sample {
                notes.add(&sample.at, "'plugin.sample' is for shadow alone", "mode = \"shadow\"");
            }
            if mode == Some("dry-run") { Mode::DryRun } else { Mode::Enforce }
        }
    }
}

fn stage(name: &At<String>, notes: &mut Notes<'_>) -> Option<Stage> {
    match name.value.parse() {
        Ok(stage) => Some(stage),
        Err(_) => {
            let known: Vec<&str> = STAGES.iter().map(|stage| stage.name()).collect();
            let hint = format!("one of: {}", known.join(", "));
            notes.add(&name.at, format!("'{}' is no stage", name.value), &hint);
            None
        }
    }
}

fn on_error(section: &mut Section<'_>, notes: &mut Notes<'_>) -> BTreeMap<Stage, OnError> {
    let mut remedies = BTreeMap::new();
    for (name, word) in section.named_strings("on-error", notes) {
        let Some(stage) = stage(&name, notes) else { continue };
        let allowed = stage.remedies();
        match word.value.parse::<OnError>().ok().filter(|remedy| allowed.contains(remedy)) {
            Some(remedy) => {
                remedies.insert(stage, remedy);
            }
            None => {
                let known: Vec<&str> = allowed.iter().map(|remedy| remedy.name()).collect();
                let message = format!("'on-error' at {stage} cannot be '{}'", word.value);
                notes.add(&word.at, message, &format!("one of: {}", known.join(", ")));
            }
        }
    }
    remedies
}

fn budgets(section: &mut Section<'_>, notes: &mut Notes<'_>) -> BTreeMap<Stage, Budget> {
    let mut budgets = BTreeMap::new();
    for (name, mut section) in section.named_sections("budget", notes) {
        let cpu = budget(&mut section, "cpu", LONGEST_CPU, notes);
        let wall = budget(&mut section, "wall", LONGEST_WALL, notes);
        section.end(notes);
        let Some(stage) = stage(&name, notes) else { continue };
        let usual = stage.usual_budget();
        let budget = Budget { cpu: cpu.unwrap_or(usual.cpu), wall: wall.unwrap_or(usual.wall) };
        budgets.insert(stage, budget);
    }
    budgets
}

fn budget(
    section: &mut Section<'_>,
    key: &'static str,
    longest: Duration,
    notes: &mut Notes<'_>,
) -> Option<Duration> {
    let span = section.parsed::<Span>(key, SPAN, notes)?;
    let legal = Duration::from_millis(1)..=longest;
    if legal.contains(&span.value.0) {
        return Some(span.value.0);
    }
    let message = format!("'{}' must be from 1ms to {longest:?}", section.path(key));
    notes.add(&span.at, message, SPAN);
    None
}

fn grants(
    section: Option<Section<'_>>,
    named: &mut Vec<(Kind, At<String>)>,
    notes: &mut Notes<'_>,
) -> Grants {
    let Some(mut section) = section else { return Grants::default() };
    let mut names = |section: &mut Section<'_>, key, kind, notes: &mut Notes<'_>| {
        let list = section.list::<String>(key, "a list of names", notes);
        let list = list.map_or_else(Vec::new, |list| list.value);
        named.extend(list.iter().map(|name| (kind, name.clone())));
        list.into_iter().map(|name| name.value).collect::<Vec<String>>()
    };
    let yes = |section: &mut Section<'_>, key, notes: &mut Notes<'_>| {
        section.boolean(key, notes).is_some_and(|yes| yes.value)
    };
    let grants = Grants {
        tables: names(&mut section, "tables", Kind::Table, notes),
        limits: names(&mut section, "limits", Kind::Limit, notes),
        secrets: names(&mut section, "secrets", Kind::Secret, notes),
        reveal: names(&mut section, "reveal", Kind::Secret, notes),
        sign: names(&mut section, "sign", Kind::Key, notes),
        kv: kv(&mut section, notes),
        dns: section.integer("dns", 1..1001, notes).map(|most| most.value as usize),
        http: http(&mut section, notes),
        accept: yes(&mut section, "accept", notes),
        discard: yes(&mut section, "discard", notes),
        auth: yes(&mut section, "auth", notes),
        edit: edit(section.section("edit", notes), notes),
        recipients: patterns(&mut section, "recipients", notes),
    };
    section.end(notes);
    grants
}

fn patterns(
    section: &mut Section<'_>,
    key: &'static str,
    notes: &mut Notes<'_>,
) -> Vec<DomainPattern> {
    let list = section.list::<DomainPattern>(key, PATTERN, notes);
    list.map_or_else(Vec::new, |list| list.value.into_iter().map(|p| p.value).collect())
}

fn kv(section: &mut Section<'_>, notes: &mut Notes<'_>) -> BTreeMap<String, Access> {
    let mut all = BTreeMap::new();
    for (name, word) in section.named_strings("kv", notes) {
        if !super::is_name(&name, notes) {
            continue;
        }
        match word.value.as_str() {
            "r" => _ = all.insert(name.value, Access::Read),
            "rw" => _ = all.insert(name.value, Access::Write),
            other => {
                let message = format!("access to '{}' cannot be '{other}'", name.value);
                notes.add(&word.at, message, "\"r\" to read, \"rw\" to read and write");
            }
        }
    }
    all
}

fn http(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Option<Allow> {
    let hint =
        "http = [{ origin = \"https://api.example\", methods = [\"POST\"], path = \"/v1/\" }]";
    let mut rules = Vec::new();
    for mut section in section.sections("http", notes) {
        let origin = section.parsed::<Origin>("origin", hint, notes);
        let origin = section.required("origin", origin, hint, notes);
        let methods = section.list::<String>("methods", "in capitals: \"GET\", \"POST\"", notes);
        let methods: Vec<At<String>> = methods.map_or_else(Vec::new, |list| list.value);
        for method in &methods {
            if !method.value.bytes().all(|b| b.is_ascii_uppercase()) || method.value.is_empty() {
                notes.add(&method.at, format!("'{}' is no method", method.value), hint);
            }
        }
        let path = section.string("path", notes);
        if let Some(path) = path.as_ref().filter(|path| !path.value.starts_with('/')) {
            notes.add(&path.at, "a path begins with '/'", hint);
        }
        section.end(notes);
        let Some(origin) = origin else { continue };
        rules.push(AllowRule {
            origin: origin.value,
            methods: methods.into_iter().map(|method| method.value).collect(),
            path_prefix: path.map_or_else(String::new, |path| path.value),
        });
    }
    (!rules.is_empty()).then_some(Allow {
        rules,
        max_response: WEB_OCTETS,
        max_request: WEB_OCTETS,
        max_timeout: WEB_TIME,
    })
}

fn edit(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> EditGrants {
    let mut edit = EditGrants::default();
    let Some(mut section) = section else { return edit };
    let hint = "names of header fields, or their beginning with '*': \"X-*\"";
    let fields = |section: &mut Section<'_>, key, notes: &mut Notes<'_>| {
        let list = section.list::<String>(key, hint, notes)?;
        Some(list.value.into_iter().map(|name| name.value).collect::<Vec<String>>())
    };
    if let Some(add) = fields(&mut section, "add", notes) {
        edit.add = add;
    }
    if let Some(remove) = fields(&mut section, "remove", notes) {
        edit.remove = remove;
    }
    edit.sender = section.boolean("sender", notes).is_some_and(|yes| yes.value);
    edit.recipients = section.boolean("recipients", notes).is_some_and(|yes| yes.value);
    edit.body = section.boolean("body", notes).is_some_and(|yes| yes.value);
    section.end(notes);
    edit
}

fn when(
    section: Option<Section<'_>>,
    named: &mut Vec<(Kind, At<String>)>,
    notes: &mut Notes<'_>,
) -> Filter {
    let Some(mut section) = section else { return Filter::default() };
    let strings = |list: Option<At<Vec<At<String>>>>| list.map_or_else(Vec::new, |l| l.value);
    let listeners = strings(section.list("listener", "names of listeners", notes));
    named.extend(listeners.iter().map(|name| (Kind::Listener, name.clone())));
    let clients = section.list::<waypost_mail::Network>("client", NETWORK, notes);
    let headers = strings(section.list("header", "names of header fields", notes));
    let size = |section: &mut Section<'_>, key, notes: &mut Notes<'_>| {
        section.parsed::<Octets>(key, OCTETS, notes).map(|size| size.value.0)
    };
    let values = |list: Vec<At<String>>| list.into_iter().map(|name| name.value).collect();
    let filter = Filter {
        listeners: values(listeners),
        clients: clients.map_or_else(Vec::new, |l| l.value.into_iter().map(|n| n.value).collect()),
        authenticated: section.boolean("authenticated", notes).map(|yes| yes.value),
        tls: section.boolean("tls", notes).map(|yes| yes.value),
        sender_domains: patterns(&mut section, "sender-domain", notes),
        recipient_domains: patterns(&mut section, "recipient-domain", notes),
        size_from: size(&mut section, "size-from", notes),
        size_to: size(&mut section, "size-to", notes),
        headers: values(headers),
        tags: section
            .named_strings("tag", notes)
            .into_iter()
            .map(|(name, value)| (name.value, value.value))
            .collect(),
    };
    section.end(notes);
    filter
}

impl Plugin {
    /// Notes names that nothing in the file has.
    pub(super) fn check(&self, policy: &Policy, listeners: &[&str], notes: &mut Notes<'_>) {
        for (kind, name) in &self.named {
            let text = name.value.as_str();
            let (known, what, hint) = match kind {
                Kind::Table => (policy.has_table(text), "table", "[policy.tables]"),
                Kind::Limit => (policy.has_limit(text), "limit", "[policy.limits.NAME]"),
                Kind::Secret => (policy.has_secret(text), "secret", "[policy.secrets.NAME]"),
                Kind::Key => (policy.has_key(text), "key", "[keys.NAME]"),
                Kind::Listener => (listeners.contains(&text), "listener", "[[listener]]"),
            };
            if !known {
                missing(what, text, hint, &name.at, notes);
            }
        }
    }
}

fn missing(what: &str, name: &str, hint: &str, at: &Range<usize>, notes: &mut Notes<'_>) {
    notes.add(at, format!("there is no {what} '{name}'"), &format!("make it in {hint}"));
}
