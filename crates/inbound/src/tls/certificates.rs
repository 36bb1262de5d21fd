//! Our certificates, chosen by the name that the client asks for, and read again when their files
//! change.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{KeyPair, TlsError};

/// Certificates and keys from files. Clients get the first that has the name they ask for, exactly
/// or by wildcard, else the first of all. Cheap to clone; all clones are the same certificates.
#[derive(Debug, Clone)]
pub struct Certificates {
    shelf: Arc<Shelf>,
}

#[derive(Debug)]
struct Shelf {
    provider: Arc<CryptoProvider>,
    /// In order of the configuration.
    slots: Mutex<Vec<Slot>>,
    served: RwLock<Arc<Served>>,
}

/// One pair of files, and what was made of them.
#[derive(Debug)]
struct Slot {
    pair: KeyPair,
    loaded: Loaded,
    /// What the files held when they were looked at last, or why they could not be read.
    seen: Seen,
}

type Seen = Result<[u8; 32], String>;
type Loaded = (Arc<CertifiedKey>, Vec<String>);

/// What became of a pair of files that changed.
#[derive(Debug)]
pub enum Change {
    /// The new certificate is shown from now on.
    Renewed(KeyPair),
    /// The files are no good pair now; what was there before goes on being shown.
    Kept(TlsError),
}

impl Certificates {
    /// Reads all pairs.
    ///
    /// # Errors
    /// Everything that is wrong with any of the files.
    pub fn load(pairs: &[KeyPair]) -> Result<Certificates, Vec<TlsError>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (mut slots, mut errors) = (Vec::new(), Vec::new());
        for pair in pairs {
            let (seen, loaded) = look(pair, None, &provider);
            match loaded {
                Some(Ok(loaded)) => slots.push(Slot { pair: pair.clone(), loaded, seen }),
                Some(Err(error)) => errors.push(error),
                None => {}
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let served = Served::new(&slots).ok_or_else(|| vec![TlsError::NoCertificate])?;
        let (slots, served) = (Mutex::new(slots), RwLock::new(Arc::new(served)));
        Ok(Certificates { shelf: Arc::new(Shelf { provider, slots, served }) })
    }

    /// Reads the files again and puts in force what is new and whole: certificate and key must be
    /// of one pair. Sessions under way are not touched. The same fault is told once.
    pub fn refresh(&self) -> Vec<Change> {
        let shelf = &self.shelf;
        let mut slots = shelf.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes = Vec::new();
        for slot in slots.iter_mut() {
            let (seen, loaded) = look(&slot.pair, Some(&slot.seen), &shelf.provider);
            slot.seen = seen;
            match loaded {
                Some(Ok(loaded)) => {
                    slot.loaded = loaded;
                    changes.push(Change::Renewed(slot.pair.clone()));
                }
                Some(Err(error)) => changes.push(Change::Kept(error)),
                None => {}
            }
        }
        if let Some(served) = Served::new(&slots).filter(|_| !changes.is_empty()) {
            *shelf.served.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(served);
        }
        changes
    }

    pub(super) fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        self.shelf.clone()
    }
}

impl ResolvesServerCert for Shelf {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner).clone();
        Some(served.find(hello.server_name()).clone())
    }
}

/// Reads both files; nothing is made of them when they hold what was `seen` before.
fn look(
    pair: &KeyPair,
    seen: Option<&Seen>,
    provider: &CryptoProvider,
) -> (Seen, Option<Result<Loaded, TlsError>>) {
    let texts = read(&pair.certificate).and_then(|chain| Ok((chain, read(&pair.key)?)));
    let (now, loaded) = match texts {
        Ok((chain, key)) => {
            let digest = Sha256::new().chain_update(Sha256::digest(&chain)).chain_update(&key);
            (Ok(digest.finalize().into()), load(pair, &chain, &key, provider))
        }
        Err(error) => (Err(error.to_string()), Err(error)),
    };
    let same = seen == Some(&now);
    (now, (!same).then_some(loaded))
}

/// The certificates and the names they are for.
#[derive(Debug)]
struct Served {
    default: Arc<CertifiedKey>,
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
}

impl Served {
    fn new(slots: &[Slot]) -> Option<Served> {
        let default = slots.first()?.loaded.0.clone();
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        for (certificate, names) in slots.iter().map(|slot| &slot.loaded) {
            for name in names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut wildcard, parent),
                    None => (&mut exact, name.as_str()),
                };
                map.entry(name.to_owned()).or_insert_with(|| certificate.clone());
            }
        }
        Some(Served { default, exact, wildcard })
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

fn load(
    pair: &KeyPair,
    chain_pem: &[u8],
    key_pem: &[u8],
    provider: &CryptoProvider,
) -> Result<Loaded, TlsError> {
    let chain = chain(&pair.certificate, chain_pem)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem)
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

fn chain(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |reason: String| TlsError::Certificate(path.to_owned(), reason);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
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
        let pairs = [&["a.example", "A2.example"], &["*.b.example", "a.example"]];
        let all = Certificates::load(&pairs.map(|names| pair(dir.path(), names))).unwrap();
        let slots = all.shelf.slots.lock().unwrap();
        let (a, b) = (&slots[0].loaded, &slots[1].loaded);
        let all = all.shelf.served.read().unwrap();
        for (name, expected) in [
            (None, a),
            (Some("other.example"), a),
            (Some("a.example"), a),
            (Some("a2.EXAMPLE"), a),
            (Some("mx.b.example"), b),
            (Some("x.mx.b.example"), a),
            (Some("b.example"), a),
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
        let errors = Certificates::load(&[
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
        assert!(matches!(Certificates::load(&[]).unwrap_err()[..], [TlsError::NoCertificate]));
        assert!(Certificates::load(&[good]).is_ok());
    }

    #[test]
    fn files_that_change_are_shown_when_they_are_whole_and_fit() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, fresh) = (pair(dir.path(), &["a.example"]), pair(dir.path(), &["b.example"]));
        let all = Certificates::load(std::slice::from_ref(&ours)).unwrap();
        let shown = |name: &str| all.shelf.served.read().unwrap().exact.contains_key(name);
        assert!(all.refresh().is_empty());
        let whole = fs::read(&fresh.certificate).unwrap();
        for (text, kept) in [(&whole[..whole.len() / 2], "half"), (&whole[..], "mismatch")] {
            fs::write(&ours.certificate, text).unwrap();
            assert!(matches!(all.refresh()[..], [Change::Kept(_)]), "{kept}");
            assert!(all.refresh().is_empty(), "the same fault is told once");
            assert!(shown("a.example") && !shown("b.example"), "{kept}");
        }
        fs::remove_file(&ours.key).unwrap();
        assert!(matches!(all.refresh()[..], [Change::Kept(TlsError::Read(..))]));
        assert!(all.refresh().is_empty());
        fs::copy(&fresh.key, &ours.key).unwrap();
        assert!(matches!(&all.refresh()[..], [Change::Renewed(pair)] if *pair == ours));
        assert!(shown("b.example") && !shown("a.example"));
    }
}
