//! What operators write, and what is wrong with it.

use serde::Deserialize;
use std::collections::BTreeMap;

use waypost_sdk::Span;
use waypost_sdk::patterns::{DomainPattern, Glob, Network};

/// `[plugin.config]` of the plugin.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Whose mail is signed, unless a rule says otherwise.
    pub only_if: OnlyIf,
    /// What to do with a message of several authors.
    pub several_authors: SeveralAuthors,
    /// What to do when no rule signs.
    pub otherwise: Otherwise,
    /// The text of the refusal that `otherwise` asks for.
    pub refusal: Option<String>,
    /// In order; the first that matches signs.
    pub rules: Vec<Rule>,
}

/// When a message is signed, and how.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// Shown as the rule of the decision.
    pub name: String,
    /// Domains of the author.
    #[serde(default)]
    pub from: Vec<DomainPattern>,
    /// Domains in `from` include all below them.
    #[serde(default)]
    pub relaxed: bool,
    /// Who submitted: identities.
    #[serde(default)]
    pub identity: Vec<Glob>,
    /// Metadata of session or message, as `plugin/key`.
    #[serde(default)]
    pub meta: BTreeMap<String, Glob>,
    /// Networks of the submitter.
    #[serde(default)]
    pub client: Vec<Network>,
    /// Whose mail, instead of the general setting.
    #[serde(default)]
    pub only_if: Option<OnlyIf>,
    /// The signatures, in the order they are made.
    #[serde(default)]
    pub signatures: Vec<Signature>,
    /// A table of domains: the value lists `selector:key` pairs.
    #[serde(default)]
    pub table: Option<String>,
    /// Fields to sign, for all signatures of the rule.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Fields to sign once more than they occur, for all signatures of the rule.
    #[serde(default)]
    pub oversign: Vec<String>,
    /// Lifetime of the signatures.
    #[serde(default)]
    pub expire: Option<Span>,
    /// Do not sign what matches.
    #[serde(default)]
    pub skip: bool,
}

/// One signature.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Signature {
    /// `d=`; the author's domain when absent (with `relaxed`, the domain of the rule).
    #[serde(default)]
    pub domain: Option<String>,
    /// `s=`.
    pub selector: String,
    /// Name of a key in the configuration.
    pub key: String,
}

/// Whose mail is signed; any of these is enough.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct OnlyIf(pub Vec<Origin>);

impl Default for OnlyIf {
    /// A signature vouches for a message: strangers get none.
    fn default() -> OnlyIf {
        OnlyIf(vec![Origin::MayRelay, Origin::Internal])
    }
}

/// Where a message comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Somebody logged in.
    Authenticated,
    /// The submitter may send to anybody.
    MayRelay,
    /// The relay's own notices.
    Internal,
    /// Anybody.
    Anybody,
}

/// What to do with a message whose `From` names several authors (RFC 5322 §3.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeveralAuthors {
    /// Go by the field `Sender`, which must then be there.
    #[default]
    Sender,
    /// Go by the first author.
    First,
    /// Do not sign.
    Skip,
    /// Refuse with 5.7.1.
    Refuse,
}

/// What to do when no rule signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Otherwise {
    /// Let it pass unsigned.
    #[default]
    Skip,
    /// Refuse with 5.7.1.
    Refuse,
}

impl Config {
    /// Complains about what can be read and makes no sense, with the path of the key.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (at, rule) in self.rules.iter().enumerate() {
            rule.check().map_err(|(key, wrong)| format!("rules[{at}].{key}: {wrong}"))?;
            let earlier = self.rules[..at].iter().enumerate();
            for (before, earlier) in earlier {
                if earlier.name == rule.name {
                    return Err(format!("rules[{at}].name: rules[{before}] has the same name"));
                }
                if self.hides(earlier, rule) {
                    return Err(format!(
                        "rules[{at}]: never reached, because rules[{before}] (`{}`) matches all \
                         of it; put this one in front",
                        earlier.name
                    ));
                }
            }
        }
        match &self.refusal {
            Some(_) if self.otherwise != Otherwise::Refuse => {
                Err("refusal: nothing is refused unless `otherwise` is \"refuse\"".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Rules whose table may have no answer hide nothing.
    fn hides(&self, earlier: &Rule, later: &Rule) -> bool {
        let origins = |rule: &Rule| rule.only_if.clone().unwrap_or_else(|| self.only_if.clone());
        earlier.table.is_none()
            && (earlier.client.is_empty() || earlier.client == later.client)
            && earlier
                .meta
                .iter()
                .all(|(key, glob)| later.meta.get(key).is_some_and(|other| glob.covers(other)))
            && covered(&earlier.identity, &later.identity, Glob::covers)
            && origins(earlier).covers(&origins(later))
            && covered(&earlier.domains(), &later.domains(), DomainPattern::covers)
    }
}

/// An empty list of conditions is no condition.
fn covered<T>(earlier: &[T], later: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    earlier.is_empty()
        || (!later.is_empty() && later.iter().all(|b| earlier.iter().any(|a| covers(a, b))))
}

impl OnlyIf {
    fn covers(&self, other: &OnlyIf) -> bool {
        let includes = |origin: &Origin| {
            self.0.contains(&Origin::Anybody)
                || self.0.contains(origin)
                || (*origin == Origin::Authenticated && self.0.contains(&Origin::MayRelay))
        };
        other.0.iter().all(includes)
    }
}

impl Rule {
    /// Domains in `from`, and what `relaxed` adds to them.
    pub(crate) fn domains(&self) -> Vec<DomainPattern> {
        let below = |pattern: &DomainPattern| match pattern {
            DomainPattern::Exact(domain) if self.relaxed => {
                Some(DomainPattern::Below(format!(".{domain}").into()))
            }
            _ => None,
        };
        let more: Vec<DomainPattern> = self.from.iter().filter_map(below).collect();
        self.from.iter().cloned().chain(more).collect()
    }

    fn check(&self) -> Result<(), (String, String)> {
        let wrong = |key: &str, text: &str| Err((key.to_owned(), text.to_owned()));
        if self.name.is_empty() {
            return wrong("name", "a rule needs a name, which operators see as the reason");
        }
        match (self.skip, self.signatures.is_empty(), &self.table) {
            (true, true, None) => {}
            (true, ..) => return wrong("skip", "a rule either skips or signs"),
            (false, true, None) => {
                return wrong("signatures", "say `signatures`, `table` or `skip = true`");
            }
            (false, false, Some(_)) => {
                return wrong("table", "a rule has either `signatures` or a `table`");
            }
            (false, ..) => {}
        }
        if !self.headers.is_empty() && !names(&self.headers, "from") {
            // RFC 6376 §5.4: the From field MUST be signed.
            return wrong("headers", "`from` must be among them (RFC 6376 §5.4)");
        }
        for (key, list) in [("headers", &self.headers), ("oversign", &self.oversign)] {
            if let Some(bad) = list.iter().find(|name| !is_field_name(name)) {
                return wrong(key, &format!("`{bad}` is no name of a field"));
            }
        }
        for (at, signature) in self.signatures.iter().enumerate() {
            let same = |other: &Signature| {
                other.selector == signature.selector && other.domain == signature.domain
            };
            let checks = [
                ("selector", is_selector(&signature.selector), "labels of a domain: `s2026`"),
                ("key", !signature.key.is_empty(), "the name of a key in the configuration"),
                (
                    "domain",
                    signature.domain.as_deref().is_none_or(is_selector),
                    "a domain: `a.example`",
                ),
                ("selector", !self.signatures[..at].iter().any(same), "used twice"),
            ];
            if let Some((key, _, text)) = checks.iter().find(|(_, ok, _)| !ok) {
                return wrong(&format!("signatures[{at}].{key}"), text);
            }
        }
        Ok(())
    }
}

fn names(list: &[String], name: &str) -> bool {
    list.iter().any(|other| other.eq_ignore_ascii_case(name))
}

fn is_field_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|c| c.is_ascii_graphic() && c != b':')
}

/// RFC 6376 §3.1: sub-domains, separated by dots.
pub(crate) fn is_selector(text: &str) -> bool {
    text.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
    })
}
