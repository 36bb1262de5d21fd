//! What the server keeps instead of a password, for each hash function.

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

/// Iterations of a new verifier. RFC 7677 §4 asks for 4096 at least.
const ITERATIONS: u32 = 16_384;
/// What a verifier of the users file may have: fewer is against RFC 7677 §4, more would stall
/// clients and PLAIN.
const ITERATIONS_TAKEN: std::ops::RangeInclusive<u32> = 4096..=10_000_000;
/// Octets of a salt of ours.
const SALT: usize = 16;

/// The hash function of a mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScramHash {
    /// SCRAM-SHA-1 (RFC 5802), for old clients. Not broken in this use, but a stolen verifier is
    /// tried faster than one of the other kind.
    Sha1,
    /// SCRAM-SHA-256 (RFC 7677).
    Sha256,
}

impl ScramHash {
    /// The SASL mechanism without channel binding.
    pub fn mechanism(self) -> &'static str {
        match self {
            ScramHash::Sha1 => "SCRAM-SHA-1",
            ScramHash::Sha256 => "SCRAM-SHA-256",
        }
    }

    /// The SASL mechanism with channel binding.
    pub fn mechanism_plus(self) -> &'static str {
        match self {
            ScramHash::Sha1 => "SCRAM-SHA-1-PLUS",
            ScramHash::Sha256 => "SCRAM-SHA-256-PLUS",
        }
    }

    /// Octets of its result.
    pub fn length(self) -> usize {
        self.digest_algorithm().output_len()
    }

    pub(crate) fn digest(self, bytes: &[u8]) -> Vec<u8> {
        digest::digest(self.digest_algorithm(), bytes).as_ref().to_vec()
    }

    pub(super) fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        let algorithm = match self {
            ScramHash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            ScramHash::Sha256 => hmac::HMAC_SHA256,
        };
        let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, key));
        parts.iter().for_each(|part| context.update(part));
        context.sign().as_ref().to_vec()
    }

    fn salted(self, password: &str, iterations: u32, salt: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            ScramHash::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            ScramHash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        };
        let iterations = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        let mut salted = vec![0; self.length()];
        pbkdf2::derive(algorithm, iterations, salt, password.as_bytes(), &mut salted);
        salted
    }

    fn digest_algorithm(self) -> &'static digest::Algorithm {
        match self {
            ScramHash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            ScramHash::Sha256 => &digest::SHA256,
        }
    }
}

/// What the server keeps instead of a password (RFC 5802 §5.1). Its Debug form is empty.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    pub(super) hash: ScramHash,
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: Vec<u8>,
    pub(super) server_key: Vec<u8>,
}

/// Why a text is no verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// It cannot be read.
    #[error("not a {} verifier (iterations$salt$stored-key$server-key, in base64)", .0.mechanism())]
    Syntax(ScramHash),
    /// The count is out of range.
    #[error("a {} verifier has 4096 to 10000000 iterations", .0.mechanism())]
    Iterations(ScramHash),
}

impl ScramVerifier {
    /// The verifier of a prepared password, with a fresh salt. Takes some milliseconds.
    pub fn new(hash: ScramHash, password: &str) -> ScramVerifier {
        ScramVerifier::derive(hash, password, ITERATIONS, &rand::random::<[u8; SALT]>())
    }

    /// Reads `iterations$salt$stored-key$server-key`.
    ///
    /// # Errors
    /// When it is something else, or its count is out of range.
    pub fn parse(hash: ScramHash, text: &str) -> Result<ScramVerifier, VerifierError> {
        let syntax = || VerifierError::Syntax(hash);
        let mut parts = text.split('$');
        let mut next = || parts.next().ok_or_else(syntax);
        let (iterations, salt, stored, server) = (next()?, next()?, next()?, next()?);
        let iterations = iterations.parse().map_err(|_| syntax())?;
        if !ITERATIONS_TAKEN.contains(&iterations) {
            return Err(VerifierError::Iterations(hash));
        }
        let salt = STANDARD.decode(salt).map_err(|_| syntax())?;
        if salt.is_empty() || salt.len() > 64 || parts.next().is_some() {
            return Err(syntax());
        }
        let key = |text| key(hash, text).ok_or_else(syntax);
        let (stored_key, server_key) = (key(stored)?, key(server)?);
        Ok(ScramVerifier { hash, iterations, salt, stored_key, server_key })
    }

    /// True when the prepared password is the one this was derived from. Takes some milliseconds.
    pub fn matches(&self, password: &str) -> bool {
        let derived = ScramVerifier::derive(self.hash, password, self.iterations, &self.salt);
        derived.stored_key.ct_eq(&self.stored_key).into()
    }

    /// A verifier that nothing matches, for a name that nobody has: always the same salt for the
    /// same name, so that asking twice tells no more than asking once.
    pub fn fake(hash: ScramHash, name: &str, iterations: u32, secret: &[u8]) -> ScramVerifier {
        let about = [b"scram-salt\0", hash.mechanism().as_bytes(), b"\0", name.as_bytes()];
        let salt = ScramHash::Sha256.hmac(secret, &about)[..SALT].to_vec();
        let key = || (0..hash.length()).map(|_| rand::random()).collect();
        ScramVerifier { hash, iterations, salt, stored_key: key(), server_key: key() }
    }

    /// The hash function.
    pub fn hash(&self) -> ScramHash {
        self.hash
    }

    /// The iteration count.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The count of a new verifier.
    pub fn usual_iterations() -> u32 {
        ITERATIONS
    }

    pub(crate) fn derive(
        hash: ScramHash,
        password: &str,
        iterations: u32,
        salt: &[u8],
    ) -> ScramVerifier {
        let salted = hash.salted(password, iterations, salt);
        let client_key = hash.hmac(&salted, &[b"Client Key"]);
        ScramVerifier {
            hash,
            iterations,
            salt: salt.to_vec(),
            stored_key: hash.digest(&client_key),
            server_key: hash.hmac(&salted, &[b"Server Key"]),
        }
    }
}

/// The form that [`ScramVerifier::parse`] reads. A secret: whoever has it can try passwords.
impl fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b64 = |bytes: &[u8]| STANDARD.encode(bytes);
        let (salt, stored, server) =
            (b64(&self.salt), b64(&self.stored_key), b64(&self.server_key));
        write!(f, "{}${salt}${stored}${server}", self.iterations)
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramVerifier")
    }
}

/// A result of the hash function, in base64.
pub(super) fn key(hash: ScramHash, text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok().filter(|key| key.len() == hash.length())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fake_is_stable_and_matches_nothing() {
        let fake = |hash, name| ScramVerifier::fake(hash, name, 4096, b"secret");
        let sha256 = |name| fake(ScramHash::Sha256, name);
        assert_eq!(sha256("a").salt, sha256("a").salt);
        assert_ne!(sha256("a").salt, sha256("b").salt);
        assert_ne!(sha256("a").salt, fake(ScramHash::Sha1, "a").salt);
        assert_ne!(
            sha256("a").salt,
            ScramVerifier::fake(ScramHash::Sha256, "a", 4096, b"other").salt
        );
        assert!(!sha256("a").matches("a"));
    }

    #[test]
    fn broken_verifiers_are_refused() {
        for hash in [ScramHash::Sha1, ScramHash::Sha256] {
            let good = ScramVerifier::derive(hash, "x", 4096, b"salt").to_string();
            assert!(ScramVerifier::parse(hash, &good).is_ok_and(|verifier| verifier.matches("x")));
            assert_eq!(
                ScramVerifier::parse(hash, &good.replace("4096", "4095")),
                Err(VerifierError::Iterations(hash))
            );
            for bad in ["", "4096", "4096$$$", &format!("{good}$"), &good[..good.len() - 4]] {
                let error = Err(VerifierError::Syntax(hash));
                assert_eq!(ScramVerifier::parse(hash, bad), error, "{bad}");
            }
        }
        let sha1 = ScramVerifier::derive(ScramHash::Sha1, "x", 4096, b"salt").to_string();
        assert!(ScramVerifier::parse(ScramHash::Sha256, &sha1).is_err());
    }
}
