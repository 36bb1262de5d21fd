//! Takes every certificate, and remembers what checking it would have said.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use super::HandshakeError;

/// What was wrong with a certificate that was taken all the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed(Arc<Mutex<Option<Error>>>);

impl Observed {
    /// What was wrong, if something was.
    pub(crate) fn flaw(&self) -> Option<HandshakeError> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone().map(HandshakeError::of)
    }

    fn see<T>(&self, outcome: Result<T, Error>) {
        if let Err(error) = outcome {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }
}

/// For policies that are only tested (RFC 8461 §5).
#[derive(Debug)]
pub(super) struct ObservedCertificate {
    pub(super) checks: Arc<WebPkiServerVerifier>,
    pub(super) observed: Observed,
}

impl ServerCertVerifier for ObservedCertificate {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.observed.see(self.checks.verify_server_cert(own, chain, name, ocsp, now));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.observed.see(self.checks.verify_tls12_signature(message, own, signature));
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.observed.see(self.checks.verify_tls13_signature(message, own, signature));
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.checks.supported_verify_schemes()
    }
}
