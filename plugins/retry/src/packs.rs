//! The packs of rules that come with the plugin, one for each large provider and one for everybody.

use std::collections::BTreeMap;

use serde::Deserialize;
use waypost_sdk::patterns::{DomainPattern, Glob};

use crate::reply;
use crate::rule::{Rule, Seen};

/// Written in `providers/`, made JSON by `build.rs`.
const PACKS: &str = include_str!(concat!(env!("OUT_DIR"), "/packs.json"));
const SAMPLES: &str = include_str!(concat!(env!("OUT_DIR"), "/samples.json"));

/// The pack of everybody: its rules come last.
pub(crate) const EVERYBODY: &str = "everybody";

/// The rules about one provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Pack {
    /// One word.
    pub(crate) name: String,
    /// For people.
    #[serde(rename = "title")]
    _title: String,
    /// When its facts were last looked at.
    #[serde(rename = "version")]
    _version: String,
    /// Ends of the names of its exchangers, with the leading dot.
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
    /// Its domains, where the exchanger is not known.
    #[serde(default)]
    pub(crate) domains: Vec<String>,
    pub(crate) rules: Vec<Rule>,
}

/// All packs.
///
/// # Errors
/// A pack is not written as it must be; the tests would have said so.
pub(crate) fn all() -> Result<Vec<Pack>, String> {
    serde_json::from_str(PACKS).map_err(|wrong| format!("the packs: {wrong}"))
}

/// What is wrong with packs: rules without samples, samples that no rule or another one catches.
pub(crate) fn complaints(packs: &[Pack]) -> Vec<String> {
    let samples: BTreeMap<String, Option<Vec<String>>> = match serde_json::from_str(SAMPLES) {
        Ok(samples) => samples,
        Err(wrong) => return vec![format!("the samples: {wrong}")],
    };
    let everybody = packs.iter().find(|pack| pack.name == EVERYBODY);
    let common: Vec<&Rule> = everybody.iter().flat_map(|pack| &pack.rules).collect();
    let mut complaints = Vec::new();
    for pack in packs {
        let own: Vec<&Rule> = match pack.name == EVERYBODY {
            true => Vec::new(),
            false => pack.rules.iter().collect(),
        };
        let order: Vec<&Rule> = own.iter().chain(&common).copied().collect();
        for rule in &pack.rules {
            match samples.get(&rule.id) {
                Some(Some(texts)) if !texts.is_empty() => {
                    complaints.extend(texts.iter().filter_map(|s| strays(s, rule, &order, pack)));
                }
                _ => complaints.push(format!("{}: no sample", rule.id)),
            }
        }
    }
    complaints
}

/// A complaint, unless this rule is the first that catches the sample.
pub(crate) fn strays(sample: &str, rule: &Rule, order: &[&Rule], pack: &Pack) -> Option<String> {
    let caught = catch(sample, rule, order, &pack.name);
    match caught {
        Err(wrong) => Some(format!("{}: {wrong}", rule.id)),
        Ok(Some(id)) if id == rule.id => None,
        Ok(Some(id)) => Some(format!("{}: `{sample}` is caught by {id}", rule.id)),
        Ok(None) => Some(format!("{}: `{sample}` is caught by no rule", rule.id)),
    }
}

/// The first rule that catches a sample, seen as the rule under test wants to see it.
pub(crate) fn catch<'a>(
    sample: &str,
    rule: &Rule,
    order: &[&'a Rule],
    provider: &str,
) -> Result<Option<&'a str>, String> {
    let reply = reply::sample(sample).ok_or_else(|| format!("`{sample}` is no reply"))?;
    let text = reply::normal(&reply.lines);
    let lane = rule.when.lane.first().map(Glob::example).unwrap_or_default();
    let domain = rule.when.domain.first().map(DomainPattern::example).unwrap_or_default();
    let seen = Seen {
        code: reply.code,
        status: reply.enhanced,
        text: &text,
        phase: rule.when.phase.first().map_or("eod", String::as_str),
        category: rule.when.category.first().map_or("refused", String::as_str),
        provider: Some(rule.when.provider.first().map_or(provider, String::as_str)),
        lane: &lane,
        domain: &domain,
        attempts: rule.when.tries.unwrap_or(1),
    };
    Ok(order.iter().find(|rule| rule.when.holds(&seen)).map(|rule| rule.id.as_str()))
}

impl Pack {
    /// True when mail to this host, or else to this domain, goes to the provider.
    pub(crate) fn serves(&self, host: Option<&str>, domain: &str) -> bool {
        let ends = |host: &str| {
            self.hosts.iter().any(|end| {
                host.len() > end.len()
                    && host.as_bytes()[host.len() - end.len()..]
                        .eq_ignore_ascii_case(end.as_bytes())
            })
        };
        host.is_some_and(ends) || self.domains.iter().any(|own| own.eq_ignore_ascii_case(domain))
    }
}

#[cfg(test)]
mod tests {
    use super::{EVERYBODY, all, complaints};

    #[test]
    fn every_rule_catches_its_samples_and_no_earlier_one_does() {
        let found = complaints(&all().unwrap());
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    #[test]
    fn ids_are_unique_and_begin_with_the_pack() {
        let packs = all().unwrap();
        let mut ids: Vec<&str> = Vec::new();
        for pack in &packs {
            for rule in &pack.rules {
                assert!(rule.id.starts_with(&format!("{}/", pack.name)), "{}", rule.id);
                assert!(!ids.contains(&rule.id.as_str()), "{} is used twice", rule.id);
                ids.push(&rule.id);
            }
        }
        assert!(ids.len() > 100, "{}", ids.len());
    }

    #[test]
    fn rules_that_an_earlier_one_covers_are_found() {
        for pack in all().unwrap() {
            for (at, rule) in pack.rules.iter().enumerate() {
                for earlier in &pack.rules[..at] {
                    assert!(!earlier.when.covers(&rule.when), "{} hides {}", earlier.id, rule.id);
                }
            }
        }
    }

    #[test]
    fn the_lint_finds_what_is_wrong() {
        let mut packs = all().unwrap();
        let google = packs.iter().position(|pack| pack.name == "google").unwrap();
        packs[google].rules.reverse();
        packs[google].rules[0].when = Default::default();
        let found = complaints(&packs);
        assert!(found.iter().any(|c| c.contains("is caught by")), "{found:?}");
    }

    #[test]
    fn providers_are_told_by_host_or_domain() {
        let packs = all().unwrap();
        let at = |host: Option<&str>, domain: &str| {
            packs.iter().find(|pack| pack.serves(host, domain)).map(|pack| pack.name.clone())
        };
        assert_eq!(at(Some("gmail-smtp-in.l.GOOGLE.com"), "a.example").as_deref(), Some("google"));
        assert_eq!(at(None, "gmail.com").as_deref(), Some("google"));
        assert_eq!(
            at(Some("a-example.mail.protection.outlook.com"), "a.example").as_deref(),
            Some("microsoft")
        );
        assert_eq!(at(Some("mx.a.example"), "a.example"), None);
        assert_eq!(at(Some("notgoogle.com"), "a.example"), None);
        assert!(packs.iter().all(|pack| pack.name == EVERYBODY || !pack.hosts.is_empty()));
    }
}
