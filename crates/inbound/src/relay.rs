//! Who may send mail through us to whom. Decided before and apart from policy: no verdict widens it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use waypost_mail::{ClientCertificate, DomainPattern, Facts, Fingerprint, Network, TlsFacts};
use waypost_smtp::{Domain, Mailbox};

/// Mail is relayed for users who logged in, from these networks, and to these domains. Empty: for
/// users alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayRule {
    /// Peers in these networks may send to anybody.
    pub networks: Vec<Network>,
    /// Anybody may send to these domains.
    pub domains: Vec<DomainPattern>,
    /// Who proves to be one of these by a certificate may send to anybody.
    pub certificates: Vec<CertificateRule>,
}

/// Whose certificate is meant. It must be one that the listener vouches for, see
/// [`crate::tls::Vouchers`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateRule {
    /// This one.
    Print(Fingerprint),
    /// Each with this alternative name: a host name or a mail address.
    Name(String),
}

/// What is no rule about certificates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither a fingerprint (sha256:…) nor a host name nor a mail address")]
pub struct CertificateRuleError(String);

impl CertificateRule {
    /// True when this certificate, which was verified, is meant.
    pub fn is_met_by(&self, shown: &ClientCertificate) -> bool {
        match self {
            CertificateRule::Print(print) => *print == shown.fingerprint(),
            CertificateRule::Name(name) => shown.proves(name),
        }
    }
}

impl FromStr for CertificateRule {
    type Err = CertificateRuleError;
    fn from_str(text: &str) -> Result<CertificateRule, CertificateRuleError> {
        if let Ok(print) = text.parse() {
            return Ok(CertificateRule::Print(print));
        }
        let host = text.contains('.') && matches!(Domain::parse(text), Ok(Domain::Name(_)));
        let address = text.contains('@') && Mailbox::parse(text).is_ok();
        let known = host || address;
        known
            .then(|| CertificateRule::Name(text.to_owned()))
            .ok_or_else(|| CertificateRuleError(text.to_owned()))
    }
}

impl fmt::Display for CertificateRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateRule::Print(print) => print.fmt(f),
            CertificateRule::Name(name) => f.write_str(name),
        }
    }
}

impl RelayRule {
    /// True when the peer may send mail to `recipient`'s domain through us.
    pub fn allows(&self, peer: &Facts, recipient: &Domain) -> bool {
        peer.may_relay || self.domains.iter().any(|pattern| pattern.matches(recipient))
    }

    /// True when a peer at `address`, if that is known, on a channel encrypted so, may send to
    /// anybody.
    pub fn admits(&self, address: Option<IpAddr>, tls: Option<&TlsFacts>) -> bool {
        let shown = tls.and_then(|tls| tls.certificate.as_deref());
        address.is_some_and(|address| self.lists(address))
            || shown.is_some_and(|shown| self.certificates.iter().any(|rule| rule.is_met_by(shown)))
    }

    /// True when `address` is in one of the networks.
    pub fn lists(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use waypost_mail::SessionId;

    use super::*;

    #[test]
    fn users_networks_and_domains_may_relay() {
        let rule = RelayRule {
            networks: vec!["192.0.2.0/24".parse().unwrap()],
            domains: vec!["example.org".parse().unwrap(), "*.example.org".parse().unwrap()],
            ..RelayRule::default()
        };
        let lists = |address: &str| rule.lists(address.parse().unwrap());
        assert!(lists("192.0.2.1") && !lists("203.0.113.1"));
        let user = Facts::internal(SessionId(1));
        let stranger = Facts { may_relay: false, ..user.clone() };
        let allows = |facts, domain| rule.allows(facts, &Domain::parse(domain).unwrap());
        assert!(allows(&user, "other.example"));
        assert!(allows(&stranger, "example.org") && allows(&stranger, "mx.example.org"));
        assert!(!allows(&stranger, "other.example") && !allows(&stranger, "[192.0.2.1]"));
        assert!(!allows(&stranger, "notexample.org"));
    }

    #[test]
    fn a_certificate_admits_by_fingerprint_or_name() {
        let shown = ClientCertificate {
            subject: "CN=common.example".into(),
            dns_names: vec!["app.example".into()],
            sha256: [7; 32],
            ..ClientCertificate::default()
        };
        assert_eq!("app.example".parse(), Ok(CertificateRule::Name("app.example".into())));
        assert_eq!("a@b.example".parse(), Ok(CertificateRule::Name("a@b.example".into())));
        let print = CertificateRule::Print(Fingerprint([7; 32]));
        assert_eq!(print.to_string().parse(), Ok(print));
        for bad in ["", "CN=app.example", "*.example", "07:07"] {
            assert!(bad.parse::<CertificateRule>().is_err(), "{bad}");
        }
        let tls = TlsFacts {
            version: "1.3".into(),
            cipher: "TLS_AES_128_GCM_SHA256".into(),
            sni: None,
            certificate: Some(Arc::new(shown)),
        };
        let bare = TlsFacts { certificate: None, ..tls.clone() };
        let stranger = "203.0.113.1".parse().ok();
        for (rule, admitted) in [
            (CertificateRule::Print(Fingerprint([7; 32])), true),
            (CertificateRule::Print(Fingerprint([8; 32])), false),
            (CertificateRule::Name("app.example".into()), true),
            (CertificateRule::Name("common.example".into()), false),
        ] {
            let rule = RelayRule { certificates: vec![rule], ..RelayRule::default() };
            assert_eq!(rule.admits(stranger, Some(&tls)), admitted, "{rule:?}");
            assert!(!rule.admits(stranger, Some(&bare)) && !rule.admits(stranger, None));
        }
    }
}
