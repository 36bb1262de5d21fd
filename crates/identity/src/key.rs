//! Keys: read from PEM files, known by kind and public half, never shown.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mail_auth::common::crypto::{DkimKey, Ed25519Key, RsaKey, Sha256, SigningKey as _};
use pkcs1::{ObjectIdentifier, RsaPrivateKeyRef};
use pkcs8::PrivateKeyInfoRef;
use pkcs8::der::Encode;
use pkcs8::der::asn1::BitStringRef;
use pkcs8::spki::SubjectPublicKeyInfoRef;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer};

/// Shortest RSA key taken, in bits (RFC 8301 §3.2 advises it).
const SHORTEST: usize = 2048;
/// Longest RSA key taken, in bits: verifiers need not understand more (RFC 8301 §3.2).
const LONGEST: usize = 4096;
/// Largest file taken for a key, in octets.
const MAX_FILE: u64 = 64 * 1024;
/// RFC 8410 §3.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A private key that signs, RSA or Ed25519. Copies share it; `Debug` shows its public half.
#[derive(Clone)]
pub struct SigningKey(Arc<Inner>);

struct Inner {
    secret: DkimKey,
    /// The same as it was read, for who must own a key.
    der: PrivateKeyDer<'static>,
    public: PublicKey,
}

impl SigningKey {
    /// Reads the first private key in the PEM file at `path`. Blocks for the time of the read.
    ///
    /// # Errors
    /// The file cannot be read, or holds no key that [`SigningKey::from_pem`] takes.
    pub fn load(path: &Path) -> Result<KeyFile, KeyError> {
        let named = |problem| KeyError { path: path.to_owned(), problem };
        let (pem, mode) = read(path).map_err(|error| named(KeyProblem::Unreadable(error)))?;
        if pem.len() as u64 > MAX_FILE {
            return Err(named(KeyProblem::TooLarge));
        }
        let key = SigningKey::from_pem(&pem).map_err(named)?;
        Ok(KeyFile { key, exposed: mode & 0o006 != 0 })
    }

    /// Reads the first private key in `pem`: RSA of 2048 to 4096 bits as PKCS#1 or PKCS#8, or
    /// Ed25519 as PKCS#8 (RFC 8017 §A.1.2, RFC 5958).
    ///
    /// # Errors
    /// There is no such key; the problem says what there is.
    pub fn from_pem(pem: &[u8]) -> Result<SigningKey, KeyProblem> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|error| not_found(pem, &error))?;
        match der {
            PrivateKeyDer::Pkcs1(der) => SigningKey::from_pkcs1(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => SigningKey::from_pkcs8(der.secret_pkcs8_der()),
            _ => Err(KeyProblem::OtherKind),
        }
    }

    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<SigningKey, KeyProblem> {
        let info = PrivateKeyInfoRef::try_from(der).map_err(malformed)?;
        match info.algorithm.oid {
            pkcs1::ALGORITHM_OID => {
                let public = rsa_public(info.private_key.as_bytes())?;
                let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der));
                SigningKey::from_rsa(der, public)
            }
            ED25519 => {
                // Without the public half in it, as OpenSSL writes it, the key is as good.
                let key = Ed25519Key::from_pkcs8_maybe_unchecked_der(der).map_err(malformed)?;
                let public = PublicKey { tag: "ed25519", bits: 256, published: key.public_key() };
                let der = PrivatePkcs8KeyDer::from(der).clone_key().into();
                Ok(SigningKey(Arc::new(Inner { secret: key.into(), der, public })))
            }
            _ => Err(KeyProblem::OtherKind),
        }
    }

    fn from_pkcs1(der: &[u8]) -> Result<SigningKey, KeyProblem> {
        let public = rsa_public(der)?;
        SigningKey::from_rsa(PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der)), public)
    }

    fn from_rsa(der: PrivateKeyDer<'_>, public: PublicKey) -> Result<SigningKey, KeyProblem> {
        let kept = der.clone_key();
        let key = RsaKey::<Sha256>::from_key_der(der).map_err(malformed)?;
        Ok(SigningKey(Arc::new(Inner { secret: key.into(), der: kept, public })))
    }

    /// The half to publish; see [`keygen::dns_record`](crate::keygen::dns_record).
    pub fn public(&self) -> &PublicKey {
        &self.0.public
    }

    /// `rsa-sha256` or `ed25519-sha256`, as `a=` says it.
    pub fn algorithm(&self) -> &'static str {
        self.0.secret.algorithm().name()
    }

    /// Another copy of the key, for a signer that must own one.
    pub(crate) fn again(&self) -> Result<DkimKey, mail_auth::Error> {
        match &self.0.der {
            PrivateKeyDer::Pkcs8(der) if self.public().kind() == "ed25519" => {
                let der = der.secret_pkcs8_der();
                Ok(Ed25519Key::from_pkcs8_maybe_unchecked_der(der)?.into())
            }
            der => Ok(RsaKey::<Sha256>::from_key_der(der.clone_key())?.into()),
        }
    }

    pub(crate) fn sign(&self, input: &[u8]) -> Result<Vec<u8>, mail_auth::Error> {
        self.0.secret.sign(input)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.0.public).finish()
    }
}

/// The half of a key that is published in DNS.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    tag: &'static str,
    bits: usize,
    published: Vec<u8>,
}

impl PublicKey {
    /// The kind of key, as `k=` says it: `rsa` or `ed25519`.
    pub fn kind(&self) -> &'static str {
        self.tag
    }

    /// The length of the key in bits.
    pub fn bits(&self) -> usize {
        self.bits
    }

    /// What `p=` encodes: SubjectPublicKeyInfo for RSA (RFC 6376 §3.6.1, as its erratum 3017 has
    /// it), the naked key for Ed25519 (RFC 8463 §4.2).
    pub(crate) fn published(&self) -> &[u8] {
        &self.published
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bits", self.tag, self.bits)
    }
}

/// A key, and how its file is kept.
#[derive(Debug, Clone)]
pub struct KeyFile {
    /// The key.
    pub key: SigningKey,
    /// True when everybody on this machine can read or write the file. The key works; the operator
    /// should be told to give the file mode 0600.
    pub exposed: bool,
}

/// A file that gave no key.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {} as signing key: {problem}", path.display())]
pub struct KeyError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: KeyProblem,
}

/// Why something is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum KeyProblem {
    /// The system does not give the file.
    #[error("{0}")]
    Unreadable(io::Error),
    /// Far more than a key.
    #[error("it is larger than 64 KiB; a key is a few lines of PEM")]
    TooLarge,
    /// No private key in PEM.
    #[error("it holds no private key in PEM ({0}); generate one, or convert it to PKCS#8")]
    NoKey(String),
    /// The key has a passphrase.
    #[error("the key is encrypted; store it without a passphrase in a file of mode 0600")]
    Encrypted,
    /// A key for other purposes.
    #[error("the key is neither RSA nor Ed25519; DKIM knows no others, so generate one of these")]
    OtherKind,
    /// An RSA key that does not protect.
    #[error("the RSA key has {0} bits; generate one of 2048 at least")]
    TooShort(usize),
    /// An RSA key that verifiers need not take.
    #[error("the RSA key has {0} bits, which verifiers may refuse; generate one of 2048 to 4096")]
    TooLong(usize),
    /// Damaged, or refused by the cryptography.
    #[error("the key is damaged or not sound ({0}); generate another")]
    Malformed(String),
}

fn read(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    let mode = fs::metadata(path)?.mode();
    let mut pem = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut pem)?;
    Ok((pem, mode))
}

fn not_found(pem: &[u8], error: &rustls_pki_types::pem::Error) -> KeyProblem {
    if pem.windows(9).any(|window| window == b"ENCRYPTED") {
        return KeyProblem::Encrypted;
    }
    KeyProblem::NoKey(error.to_string())
}

fn malformed(error: impl fmt::Display) -> KeyProblem {
    KeyProblem::Malformed(error.to_string())
}

/// The public half of a PKCS#1 key of allowed length.
fn rsa_public(der: &[u8]) -> Result<PublicKey, KeyProblem> {
    let private = RsaPrivateKeyRef::try_from(der).map_err(malformed)?;
    let modulus = private.modulus.as_bytes();
    let zeros = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    let bits = modulus.len() * 8 - zeros;
    if bits < SHORTEST {
        return Err(KeyProblem::TooShort(bits));
    }
    if bits > LONGEST {
        return Err(KeyProblem::TooLong(bits));
    }
    let public = private.public_key().to_der().map_err(malformed)?;
    let published = SubjectPublicKeyInfoRef {
        algorithm: pkcs1::ALGORITHM_ID,
        subject_public_key: BitStringRef::from_bytes(&public).map_err(malformed)?,
    };
    let published = published.to_der().map_err(malformed)?;
    Ok(PublicKey { tag: "rsa", bits, published })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::keygen::{Algorithm, generate};

    #[test]
    fn debug_shows_no_secret() {
        let generated = generate(Algorithm::Ed25519).unwrap();
        let key = SigningKey::from_pem(generated.private_pem().as_bytes()).unwrap();
        assert_eq!(format!("{key:?}"), "SigningKey(ed25519 of 256 bits)");
        assert_eq!(format!("{generated:?}"), "GeneratedKey(ed25519 of 256 bits)");
    }

    #[test]
    fn a_file_that_everybody_reads_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        fs::write(&path, generate(Algorithm::Ed25519).unwrap().private_pem()).unwrap();
        for (mode, exposed) in [(0o600, false), (0o640, false), (0o644, true), (0o602, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(SigningKey::load(&path).unwrap().exposed, exposed, "{mode:o}");
        }
    }

    #[test]
    fn files_without_a_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        let problem = || SigningKey::load(&path).unwrap_err().problem;
        assert!(matches!(problem(), KeyProblem::Unreadable(_)));
        for text in ["", "hello", "-----BEGIN PRIVATE KEY-----\nAAAA\n"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(problem(), KeyProblem::NoKey(_)), "{text}");
        }
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY"] {
            fs::write(&path, format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n"))
                .unwrap();
            assert!(matches!(problem(), KeyProblem::Malformed(_)), "{label}");
        }
        fs::write(&path, vec![b'x'; MAX_FILE as usize + 1]).unwrap();
        assert!(matches!(problem(), KeyProblem::TooLarge));
        let message = SigningKey::load(&path).unwrap_err().to_string();
        assert!(message.contains("key.pem as signing key: it is larger"), "{message}");
    }
}
