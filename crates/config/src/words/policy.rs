//! Which plugins are asked in which order, and what each may do.

use std::fmt::Write as _;
use std::net::IpAddr;

use waypost_mail::{AllowRule, DomainPattern, Origin, Scheme};
use waypost_plugin::when::Filter;
use waypost_plugin::{Access, Grants, Mode, OnError, PluginConfig};

use super::join;
use crate::Reload;
use crate::units::show_octets;

pub(super) fn policy(reload: &Reload) -> String {
    let mut text = "Policy\n".to_owned();
    if reload.policy.plugins.is_empty() {
        text += "  no plugin is asked\n";
    }
    for (place, plugin) in reload.policy.plugins.iter().enumerate() {
        let _ = writeln!(text, "  {}. {}: {}", place + 1, plugin.name, mode(plugin.mode));
        for line in about(plugin) {
            let _ = writeln!(text, "     {line}");
        }
    }
    text
}

/// What plugins add to who may relay. Only answers that count can.
pub(super) fn widening(reload: &Reload) -> Vec<String> {
    let counting = reload.policy.plugins.iter().filter(|plugin| plugin.mode == Mode::Enforce);
    counting.flat_map(|plugin| widened(&plugin.name, &plugin.grants)).collect()
}

fn widened(name: &str, grants: &Grants) -> Vec<String> {
    let mut lines = Vec::new();
    if grants.auth {
        lines.push(format!("whom plugin {name} logs in: to anybody"));
    }
    if grants.edit.recipients && grants.recipients.contains(&DomainPattern::Any) {
        lines.push(format!(
            "plugin {name} may add recipients anywhere: it can widen who is relayed to"
        ));
    } else if grants.edit.recipients && !grants.recipients.is_empty() {
        let domains = join(&grants.recipients);
        lines.push(format!("plugin {name} may add recipients in {domains}, whoever sends"));
    }
    lines
}

fn mode(mode: Mode) -> String {
    match mode {
        Mode::Enforce => "its answers count".to_owned(),
        Mode::DryRun => "dry run, its answers are recorded and do not count".to_owned(),
        Mode::Shadow(share) => {
            let percent = (share * 1000.0).round() / 10.0;
            format!("shadow, asked aside about {percent}% of all, its answers do not count")
        }
    }
}

fn about(plugin: &PluginConfig) -> Vec<String> {
    let mut lines = vec![format!("file {}", plugin.file.display())];
    if let Some(digest) = &plugin.digest {
        lines[0] += &format!(", only with sha256 {}", digest.short());
    }
    let conditions = conditions(&plugin.when);
    if !conditions.is_empty() {
        lines.push(format!("asked only when {}", conditions.join("; ")));
    }
    let rights = rights(&plugin.grants);
    if !rights.is_empty() {
        lines.push(format!("may {}", rights.join("; ")));
    }
    lines.push(format!("may change: {}", changes(&plugin.grants)));
    for (stage, remedy) in plugin.on_error.iter().filter(|(_, r)| **r != OnError::Usual) {
        lines.push(format!("when it fails at {stage}: {}", what_follows(*remedy)));
    }
    lines
}

fn conditions(when: &Filter) -> Vec<String> {
    let mut all = Vec::new();
    let mut list = |what: &str, items: &[String]| {
        if !items.is_empty() {
            all.push(format!("{what} {}", items.join(" or ")));
        }
    };
    list("the listener is", &when.listeners);
    list("the peer is in", &shown(&when.clients));
    list("the sender is in", &shown(&when.sender_domains));
    list("a recipient is in", &shown(&when.recipient_domains));
    list("there is a field", &when.headers);
    let yes_or_no = |is: Option<bool>, yes: &str, no: &str| {
        is.map(|is| if is { yes.to_owned() } else { no.to_owned() })
    };
    all.extend(yes_or_no(when.authenticated, "somebody is logged in", "nobody is logged in"));
    all.extend(yes_or_no(when.tls, "the connection is encrypted", "the connection is in clear"));
    all.extend(when.size_from.map(|size| format!("the message has {} or more", show_octets(size))));
    all.extend(when.size_to.map(|size| format!("the message has {} or less", show_octets(size))));
    all.extend(when.tags.iter().map(|(name, value)| format!("{name} is {value:?}")));
    all
}

fn shown<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn rights(grants: &Grants) -> Vec<String> {
    let mut all = Vec::new();
    let mut list = |what: &str, names: &[String]| {
        if !names.is_empty() {
            all.push(format!("{what} {}", names.join(", ")));
        }
    };
    let namespaces = |access| {
        let granted = grants.kv.iter().filter(move |(_, granted)| **granted == access);
        granted.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    list("read tables", &grants.tables);
    list("read state", &namespaces(Access::Read));
    list("read and write state", &namespaces(Access::Write));
    list("take from limits", &grants.limits);
    list("use without knowing them the secrets", &grants.secrets);
    list("know the secrets", &grants.reveal);
    list("have messages signed with", &grants.sign);
    all.extend(grants.dns.map(|most| format!("ask the DNS, {most} questions a call")));
    for rule in grants.http.iter().flat_map(|allow| &allow.rules) {
        all.push(format!("ask {}", web(rule)));
    }
    let mut flag = |granted: bool, what: &str| {
        if granted {
            all.push(what.to_owned());
        }
    };
    flag(grants.accept, "accept, so that those after it are not asked");
    flag(grants.discard, "drop mail");
    flag(grants.auth, "see passwords and say who is logged in");
    all
}

fn web(rule: &AllowRule) -> String {
    let methods = match rule.methods.as_slice() {
        [] => "GET".to_owned(),
        methods => methods.join(", "),
    };
    let mut text = format!("{}{} by {methods}", rule.origin, rule.path_prefix);
    if rule.origin.scheme == Scheme::Http && !is_near(&rule.origin) {
        text += ", IN CLEAR TEXT";
    }
    text
}

/// True when the way there stays on this machine or in a private network.
fn is_near(origin: &Origin) -> bool {
    match origin.ip() {
        Some(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private(),
        Some(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local(),
        None => false,
    }
}

fn changes(grants: &Grants) -> String {
    let edit = &grants.edit;
    let mut all = Vec::new();
    if !edit.add.is_empty() {
        all.push(format!("add fields {}", edit.add.join(", ")));
    }
    if !edit.remove.is_empty() {
        all.push(format!("remove fields {}", edit.remove.join(", ")));
    }
    for (granted, what) in
        [(edit.sender, "the sender"), (edit.recipients, "the recipients"), (edit.body, "the body")]
    {
        if granted {
            all.push(what.to_owned());
        }
    }
    if all.is_empty() { "nothing of a message".to_owned() } else { all.join("; ") }
}

fn what_follows(remedy: OnError) -> &'static str {
    match remedy {
        OnError::Usual => "what the stage does by itself",
        OnError::Open => "mail goes on without it",
        OnError::Closed => "refused for good",
        OnError::Disconnect => "refused for now, and the connection closed",
        OnError::Quarantine => "the message is taken and held",
    }
}
