//! Plugins and what they name: what is not there, stands there twice, or contradicts itself.

use std::collections::HashSet;
use std::time::Duration;

use waypost_plugin::{Mode, Stage};

use super::login;
use crate::file::{File, Granted, Named, Plugin, Resource};
use crate::mistake::Notes;
use crate::section::nearest;

/// How long peers wait at the stages of a session (RFC 5321 §4.5.3.2): five minutes for a greeting
/// and the reply to a command, ten for the one to the end of data. RFC 4954 names no time of its
/// own.
const WAITS: [(Stage, Duration); 6] = [
    (Stage::Connect, Duration::from_secs(300)),
    (Stage::Helo, Duration::from_secs(300)),
    (Stage::Auth, Duration::from_secs(300)),
    (Stage::Sender, Duration::from_secs(300)),
    (Stage::Recipients, Duration::from_secs(300)),
    (Stage::Message, Duration::from_secs(600)),
];
/// The listener of the relay's own notices.
const INTERNAL: &str = "internal";

pub(super) fn check(file: &File, notes: &mut Notes<'_>) {
    names(file, notes);
    order(file, notes);
    for plugin in &file.plugins {
        for granted in &plugin.granted {
            resource(file, granted, notes);
        }
        recipients(plugin, notes);
        filter(file, plugin, notes);
    }
    for (stage, wait) in WAITS {
        waits(file, stage, wait, notes);
    }
    for (_, hop) in &file.policy.hops {
        super::lmtp(&hop.via, notes);
        if let Some(auth) = &hop.auth {
            login(auth, hop.tls, notes);
        }
    }
    sources(file, notes);
}

fn names(file: &File, notes: &mut Notes<'_>) {
    let mut names = HashSet::new();
    for plugin in &file.plugins {
        if !names.insert(&plugin.config.name) {
            let message = format!("two plugins are called '{}'", plugin.config.name);
            notes.add(
                &plugin.name,
                message,
                "give each a name of its own; one file may serve both",
            );
        }
    }
}

fn order(file: &File, notes: &mut Notes<'_>) {
    let Some(order) = &file.policy.order else { return };
    let plugins: Vec<&str> = file.plugins.iter().map(|p| p.config.name.as_str()).collect();
    let mut named = HashSet::new();
    for name in &order.value {
        let text = name.value.0.as_str();
        if !plugins.contains(&text) {
            let message = format!("'policy.order' names '{text}', and no plugin is called so");
            notes.add(&name.at, message, &nearest(&plugins, text).unwrap_or_default());
        }
        if !named.insert(text) {
            notes.add(&name.at, format!("'policy.order' names '{text}' twice"), "name each once");
        }
    }
    for missing in plugins.iter().filter(|plugin| !named.contains(*plugin)) {
        let hint = "name every plugin; one that is not wanted is taken out of the file";
        notes.add(&order.at, format!("'policy.order' leaves out '{missing}'"), hint);
    }
}

fn resource(file: &File, granted: &Granted, notes: &mut Notes<'_>) {
    let (what, known, how) = match granted.what {
        Resource::Table => {
            ("table", known(&file.policy.tables), "[policy.tables] with NAME = \"FILE\"")
        }
        Resource::Limit => ("limit", known(&file.policy.limits), "[policy.limits.NAME]"),
        Resource::Secret => ("secret", known(&file.policy.secrets), "[policy.secrets.NAME]"),
        Resource::Key => ("signing key", known(&file.keys), "[keys.NAME] with file = \"FILE\""),
    };
    let name = granted.name.value.0.as_str();
    if !known.contains(&name) {
        let hint = nearest(&known, name).unwrap_or_else(|| how.replace("NAME", name));
        notes.add(&granted.name.at, format!("there is no {what} '{name}' to grant"), &hint);
    }
}

fn known<T>(named: &Named<T>) -> Vec<&str> {
    named.iter().map(|(name, _)| name.value.0.as_str()).collect()
}

fn recipients(plugin: &Plugin, notes: &mut Notes<'_>) {
    if let Some(at) = &plugin.recipients
        && !plugin.config.grants.edit.recipients
    {
        let message = "'plugin.grants.recipients' says which recipients a plugin may add, and this \
                       one may not add any";
        notes.add(at, message, "edit = { recipients = true }, or remove recipients");
    }
}

fn filter(file: &File, plugin: &Plugin, notes: &mut Notes<'_>) {
    let mut listeners: Vec<&str> = file.listeners.iter().map(|l| l.name.value.as_str()).collect();
    listeners.push(INTERNAL);
    for listener in &plugin.listeners {
        let name = listener.value.0.as_str();
        if !listeners.contains(&name) {
            let hint = nearest(&listeners, name)
                .unwrap_or_else(|| format!("listeners: {}", listeners.join(", ")));
            notes.add(&listener.at, format!("no listener is called '{name}'"), &hint);
        }
    }
    let plugins: Vec<&str> = file.plugins.iter().map(|p| p.config.name.as_str()).collect();
    for tag in &plugin.tags {
        let giver = tag.value.plugin();
        if !plugins.contains(&giver) {
            let message =
                format!("nobody gives the tag '{}': no plugin is called '{giver}'", tag.value.0);
            notes.add(&tag.at, message, &nearest(&plugins, giver).unwrap_or_default());
        }
    }
}

/// Which plugins answer at a stage is not known before they are loaded: every one is counted.
fn waits(file: &File, stage: Stage, wait: Duration, notes: &mut Notes<'_>) {
    let mut total = Duration::ZERO;
    for plugin in &file.plugins {
        let own = plugin.config.budgets.get(&stage).copied();
        if matches!(plugin.config.mode, Mode::Shadow(_)) {
            continue;
        }
        let before = total;
        total += own.unwrap_or_else(|| stage.usual_budget()).wall;
        if before < wait && total >= wait {
            let message = format!(
                "up to this plugin, all together may take {} seconds at {stage}, and peers wait {} \
                 (RFC 5321 §4.5.3.2)",
                total.as_secs(),
                wait.as_secs()
            );
            let at = plugin.budgets.get(&stage).unwrap_or(&plugin.name);
            let hint = format!("shorten wall in budget.{stage} of some of them");
            notes.add(at, message, &hint);
        }
    }
}

fn sources(file: &File, notes: &mut Notes<'_>) {
    for (pool, sources) in &file.policy.sources {
        let mut addresses = HashSet::new();
        for source in sources {
            let ip = source.address.value.0;
            if !addresses.insert(ip) {
                let message = format!("'policy.sources.{}' has {ip} twice", pool.value.0);
                notes.add(&source.address.at, message, "name each address once");
            }
            if let Some(auth) = &source.auth
                && !source.proxy.as_ref().is_some_and(|proxy| proxy.value.socks)
            {
                let hint = "proxy = \"socks5://192.0.2.1:1080\" beside it";
                notes.add(&auth.at, "only a SOCKS5 proxy asks for a login", hint);
            }
        }
    }
}
