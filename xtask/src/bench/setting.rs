//! What every relay is told alike: where its home and its door are, where mail goes, and what it has to do besides
//! relaying.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::places::Place;

/// The name of every relay, and the one in its certificate.
pub(crate) const NAME: &str = "relay.bench.example";
/// The domain that signs, and where its key would be published.
pub(crate) const DOMAIN: &str = "bench.example";
pub(crate) const SELECTOR: &str = "bench";

/// What a relay has to do besides relaying.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Duty {
    /// Nothing: all mail to one address, in the clear.
    Plain,
    /// To know where several hundred domains are, in the clear.
    Places,
    /// STARTTLS at its door, and towards the sink.
    Secure,
    /// The same, and a DKIM signature by an RSA key of 2048 bits.
    Signed,
    /// To ask the sink while the submitter waits, in the clear.
    Through,
}

impl Duty {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Duty::Plain => "plain",
            Duty::Places => "places",
            Duty::Secure => "secure",
            Duty::Signed => "signed",
            Duty::Through => "through",
        }
    }

    pub(crate) fn is_secure(self) -> bool {
        matches!(self, Duty::Secure | Duty::Signed)
    }

    /// Where mail goes that has no way of its own.
    pub(crate) fn place(self) -> Place {
        if self.is_secure() { Place::Secure } else { Place::Quick }
    }
}

/// One relay's circumstances.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'a> {
    /// All it writes is below.
    pub(crate) home: &'a Path,
    pub(crate) port: u16,
    /// The sink's port, at every address.
    pub(crate) sink: u16,
    pub(crate) duty: Duty,
    pub(crate) keys: &'a Keys,
}

/// What is shown in handshakes, and what signs.
pub(crate) struct Keys {
    /// A certificate for [`NAME`] that signs itself, and its key (ECDSA, P-256).
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    /// RSA, 2048 bits.
    pub(crate) dkim: PathBuf,
    /// Trusts that certificate.
    pub(crate) connector: TlsConnector,
}

impl Keys {
    /// Makes them in this directory.
    pub(crate) fn make(directory: &Path) -> anyhow::Result<Keys> {
        let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
        let [chain, key, dkim] =
            ["chain.pem", "key.pem", "dkim.pem"].map(|name| directory.join(name));
        fs::write(&chain, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        let status = Command::new("openssl")
            .args(["genpkey", "-quiet", "-algorithm", "RSA"])
            .args(["-pkeyopt", "rsa_keygen_bits:2048", "-out"])
            .arg(&dkim)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("openssl is not installed: cargo xtask setup")?;
        ensure!(status.success(), "openssl made no RSA key");
        for secret in [&key, &dkim] {
            fs::set_permissions(secret, fs::Permissions::from_mode(0o600))?;
        }
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::clone(made.cert.der()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Keys { chain, key, dkim, connector: TlsConnector::from(Arc::new(config)) })
    }
}
