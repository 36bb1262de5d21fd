//! One plugin: what it is, what it may do, when it is asked, and what follows when it fails.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use waypost_mail::{Allow, AllowRule, DomainPattern, Origin};
use waypost_plugin::when::Filter;
use waypost_plugin::{
    Access, Budget, Digest, EditGrants, Grants, Mode, OnError, PluginConfig, STAGES, Stage,
};

use super::{NETWORK, OCTETS, PATTERN, octets, one_of, path};
use crate::mistake::Notes;
use crate::names::{FieldName, FieldPattern, Method, Name, PathPrefix, PluginName, TagName};
use crate::section::{At, Section};
use crate::units::{Octets, Span, Word};

const NAME: &str = "name = \"guard\": lower-case letters, digits and '-'";
const FIELDS: &str = "write \"Subject\", \"X-*\" or \"*\"";
/// Least and most memory of an instance: a page of WebAssembly, and all that 32 bits can address.
const MEMORY: std::ops::RangeInclusive<u64> = 64 * 1024..=4 * 1024 * 1024 * 1024;
/// Longest budgets, in seconds.
const MOST_CPU: u64 = 10;
const MOST_WALL: u64 = 60;
/// What a plugin may take from web servers and send to them.
const WEB: Allow = Allow {
    rules: Vec::new(),
    max_response: 1024 * 1024,
    max_request: 1024 * 1024,
    max_timeout: Duration::from_secs(30),
    private: false,
    redirects: true,
};

/// A plugin, and where in the file stands what cannot be judged by itself.
#[derive(Debug)]
pub(crate) struct Plugin {
    pub(crate) config: PluginConfig,
    pub(crate) name: Range<usize>,
    pub(crate) file: Range<usize>,
    pub(crate) budgets: BTreeMap<Stage, Range<usize>>,
    pub(crate) granted: Vec<Granted>,
    pub(crate) recipients: Option<Range<usize>>,
    pub(crate) listeners: Vec<At<Word>>,
    pub(crate) tags: Vec<At<TagName>>,
}

/// Something that is granted by its name.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) what: Resource,
    pub(crate) name: At<Name>,
}

/// What can be granted by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    Table,
    Limit,
    Secret,
    Key,
}

pub(super) fn plugin(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<Plugin> {
    let name = section.parsed::<PluginName>("name", NAME, notes);
    let name = section.required("name", name, NAME, notes);
    let file = path(&mut section, "file", notes);
    let file = section.required("file", file, "the WebAssembly component, guard.wasm", notes);
    let mut config = PluginConfig::new("", "");
    let digest = section.parsed::<Digest>("digest", "what sha256sum prints", notes);
    config.digest = digest.map(|digest| digest.value);
    config.mode = mode(&mut section, notes);
    if let Some(slots) = section.integer("slots", 1..1025, notes) {
        config.slots = usize::try_from(slots.value).unwrap_or(config.slots);
    }
    config.memory = memory(&mut section, notes).unwrap_or(config.memory);
    config.isolated = flag(&mut section, "isolated", notes);
    if let Some(own) = section.json("config", notes) {
        config.config = own.to_string();
    }
    config.on_error = remedies(section.section("on-error", notes), notes);
    let budgets = budgets(section.section("budget", notes), notes);
    config.budgets = budgets.iter().map(|(stage, budget)| (*stage, budget.value)).collect();
    let mut plugin = Plugin {
        config,
        name: 0..0,
        file: 0..0,
        budgets: budgets.into_iter().map(|(stage, budget)| (stage, budget.at)).collect(),
        granted: Vec::new(),
        recipients: None,
        listeners: Vec::new(),
        tags: Vec::new(),
    };
    if let Some(section) = section.section("grants", notes) {
        plugin.config.grants = grants(section, &mut plugin, notes);
    }
    if let Some(section) = section.section("when", notes) {
        plugin.config.when = filter(section, &mut plugin, notes);
    }
    section.end(notes);
    let (name, file) = (name?, file?);
    (plugin.name, plugin.config.name) = (name.at, name.value.0);
    (plugin.file, plugin.config.file) = (file.at, file.value);
    Some(plugin)
}

fn mode(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Mode {
    let mode = one_of(section, "mode", &["enforce", "dry-run", "shadow"], notes);
    let sample = section.share("sample", 1.0, notes);
    match (mode.as_deref(), sample) {
        (Some("shadow"), sample) => Mode::Shadow(sample.map_or(1.0, |sample| sample.value)),
        (mode, Some(sample)) => {
            let message = "'plugin.sample' goes with mode = \"shadow\" alone";
            notes.add(&sample.at, message, "remove it, or write mode = \"shadow\"");
            if mode == Some("dry-run") { Mode::DryRun } else { Mode::Enforce }
        }
        (Some("dry-run"), None) => Mode::DryRun,
        _ => Mode::Enforce,
    }
}

fn memory(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Option<usize> {
    let memory = section.parsed::<Octets>("memory", OCTETS, notes)?;
    if !MEMORY.contains(&memory.value.0) {
        notes.add(&memory.at, "'plugin.memory' must be from 64KiB to 4GiB", OCTETS);
        return None;
    }
    usize::try_from(memory.value.0).ok()
}

fn remedies(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> BTreeMap<Stage, OnError> {
    let Some(mut section) = section else { return BTreeMap::new() };
    let mut remedies = BTreeMap::new();
    for stage in STAGES {
        let legal: Vec<&str> = stage.remedies().iter().map(|remedy| remedy.name()).collect();
        let chosen = one_of(&mut section, stage.name(), &legal, notes);
        remedies.extend(chosen.and_then(|text| text.parse().ok()).map(|remedy| (stage, remedy)));
    }
    section.end(notes);
    remedies
}

fn budgets(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> BTreeMap<Stage, At<Budget>> {
    let Some(mut section) = section else { return BTreeMap::new() };
    let mut budgets = BTreeMap::new();
    for stage in STAGES {
        let given = section.section(stage.name(), notes);
        let budget = given.and_then(|section| budget(section, stage.usual_budget(), notes));
        budgets.extend(budget.map(|budget| (stage, budget)));
    }
    section.end(notes);
    budgets
}

fn budget(mut section: Section<'_>, usual: Budget, notes: &mut Notes<'_>) -> Option<At<Budget>> {
    let cpu = time(&mut section, "cpu", MOST_CPU, notes);
    let wall = time(&mut section, "wall", MOST_WALL, notes);
    let budget = Budget { cpu: cpu.unwrap_or(usual.cpu), wall: wall.unwrap_or(usual.wall) };
    let (path, at) = (section.path("cpu"), section.at().clone());
    section.end(notes);
    if budget.cpu > budget.wall {
        let message = format!("'{path}' is longer than wall, which is {:?}", budget.wall);
        notes.add(&at, message, "wall is the time by the clock, computing and waiting together");
        return None;
    }
    Some(At { value: budget, at })
}

fn time(
    section: &mut Section<'_>,
    key: &str,
    most: u64,
    notes: &mut Notes<'_>,
) -> Option<Duration> {
    let hint = format!("write a number and a unit from 1ms to {most}s, such as 50ms");
    let time = section.parsed::<Span>(key, &hint, notes)?;
    if time.value.0.is_zero() || time.value.0 > Duration::from_secs(most) {
        let message = format!("'{}' must be from 1ms to {most}s", section.path(key));
        notes.add(&time.at, message, "");
        return None;
    }
    Some(time.value.0)
}

fn grants(mut section: Section<'_>, plugin: &mut Plugin, notes: &mut Notes<'_>) -> Grants {
    let mut named = |section: &mut Section<'_>, key, what, notes: &mut Notes<'_>| {
        let hint = "write the names in quotes";
        let names = section.list::<Name>(key, hint, notes).map_or_else(Vec::new, |l| l.value);
        let granted = names.iter().map(|name| Granted { what, name: name.clone() });
        plugin.granted.extend(granted);
        names.into_iter().map(|name| name.value.0).collect()
    };
    let recipients = section.list::<DomainPattern>("recipients", PATTERN, notes);
    let grants = Grants {
        tables: named(&mut section, "tables", Resource::Table, notes),
        kv: namespaces(section.section("kv", notes), notes),
        limits: named(&mut section, "limits", Resource::Limit, notes),
        dns: section.integer("dns", 1..1001, notes).and_then(|dns| usize::try_from(dns.value).ok()),
        http: web(section.sections("http", notes), notes),
        secrets: named(&mut section, "secrets", Resource::Secret, notes),
        reveal: named(&mut section, "reveal", Resource::Secret, notes),
        sign: named(&mut section, "sign", Resource::Key, notes),
        accept: flag(&mut section, "accept", notes),
        discard: flag(&mut section, "discard", notes),
        auth: flag(&mut section, "auth", notes),
        edit: edit(section.section("edit", notes), notes),
        recipients: recipients
            .iter()
            .flat_map(|list| list.value.iter().map(|domain| domain.value.clone()))
            .collect(),
    };
    plugin.recipients = recipients.map(|list| list.at);
    section.end(notes);
    grants
}

fn namespaces(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> BTreeMap<String, Access> {
    let Some(section) = section else { return BTreeMap::new() };
    let access = |section: &mut Section<'_>, key: &str, notes: &mut Notes<'_>| {
        let text = one_of(section, key, &["r", "rw"], notes)?;
        Some(if text == "rw" { Access::Write } else { Access::Read })
    };
    let all = section.each::<Name, _>("a name of your choice", notes, access);
    all.into_iter().map(|(name, access)| (name.value.0, access)).collect()
}

fn web(places: Vec<Section<'_>>, notes: &mut Notes<'_>) -> Option<Allow> {
    let rules = places.into_iter().filter_map(|mut section| {
        let hint = "origin = \"https://api.example\"";
        let origin = section.parsed::<Origin>("origin", hint, notes);
        let origin = section.required("origin", origin, hint, notes);
        let hint = "write them as they are sent: \"GET\", \"POST\"";
        let methods = section.list::<Method>("methods", hint, notes);
        let hint = "write a path such as /v1/, without '.', '?' and '#'";
        let path = section.parsed::<PathPrefix>("path", hint, notes);
        section.end(notes);
        let methods = methods.map_or_else(Vec::new, |methods| methods.value);
        Some(AllowRule {
            origin: origin?.value,
            methods: methods.into_iter().map(|method| method.value.0).collect(),
            path_prefix: path.map_or_else(String::new, |path| path.value.0),
        })
    });
    let rules: Vec<AllowRule> = rules.collect();
    (!rules.is_empty()).then_some(Allow { rules, ..WEB })
}

fn edit(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> EditGrants {
    let usual = EditGrants::default();
    let Some(mut section) = section else { return usual };
    let mut fields = |key, usual, notes: &mut Notes<'_>| {
        let given = section.list::<FieldPattern>(key, FIELDS, notes);
        given.map_or(usual, |list| list.value.into_iter().map(|field| field.value.0).collect())
    };
    let (add, remove) = (fields("add", usual.add, notes), fields("remove", usual.remove, notes));
    let edit = EditGrants {
        add,
        remove,
        sender: flag(&mut section, "sender", notes),
        recipients: flag(&mut section, "recipients", notes),
        body: flag(&mut section, "body", notes),
    };
    section.end(notes);
    edit
}

fn filter(mut section: Section<'_>, plugin: &mut Plugin, notes: &mut Notes<'_>) -> Filter {
    let listeners = section.list::<Word>("listener", "the name of a [[listener]]", notes);
    plugin.listeners = listeners.map_or_else(Vec::new, |list| list.value);
    let headers = section.list::<FieldName>("header", "write the name alone: \"List-Id\"", notes);
    let tags = section.section("tag", notes).map_or_else(Vec::new, |tags| {
        tags.each::<TagName, _>("tag = { \"guard/score\" = \"high\" }", notes, tag)
    });
    let size_to = section.parsed::<Octets>("size-to", OCTETS, notes);
    let filter = Filter {
        listeners: plugin.listeners.iter().map(|listener| listener.value.0.clone()).collect(),
        clients: values(&mut section, "client", NETWORK, notes),
        authenticated: section.boolean("authenticated", notes).map(|wanted| wanted.value),
        tls: section.boolean("tls", notes).map(|wanted| wanted.value),
        sender_domains: values(&mut section, "sender-domain", PATTERN, notes),
        recipient_domains: values(&mut section, "recipient-domain", PATTERN, notes),
        size_from: octets(&mut section, "size-from", notes),
        size_to: size_to.as_ref().map(|size| size.value.0),
        headers: headers
            .map_or_else(Vec::new, |list| list.value.into_iter().map(|h| h.value.0).collect()),
        tags: tags.iter().map(|(name, value)| (name.value.0.clone(), value.clone())).collect(),
    };
    plugin.tags = tags.into_iter().map(|(name, _)| name).collect();
    if let (Some(from), Some(to)) = (filter.size_from, size_to)
        && from > to.value.0
    {
        let message = "'plugin.when.size-to' is less than size-from, so no message can have it";
        notes.add(&to.at, message, "both are of the whole message");
    }
    section.end(notes);
    filter
}

fn tag(tags: &mut Section<'_>, key: &str, notes: &mut Notes<'_>) -> Option<String> {
    let text = tags.string(key, notes)?;
    if text.value.is_empty() {
        let hint = "a plugin takes a tag away by giving it no value";
        notes.add(&text.at, format!("'{}' cannot be empty", tags.path(key)), hint);
        return None;
    }
    Some(text.value)
}

fn values<T: std::str::FromStr>(
    section: &mut Section<'_>,
    key: &str,
    hint: &str,
    notes: &mut Notes<'_>,
) -> Vec<T>
where
    T::Err: std::fmt::Display,
{
    let list = section.list(key, hint, notes).map_or_else(Vec::new, |list| list.value);
    list.into_iter().map(|item: At<T>| item.value).collect()
}

fn flag(section: &mut Section<'_>, key: &str, notes: &mut Notes<'_>) -> bool {
    section.boolean(key, notes).is_some_and(|flag| flag.value)
}
