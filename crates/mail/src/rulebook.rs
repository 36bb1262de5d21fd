//! Rules that read replies: by provider, phase, code, enhanced status and words.
//!
//! The first rule that fits says what a refusal means; where none does, its numbers do
//! ([`Diagnosis::by_code`]). Rules are data: the configuration reads them, [`faults`] finds those that are
//! of no use or in each other's way.

mod condition;
mod lint;
mod wording;

use std::cmp::Reverse;
use std::time::Duration;

use waypost_smtp::{Phase, Reply, Severity};

pub use self::condition::{CodePattern, ConditionError, StatusPattern, Wording};
pub use self::lint::{Fault, Of, faults};
pub use self::wording::normal;
use crate::{Category, Diagnosis, Disposition, Scope};

/// Most rules of a book.
pub const MAX_RULES: usize = 2000;

/// All rules, in the order in which they are asked, and the providers they speak of.
#[derive(Debug, Clone, Default)]
pub struct Rulebook {
    providers: Vec<Provider>,
    rules: Vec<Rule>,
}

/// Who runs the mail of many domains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// In one word.
    pub name: String,
    /// Names of its mail exchangers, in lower case: `.example.net` for all below it.
    pub hosts: Vec<String>,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Unique in its book; kept with recipients and told in logs.
    pub name: String,
    /// When it fits.
    pub when: When,
    /// For how long; by the kind and the first digit where nothing is said.
    pub disposition: Option<Disposition>,
    /// Whom it is about; by the kind where nothing is said.
    pub scope: Option<Scope>,
    /// Of what kind.
    pub category: Category,
    /// How long to wait before the next attempt.
    pub wait: Option<Duration>,
    /// Names of rules before it that it leaves replies to which it fits too.
    pub after: Vec<String>,
    /// Replies it is for.
    pub samples: Vec<Sample>,
}

/// All that is given must hold; of a list, one is enough. An empty list holds always.
#[derive(Debug, Clone, Default)]
pub struct When {
    /// Names of providers.
    pub providers: Vec<String>,
    /// Codes.
    pub codes: Vec<CodePattern>,
    /// Enhanced status codes.
    pub statuses: Vec<StatusPattern>,
    /// In answer to what.
    pub phases: Vec<Phase>,
    /// What is looked for in the [normal form](normal) of the text.
    pub texts: Vec<Wording>,
}

/// A reply that a rule is for, as somebody has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// What was said.
    pub reply: Reply,
    /// To what.
    pub phase: Phase,
    /// By whom; empty for anybody.
    pub host: String,
}

/// A refusal to be read.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// What was said.
    pub reply: &'a Reply,
    /// To what.
    pub phase: Phase,
    /// Name of the host that said it.
    pub host: &'a str,
}

/// What a refusal means, and which rule says so.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// What it means.
    pub diagnosis: Diagnosis,
    /// The rule; none when the numbers alone were read.
    pub rule: Option<&'a Rule>,
    /// Who runs the host, when a provider is known by its name.
    pub provider: Option<&'a str>,
}

impl Rulebook {
    /// A book of these rules.
    pub fn new(providers: Vec<Provider>, rules: Vec<Rule>) -> Rulebook {
        Rulebook { providers, rules }
    }

    /// The same with everything of `first` in front.
    #[must_use]
    pub fn behind(self, first: Rulebook) -> Rulebook {
        let Rulebook { mut providers, mut rules } = first;
        providers.extend(self.providers);
        rules.extend(self.rules);
        Rulebook { providers, rules }
    }

    /// The rules in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule of this name.
    pub fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// The providers.
    pub fn providers(&self) -> &[Provider] {
        &self.providers
    }

    /// Who runs the host of this name: the provider with the longest end of a name that fits; of two
    /// with the same one the first.
    pub fn provider(&self, host: &str) -> Option<&str> {
        provider_of(&self.providers, host)
    }

    /// What a refusal means.
    pub fn read(&self, said: &Said<'_>) -> Found<'_> {
        let provider = self.provider(said.host);
        let view = View { said, provider, text: normal(&said.reply.text) };
        let rule = self.rules.iter().find(|rule| rule.when.holds(&view));
        let diagnosis = match rule {
            Some(rule) => rule.says(said.reply),
            None => Diagnosis::by_code(said.phase, said.reply),
        };
        Found { diagnosis, rule, provider }
    }
}

impl Rule {
    /// What it says of a reply that it fits.
    pub fn says(&self, reply: &Reply) -> Diagnosis {
        let usual = || self.category.usual_disposition(reply.severity());
        let disposition = self.disposition.unwrap_or_else(usual);
        let usual = Diagnosis::new(disposition, self.category);
        usual.about(self.scope.unwrap_or(usual.scope))
    }
}

impl Category {
    /// For how long a failure of this kind lasts, where a rule says nothing else. Some kinds pass
    /// whatever the code: servers that greylist or limit by 5xx do not mean it.
    pub fn usual_disposition(self, severity: Severity) -> Disposition {
        match (self, severity) {
            (Category::RateLimited | Category::Connections, _) => Disposition::RateLimit,
            (Category::Greylisted | Category::TooManyRecipients, _) => Disposition::Transient,
            (Category::AuthNeeded | Category::Local, Severity::Permanent) => {
                Disposition::LocalFault
            }
            (_, Severity::Permanent) => Disposition::Permanent,
            _ => Disposition::Transient,
        }
    }
}

/// A refusal, ready to be looked at by all rules.
struct View<'a> {
    said: &'a Said<'a>,
    provider: Option<&'a str>,
    text: String,
}

impl When {
    /// True when it says nothing, and so would hold always.
    pub fn is_empty(&self) -> bool {
        self.providers.is_empty()
            && self.codes.is_empty()
            && self.statuses.is_empty()
            && self.phases.is_empty()
            && self.texts.is_empty()
    }

    fn holds(&self, view: &View<'_>) -> bool {
        let Said { reply, phase, .. } = view.said;
        let any = |list: &[String], word| list.is_empty() || list.iter().any(|w| w == word);
        any(&self.providers, view.provider.unwrap_or_default())
            && (self.codes.is_empty() || self.codes.iter().any(|code| code.fits(reply.code)))
            && (self.statuses.is_empty()
                || self.statuses.iter().any(|status| status.fits(reply.enhanced)))
            && (self.phases.is_empty() || self.phases.contains(phase))
            && (self.texts.is_empty() || self.texts.iter().any(|text| text.is_in(&view.text)))
    }
}

fn provider_of<'a>(providers: &'a [Provider], host: &str) -> Option<&'a str> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let fits = |end: &str| match end.strip_prefix('.') {
        Some(_) => host.ends_with(end),
        None => host == end,
    };
    let ends =
        providers.iter().flat_map(|provider| provider.hosts.iter().map(move |h| (h, provider)));
    let best = ends.filter(|(end, _)| fits(end)).min_by_key(|(end, _)| Reverse(end.len()));
    best.map(|(_, provider)| provider.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, category: Category, text: &str) -> Rule {
        let texts = vec![text.parse().unwrap()];
        Rule {
            name: name.to_owned(),
            when: When { texts, ..When::default() },
            disposition: None,
            scope: None,
            category,
            wait: None,
            after: Vec::new(),
            samples: Vec::new(),
        }
    }

    fn book() -> Rulebook {
        let provider = |name: &str, host: &str| Provider {
            name: name.to_owned(),
            hosts: vec![host.to_owned()],
        };
        let providers =
            vec![provider("big", ".big.example"), provider("small", ".small.big.example")];
        let mut first = rule("big-slow", Category::RateLimited, "slow down");
        first.when.providers = vec!["big".to_owned()];
        Rulebook::new(providers, vec![first, rule("grey", Category::Greylisted, "slow down")])
    }

    fn read(book: &Rulebook, host: &str, reply: &str) -> (String, String) {
        let reply = reply.parse().unwrap();
        let found = book.read(&Said { reply: &reply, phase: Phase::Rcpt, host });
        let rule = found.rule.map_or("", |rule| rule.name.as_str());
        (rule.to_owned(), found.diagnosis.to_string())
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let book = book();
        let (rule, found) = read(&book, "mx1.big.example", "550 Please slow  DOWN");
        assert_eq!((rule.as_str(), found.as_str()), ("big-slow", "rate-limit/source/rate-limited"));
        let (rule, found) = read(&book, "mx1.other.example", "550-please\n550 slow down");
        assert_eq!((rule.as_str(), found.as_str()), ("grey", "transient/recipient/greylisted"));
        let (rule, found) = read(&book, "mx1.big.example", "550 5.1.1 nobody");
        assert_eq!((rule.as_str(), found.as_str()), ("", "permanent/recipient/bad-mailbox"));
    }

    #[test]
    fn the_longest_end_of_a_name_tells_the_provider() {
        let book = book();
        assert_eq!(book.provider("MX.small.big.example."), Some("small"));
        assert_eq!(book.provider("mx.big.example"), Some("big"));
        assert_eq!(book.provider("big.example"), None);
        assert_eq!(book.provider("verybig.example"), None);
        let own = Provider { name: "own".to_owned(), hosts: vec![".big.example".to_owned()] };
        let book = book.behind(Rulebook::new(vec![own], Vec::new()));
        assert_eq!(book.provider("mx.big.example"), Some("own"), "who comes first is asked first");
    }
}
