//! How TLS went with the hosts of one domain on one day (RFC 8460 §4.3): counts, and what failed. No clock,
//! no network.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use waypost_dns::Tlsa;
use waypost_dns::sts::Policy;
use waypost_mail::ledger::MAX_VALUE;

/// Policies of one domain that are told apart on one day; what goes beyond counts with the last.
const MAX_POLICIES: usize = 4;
/// Kinds of failures that are told apart for one policy; what goes beyond is counted and no more.
const MAX_FAILURES: usize = 16;
/// Records or lines of one policy, and octets of each text, that are kept.
const MAX_LINES: usize = 12;
const MAX_TEXT: usize = 200;

/// What was found out with one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) applied: Applied,
    /// The host's name.
    pub(crate) host: String,
    pub(crate) address: IpAddr,
    /// Where we came from, where a route says so.
    pub(crate) from: Option<IpAddr>,
    pub(crate) failure: Option<Failure>,
}

/// The policy that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Applied {
    /// None was found.
    None,
    /// The domain's own, by its lines and its patterns of hosts.
    Sts(Vec<String>, Vec<String>),
    /// TLSA records.
    Tlsa(Vec<String>),
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// For a person.
    pub(crate) reason: Option<String>,
}

/// RFC 8460 §4.3
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FailureKind {
    StarttlsNotSupported,
    CertificateHostMismatch,
    CertificateExpired,
    CertificateNotTrusted,
    ValidationFailure,
    TlsaInvalid,
    DnssecInvalid,
    StsPolicyFetchError,
    StsPolicyInvalid,
    StsWebpkiInvalid,
}

/// A day of one domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) policies: Vec<PolicyTally>,
    /// Where its report has been taken already.
    pub(crate) sent: Vec<String>,
}

/// What happened under one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PolicyTally {
    pub(crate) applied: Applied,
    pub(crate) good: u64,
    pub(crate) bad: u64,
    pub(crate) failures: Vec<Counted>,
}

/// A kind of failure at one host, and how often it was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) failure: Failure,
    pub(crate) host: String,
    pub(crate) address: IpAddr,
    pub(crate) from: Option<IpAddr>,
    pub(crate) count: u64,
}

impl Applied {
    pub(crate) fn sts(policy: &Policy) -> Applied {
        let lines = policy.to_string().lines().take(MAX_LINES).map(cut).collect();
        Applied::Sts(lines, policy.mx.iter().take(MAX_LINES).map(|mx| cut(mx)).collect())
    }

    pub(crate) fn tlsa(records: &[Tlsa]) -> Applied {
        Applied::Tlsa(
            records.iter().take(MAX_LINES).map(|record| cut(&record.to_string())).collect(),
        )
    }
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, reason: &str) -> Failure {
        Failure { kind, reason: Some(cut(reason)) }
    }
}

impl Tally {
    /// Counts one session.
    pub(crate) fn add(&mut self, session: Session) {
        let policy = self.policy(session.applied);
        let Some(failure) = session.failure else {
            policy.good += 1;
            return;
        };
        policy.bad += 1;
        let (host, address, from) = (session.host, session.address, session.from);
        // Texts of one kind may differ each time; the first stands for all.
        let known = policy.failures.iter().position(|known| {
            let same = (known.address, known.from) == (address, from) && known.host == host;
            same && known.failure.kind == failure.kind
        });
        if let Some(at) = known {
            policy.failures[at].count += 1;
        } else if policy.failures.len() < MAX_FAILURES {
            let host = cut(&host);
            policy.failures.push(Counted { failure, host, address, from, count: 1 });
        }
    }

    fn policy(&mut self, applied: Applied) -> &mut PolicyTally {
        let known = self.policies.iter().position(|policy| policy.applied == applied);
        let at = known.unwrap_or_else(|| {
            if self.policies.len() < MAX_POLICIES {
                let failures = Vec::new();
                self.policies.push(PolicyTally { applied, good: 0, bad: 0, failures });
            }
            self.policies.len() - 1
        });
        &mut self.policies[at]
    }

    /// As it is kept: details go where there is no room for all of them, counts stay.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut tally = self.clone();
        loop {
            let text = serde_json::to_vec(&tally).unwrap_or_default();
            if text.len() <= MAX_VALUE {
                return text;
            }
            let longest = tally.policies.iter_mut().max_by_key(|policy| policy.failures.len());
            if longest.and_then(|policy| policy.failures.pop()).is_some() {
                continue;
            }
            tally.policies.iter_mut().for_each(|policy| policy.applied.shorten());
        }
    }

    pub(crate) fn read(text: &[u8]) -> Option<Tally> {
        serde_json::from_slice(text).ok()
    }
}

impl Applied {
    fn shorten(&mut self) {
        match self {
            Applied::None => {}
            Applied::Sts(lines, hosts) => {
                lines.truncate(3);
                hosts.truncate(3);
            }
            Applied::Tlsa(records) => records.truncate(3),
        }
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn session(applied: Applied, failure: Option<Failure>) -> Session {
        Session {
            applied,
            host: "mx.there.example".into(),
            address: "192.0.2.1".parse().unwrap(),
            from: None,
            failure,
        }
    }

    #[test]
    fn sessions_are_counted_by_policy_and_failure() {
        let tlsa = Tlsa { usage: 3, selector: 1, matching: 1, data: vec![7; 32] };
        let dane = || Applied::tlsa(std::slice::from_ref(&tlsa));
        let expired = |text: &str| Some(Failure::new(FailureKind::CertificateExpired, text));
        let mut tally = Tally::default();
        tally.add(session(Applied::None, None));
        tally.add(session(dane(), None));
        tally.add(session(dane(), expired("a second ago")));
        tally.add(session(dane(), expired("two seconds ago")));
        tally.add(Session { host: "b".into(), ..session(dane(), expired("x")) });
        let [none, dane] = &tally.policies[..] else { panic!("{tally:?}") };
        assert_eq!((none.good, none.bad, dane.good, dane.bad), (1, 0, 1, 3));
        let counts: Vec<u64> = dane.failures.iter().map(|failure| failure.count).collect();
        assert_eq!(counts, [2, 1]);
        assert_eq!(Tally::read(&tally.write()), Some(tally));
    }

    #[test]
    fn what_is_kept_has_a_limit_and_counts_are_never_lost() {
        let mut tally = Tally::default();
        for number in 0..1000u32 {
            let long = format!("{number} {}", "x".repeat(1000));
            let records = vec![long.clone(); 20];
            let applied = Applied::Tlsa(records.iter().map(|r| cut(r)).take(MAX_LINES).collect());
            let applied = if number % 10 == 0 { applied } else { Applied::None };
            let failure = Failure::new(FailureKind::ValidationFailure, &long);
            tally.add(Session { host: long, ..session(applied, Some(failure)) });
        }
        let kept = tally.write();
        assert!(kept.len() <= MAX_VALUE, "{}", kept.len());
        let kept = Tally::read(&kept).unwrap();
        assert_eq!(kept.policies.iter().map(|policy| policy.bad).sum::<u64>(), 1000);
        assert!(kept.policies.len() <= MAX_POLICIES);
    }
}
