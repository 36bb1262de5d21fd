//! SCRAM-SHA-256 from the client's side, without channel binding (RFC 5802, RFC 7677).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::{Credentials, ProtocolError};

/// Fewer iterations would make the proof cheap to search for the password (RFC 7677 §4).
const MIN_ITERATIONS: u32 = 4096;
/// More would let a server keep us computing: this takes a good tenth of a second.
const MAX_ITERATIONS: u32 = 600_000;
const MAX_SALT: usize = 1024;
const MAX_NONCE: usize = 1024;

type Key = [u8; 32];

/// One exchange, up to the server's proof that it knows the password too.
#[derive(Debug)]
pub(super) struct Scram {
    nonce: String,
    first_bare: String,
    /// What the server has to say at last.
    server_signature: Option<Key>,
}

impl Scram {
    /// `nonce` must not have been used before.
    pub(super) fn new(user: &str, nonce: &[u8]) -> Scram {
        Scram::with_nonce(user, BASE64.encode(nonce))
    }

    fn with_nonce(user: &str, nonce: String) -> Scram {
        // RFC 5802 §5.1: "," and "=" would end a field.
        let user = prepared(user).replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={user},r={nonce}");
        Scram { nonce, first_bare, server_signature: None }
    }

    /// The client's first message. `n`: no channel binding.
    pub(super) fn first(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    /// The client's final message. Takes time in proportion to the server's iteration count.
    pub(super) fn answer(
        &mut self,
        server_first: &str,
        credentials: &Credentials,
    ) -> Result<String, ProtocolError> {
        let challenge = Challenge::parse(server_first).ok_or(ProtocolError::BadChallenge)?;
        // RFC 5802 §5.1: the nonce must be ours, extended.
        if challenge.nonce.len() <= self.nonce.len() || !challenge.nonce.starts_with(&self.nonce) {
            return Err(ProtocolError::BadChallenge);
        }
        let mut salted: Key = [0; 32];
        let password = prepared(credentials.password());
        pbkdf2::pbkdf2_hmac::<Sha256>(
            password.as_bytes(),
            &challenge.salt,
            challenge.iterations,
            &mut salted,
        );
        let without_proof = format!("c=biws,r={}", challenge.nonce);
        let signed = format!("{},{server_first},{without_proof}", self.first_bare);
        let client_key = hmac(&salted, b"Client Key");
        let signature = hmac(&Sha256::digest(client_key).into(), signed.as_bytes());
        let mut proof = client_key;
        proof.iter_mut().zip(signature).for_each(|(key, sign)| *key ^= sign);
        self.server_signature = Some(hmac(&hmac(&salted, b"Server Key"), signed.as_bytes()));
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)))
    }

    /// True when the server's final message proves that it knows the password.
    pub(super) fn is_proven_by(&self, server_final: &str) -> bool {
        let signature = server_final.split(',').next().and_then(|field| field.strip_prefix("v="));
        let signature = signature.and_then(|signature| BASE64.decode(signature).ok());
        // No secret is compared here: who could learn from the time has our proof already.
        self.server_signature.is_some_and(|expected| signature.is_some_and(|s| s == expected))
    }
}

/// The server's first message.
struct Challenge<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: u32,
}

impl<'a> Challenge<'a> {
    fn parse(message: &'a str) -> Option<Challenge<'a>> {
        let mut fields = message.split(',');
        let nonce = fields.next()?.strip_prefix("r=").filter(|nonce| nonce.len() <= MAX_NONCE)?;
        let salt = fields.next()?.strip_prefix("s=")?;
        let salt = BASE64.decode(salt).ok().filter(|s| (1..=MAX_SALT).contains(&s.len()))?;
        let iterations = fields.next()?.strip_prefix("i=")?.parse().ok()?;
        let legal = (MIN_ITERATIONS..=MAX_ITERATIONS).contains(&iterations);
        legal.then_some(Challenge { nonce, salt, iterations })
    }
}

/// RFC 4013. What it forbids is used as it stands: the server decides whether it matches.
fn prepared(text: &str) -> Cow<'_, str> {
    stringprep::saslprep(text).unwrap_or(Cow::Borrowed(text))
}

fn hmac(key: &Key, message: &[u8]) -> Key {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn exchange() -> (Scram, Credentials) {
        (Scram::with_nonce("user", NONCE.to_owned()), Credentials::new("user", "pencil").unwrap())
    }

    /// RFC 7677 §3.
    #[test]
    fn the_published_exchange_is_ours() {
        let (mut scram, credentials) = exchange();
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        assert_eq!(
            scram.answer(SERVER_FIRST, &credentials).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(scram.is_proven_by("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        assert!(!scram.is_proven_by("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        assert!(!scram.is_proven_by("v=") && !scram.is_proven_by("e=other-error"));
    }

    #[test]
    fn nothing_is_proven_before_the_answer() {
        let (scram, _) = exchange();
        assert!(!scram.is_proven_by("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
    }

    #[test]
    fn names_are_prepared_and_escaped() {
        let scram = Scram::with_nonce("a=b,c\u{ad}", "x".into());
        assert_eq!(scram.first(), "n,,n=a=3Db=2Cc,r=x");
    }

    #[test]
    fn weak_costly_or_foreign_challenges_are_refused() {
        for challenge in [
            "",
            "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=600001",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=99999999999",
            "r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=!,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==",
            "m=ext,r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        ] {
            let (mut scram, credentials) = exchange();
            let answer = scram.answer(challenge, &credentials);
            assert_eq!(answer, Err(ProtocolError::BadChallenge), "{challenge}");
        }
    }
}
