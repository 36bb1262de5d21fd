//! TLS as a client: checked against roots, or encrypted whatever the certificate (RFC 7435).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, ProtocolVersion, RootCertStore, SignatureScheme,
};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use waypost_dns::Host;

use crate::Stream;

/// How long a host whose STARTTLS failed is spoken to in clear text.
const CLEAR_TEXT_FOR: Duration = Duration::from_secs(3600);
/// Most such hosts remembered; more are simply tried with STARTTLS again.
const MAX_CLEAR_TEXT: usize = 4096;

/// TLS cannot be set up on this machine.
#[derive(Debug, thiserror::Error)]
#[error("TLS towards next hops cannot be set up: {0}")]
pub struct TlsSetupError(#[from] rustls::Error);

/// Settings for connections to next hops. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ClientTls {
    checked: Arc<ClientConfig>,
    unchecked: Arc<ClientConfig>,
    roots: Arc<RootCertStore>,
}

impl ClientTls {
    /// `roots` are the authorities that may vouch for a host's name where a route asks for that.
    ///
    /// # Errors
    /// When the cryptographic provider offers none of TLS 1.2 and 1.3.
    pub fn new(roots: RootCertStore) -> Result<ClientTls, TlsSetupError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = || {
            ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
        };
        let checked = builder()?.with_root_certificates(roots.clone()).with_no_client_auth();
        let unchecked = builder()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider.clone())))
            .with_no_client_auth();
        let (checked, unchecked) = (Arc::new(checked), Arc::new(unchecked));
        Ok(ClientTls { checked, unchecked, roots: Arc::new(roots) })
    }

    /// The authorities that may vouch for a host's name.
    pub fn roots(&self) -> &RootCertStore {
        &self.roots
    }

    /// Does the handshake; with `check` the certificate must carry the host's name. The error is
    /// for a person.
    pub async fn handshake(
        &self,
        stream: Box<dyn Stream>,
        host: &Host,
        check: bool,
    ) -> Result<(Box<dyn Stream>, &'static str), String> {
        let config = if check { &self.checked } else { &self.unchecked };
        let name = server_name(host);
        let connector = TlsConnector::from(config.clone());
        let stream =
            connector.connect(name, stream).await.map_err(|e| format!("TLS handshake: {e}"))?;
        let version = match stream.get_ref().1.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "1.3",
            _ => "1.2",
        };
        Ok((Box::new(stream), version))
    }
}

/// The host's name, as the certificate must carry it; its address where it has no name.
fn server_name(host: &Host) -> ServerName<'static> {
    let address = || ServerName::from(host.address.ip());
    match host.name.parse::<IpAddr>() {
        Ok(ip) => ServerName::from(ip),
        Err(_) => ServerName::try_from(host.name.clone()).unwrap_or_else(|_| address()),
    }
}

/// Takes every certificate, even one that cannot be parsed: refusing would only lead to clear text,
/// which protects less. For the same reason signatures are not checked: who can take part in the
/// handshake could also have removed STARTTLS (RFC 7435 §3).
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Hosts that offer STARTTLS and fail at it: where TLS is optional they are spoken to in clear text
/// for a while, so that each message does not fail first.
#[derive(Debug, Default)]
pub(crate) struct BrokenStartTls {
    until: Mutex<HashMap<SocketAddr, Instant>>,
}

impl BrokenStartTls {
    pub(crate) fn contains(&self, host: SocketAddr) -> bool {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.get(&host).is_some_and(|until| *until > Instant::now())
    }

    pub(crate) fn remember(&self, host: SocketAddr) {
        let now = Instant::now();
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.len() >= MAX_CLEAR_TEXT {
            until.retain(|_, until| *until > now);
        }
        if until.len() < MAX_CLEAR_TEXT {
            until.insert(host, now + CLEAR_TEXT_FOR);
        }
    }
}
