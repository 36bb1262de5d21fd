//! Passwords: prepared (RFC 4013), hashed, compared.

use std::fmt;

use argon2::password_hash::{
    Ident, Output, ParamsString, PasswordHash, PasswordHashString, PasswordHasher,
    PasswordVerifier, Salt, SaltString,
};
use argon2::{Algorithm, Argon2, Params, Version};

/// Longest password taken, in octets after preparation.
pub const MAX_PASSWORD: usize = 1024;

/// The most memory that a hash of the users file may ask for, in KiB.
const MAX_MEMORY: u32 = 1024 * 1024;
/// The most passes that a hash of the users file may ask for.
const MAX_PASSES: u32 = 64;

/// Why a text cannot serve as a name or a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// Nothing is left of it.
    #[error("it is empty")]
    Empty,
    /// It is over the limit.
    #[error("it is longer than {0} octets")]
    TooLong(usize),
    /// SASLprep forbids a character of it.
    #[error("it has a character that SASLprep (RFC 4013) forbids or does not know")]
    Prohibited,
}

/// A password or name in the form that is hashed and compared (RFC 4013), at most `limit` octets.
pub fn prepare(text: &str, limit: usize) -> Result<String, PrepareError> {
    if text.len() > limit {
        return Err(PrepareError::TooLong(limit));
    }
    let prepared = stringprep::saslprep(text).map_err(|_| PrepareError::Prohibited)?;
    match prepared.len() {
        0 => Err(PrepareError::Empty),
        length if length > limit => Err(PrepareError::TooLong(limit)),
        _ => Ok(prepared.into_owned()),
    }
}

/// An argon2id hash of a password (RFC 9106), kept in the PHC text form. Its Debug form is empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Argon2Hash(PasswordHashString);

/// Why a text is no argon2id hash that is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// It cannot be read.
    #[error("not an argon2id hash in PHC form ($argon2id$v=19$m=…,t=…,p=…$salt$hash)")]
    Syntax,
    /// Checking it would take too much.
    #[error("an argon2id hash may ask for at most 1 GiB of memory and {MAX_PASSES} passes")]
    TooExpensive,
    /// The hash could not be made.
    #[error("the password could not be hashed: {0}")]
    Failed(String),
}

impl Argon2Hash {
    /// Hashes a prepared password with a fresh salt: 19 MiB, 2 passes, 1 lane. Takes tens of
    /// milliseconds.
    pub fn new(password: &str) -> Result<Argon2Hash, HashError> {
        let failed = |e: argon2::password_hash::Error| HashError::Failed(e.to_string());
        let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>()).map_err(failed)?;
        let hash = current().hash_password(password.as_bytes(), &salt).map_err(failed)?;
        Ok(Argon2Hash(hash.serialize()))
    }

    /// Reads the PHC form.
    pub fn parse(text: &str) -> Result<Argon2Hash, HashError> {
        let hash = PasswordHash::new(text).map_err(|_| HashError::Syntax)?;
        let complete = hash.salt.is_some() && hash.hash.is_some();
        if hash.algorithm != Algorithm::Argon2id.ident() || !complete {
            return Err(HashError::Syntax);
        }
        let params = Params::try_from(&hash).map_err(|_| HashError::Syntax)?;
        if params.m_cost() > MAX_MEMORY || params.t_cost() > MAX_PASSES {
            return Err(HashError::TooExpensive);
        }
        Ok(Argon2Hash(hash.serialize()))
    }

    /// A hash that no password matches and that costs as much to check as `self` does.
    pub fn dummy_like(&self) -> Option<Argon2Hash> {
        let hash = self.0.password_hash();
        dummy(hash.algorithm, hash.version, hash.params.clone())
    }

    /// A hash that no password matches, as expensive as a new one.
    pub fn dummy() -> Option<Argon2Hash> {
        let params = ParamsString::try_from(current().params()).ok()?;
        dummy(Algorithm::Argon2id.ident(), Some(Version::V0x13.into()), params)
    }

    /// True when the prepared password is the one that was hashed. Takes tens of milliseconds.
    pub fn matches(&self, password: &str) -> bool {
        current().verify_password(password.as_bytes(), &self.0.password_hash()).is_ok()
    }

    /// The PHC form.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for Argon2Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Argon2Hash")
    }
}

/// What OWASP recommends for argon2id.
fn current() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// The output is random: to find a password for it is to break argon2.
fn dummy(algorithm: Ident<'_>, version: Option<u32>, params: ParamsString) -> Option<Argon2Hash> {
    let output = Output::new(&rand::random::<[u8; 32]>()).ok()?;
    let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>()).ok()?;
    let salt = Salt::from_b64(salt.as_str()).ok()?;
    let hash = PasswordHash { algorithm, version, params, salt: Some(salt), hash: Some(output) };
    Some(Argon2Hash(hash.serialize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_matches_its_password_alone() {
        let hash = Argon2Hash::new("open sesame").unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let read = Argon2Hash::parse(hash.as_str()).unwrap();
        assert!(read.matches("open sesame") && !read.matches("open sesame "));
        assert_eq!(format!("{read:?}"), "Argon2Hash");
        assert!(!Argon2Hash::dummy().unwrap().matches("open sesame"));
    }

    #[test]
    fn a_dummy_costs_what_its_model_costs() {
        let text = "$argon2id$v=19$m=64,t=3,p=1$c29tZXNhbHQ$G2PBdzCs9GMGO6KJmCQY2Q";
        let dummy = Argon2Hash::parse(text).unwrap().dummy_like().unwrap();
        assert!(dummy.as_str().starts_with("$argon2id$v=19$m=64,t=3,p=1$"));
    }

    #[test]
    fn other_and_absurd_hashes_are_refused() {
        for (text, expected) in [
            ("", HashError::Syntax),
            ("secret", HashError::Syntax),
            ("$argon2id$v=19$m=64,t=3,p=1$c29tZXNhbHQ", HashError::Syntax),
            ("$argon2i$v=19$m=64,t=3,p=1$c29tZXNhbHQ$G2PBdzCs9GMGO6KJmCQY2Q", HashError::Syntax),
            (
                "$argon2id$v=19$m=4000000,t=3,p=1$c29tZXNhbHQ$G2PBdzCs9GMGO6KJmCQY2Q",
                HashError::TooExpensive,
            ),
        ] {
            assert_eq!(Argon2Hash::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn texts_are_prepared() {
        assert_eq!(prepare("I\u{ad}X", 9).as_deref(), Ok("IX"));
        assert_eq!(prepare("\u{2168}", 9).as_deref(), Ok("IX"));
        assert_eq!(prepare("\u{7}", 9), Err(PrepareError::Prohibited));
        assert_eq!(prepare("", 9), Err(PrepareError::Empty));
        assert_eq!(prepare("0123456789", 9), Err(PrepareError::TooLong(9)));
    }
}
