//! Takes the certificates that a host's TLSA records name (RFC 7671 §5, RFC 7672 §3.1).

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use waypost_dns::{Binding, DANE_EE, DANE_TA};
use webpki::RawPublicKeyEntity;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The certificate is none that the records name.
#[derive(Debug, thiserror::Error)]
#[error("none of the TLSA records at {base} names the certificate that the host shows: {records}")]
pub(super) struct NotNamed {
    base: String,
    records: String,
}

/// Holds certificates against TLSA records.
#[derive(Debug)]
pub(super) struct NamedCertificate {
    pub(super) binding: Binding,
    /// Names of which a certificate below a named authority must carry one (RFC 7672 §3.2.2).
    pub(super) names: Vec<ServerName<'static>>,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for NamedCertificate {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // RFC 7672 §3.1.1: names and dates of what is named itself do not matter.
        if self.names_it(DANE_EE, own) {
            return Ok(ServerCertVerified::assertion());
        }
        let authorities = self.authorities(chain);
        if authorities.is_empty() {
            return Err(self.not_named());
        }
        self.verify_below(&authorities, own, chain, now)?;
        Ok(ServerCertVerified::assertion())
    }

    /// webpki would refuse to read some certificates that DANE allows: the key alone counts.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12(message, &key_of(own)?, signature, &self.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(message, &key_of(own)?, signature, &self.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}

impl NamedCertificate {
    fn algorithms(&self) -> WebPkiSupportedAlgorithms {
        self.provider.signature_verification_algorithms
    }

    fn names_it(&self, usage: u8, certificate: &CertificateDer<'_>) -> bool {
        let key = key_of(certificate).ok();
        let key = key.as_ref().map(|key| key.as_ref());
        let records = self.binding.records.iter().filter(|record| record.usage == usage);
        records.into_iter().any(|record| record.matches(certificate, key))
    }

    /// Authorities that the records name: those the host sends along (RFC 7672 §3.1.2), and those that
    /// are in a record as a whole.
    fn authorities(&self, chain: &[CertificateDer<'_>]) -> RootCertStore {
        let mut authorities = RootCertStore::empty();
        let sent = chain.iter().filter(|certificate| self.names_it(DANE_TA, certificate));
        let whole =
            self.binding.records.iter().filter(|record| {
                (record.usage, record.selector, record.matching) == (DANE_TA, 0, 0)
            });
        let whole = whole.map(|record| CertificateDer::from(record.data.as_slice()));
        // One that cannot be read vouches for nobody.
        authorities.add_parsable_certificates(
            sent.map(|certificate| certificate.clone().into_owned())
                .chain(whole.map(CertificateDer::into_owned)),
        );
        authorities
    }

    fn verify_below(
        &self,
        authorities: &RootCertStore,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let certificate = ParsedCertificate::try_from(own)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            authorities,
            chain,
            now,
            self.algorithms().all,
        )?;
        let mut outcome = Err(self.not_named());
        for name in &self.names {
            outcome = verify_server_name(&certificate, name);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn not_named(&self) -> Error {
        let records: Vec<String> =
            self.binding.records.iter().take(3).map(ToString::to_string).collect();
        let error = NotNamed { base: self.binding.base.clone(), records: records.join(", ") };
        CertificateError::Other(OtherError(Arc::new(error))).into()
    }
}

fn key_of(certificate: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    Ok(SubjectPublicKeyInfoDer::from(parsed.public_key().raw).into_owned())
}

/// With TLS 1.2 one scheme can stand for several algorithms.
fn verify_tls12(
    message: &[u8],
    key: &SubjectPublicKeyInfoDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let entity = RawPublicKeyEntity::try_from(key).map_err(|_| CertificateError::BadEncoding)?;
    let mut candidates = algorithms
        .mapping
        .iter()
        .filter(|(scheme, _)| *scheme == signature.scheme)
        .flat_map(|(_, algorithms)| *algorithms);
    let fits = candidates
        .any(|each| entity.verify_signature(*each, message, signature.signature()).is_ok());
    if fits {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(CertificateError::BadSignature.into())
    }
}
