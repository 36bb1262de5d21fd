//! Who a peer proved to be by a certificate of its own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ClientCertificate;

impl ClientCertificate {
    /// Its fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(self.sha256)
    }

    /// True when `name` is one of its alternative names (RFC 9525 §6): host names in any case, mail
    /// addresses with their local part as written. A wildcard proves no single name, and a common
    /// name proves nothing.
    pub fn proves(&self, name: &str) -> bool {
        match name.rsplit_once('@') {
            None => {
                !name.starts_with("*.")
                    && self.dns_names.iter().any(|own| own.eq_ignore_ascii_case(name))
            }
            Some((local, domain)) => self.addresses.iter().any(|own| {
                let own = own.rsplit_once('@');
                own.is_some_and(|(l, d)| l == local && d.eq_ignore_ascii_case(domain))
            }),
        }
    }
}

/// SHA-256 of a certificate's DER form. Written `sha256:` and 64 hexadecimal digits; read without
/// the prefix too, in either case, and with the colons that openssl puts between octets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 32]);

/// What is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no SHA-256 fingerprint: write \"sha256:\" and 64 hexadecimal digits")]
pub struct FingerprintError(String);

impl FromStr for Fingerprint {
    type Err = FingerprintError;
    fn from_str(text: &str) -> Result<Fingerprint, FingerprintError> {
        let bad = || FingerprintError(text.to_owned());
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let digits: String = digits.chars().filter(|c| *c != ':').collect();
        let digits = digits.as_bytes();
        let mut octets = [0; 32];
        if digits.len() != 2 * octets.len() {
            return Err(bad());
        }
        for (octet, pair) in octets.iter_mut().zip(digits.chunks(2)) {
            let value = |digit: u8| char::from(digit).to_digit(16);
            match pair {
                [high, low] => {
                    let (high, low) = value(*high).zip(value(*low)).ok_or_else(bad)?;
                    *octet = (high * 16 + low) as u8;
                }
                _ => return Err(bad()),
            }
        }
        Ok(Fingerprint(octets))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_as_tools_print_them() {
        let plain = "00ff".repeat(16);
        let print: Fingerprint = plain.parse().unwrap();
        assert_eq!(print.to_string(), format!("sha256:{plain}"));
        assert_eq!(print.to_string().parse(), Ok(print));
        assert_eq!(vec!["00:FF"; 16].join(":").parse(), Ok(print));
        for bad in ["", "sha256:", &plain[1..], "sha1:00", &"0g".repeat(32), &"é".repeat(32)] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn alternative_names_are_proved_and_nothing_else() {
        let certificate = ClientCertificate {
            subject: "CN=common.example".into(),
            dns_names: vec!["mx.example".into(), "*.mx.example".into()],
            addresses: vec!["Ops@relay.example".into()],
            ..ClientCertificate::default()
        };
        for name in ["mx.example", "MX.example", "Ops@RELAY.example"] {
            assert!(certificate.proves(name), "{name}");
        }
        for name in ["common.example", "*.mx.example", "a.mx.example", "ops@relay.example", ""] {
            assert!(!certificate.proves(name), "{name}");
        }
    }
}
