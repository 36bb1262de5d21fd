//! Our side of TLS: certificates chosen by the name that the client asks for (RFC 6066 §3).

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};
use waypost_mail::TlsFacts;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

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

/// A server configuration for TLS 1.2 and 1.3. Clients get the first certificate that has the name
/// they ask for, exactly or by wildcard, else the first of all.
///
/// # Errors
/// Everything that is wrong with any of the files.
pub fn server_config(pairs: &[KeyPair]) -> Result<Arc<ServerConfig>, Vec<TlsError>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let loaded = pairs.iter().map(|pair| load(pair, &provider));
    let (good, bad): (Vec<_>, Vec<_>) = loaded.partition(Result::is_ok);
    let errors: Vec<TlsError> = bad.into_iter().filter_map(Result::err).collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let certificates = Certificates::new(good.into_iter().flatten().collect());
    let certificates = certificates.ok_or_else(|| vec![TlsError::NoCertificate])?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| vec![TlsError::Provider(e)])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    Ok(Arc::new(config))
}

/// What to remember of a handshake that succeeded.
pub(crate) fn facts(connection: &ServerConnection) -> TlsFacts {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
        _ => "unknown",
    };
    let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
    TlsFacts {
        version: version.to_owned(),
        // rustls has names of its own for the suites of TLS 1.3.
        cipher: suite
            .and_then(|suite| suite.as_str())
            .unwrap_or("unknown")
            .replacen("TLS13_", "TLS_", 1),
        sni: connection.server_name().map(str::to_owned),
        certificate: None,
    }
}

/// The certificates and the names they are for.
#[derive(Debug)]
struct Certificates {
    default: Arc<CertifiedKey>,
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
}

impl Certificates {
    fn new(all: Vec<(Arc<CertifiedKey>, Vec<String>)>) -> Option<Certificates> {
        let default = all.first()?.0.clone();
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        for (certificate, names) in all {
            for name in names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut wildcard, parent.to_owned()),
                    None => (&mut exact, name),
                };
                map.entry(name).or_insert_with(|| certificate.clone());
            }
        }
        Some(Certificates { default, exact, wildcard })
    }

    fn find(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let found = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let parent = name.split_once('.').map(|(_, parent)| parent);
            self.exact.get(&name).or_else(|| self.wildcard.get(parent?))
        });
        found.unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.find(hello.server_name()).clone())
    }
}

type Loaded = (Arc<CertifiedKey>, Vec<String>);

fn load(pair: &KeyPair, provider: &CryptoProvider) -> Result<Loaded, TlsError> {
    let chain = chain(&pair.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&pair.key)?)
        .map_err(|e| TlsError::Key(pair.key.clone(), e.to_string()))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|e| TlsError::Key(pair.key.clone(), e.to_string()))?;
    let names = names(&pair.certificate, &chain)?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // Not every kind of key tells its public half; then the first handshake shows.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(reason) => {
            let (certificate, key) = (pair.certificate.clone(), pair.key.clone());
            return Err(TlsError::Mismatch { certificate, key, reason });
        }
    }
    Ok((Arc::new(certified), names))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |reason: String| TlsError::Certificate(path.to_owned(), reason);
    let text = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|e| bad(e.to_string()))?;
    if chain.is_empty() {
        return Err(bad("there is no CERTIFICATE section".to_owned()));
    }
    Ok(chain)
}

/// Host names of the first certificate: the alternative names, or the common name if there is none.
fn names(path: &Path, chain: &[CertificateDer<'_>]) -> Result<Vec<String>, TlsError> {
    let bad = |reason: String| TlsError::Certificate(path.to_owned(), reason);
    let first = chain.first().map(|der| der.as_ref()).unwrap_or_default();
    let (_, certificate) = X509Certificate::from_der(first).map_err(|e| bad(e.to_string()))?;
    let alternative = certificate.subject_alternative_name().map_err(|e| bad(e.to_string()))?;
    let mut names: Vec<String> = Vec::new();
    for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
        if let GeneralName::DNSName(name) = name {
            names.push(name.to_ascii_lowercase());
        }
    }
    if names.is_empty() {
        let common = certificate.subject().iter_common_name().filter_map(|cn| cn.as_str().ok());
        names.extend(common.map(str::to_ascii_lowercase));
    }
    Ok(names)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|e| TlsError::Read(path.to_owned(), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A self-signed pair for `names` in `dir`.
    fn pair(dir: &Path, names: &[&str]) -> KeyPair {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let unique = format!("{:x}", rand::random::<u64>());
        let (certificate, key) =
            (dir.join(format!("{unique}.crt")), dir.join(format!("{unique}.key")));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        KeyPair { certificate, key }
    }

    #[test]
    fn the_name_asked_for_chooses_the_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let load = |names: &[&str]| load(&pair(dir.path(), names), &provider).unwrap();
        let (a, b) = (load(&["a.example", "A2.example"]), load(&["*.b.example", "a.example"]));
        let all = Certificates::new(vec![a.clone(), b.clone()]).unwrap();
        for (name, expected) in [
            (None, &a),
            (Some("other.example"), &a),
            (Some("a.example"), &a),
            (Some("a2.EXAMPLE"), &a),
            (Some("mx.b.example"), &b),
            (Some("x.mx.b.example"), &a),
            (Some("b.example"), &a),
        ] {
            assert!(Arc::ptr_eq(all.find(name), &expected.0), "{name:?}");
        }
    }

    #[test]
    fn every_bad_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let good = pair(dir.path(), &["a.example"]);
        let other = pair(dir.path(), &["b.example"]);
        let missing = dir.path().join("missing.pem");
        let errors = server_config(&[
            good.clone(),
            KeyPair { certificate: missing.clone(), key: good.key.clone() },
            KeyPair { certificate: good.key.clone(), key: good.key.clone() },
            KeyPair { certificate: good.certificate.clone(), key: good.certificate.clone() },
            KeyPair { certificate: good.certificate.clone(), key: other.key.clone() },
        ]);
        let errors = errors.unwrap_err();
        assert!(matches!(&errors[0], TlsError::Read(path, _) if *path == missing));
        assert!(matches!(&errors[1], TlsError::Certificate(path, _) if *path == good.key));
        assert!(matches!(&errors[2], TlsError::Key(path, _) if *path == good.certificate));
        assert!(matches!(&errors[3], TlsError::Mismatch { key, .. } if *key == other.key));
        assert_eq!(errors.len(), 4);
        assert!(matches!(server_config(&[]).unwrap_err()[..], [TlsError::NoCertificate]));
        assert!(server_config(&[good]).is_ok());
    }
}
