//! TLS as a client: checked against roots or TLSA records, or encrypted whatever the certificate.

mod any;
mod named;
mod observed;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, ProtocolVersion, RootCertStore};
use tokio_rustls::TlsConnector;
use waypost_dns::Host;
use waypost_mail::TlsVersion;

use self::any::AnyCertificate;
use self::named::{NamedCertificate, NotNamed};
use self::observed::ObservedCertificate;
use crate::Stream;
use crate::demand::{Demand, Named};

pub(crate) use observed::Observed;

/// TLS cannot be set up on this machine.
#[derive(Debug, thiserror::Error)]
#[error("TLS towards next hops cannot be set up: {0}")]
pub struct TlsSetupError(#[from] rustls::Error);

/// A certificate of ours that cannot be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum CertificateUnusable {
    /// A file that cannot be read, or is no PEM of that kind.
    #[error("cannot read {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// The two are no pair.
    #[error("the key in {} does not belong to the certificate: {error}", key.display())]
    Pair {
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        error: rustls::Error,
    },
}

/// Reads a certificate with those above it, and its key, from PEM files.
///
/// # Errors
/// When they cannot be read, or do not belong together.
pub fn certificate(chain: &Path, key: &Path) -> Result<CertifiedKey, CertificateUnusable> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |error: String| CertificateUnusable::File { path, error }
    };
    let read =
        CertificateDer::pem_file_iter(chain).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| unusable(chain)(error.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable(chain)("it holds no certificate".to_owned()));
    }
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key)(error.to_string()))?;
    CertifiedKey::from_der(certificates, secret, &aws_lc_rs::default_provider())
        .map_err(|error| CertificateUnusable::Pair { key: key.to_owned(), error })
}

/// Settings for connections to next hops. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ClientTls {
    checked: Arc<ClientConfig>,
    unchecked: Arc<ClientConfig>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

/// Why there is no TLS with a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HandshakeError {
    /// For a person.
    pub(crate) text: String,
    /// The same for statistics.
    pub(crate) flaw: Flaw,
}

/// What is wrong with a host's TLS, as far as reports tell it apart (RFC 8460 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Flaw {
    /// The certificate's time is over, or has not come.
    Expired,
    /// It is for other names.
    OtherName,
    /// Nobody who is trusted vouches for it.
    Untrusted,
    /// No TLSA record names it.
    NotNamed,
    /// Anything else, in the handshake or before.
    Other,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS handshake: {}", self.text)
    }
}

/// A stream that is encrypted, and by which version.
pub(crate) type Encrypted = (Box<dyn Stream>, TlsVersion);

impl ClientTls {
    /// `roots` are the authorities that may vouch for a host's name where a route asks for that.
    ///
    /// # Errors
    /// When the cryptographic provider offers none of TLS 1.2 and 1.3.
    pub fn new(roots: RootCertStore) -> Result<ClientTls, TlsSetupError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = Arc::new(roots);
        let checked = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let any = Arc::new(AnyCertificate(provider.clone()));
        let unchecked = config(&provider, any, None)?;
        let checked = Arc::new(checked);
        Ok(ClientTls { checked, unchecked: Arc::new(unchecked), roots, provider })
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
        let demand = if check { Demand::Verify } else { Demand::Encrypt };
        let encrypted = self.encrypt(stream, host, &demand, None, None).await;
        let (stream, version) = encrypted.map_err(|error| error.to_string())?;
        Ok((stream, version.label()))
    }

    /// Does the handshake, and holds the host's certificate against what is demanded of it. `identity`
    /// is shown to a host that asks who we are. `observed` learns what is wrong with a certificate of which
    /// nothing is demanded.
    pub(crate) async fn encrypt(
        &self,
        stream: Box<dyn Stream>,
        host: &Host,
        demand: &Demand,
        identity: Option<&Arc<CertifiedKey>>,
        observed: Option<&Observed>,
    ) -> Result<Encrypted, HandshakeError> {
        let config = self.config(demand, identity, observed).map_err(HandshakeError::of)?;
        let name = match demand {
            // RFC 7672 §8.1
            Demand::Dane(named) => server_name(&named.binding.base, host),
            _ => server_name(&host.name, host),
        };
        let connected = TlsConnector::from(config).connect(name, stream).await;
        let stream = connected.map_err(HandshakeError::of_io)?;
        let version = match stream.get_ref().1.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => TlsVersion::V1_3,
            _ => TlsVersion::V1_2,
        };
        Ok((Box::new(stream), version))
    }

    /// Sessions are resumed only under the same settings, so never under weaker ones.
    fn config(
        &self,
        demand: &Demand,
        identity: Option<&Arc<CertifiedKey>>,
        observed: Option<&Observed>,
    ) -> Result<Arc<ClientConfig>, rustls::Error> {
        let provider = &self.provider;
        let verifier: Arc<dyn ServerCertVerifier> = match demand {
            Demand::Dane(named) => Arc::new(NamedCertificate {
                binding: named.binding.clone(),
                names: names(named),
                provider: provider.clone(),
            }),
            Demand::Verify | Demand::Sts if identity.is_none() => return Ok(self.checked.clone()),
            Demand::Verify | Demand::Sts => self.checks()?,
            _ if let Some(observed) = observed => {
                let (checks, observed) = (self.checks()?, observed.clone());
                Arc::new(ObservedCertificate { checks, observed })
            }
            _ if identity.is_none() => return Ok(self.unchecked.clone()),
            _ => Arc::new(AnyCertificate(provider.clone())),
        };
        config(provider, verifier, identity).map(Arc::new)
    }
}

impl ClientTls {
    fn checks(&self) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
        let (roots, provider) = (self.roots.clone(), self.provider.clone());
        let builder = WebPkiServerVerifier::builder_with_provider(roots, provider);
        builder.build().map_err(|error| rustls::Error::General(error.to_string()))
    }
}

fn config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<&Arc<CertifiedKey>>,
) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    Ok(match identity {
        None => builder.with_no_client_auth(),
        Some(key) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key.clone())))
        }
    })
}

/// A name, as the certificate must carry it; the host's address where it is none.
fn server_name(name: &str, host: &Host) -> ServerName<'static> {
    let address = || ServerName::from(host.address.ip());
    match name.parse::<IpAddr>() {
        Ok(ip) => ServerName::from(ip),
        Err(_) => ServerName::try_from(name.to_owned()).unwrap_or_else(|_| address()),
    }
}

fn names(named: &Named) -> Vec<ServerName<'static>> {
    named.names.iter().filter_map(|name| ServerName::try_from(name.clone()).ok()).collect()
}

impl HandshakeError {
    fn of_io(error: io::Error) -> HandshakeError {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(inner) => HandshakeError::of(inner.clone()),
            None => HandshakeError { text: error.to_string(), flaw: Flaw::Other },
        }
    }

    fn of(error: rustls::Error) -> HandshakeError {
        let rustls::Error::InvalidCertificate(cause) = &error else {
            return HandshakeError { text: error.to_string(), flaw: Flaw::Other };
        };
        let text = match cause {
            CertificateError::Other(other) if other.0.is::<NotNamed>() => other.0.to_string(),
            _ => error.to_string(),
        };
        HandshakeError { text, flaw: Flaw::of(cause) }
    }
}

impl Flaw {
    fn of(error: &CertificateError) -> Flaw {
        use CertificateError as E;
        match error {
            E::Expired | E::ExpiredContext { .. } => Flaw::Expired,
            E::NotValidYet | E::NotValidYetContext { .. } => Flaw::Expired,
            E::NotValidForName | E::NotValidForNameContext { .. } => Flaw::OtherName,
            // An authority of the same name has another key.
            E::UnknownIssuer | E::BadSignature => Flaw::Untrusted,
            E::Other(other) if other.0.is::<NotNamed>() => Flaw::NotNamed,
            _ => Flaw::Other,
        }
    }
}
