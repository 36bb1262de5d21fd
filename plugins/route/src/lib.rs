//! Which way recipients go: ordered rules, the first that matches a recipient decides about it.
//!
//! Everything that can be made ready is made ready when the plugin begins. What concerns the
//! message is asked once for each rule, what concerns a recipient once for each of them; tables
//! are asked about all recipients at once. See README.md for what can be configured.

mod action;
mod config;
mod hidden;
mod rows;
mod template;

use std::net::IpAddr;

use waypost_sdk::patterns::{AddressPattern, Glob, contains};
use waypost_sdk::prelude::*;

use action::Action;
pub use config::Config;
use config::{Field, Rule};
use rows::Rows;
use template::{Facts, meta};

/// The plugin.
#[derive(Debug)]
pub struct Router {
    rules: Vec<(Rule, Action)>,
}

impl Plugin for Router {
    type Config = Config;

    fn new(config: Config) -> Result<Router, String> {
        let mut rules = Vec::new();
        for (at, rule) in config.rules.iter().enumerate() {
            let place = |(key, wrong): (String, String)| format!("rules[{at}].{key}: {wrong}");
            check(rule, &config.rules[..at]).map_err(place)?;
            let action = Action::of(rule).map_err(place)?;
            if let Some((before, earlier)) = hidden::by(&config.rules[..at], rule) {
                return Err(format!(
                    "rules[{at}]: never reached, because rules[{before}] (`{}`) matches all of it; \
                     put this one in front",
                    earlier.name
                ));
            }
            rules.push((prepared(rule), action));
        }
        Ok(Router { rules })
    }

    fn interest(&self) -> Interest {
        let mut names: Vec<String> = self
            .rules
            .iter()
            .flat_map(|(rule, _)| &rule.header)
            .map(|field| field.name.to_ascii_lowercase())
            .collect();
        names.sort_unstable();
        names.dedup();
        Interest::default().headers(names)
    }
}

impl OnRoute for Router {
    fn on_route(&self, _: &CallInfo, message: &Queued) -> Decision<Vec<RouteGroup>> {
        let mut open: Vec<&Recipient> = message.recipients.iter().collect();
        let mut rows = Rows::of(&message.recipients);
        let mut decided = Vec::new();
        let client = message.session.client_ip.parse().ok();
        for (rule, action) in &self.rules {
            if open.is_empty() {
                break;
            }
            if !concerns(rule, message, client) {
                continue;
            }
            let mut left = Vec::new();
            for recipient in open {
                match rows.matching(rule, recipient)? {
                    Some(row) if takes(rule, message, recipient) => {
                        let facts = Facts { message, recipient, row: row.as_deref() };
                        decided.push(about(recipient.id, rule, action, facts));
                    }
                    _ => left.push(recipient),
                }
            }
            open = left;
        }
        Ok(waypost_sdk::group_routes(decided))
    }
}

impl SelfTest for Router {
    fn self_test(&self) -> Vec<String> {
        let tables = self.rules.iter().filter_map(|(rule, _)| rule.recipient_table.as_ref());
        let complaint = |table: &config::Table| {
            let denied = tables::get(&table.name, "self-test.invalid").err()?;
            Some(format!("table `{}`: {}", table.name, denied.in_words()))
        };
        tables.filter_map(complaint).collect()
    }
}

/// Needles are in lower case, once and for all.
fn prepared(rule: &Rule) -> Rule {
    let mut rule = rule.clone();
    for needle in rule.header.iter_mut().filter_map(|field| field.contains.as_mut()) {
        needle.make_ascii_lowercase();
    }
    rule
}

fn about(
    id: u32,
    rule: &Rule,
    action: &Action,
    facts: Facts<'_>,
) -> (u32, RouteDecision, Vec<Reason>) {
    let (decision, code, words) = action.decide(facts);
    (id, decision, vec![because(code, words).rule(&rule.name)])
}

fn check(rule: &Rule, earlier: &[Rule]) -> Result<(), (String, String)> {
    let wrong = |key: String, text: &str| Err((key, text.to_owned()));
    if rule.name.is_empty() {
        return wrong("name".into(), "a rule needs a name, which operators see as the reason");
    }
    if let Some(at) = earlier.iter().position(|earlier| earlier.name == rule.name) {
        return wrong("name".into(), &format!("rules[{at}] has the same name"));
    }
    for (at, field) in rule.header.iter().enumerate() {
        let conditions = [field.contains.is_some(), field.glob.is_some(), field.absent]
            .iter()
            .filter(|c| **c)
            .count();
        if conditions > 1 {
            return wrong(format!("header[{at}]"), "say one of `contains`, `glob` and `absent`");
        }
        if field.name.is_empty() || !field.name.bytes().all(|c| c.is_ascii_graphic() && c != b':') {
            return wrong(format!("header[{at}].name"), "no name of a field");
        }
    }
    if let (Some(over), Some(under)) = (rule.larger_than, rule.smaller_than)
        && over.0.saturating_add(1) >= under.0
    {
        return wrong("smaller-than".into(), "no message is larger and smaller than these");
    }
    if rule.recipient.contains(&AddressPattern::Null) {
        return wrong("recipient".into(), "`<>` is a sender, never a recipient");
    }
    Ok(())
}

/// The conditions on the message hold.
fn concerns(rule: &Rule, message: &Queued, client: Option<IpAddr>) -> bool {
    let session = &message.session;
    let any = |globs: &[Glob], text: Option<&str>| {
        globs.is_empty() || text.is_some_and(|text| globs.iter().any(|glob| glob.matches(text)))
    };
    (rule.sender.is_empty()
        || rule.sender.iter().any(|p| p.matches_sender(message.sender.as_ref())))
        && any(&rule.identity, session.identity.as_deref())
        && any(&rule.listener, Some(&session.listener))
        && (rule.client.is_empty()
            || client.is_some_and(|ip| rule.client.iter().any(|net| net.contains(ip))))
        && rule.larger_than.is_none_or(|size| message.message.size > size.0)
        && rule.smaller_than.is_none_or(|size| message.message.size < size.0)
        && rule.header.iter().all(|field| holds(field, &message.message.headers))
}

fn holds(field: &Field, headers: &[Header]) -> bool {
    let mut named = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(&field.name));
    match (&field.contains, &field.glob, field.absent) {
        (_, _, true) => named.next().is_none(),
        (Some(needle), ..) => named.any(|header| contains(&header.value, needle)),
        (_, Some(glob), _) => named.any(|header| glob.matches(&header.value)),
        _ => named.next().is_some(),
    }
}

/// The conditions on the recipient hold, those of tables aside.
fn takes(rule: &Rule, message: &Queued, recipient: &Recipient) -> bool {
    (rule.recipient.is_empty() || rule.recipient.iter().any(|p| p.matches(&recipient.address)))
        && rule
            .meta
            .iter()
            .all(|(key, glob)| meta(message, recipient, key).is_some_and(|v| glob.matches(v)))
}

waypost_sdk::export!(Router: self_test, route);

#[cfg(test)]
mod tests;
