//! What an attempt found out about a host's TLS, for the reports to its domain (RFC 8460 §4.3).

use waypost_dns::Host;
use waypost_dns::sts::{Mode, Trouble};

use super::Attempt;
use super::trust::Found;
use crate::connection::{Connection, Failure, Wish};
use crate::demand::Demand;
use crate::reports::{Applied, FailureKind, Finding, Session};
use crate::tls::{Flaw, HandshakeError};

impl Attempt<'_> {
    /// Counts what came of opening a connection.
    pub(super) fn count_opened(
        &self,
        found: &Found,
        wish: &Wish<'_>,
        opened: &Result<Connection, Failure>,
    ) {
        if *wish.demand == Demand::Never {
            return;
        }
        let Some(mut failure) = finding(opened) else { return };
        let policy = found.sts.policy.as_ref();
        let applied = match (wish.demand, policy, &found.sts.trouble) {
            (Demand::Dane(named), _, _) => Applied::tlsa(&named.binding.records),
            (_, Some(policy), _) => {
                if policy.mode == Mode::Testing && !policy.names(&wish.host.name) {
                    failure = failure.or(Some(unnamed()));
                }
                Applied::sts(policy)
            }
            (_, None, Some(trouble)) => {
                failure = Some(unfetched(trouble));
                Applied::Sts(Vec::new(), Vec::new())
            }
            (_, None, None) => Applied::None,
        };
        self.count(found, wish.host, applied, failure, wish.source.map(|source| source.address));
    }

    /// Counts what stood against a host before anybody spoke to it.
    pub(super) fn count_refused(
        &self,
        found: &Found,
        host: &Host,
        applied: Applied,
        failure: Finding,
    ) {
        self.count(found, host, applied, Some(failure), None);
    }

    fn count(
        &self,
        found: &Found,
        host: &Host,
        applied: Applied,
        failure: Option<Finding>,
        from: Option<std::net::IpAddr>,
    ) {
        let (Some(reports), Some(domain)) = (&self.delivery.parts.reports, &found.domain) else {
            return;
        };
        // What was to arrive whatever TLS says, reports themselves among it, is no test of TLS.
        if self.ticket.entry.terms.tls_optional {
            return;
        }
        let (address, host) = (host.address.ip(), host.name.clone());
        reports.count(domain, Session { applied, host, address, from, failure });
    }
}

/// Nothing where it did not come to TLS; else what was wrong with it, if something was.
fn finding(opened: &Result<Connection, Failure>) -> Option<Option<Finding>> {
    let no_tls = |reason: &str| Some(Finding::new(FailureKind::StarttlsNotSupported, reason));
    match opened {
        Ok(connection) if connection.security.version.is_none() => {
            Some(no_tls("the session went on in clear text"))
        }
        Ok(connection) => Some(connection.observed.as_ref().map(of_handshake)),
        Err(Failure::Handshake(error)) => Some(Some(of_handshake(error))),
        Err(failure) if failure.is_about_starttls() => Some(no_tls(&match failure {
            Failure::Session(_, failure) => failure.to_string(),
            _ => "the connection ended at STARTTLS".to_owned(),
        })),
        Err(_) => None,
    }
}

fn of_handshake(error: &HandshakeError) -> Finding {
    let kind = match error.flaw {
        Flaw::Expired => FailureKind::CertificateExpired,
        Flaw::OtherName => FailureKind::CertificateHostMismatch,
        Flaw::Untrusted => FailureKind::CertificateNotTrusted,
        Flaw::NotNamed | Flaw::Other => FailureKind::ValidationFailure,
    };
    Finding::new(kind, &error.text)
}

/// The policy of the domain does not name the host.
pub(super) fn unnamed() -> Finding {
    Finding::new(FailureKind::ValidationFailure, "the policy does not name this host")
}

fn unfetched(trouble: &Trouble) -> Finding {
    let kind = match trouble {
        Trouble::Unreachable(_) => FailureKind::StsPolicyFetchError,
        Trouble::Untrusted(_) => FailureKind::StsWebpkiInvalid,
        Trouble::Invalid(_) => FailureKind::StsPolicyInvalid,
    };
    Finding::new(kind, &trouble.to_string())
}
