//! New keys, and the DNS records that publish keys (RFC 6376 §3.6).

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pkcs8::der::zeroize::Zeroizing;
use pkcs8::{LineEnding, SecretDocument};

use crate::error::NameError;
use crate::key::{PublicKey, SigningKey};
use crate::name::Place;

/// Longest string within a TXT record (RFC 1035 §3.3).
const TXT_STRING: usize = 255;

/// Which key to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// What every verifier takes.
    Rsa2048,
    /// Takes two to three times as long to sign as 2048 bits.
    Rsa3072,
    /// Takes about six times as long to sign as 2048 bits; its record needs DNS over TCP or EDNS.
    Rsa4096,
    /// Short and fast, but many verifiers do not know it: sign with RSA as well (RFC 8463 §3).
    Ed25519,
}

/// The system gave no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this machine could not make a key: {0}; check its source of random numbers")]
pub struct GenerateError(String);

/// A new key. `Debug` shows the public half alone.
pub struct GeneratedKey {
    private_pem: Zeroizing<String>,
    public: PublicKey,
}

impl GeneratedKey {
    /// The private key in PKCS#8 PEM, for a file that only the mail system can read.
    pub fn private_pem(&self) -> &str {
        &self.private_pem
    }

    /// The half to publish.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }
}

impl fmt::Debug for GeneratedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GeneratedKey").field(&self.public).finish()
    }
}

/// Makes a key. RSA takes from a tenth of a second to several seconds of computing.
///
/// # Errors
/// The cryptography could not; there is nothing wrong with the wish.
pub fn generate(algorithm: Algorithm) -> Result<GeneratedKey, GenerateError> {
    let der = match algorithm {
        Algorithm::Rsa2048 => rsa(KeySize::Rsa2048),
        Algorithm::Rsa3072 => rsa(KeySize::Rsa3072),
        Algorithm::Rsa4096 => rsa(KeySize::Rsa4096),
        // Version 1 of PKCS#8 (without the public half) is what other programs read, too.
        Algorithm::Ed25519 => Ed25519KeyPair::generate().and_then(|pair| pair.as_der()),
    };
    let der: Pkcs8V1Der<'_> = der.map_err(failed)?;
    let key = SigningKey::from_pkcs8(der.as_ref()).map_err(failed)?;
    let document = SecretDocument::try_from(der.as_ref()).map_err(failed)?;
    let private_pem = document.to_pem("PRIVATE KEY", LineEnding::LF).map_err(failed)?;
    Ok(GeneratedKey { private_pem, public: key.public().clone() })
}

fn rsa(size: KeySize) -> Result<Pkcs8V1Der<'static>, aws_lc_rs::error::Unspecified> {
    KeyPair::generate(size).and_then(|pair| pair.as_der())
}

fn failed(error: impl fmt::Display) -> GenerateError {
    GenerateError(error.to_string())
}

/// The TXT record under which verifiers find a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsRecord {
    /// Where: `selector._domainkey.domain.`
    pub name: String,
    /// What: `v=DKIM1; k=rsa; p=…`, in one piece, as providers' web forms want it.
    pub value: String,
    /// Both as a line for a zone file, the value cut into strings that DNS can carry.
    pub zone_text: String,
}

/// The record that publishes `key` for `selector` and `domain`.
///
/// # Errors
/// Selector or domain are none.
pub fn dns_record(selector: &str, domain: &str, key: &PublicKey) -> Result<DnsRecord, NameError> {
    let name = format!("{}.", Place::new(selector, domain)?.record());
    let value = format!("v=DKIM1; k={}; p={}", key.kind(), STANDARD.encode(key.published()));
    let mut zone_text = format!("{name} IN TXT");
    let mut rest = value.as_str();
    while !rest.is_empty() {
        let (string, further) = rest.split_at_checked(TXT_STRING).unwrap_or((rest, ""));
        zone_text.push_str(&format!(" \"{string}\""));
        rest = further;
    }
    zone_text.push('\n');
    Ok(DnsRecord { name, value, zone_text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_record() {
        let key = generate(Algorithm::Ed25519).unwrap();
        let record = dns_record("Sel-1", "B\u{fc}cher.example", key.public()).unwrap();
        assert_eq!(record.name, "sel-1._domainkey.xn--bcher-kva.example.");
        let p = record.value.strip_prefix("v=DKIM1; k=ed25519; p=").unwrap();
        assert_eq!(STANDARD.decode(p).unwrap().len(), 32);
        assert_eq!(record.zone_text, format!("{} IN TXT \"{}\"\n", record.name, record.value));
    }

    #[test]
    fn a_long_record_is_cut() {
        let key = generate(Algorithm::Rsa2048).unwrap();
        assert_eq!((key.public().kind(), key.public().bits()), ("rsa", 2048));
        let record = dns_record("s", "example.org", key.public()).unwrap();
        let strings: Vec<&str> = record.zone_text.split('"').skip(1).step_by(2).collect();
        assert!(strings.len() > 1);
        assert!(strings.iter().all(|string| string.len() <= 255));
        assert_eq!(strings.concat(), record.value);
        assert_eq!(record.zone_text.lines().count(), 1);
    }

    #[test]
    fn what_was_generated_can_be_loaded() {
        for algorithm in [Algorithm::Rsa2048, Algorithm::Ed25519] {
            let generated = generate(algorithm).unwrap();
            let loaded = SigningKey::from_pem(generated.private_pem().as_bytes()).unwrap();
            assert_eq!(loaded.public(), generated.public());
        }
    }
}
