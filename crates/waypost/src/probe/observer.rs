//! A client of TLS that lets every handshake pass and remembers what it thought of it.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};

use super::chain;

/// Judges certificates and remembers the verdict on the last one.
#[derive(Debug)]
pub(super) struct Observer {
    provider: Arc<CryptoProvider>,
    /// Absent where nobody is trusted at all.
    judge: Option<Arc<WebPkiServerVerifier>>,
    verdict: Mutex<Option<Result<(), String>>>,
    asked: Mutex<Option<Vec<String>>>,
}

impl Observer {
    pub(super) fn new(roots: RootCertStore) -> Result<Arc<Observer>> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let judge = match roots.is_empty() {
            true => None,
            false => Some(
                WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
                    .build()?,
            ),
        };
        let (verdict, asked) = (Mutex::default(), Mutex::default());
        Ok(Arc::new(Observer { provider, judge, verdict, asked }))
    }

    /// A client of these versions with a memory of its own for sessions. With `require_ems` TLS 1.2
    /// is spoken only with the extended master secret (RFC 7627).
    pub(super) fn config(
        self: &Arc<Self>,
        versions: &[&'static SupportedProtocolVersion],
        require_ems: bool,
    ) -> Result<Arc<ClientConfig>> {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(self.clone())
            .with_client_cert_resolver(self.clone());
        config.resumption = Resumption::in_memory_sessions(8);
        config.require_ems = require_ems;
        Ok(Arc::new(config))
    }

    /// What was thought of the last certificate: why it does not prove the name.
    pub(super) fn verdict(&self) -> Option<Result<(), String>> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The authorities whose certificates a server asked for, if any did.
    pub(super) fn asked(&self) -> Option<Vec<String>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn judged(&self, judged: Result<(), Error>) {
        let mut verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        // The first fault of a handshake is the one that counts.
        if !matches!(*verdict, Some(Err(_))) {
            *verdict = Some(judged.map_err(|error| why(&error)));
        }
    }
}

/// For a person, who may not know what rustls calls it.
fn why(error: &Error) -> String {
    let Error::InvalidCertificate(reason) = error else { return error.to_string() };
    match reason {
        CertificateError::UnknownIssuer => {
            "no authority that is trusted here vouches for it (an intermediate may be missing)"
                .into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it, or one that vouches for it, has expired".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it, or one that vouches for it, is not valid yet".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for other names".into()
        }
        CertificateError::BadEncoding => "it cannot be read".into(),
        other => format!("{other}"),
    }
}

impl ServerCertVerifier for Observer {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = None;
        match &self.judge {
            Some(judge) => {
                self.judged(judge.verify_server_cert(own, chain, name, ocsp, now).map(|_| ()));
            }
            None => self.judged(Err(CertificateError::UnknownIssuer.into())),
        }
        Ok(ServerCertVerified::assertion())
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
        self.judged(checked.map(|_| ()));
        Ok(HandshakeSignatureValid::assertion())
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
        self.judged(checked.map(|_| ()));
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// We have no certificate, and notice that one is wanted.
impl ResolvesClientCert for Observer {
    fn resolve(&self, authorities: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let names = authorities.iter().map(|der| chain::name(der)).collect();
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(names);
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}
