//! Signed tokens: three parts, and a signature by a key that is trusted (RFC 7515, RFC 7519).
//!
//! The signatures are aws-lc-rs's to verify; what is here is the envelope. The key decides what a
//! token can be signed with, never the token (RFC 8725 §3.1).

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::claims::{Claims, Refused};

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA, PKCS#1 v1.5, SHA-256, 2048 bits and more (RFC 7518 §3.3).
    Rs256,
    /// ECDSA with P-256 and SHA-256 (RFC 7518 §3.4).
    Es256,
    /// Ed25519 (RFC 8037 §3.1).
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 3] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

    /// As `alg` names it.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of this name.
    pub fn named(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// A public key. What it is decides what it verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PublicKey {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The point, uncompressed.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl PublicKey {
    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            PublicKey::Rsa { .. } => Algorithm::Rs256,
            PublicKey::P256(_) => Algorithm::Es256,
            PublicKey::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self {
            PublicKey::Rsa { n, e } => RsaPublicKeyComponents { n, e }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                message,
                signature,
            ),
            PublicKey::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            PublicKey::Ed25519(key) => {
                UnparsedPublicKey::new(&ED25519, key).verify(message, signature)
            }
        };
        verified.is_ok()
    }
}

/// A token, taken apart and not verified yet.
#[derive(Debug)]
pub(super) struct SignedToken<'a> {
    pub(super) algorithm: Algorithm,
    /// The name of the key, if it gives one.
    pub(super) key_id: Option<String>,
    signed: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

impl<'a> SignedToken<'a> {
    /// Reads the compact form (RFC 7515 §7.1).
    pub(super) fn parse(token: &'a str) -> Result<SignedToken<'a>, Refused> {
        let no_token = || Refused::NoToken;
        let (signed, signature) = token.rsplit_once('.').ok_or_else(no_token)?;
        let (header, payload) = signed.split_once('.').ok_or_else(no_token)?;
        let header = decoded(header).and_then(|json| Claims::parse(&json)).ok_or_else(no_token)?;
        // RFC 7515 §4.1.11: who does not know an extension that counts must refuse.
        if payload.contains('.') || header.0.contains_key("crit") {
            return Err(Refused::NoToken);
        }
        let algorithm = header.text("alg").and_then(Algorithm::named).ok_or(Refused::Signature)?;
        let key_id = header.text("kid").map(str::to_owned);
        let signature = decoded(signature).ok_or_else(no_token)?;
        Ok(SignedToken { algorithm, key_id, signed, payload, signature })
    }

    /// What it says, when this key signed it.
    pub(super) fn claims(&self, key: &PublicKey) -> Result<Claims, Refused> {
        let fits = key.algorithm() == self.algorithm;
        if !fits || !key.verifies(self.signed.as_bytes(), &self.signature) {
            return Err(Refused::Signature);
        }
        decoded(self.payload).and_then(|json| Claims::parse(&json)).ok_or(Refused::NoToken)
    }
}

/// Base64 for URLs, without padding (RFC 7515 §2).
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
