//! Logins by a client's certificate (RFC 4422 App. A).

use waypost_mail::ClientCertificate;

use crate::CertificateRule;

/// Which certificates are whose. Only such count that the listener vouches for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateLogins {
    /// In order: the first rule that is met names the user.
    pub rules: Vec<(CertificateRule, String)>,
    /// A certificate that no rule is for is the user's whose mail address is its one alternative
    /// name of that kind.
    pub by_address: bool,
}

impl CertificateLogins {
    /// True when no certificate is anybody's.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && !self.by_address
    }

    /// Whose certificate this is.
    pub fn user_of<'a>(&'a self, shown: &'a ClientCertificate) -> Option<&'a str> {
        if let Some((_, user)) = self.rules.iter().find(|(rule, _)| rule.is_met_by(shown)) {
            return Some(user);
        }
        match &shown.addresses[..] {
            [address] if self.by_address => Some(address),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_whose_rule_it_meets_first() {
        let certificate = |hosts: &[&str], addresses: &[&str]| ClientCertificate {
            dns_names: hosts.iter().map(|&name| name.to_owned()).collect(),
            addresses: addresses.iter().map(|&name| name.to_owned()).collect(),
            ..ClientCertificate::default()
        };
        let printer = certificate(&["printer.example.org"], &["printer@example.org"]);
        let alice = certificate(&[], &["alice@example.org"]);
        let two = certificate(&[], &["a@example.org", "b@example.org"]);
        let mut logins = CertificateLogins {
            rules: vec![("printer.example.org".parse().unwrap(), "device".to_owned())],
            by_address: false,
        };
        assert_eq!(logins.user_of(&printer), Some("device"));
        assert_eq!(logins.user_of(&alice), None);
        logins.by_address = true;
        assert_eq!(logins.user_of(&printer), Some("device"));
        assert_eq!(logins.user_of(&alice), Some("alice@example.org"));
        assert_eq!(logins.user_of(&two), None, "which of the two?");
        assert_eq!(logins.user_of(&certificate(&["x.example"], &[])), None);
    }
}
