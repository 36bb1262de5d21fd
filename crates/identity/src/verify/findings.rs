//! What the checks found out about a message.

use std::net::IpAddr;

use waypost_mail::Attr;

/// Longest value of a fact, in octets.
const MAX_VALUE: usize = 512;

/// What a check came to (RFC 8601 §2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthResult {
    /// It vouches for the message.
    Pass,
    /// It says that the message is not what it claims.
    Fail,
    /// Probably not (SPF alone).
    SoftFail,
    /// There is something, and it says neither.
    Neutral,
    /// There is nothing to check.
    None,
    /// There is a signature of a kind that is not accepted.
    Policy,
    /// It could not be found out now: DNS, or the time was up.
    TempError,
    /// It cannot be found out: what was published or sent is malformed.
    PermError,
}

impl AuthResult {
    /// The word of RFC 8601.
    pub fn word(self) -> &'static str {
        match self {
            AuthResult::Pass => "pass",
            AuthResult::Fail => "fail",
            AuthResult::SoftFail => "softfail",
            AuthResult::Neutral => "neutral",
            AuthResult::None => "none",
            AuthResult::Policy => "policy",
            AuthResult::TempError => "temperror",
            AuthResult::PermError => "permerror",
        }
    }
}

/// What all checks found out. A check that was not made is absent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// Whether the peer may use the sender's domain.
    pub spf: Option<SpfFinding>,
    /// One for each signature that was looked at, from the top.
    pub dkim: Option<Vec<DkimFinding>>,
    /// Whether either vouches for the author's domain.
    pub dmarc: Option<DmarcFinding>,
    /// Whether the chain of those who passed it on is unbroken.
    pub arc: Option<ArcFinding>,
    /// Whether the peer's address and name point at each other.
    pub iprev: Option<IprevFinding>,
}

/// RFC 7208.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpfFinding {
    /// What it came to.
    pub result: AuthResult,
    /// The domain of HELO was asked about, because there is no sender (RFC 7208 §2.4).
    pub by_helo: bool,
    /// Whose policy was asked for.
    pub domain: String,
    /// Why, where the result alone does not say it.
    pub reason: Option<&'static str>,
}

/// RFC 6376: one signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DkimFinding {
    /// What it came to.
    pub result: AuthResult,
    /// Who signs (`d=`); empty where the signature does not say.
    pub domain: String,
    /// Under which name the key is (`s=`).
    pub selector: String,
    /// `rsa-sha256` or the like; empty as `domain`.
    pub algorithm: &'static str,
    /// The first octets of the signature, which tell it from others (RFC 6008).
    pub beginning: String,
    /// Why it does not pass.
    pub reason: Option<&'static str>,
}

/// What the author's domain wants done with mail that fails (RFC 9989 §4.7, `p=`, `sp=`, `np=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DmarcPolicy {
    /// Nothing, or nothing is published.
    None,
    /// It is suspicious.
    Quarantine,
    /// It is to be refused.
    Reject,
}

impl DmarcPolicy {
    /// As it is published.
    pub fn word(self) -> &'static str {
        match self {
            DmarcPolicy::None => "none",
            DmarcPolicy::Quarantine => "quarantine",
            DmarcPolicy::Reject => "reject",
        }
    }
}

/// RFC 9989.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DmarcFinding {
    /// What it came to.
    pub result: AuthResult,
    /// The author's domain; empty when there is none, or several.
    pub domain: String,
    /// What that domain wants; [`DmarcPolicy::Reject`] where the message has no From or several.
    pub policy: DmarcPolicy,
    /// Why, where the result alone does not say it.
    pub reason: Option<&'static str>,
}

/// RFC 8617.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArcFinding {
    /// What it came to.
    pub result: AuthResult,
    /// How many sets there are (the highest `i=`).
    pub sets: u32,
    /// Somebody on the way found the chain broken and said so: nobody seals it again.
    pub given_up: bool,
    /// Why it does not pass.
    pub reason: Option<&'static str>,
}

/// RFC 8601 §3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IprevFinding {
    /// What it came to.
    pub result: AuthResult,
    /// The peer's address.
    pub ip: IpAddr,
    /// Its name, when it passes and has one alone.
    pub name: Option<String>,
}

impl Findings {
    /// The best of the signatures: pass if any passes.
    pub fn dkim_result(&self) -> Option<AuthResult> {
        let results = || self.dkim.iter().flatten().map(|finding| finding.result);
        let first_of = |wanted: AuthResult| results().find(|result| *result == wanted);
        self.dkim.as_ref()?;
        let best = first_of(AuthResult::Pass).or_else(|| first_of(AuthResult::TempError));
        best.or_else(|| results().next()).or(Some(AuthResult::None))
    }

    /// Every result with the name of its method.
    pub(crate) fn results(&self) -> impl Iterator<Item = (&'static str, AuthResult)> {
        [
            ("spf", self.spf.as_ref().map(|finding| finding.result)),
            ("dkim", self.dkim_result()),
            ("dmarc", self.dmarc.as_ref().map(|finding| finding.result)),
            ("arc", self.arc.as_ref().map(|finding| finding.result)),
            ("iprev", self.iprev.as_ref().map(|finding| finding.result)),
        ]
        .into_iter()
        .filter_map(|(method, result)| Some((method, result?)))
    }

    /// The same as metadata of the message, each name beginning with `verify/`.
    pub fn facts(&self) -> Vec<Attr> {
        let mut facts = Vec::new();
        let mut tell = |name: String, value: &str| {
            if !value.is_empty() {
                let value = value.chars().filter(|c| !c.is_control());
                let value = value.take(MAX_VALUE).collect::<String>();
                facts.push(Attr { name: format!("verify/{name}"), value: cut(value) });
            }
        };
        for (method, result) in self.results() {
            tell(method.to_owned(), result.word());
        }
        if let Some(spf) = &self.spf {
            tell("spf.domain".to_owned(), &spf.domain);
            tell("spf.identity".to_owned(), if spf.by_helo { "helo" } else { "mailfrom" });
        }
        let passed = self.dkim.iter().flatten().filter(|one| one.result == AuthResult::Pass);
        let domains: Vec<&str> = passed.map(|finding| finding.domain.as_str()).collect();
        tell("dkim.domains".to_owned(), &domains.join(" "));
        if let Some(dmarc) = &self.dmarc {
            tell("dmarc.domain".to_owned(), &dmarc.domain);
            tell("dmarc.policy".to_owned(), dmarc.policy.word());
        }
        if let Some(arc) = &self.arc {
            tell("arc.sets".to_owned(), &arc.sets.to_string());
        }
        if let Some(name) = self.iprev.as_ref().and_then(|iprev| iprev.name.as_ref()) {
            tell("iprev.name".to_owned(), name);
        }
        facts
    }
}

/// At most [`MAX_VALUE`] octets, whole characters.
fn cut(mut value: String) -> String {
    while value.len() > MAX_VALUE {
        value.pop();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(result: AuthResult, domain: &str) -> DkimFinding {
        DkimFinding {
            result,
            domain: domain.to_owned(),
            selector: "s".to_owned(),
            algorithm: "rsa-sha256",
            beginning: "abcd".to_owned(),
            reason: None,
        }
    }

    #[test]
    fn one_good_signature_is_enough() {
        let of = |results: &[AuthResult]| {
            let dkim = results.iter().map(|result| signature(*result, "a.example")).collect();
            Findings { dkim: Some(dkim), ..Findings::default() }.dkim_result()
        };
        use AuthResult::{Fail, Pass, PermError, TempError};
        assert_eq!(of(&[Fail, TempError, Pass]), Some(Pass));
        assert_eq!(of(&[Fail, TempError]), Some(TempError));
        assert_eq!(of(&[PermError, Fail]), Some(PermError));
        assert_eq!(of(&[]), Some(AuthResult::None));
        assert_eq!(Findings::default().dkim_result(), None);
    }

    #[test]
    fn facts_are_legal_metadata_whatever_strangers_wrote() {
        let odd = format!("\u{fc}\r\n\0{}", "\u{20ac}".repeat(600));
        let findings = Findings {
            dkim: Some(vec![signature(AuthResult::Pass, &odd), signature(AuthResult::Pass, "b")]),
            arc: Some(ArcFinding {
                result: AuthResult::None,
                sets: 0,
                given_up: false,
                reason: None,
            }),
            ..Findings::default()
        };
        let facts = findings.facts();
        assert!(facts.iter().all(Attr::is_legal), "{facts:?}");
        assert!(facts.iter().all(|fact| !fact.value.contains(['\r', '\n', '\0'])));
        let value = |name: &str| {
            facts.iter().find(|fact| fact.name == name).map(|fact| fact.value.as_str())
        };
        assert_eq!(value("verify/dkim"), Some("pass"));
        assert_eq!(value("verify/arc.sets"), Some("0"));
        assert_eq!(value("verify/spf"), None);
    }
}
