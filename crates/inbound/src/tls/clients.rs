//! Certificates of clients: who is asked for one, and which of them prove something.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    ServerConnection, SignatureScheme,
};
use sha2::{Digest as _, Sha256};
use waypost_mail::{ClientCertificate, Fingerprint, Timestamp};
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

use super::vouchers::{VoucherError, Vouchers};

/// Most names of one certificate that are looked at.
const MAX_NAMES: usize = 100;
/// Most octets of one name, and of a subject.
const MAX_NAME: usize = 255;

/// Whether clients are asked for a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ClientRule {
    /// Nobody is asked.
    #[default]
    None,
    /// Everybody is asked. Who shows none, or one that nobody vouches for, is a client like any
    /// other: mail servers show what they have to whoever asks.
    Ask(Vouchers),
    /// The handshake fails without a certificate that somebody vouches for.
    Require(Vouchers),
}

impl ClientRule {
    fn vouchers(&self) -> Option<&Vouchers> {
        match self {
            ClientRule::None => None,
            ClientRule::Ask(vouchers) | ClientRule::Require(vouchers) => Some(vouchers),
        }
    }

    /// The rule as its files say it now, if that is something else.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn changed(&self) -> Result<Option<ClientRule>, VoucherError> {
        let Some(changed) = self.vouchers().map_or(Ok(None), Vouchers::changed)? else {
            return Ok(None);
        };
        Ok(Some(match self.is_required() {
            true => ClientRule::Require(changed),
            false => ClientRule::Ask(changed),
        }))
    }

    /// True when nobody gets through a handshake without.
    pub fn is_required(&self) -> bool {
        matches!(self, ClientRule::Require(_))
    }
}

/// Judges certificates of clients by a listener's rule.
#[derive(Debug)]
pub(super) struct Clients {
    required: bool,
    fingerprints: Vec<Fingerprint>,
    /// Judges chains, where there are authorities.
    chains: Option<Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Clients {
    /// Nothing when nobody is asked.
    pub(super) fn new(
        rule: &ClientRule,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<Clients>>, String> {
        let Some(vouchers) = rule.vouchers() else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for authority in &vouchers.authorities {
            roots.add(authority.clone()).map_err(|error| error.to_string())?;
        }
        if roots.is_empty() && !vouchers.revoked.is_empty() {
            return Err(
                "revocation lists say nothing without the authorities that made them".to_owned()
            );
        }
        let chains = match roots.is_empty() {
            true if vouchers.fingerprints.is_empty() => {
                return Err("nobody vouches for certificates of clients".to_owned());
            }
            true => None,
            false => {
                let builder =
                    WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
                // RFC 5280 §6.3: what is not known not to be revoked is not taken.
                let builder = builder
                    .with_crls(vouchers.revoked.iter().cloned())
                    .only_check_end_entity_revocation()
                    .enforce_revocation_expiration();
                Some(builder.build().map_err(|error| error.to_string())?)
            }
        };
        Ok(Some(Arc::new(Clients {
            required: rule.is_required(),
            fingerprints: vouchers.fingerprints.clone(),
            chains,
            provider: provider.clone(),
        })))
    }

    /// What the client of a finished handshake proved. It is judged here once more, because a
    /// resumed session brings the certificate of its first handshake, which may have ended since.
    ///
    /// # Errors
    /// When it must prove something and did not.
    pub(super) fn judge(
        &self,
        connection: &ServerConnection,
        now: Timestamp,
    ) -> Result<Option<ClientCertificate>, Error> {
        let shown = connection.peer_certificates().and_then(<[_]>::split_first);
        let now = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
        let judged = match shown {
            None => Err(Error::NoCertificatesPresented),
            Some((own, chain)) => self.vouch(own, chain, now).map(|()| described(own)),
        };
        match judged {
            Ok(certificate) => Ok(Some(certificate)),
            Err(error) if self.required => Err(error),
            Err(_) => Ok(None),
        }
    }

    fn vouch(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        // What cannot be read cannot have signed the handshake either, see below.
        ParsedCertificate::try_from(own)?;
        if let Some(chains) = &self.chains {
            chains.verify_client_cert(own, chain, now)?;
        }
        let listed = self.fingerprints.is_empty() || self.fingerprints.contains(&fingerprint(own));
        let refused = CertificateError::ApplicationVerificationFailure;
        if listed { Ok(()) } else { Err(refused.into()) }
    }

    /// A signature that is wrong ends every handshake. One by a certificate that cannot be read is
    /// let pass where none is needed: such a certificate never proves anything.
    fn tolerate(
        &self,
        certificate: &CertificateDer<'_>,
        checked: Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        let unreadable = ParsedCertificate::try_from(certificate).is_err();
        match checked {
            Err(_) if unreadable && !self.required => Ok(HandshakeSignatureValid::assertion()),
            checked => checked,
        }
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    /// The names of authorities, so that a client with several certificates shows the right one.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.as_ref().map_or(&[], |chains| chains.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.vouch(own, chain, now) {
            Err(error) if self.required => Err(error),
            _ => Ok(ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        let checked =
            rustls::crypto::verify_tls12_signature(message, certificate, signature, known);
        self.tolerate(certificate, checked)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        let checked =
            rustls::crypto::verify_tls13_signature(message, certificate, signature, known);
        self.tolerate(certificate, checked)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// SHA-256 of a certificate in its DER form.
pub fn fingerprint(der: &[u8]) -> Fingerprint {
    Fingerprint(Sha256::digest(der).into())
}

/// What a certificate says of its owner.
fn described(der: &CertificateDer<'_>) -> ClientCertificate {
    let mut described =
        ClientCertificate { sha256: fingerprint(der).0, ..ClientCertificate::default() };
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return described };
    described.subject = subject(certificate.subject());
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.iter().flat_map(|extension| &extension.value.general_names);
    for name in names.take(MAX_NAMES) {
        match name {
            GeneralName::DNSName(host) if is_plain(host) => {
                described.dns_names.push(host.to_ascii_lowercase());
            }
            GeneralName::RFC822Name(address) if is_plain(address) => {
                described.addresses.push((*address).to_owned());
            }
            _ => {}
        }
    }
    described
}

fn is_plain(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
}

/// RFC 4514 §2: the most specific part first, what could be taken for a separator escaped.
fn subject(name: &X509Name<'_>) -> String {
    let parts: Vec<String> = name
        .iter_rdn()
        .map(|rdn| {
            let parts = rdn.iter().map(|part| {
                let kind = oid2abbrev(part.attr_type(), oid_registry())
                    .map_or_else(|_| part.attr_type().to_id_string(), str::to_owned);
                format!("{kind}={}", escaped(part.as_str().unwrap_or("?")))
            });
            parts.collect::<Vec<_>>().join("+")
        })
        .collect();
    let text = parts.into_iter().rev().collect::<Vec<_>>().join(",");
    text.chars().take(MAX_NAME).collect()
}

fn escaped(value: &str) -> String {
    let mut text = String::new();
    for char in value.chars() {
        if matches!(char, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=') {
            text.push('\\');
        }
        text.push(if char.is_control() { '?' } else { char });
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_certificate_is_described_without_tricks() {
        let der = certificate(|params| {
            params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
            params.distinguished_name.push(DnType::CommonName, "a\u{7}b");
            let name = |text: &str| text.try_into().unwrap();
            params.subject_alt_names.push(SanType::DnsName(name("MX.example")));
            params.subject_alt_names.push(SanType::DnsName(name("two words.example")));
            params.subject_alt_names.push(SanType::Rfc822Name(name("Ops@relay.example")));
        });
        let described = described(&der);
        assert_eq!(described.subject, "CN=a?b,O=Example\\, Inc.");
        assert_eq!(described.dns_names, ["mx.example"]);
        assert_eq!(described.addresses, ["Ops@relay.example"]);
        assert_eq!(described.sha256, fingerprint(&der).0);
    }

    #[test]
    fn somebody_must_vouch() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let made = |rule| Clients::new(&rule, &provider);
        assert!(made(ClientRule::None).unwrap().is_none());
        assert!(made(ClientRule::Ask(Vouchers::default())).is_err());
        let der = certificate(|_| {});
        let listed = Vouchers { fingerprints: vec![fingerprint(&der)], ..Vouchers::default() };
        let clients = made(ClientRule::Require(listed)).unwrap().unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        assert!(clients.vouch(&der, &[], now).is_ok());
        assert!(clients.vouch(&certificate(|_| {}), &[], now).is_err());
        assert!(clients.vouch(&CertificateDer::from(&b"nothing"[..]), &[], now).is_err());
    }
}
