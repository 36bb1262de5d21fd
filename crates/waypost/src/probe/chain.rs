//! Certificates, described.

use serde::Serialize;
use waypost_mail::Timestamp;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2sn};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Name;

/// A certificate as a server showed it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Shown {
    /// Whose it is.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// The names it is for (RFC 5280 §4.2.1.6).
    pub names: Vec<String>,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
    /// `RSA 2048`, `EC 256` …
    pub key: String,
    /// The algorithm of its signature.
    pub signature: String,
    /// SHA-256 of it, as `client-certificates.fingerprints` takes it.
    pub fingerprint: String,
    /// Why it cannot be read.
    pub fault: Option<String>,
}

impl Shown {
    /// What is in it.
    pub(super) fn of(der: &[u8]) -> Shown {
        let fingerprint = waypost_inbound::tls::fingerprint(der).to_string();
        let certificate = match X509Certificate::from_der(der) {
            Ok((_, certificate)) => certificate,
            Err(error) => {
                let fault = Some(error.to_string());
                return Shown { fingerprint, fault, ..Shown::default() };
            }
        };
        let date = |seconds: i64| Timestamp(seconds.max(0) as u64 * 1000).to_string();
        let algorithm = &certificate.signature_algorithm.algorithm;
        let signature = oid2sn(algorithm, oid_registry());
        Shown {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names: names(&certificate),
            not_before: date(certificate.validity().not_before.timestamp()),
            not_after: date(certificate.validity().not_after.timestamp()),
            key: key(&certificate),
            signature: signature.map_or_else(|_| algorithm.to_id_string(), str::to_owned),
            fingerprint,
            fault: None,
        }
    }
}

/// A name in its DER form, as text.
pub(super) fn name(der: &[u8]) -> String {
    X509Name::from_der(der).map_or_else(|_| "?".to_owned(), |(_, name)| name.to_string())
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.iter().flat_map(|extension| &extension.value.general_names);
    let shown = names.filter_map(|name| match name {
        GeneralName::DNSName(host) => Some((*host).to_owned()),
        GeneralName::RFC822Name(address) => Some((*address).to_owned()),
        GeneralName::IPAddress([a, b, c, d]) => Some(format!("{a}.{b}.{c}.{d}")),
        GeneralName::IPAddress(octets) => {
            let octets: [u8; 16] = (*octets).try_into().ok()?;
            Some(std::net::Ipv6Addr::from(octets).to_string())
        }
        _ => None,
    });
    shown.collect()
}

fn key(certificate: &X509Certificate<'_>) -> String {
    let info = certificate.public_key();
    match info.parsed() {
        Ok(key @ PublicKey::RSA(_)) => format!("RSA {}", key.key_size()),
        Ok(key @ PublicKey::EC(_)) => format!("EC {}", key.key_size()),
        _ => {
            let algorithm = &info.algorithm.algorithm;
            let known = oid2sn(algorithm, oid_registry());
            known.map_or_else(|_| algorithm.to_id_string(), str::to_owned)
        }
    }
}
