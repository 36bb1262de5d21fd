//! What operators write, and what is wrong with it.

use std::collections::BTreeMap;

use serde::Deserialize;
use waypost_sdk::Span;

use crate::action::{Action, Curves};
use crate::kind::Kind;
use crate::rule::Rule;

/// `[plugin.config]` of the plugin.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// In front of those that come with the plugin.
    pub rules: Vec<Rule>,
    /// Packs to do without.
    pub without: Vec<String>,
    /// What to do about a kind, instead of what is usual.
    pub kinds: BTreeMap<Kind, Action>,
    /// Waits between tries, by name.
    pub curves: BTreeMap<String, Vec<Span>>,
    /// Waits are up to so many percent longer or shorter.
    pub jitter: u8,
    /// What to do when a 5xx is about where we send from.
    pub blocks: Blocks,
}

/// What to do when a 5xx is about where we send from, not about the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blocks {
    /// It is a 5xx: bounce, and go easy on the lane.
    #[default]
    Bounce,
    /// Treat it as a 4xx.
    Retry,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            rules: Vec::new(),
            without: Vec::new(),
            kinds: BTreeMap::new(),
            curves: BTreeMap::new(),
            jitter: 10,
            blocks: Blocks::Bounce,
        }
    }
}

impl Config {
    /// Complains about what can be read and makes no sense, with the path of the key.
    pub(crate) fn check(&self, curves: &Curves, packs: &[String]) -> Result<(), String> {
        if self.jitter > 50 {
            return Err("jitter: at most 50 percent".to_owned());
        }
        if let Some((name, _)) = self.curves.iter().find(|(_, waits)| waits.is_empty()) {
            return Err(format!("curves.{name}: a curve has at least one wait"));
        }
        let known = |name: &&String| packs.contains(name);
        let unknown = |key: &str, name: &str| {
            format!("{key}: `{name}` is no pack; there are {}", packs.join(", "))
        };
        if let Some(name) = self.without.iter().find(|name| !known(name)) {
            return Err(unknown("without", name));
        }
        for (kind, action) in &self.kinds {
            let place = format!("kinds.{}", kind.word());
            action.check(curves).map_err(|(key, wrong)| at(&place, key, &wrong))?;
        }
        for (index, rule) in self.rules.iter().enumerate() {
            let place = format!("rules[{index}]");
            if let Some(earlier) = self.rules[..index].iter().find(|r| r.id == rule.id) {
                return Err(format!("{place}.id: `{}` is used twice", earlier.id));
            }
            if let Some(action) = &rule.then {
                action
                    .check(curves)
                    .map_err(|(key, wrong)| at(&format!("{place}.then"), key, &wrong))?;
            }
            if let Some(class) = rule.when.class.filter(|class| !matches!(class, 4 | 5)) {
                return Err(format!("{place}.when.class: {class} refuses nothing; say 4 or 5"));
            }
            if let Some(name) = rule.when.provider.iter().find(|name| !known(name)) {
                return Err(unknown(&format!("{place}.when.provider"), name));
            }
            let hides = |earlier: &&Rule| earlier.when.covers(&rule.when);
            if let Some(earlier) = self.rules[..index].iter().find(hides) {
                return Err(format!(
                    "{place}: never reached, because `{}` takes all of it; put this one in front",
                    earlier.id
                ));
            }
        }
        Ok(())
    }
}

fn at(place: &str, key: &str, wrong: &str) -> String {
    if key.is_empty() { format!("{place}: {wrong}") } else { format!("{place}.{key}: {wrong}") }
}
