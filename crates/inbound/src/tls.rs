//! Our side of TLS: certificates chosen by the name that the client asks for (RFC 6066 §3), and what
//! each listener asks of its clients.

mod certificates;
mod clients;
mod tickets;
mod vouchers;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::{CipherSuite, ServerConfig, ServerConnection, SupportedProtocolVersion};
use waypost_mail::{Timestamp, TlsFacts};

pub use certificates::{Certificates, Change};
pub use clients::{ClientRule, fingerprint};
pub use vouchers::{VoucherError, VoucherFiles, Vouchers};

use clients::Clients;
use tickets::Tickets;

/// How long session tickets are sealed with the same key, where nothing else is said.
pub const TICKET_ROTATION: Duration = Duration::from_secs(6 * 3600);

use crate::scram::ChannelBinding;

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// PEM file with the certificate and those that lead to its root, in that order.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There is nothing to show to clients.
    #[error("TLS needs at least one certificate")]
    NoCertificate,
    /// A file cannot be read.
    #[error("cannot read {path}: {1}", path = .0.display())]
    Read(PathBuf, std::io::Error),
    /// A file holds no certificate or a broken one.
    #[error("{path} holds no usable certificate: {1}", path = .0.display())]
    Certificate(PathBuf, String),
    /// A file holds no key or a broken one.
    #[error("{path} holds no usable private key: {1}", path = .0.display())]
    Key(PathBuf, String),
    /// Certificate and key are not of one pair.
    #[error("the key in {} does not fit the certificate in {}: {reason}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        reason: rustls::Error,
    },
    /// The cryptography provider refused.
    #[error("TLS cannot be set up: {0}")]
    Provider(rustls::Error),
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246) and 1.3.
    #[default]
    V1_2,
    /// TLS 1.3 alone (RFC 8446).
    V1_3,
}

/// What one listener asks of TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsPolicy {
    /// Nothing older is spoken.
    pub oldest: TlsVersion,
    /// With TLS 1.2 the extended master secret is demanded (RFC 7627), which makes channel binding
    /// safe there too.
    pub extended_master_secret: bool,
    /// The only cipher suites, in our order, by their IANA names. Empty: [`CIPHER_SUITES`].
    pub ciphers: Vec<String>,
    /// Whether clients are asked for a certificate.
    pub clients: ClientRule,
}

/// Every cipher suite there is here, best first: all are authenticated encryption with keys that
/// are forgotten (RFC 9325 §4.2).
pub const CIPHER_SUITES: [&str; 9] = [
    "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// TLS at one listener: certificates and policy.
#[derive(Debug, Clone)]
pub(crate) struct DoorTls {
    pub(crate) config: Arc<ServerConfig>,
    policy: TlsPolicy,
    clients: Option<Arc<Clients>>,
    tickets: Arc<Tickets>,
}

impl DoorTls {
    /// Tickets given out by `before` are good here too when the rule about clients is the same:
    /// otherwise they would bring a client in that the new rule keeps out.
    pub(crate) fn new(
        certificates: &Certificates,
        policy: &TlsPolicy,
        rotation: Duration,
        before: Option<&DoorTls>,
    ) -> Result<DoorTls, String> {
        let provider = Arc::new(policy.provider()?);
        let clients = Clients::new(&policy.clients, &provider)?;
        let same = before.filter(|before| {
            before.policy.clients == policy.clients && before.tickets.period() == rotation
        });
        let tickets = match same {
            Some(before) => before.tickets.clone(),
            None => Arc::new(Tickets::new(rotation).map_err(|error| error.to_string())?),
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&policy.versions())
            .map_err(|error| error.to_string())?;
        let builder = match &clients {
            Some(clients) => builder.with_client_cert_verifier(clients.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(certificates.resolver());
        // Tickets alone, so that their keys alone say what may be resumed.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = tickets.clone();
        config.require_ems = policy.extended_master_secret;
        Ok(DoorTls { config: Arc::new(config), policy: policy.clone(), clients, tickets })
    }

    /// What a handshake made that succeeded at `now`.
    ///
    /// # Errors
    /// When the client must prove who it is and did not.
    pub(crate) fn secured(
        &self,
        connection: &ServerConnection,
        now: Timestamp,
    ) -> Result<Secured, rustls::Error> {
        let certificate = match &self.clients {
            Some(clients) => clients.judge(connection, now)?,
            None => None,
        };
        let facts = TlsFacts { certificate: certificate.map(Arc::new), ..facts(connection) };
        Ok(Secured { facts, binding: binding(connection, &self.config) })
    }
}

impl TlsPolicy {
    /// Says what is wrong with it.
    pub fn mistake(&self) -> Option<String> {
        let unknown = self.ciphers.iter().find(|name| !CIPHER_SUITES.contains(&name.as_str()));
        if let Some(name) = unknown {
            return Some(format!(
                "'{name}' is no cipher suite: one of {}",
                CIPHER_SUITES.join(", ")
            ));
        }
        let provider = match self.provider() {
            Ok(provider) => Arc::new(provider),
            Err(mistake) => return Some(mistake),
        };
        Clients::new(&self.clients, &provider).err()
    }

    fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        match self.oldest {
            TlsVersion::V1_2 => vec![&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::V1_3 => vec![&rustls::version::TLS13],
        }
    }

    /// Cryptography with no more than the suites that are wanted.
    fn provider(&self) -> Result<CryptoProvider, String> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        if !self.ciphers.is_empty() {
            let suites = |name: &String| {
                provider
                    .cipher_suites
                    .iter()
                    .copied()
                    .find(|suite| suite_name(suite.suite()) == *name)
            };
            provider.cipher_suites = self.ciphers.iter().filter_map(suites).collect();
        }
        let usable = |version: &&SupportedProtocolVersion| {
            let suites = provider.cipher_suites.iter();
            suites.map(|suite| suite.version()).any(|known| *known == **version)
        };
        if !self.versions().iter().any(usable) {
            return Err(
                "none of the cipher suites is of a version of TLS that is spoken".to_owned()
            );
        }
        Ok(provider)
    }
}

/// rustls has names of its own for the suites of TLS 1.3.
fn suite_name(suite: CipherSuite) -> String {
    suite.as_str().unwrap_or("unknown").replacen("TLS13_", "TLS_", 1)
}

/// What a handshake made.
#[derive(Debug, Default)]
pub(crate) struct Secured {
    pub(crate) facts: TlsFacts,
    /// What logins can be bound to, where that is safe.
    pub(crate) binding: Option<ChannelBinding>,
}

/// RFC 9266 §2, §4.2: with TLS 1.2 two sessions can have the same value unless both sides mixed the
/// whole handshake into it (RFC 7627), which only a configuration that demands it makes sure.
fn binding(connection: &ServerConnection, config: &ServerConfig) -> Option<ChannelBinding> {
    let safe = connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3)
        || config.require_ems;
    let value =
        |room| connection.export_keying_material(room, b"EXPORTER-Channel-Binding", Some(b"")).ok();
    safe.then(|| value([0; 32])).flatten().map(ChannelBinding)
}

/// What a handshake agreed on.
fn facts(connection: &ServerConnection) -> TlsFacts {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
        _ => "unknown",
    };
    let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
    TlsFacts {
        version: version.to_owned(),
        cipher: suite.map_or_else(|| "unknown".to_owned(), suite_name),
        sni: connection.server_name().map(str::to_owned),
        certificate: None,
    }
}

/// TLS 1.2 and 1.3 for anybody, with the certificates of `pairs`.
///
/// # Errors
/// Everything that is wrong with any of the files.
pub fn server_config(pairs: &[KeyPair]) -> Result<Arc<ServerConfig>, Vec<TlsError>> {
    let certificates = Certificates::load(pairs)?;
    DoorTls::new(&certificates, &TlsPolicy::default(), TICKET_ROTATION, None)
        .map(|door| door.config)
        .map_err(|mistake| vec![TlsError::Provider(rustls::Error::General(mistake))])
}
