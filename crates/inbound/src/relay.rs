//! Who may send mail through us to whom. Decided before and apart from policy: no verdict widens it.

use std::net::IpAddr;

use waypost_mail::{DomainPattern, Facts, Network};
use waypost_smtp::Domain;

/// Mail is relayed for users who logged in, from these networks, and to these domains. Empty: for
/// users alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayRule {
    /// Peers in these networks may send to anybody.
    pub networks: Vec<Network>,
    /// Anybody may send to these domains.
    pub domains: Vec<DomainPattern>,
}

impl RelayRule {
    /// True when the peer may send mail to `recipient`'s domain through us.
    pub fn allows(&self, peer: &Facts, recipient: &Domain) -> bool {
        peer.may_relay || self.domains.iter().any(|pattern| pattern.matches(recipient))
    }

    /// True when `address` is in one of the networks.
    pub fn lists(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use waypost_mail::SessionId;

    use super::*;

    #[test]
    fn users_networks_and_domains_may_relay() {
        let rule = RelayRule {
            networks: vec!["192.0.2.0/24".parse().unwrap()],
            domains: vec!["example.org".parse().unwrap(), "*.example.org".parse().unwrap()],
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
}
