//! Whether the peer may use the sender's domain (RFC 7208).

use std::net::IpAddr;

use mail_auth::spf::verify::SpfParameters;
use mail_auth::{MessageAuthenticator, Parameters, SpfResult};
use waypost_smtp::{Domain, ReversePath};

use super::Peer;
use super::findings::{AuthResult, SpfFinding};
use super::syntax::is_well_formed;
use super::watch::{Watch, texts};

/// Questions without an answer that a policy may cause (RFC 7208 §4.6.4).
const MAX_VOIDS: usize = 2;

/// Whose policy is asked for, and in whose name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Subject {
    by_helo: bool,
    domain: String,
    /// The whole sender, for macros.
    sender: String,
    /// An address literal, or no name at all, has no policy.
    is_name: bool,
}

impl Subject {
    /// The sender's domain, or else that of HELO (RFC 7208 §2.4).
    pub(super) fn of(sender: &ReversePath, helo: &str) -> Subject {
        match sender.mailbox() {
            Some(mailbox) => Subject {
                by_helo: false,
                domain: name_of(mailbox.domain()).unwrap_or_else(|| mailbox.domain().to_string()),
                sender: format!("{}@{}", mailbox.local(), mailbox.domain()),
                is_name: mailbox.domain().name().is_some(),
            },
            None => {
                let name = Domain::parse(helo).ok().and_then(|domain| name_of(&domain));
                Subject {
                    by_helo: true,
                    is_name: name.is_some(),
                    domain: name.unwrap_or_else(|| helo.to_owned()),
                    sender: String::new(),
                }
            }
        }
    }

    pub(super) fn found(&self, result: AuthResult, reason: Option<&'static str>) -> SpfFinding {
        SpfFinding { result, by_helo: self.by_helo, domain: self.domain.clone(), reason }
    }
}

fn name_of(domain: &Domain) -> Option<String> {
    domain.name().map(str::to_owned)
}

/// Asks. `hostname` is ours, for macros.
pub(super) async fn check(
    authenticator: &MessageAuthenticator,
    peer: Peer<'_>,
    subject: &Subject,
    hostname: &str,
) -> SpfFinding {
    if !subject.is_name {
        return subject.found(AuthResult::None, None);
    }
    let watch = Watch::default();
    let asked = match subject.by_helo {
        true => SpfParameters::verify_ehlo(peer.ip, &subject.domain, hostname),
        false => SpfParameters::verify_mail_from(peer.ip, peer.helo, hostname, &subject.sender),
    };
    let parameters = Parameters::new(asked)
        .with_txt_cache(&watch)
        .with_mx_cache(&watch)
        .with_ptr_cache(&watch)
        .with_ipv4_cache(&watch)
        .with_ipv6_cache(&watch);
    let said = authenticator.check_host(parameters).await.result();
    let (result, reason) = judge(authenticator, said, &watch, peer.ip).await;
    subject.found(result, reason)
}

/// What mail-auth says, once it was held against what it does not look at.
async fn judge(
    authenticator: &MessageAuthenticator,
    said: SpfResult,
    watch: &Watch,
    ip: IpAddr,
) -> (AuthResult, Option<&'static str>) {
    let result = match said {
        SpfResult::TempError => {
            return (AuthResult::TempError, Some("a DNS server does not answer"));
        }
        SpfResult::PermError => {
            return (AuthResult::PermError, Some("the policy cannot be evaluated"));
        }
        SpfResult::Pass => AuthResult::Pass,
        SpfResult::Fail => AuthResult::Fail,
        SpfResult::SoftFail => AuthResult::SoftFail,
        SpfResult::Neutral => AuthResult::Neutral,
        SpfResult::None => AuthResult::None,
    };
    for name in watch.take_texts() {
        let texts = texts(authenticator, &name).await;
        let mut policies = texts.iter().filter(|text| is_policy(text));
        // RFC 7208 §4.5, §4.6
        match (policies.next(), policies.next()) {
            (Some(_), Some(_)) => {
                return (AuthResult::PermError, Some("a domain has several policies"));
            }
            (Some(only), None) if result == AuthResult::None || !is_well_formed(only) => {
                return (AuthResult::PermError, Some("the policy is malformed"));
            }
            _ => {}
        }
    }
    if watch.voids(ip) > MAX_VOIDS {
        return (AuthResult::PermError, Some("the policy asks for too much that is not there"));
    }
    (result, None)
}

/// RFC 7208 §4.5
fn is_policy(text: &[u8]) -> bool {
    const VERSION: &[u8] = b"v=spf1";
    text.get(..VERSION.len()).is_some_and(|start| start.eq_ignore_ascii_case(VERSION))
        && matches!(text.get(VERSION.len()), None | Some(b' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked_about() {
        let sender = |text: &str| ReversePath::Mailbox(text.parse().unwrap());
        let subject = Subject::of(&sender("a@M\u{fc}ller.Example"), "mx.example");
        assert_eq!((subject.domain.as_str(), subject.by_helo), ("xn--mller-kva.example", false));
        let subject = Subject::of(&ReversePath::Null, "MX.example");
        assert_eq!((subject.domain.as_str(), subject.by_helo), ("mx.example", true));
        assert!(!Subject::of(&sender("a@[192.0.2.1]"), "mx.example").is_name);
        assert!(!Subject::of(&ReversePath::Null, "[192.0.2.1]").is_name);
        assert!(!Subject::of(&ReversePath::Null, "not a name").is_name);
    }

    #[test]
    fn what_is_a_policy() {
        for text in ["v=spf1", "v=spf1 -all", "V=SPF1 ?all"] {
            assert!(is_policy(text.as_bytes()), "{text}");
        }
        for text in ["", "v=spf", "v=spf10 -all", "v=spf1;", " v=spf1 -all", "x v=spf1"] {
            assert!(!is_policy(text.as_bytes()), "{text}");
        }
    }
}
