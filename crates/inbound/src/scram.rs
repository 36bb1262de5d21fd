//! SCRAM-SHA-256 as the server (RFC 5802, RFC 7677), without channel binding.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Iterations of a new verifier. RFC 7677 §4 asks for 4096 at least.
const ITERATIONS: u32 = 16_384;
/// What a verifier of the users file may have: fewer is against RFC 7677 §4, more would stall
/// clients and PLAIN.
const ITERATIONS_TAKEN: std::ops::RangeInclusive<u32> = 4096..=10_000_000;
/// Octets of a salt of ours.
const SALT: usize = 16;
/// Longest message of a client that is looked at, in octets.
const MAX_MESSAGE: usize = 8192;
/// Longest nonce a client may bring, in octets.
const MAX_NONCE: usize = 512;

type Key = [u8; 32];

/// What the server keeps instead of a password (RFC 5802 §5.1). Its Debug form is empty.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

/// Why a text is no verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// It cannot be read.
    #[error("not a SCRAM-SHA-256 verifier (iterations$salt$stored-key$server-key, in base64)")]
    Syntax,
    /// The count is out of range.
    #[error("a SCRAM-SHA-256 verifier has 4096 to 10000000 iterations")]
    Iterations,
}

impl ScramVerifier {
    /// The verifier of a prepared password, with a fresh salt. Takes some milliseconds.
    pub fn new(password: &str) -> ScramVerifier {
        ScramVerifier::derive(password, ITERATIONS, &rand::random::<[u8; SALT]>())
    }

    /// Reads `iterations$salt$stored-key$server-key`.
    pub fn parse(text: &str) -> Result<ScramVerifier, VerifierError> {
        let mut parts = text.split('$');
        let mut next = || parts.next().ok_or(VerifierError::Syntax);
        let (iterations, salt, stored, server) = (next()?, next()?, next()?, next()?);
        let iterations = iterations.parse().map_err(|_| VerifierError::Syntax)?;
        if !ITERATIONS_TAKEN.contains(&iterations) {
            return Err(VerifierError::Iterations);
        }
        let salt = STANDARD.decode(salt).map_err(|_| VerifierError::Syntax)?;
        if salt.is_empty() || salt.len() > 64 || parts.next().is_some() {
            return Err(VerifierError::Syntax);
        }
        let (stored_key, server_key) = (key(stored)?, key(server)?);
        Ok(ScramVerifier { iterations, salt, stored_key, server_key })
    }

    /// True when the prepared password is the one this was derived from. Takes some milliseconds.
    pub fn matches(&self, password: &str) -> bool {
        let derived = ScramVerifier::derive(password, self.iterations, &self.salt);
        derived.stored_key.ct_eq(&self.stored_key).into()
    }

    /// A verifier that nothing matches, for a name that nobody has: always the same salt for the
    /// same name, so that asking twice tells no more than asking once.
    pub fn fake(name: &str, iterations: u32, secret: &[u8]) -> ScramVerifier {
        let salt = hmac(secret, &[b"scram-salt\0", name.as_bytes()])[..SALT].to_vec();
        ScramVerifier { iterations, salt, stored_key: rand::random(), server_key: rand::random() }
    }

    /// The iteration count.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    pub(crate) fn derive(password: &str, iterations: u32, salt: &[u8]) -> ScramVerifier {
        let salted: Key =
            pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), salt, iterations);
        let client_key = hmac(&salted, &[b"Client Key"]);
        ScramVerifier {
            iterations,
            salt: salt.to_vec(),
            stored_key: Sha256::digest(client_key).into(),
            server_key: hmac(&salted, &[b"Server Key"]),
        }
    }
}

impl Default for ScramVerifier {
    /// Matches nothing, costs what a new one costs.
    fn default() -> Self {
        ScramVerifier::fake("", ITERATIONS, &rand::random::<Key>())
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

/// Why an exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message is not what RFC 5802 §7 allows.
    #[error("a SCRAM message cannot be read")]
    Syntax,
    /// The client insists on channel binding, or on an extension.
    #[error("the client asks for channel binding or an extension that is not offered")]
    Unsupported,
    /// The proof, the nonce or the repeated header is wrong.
    #[error("the SCRAM proof is wrong")]
    WrongProof,
}

/// The first message of a client, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFirst {
    /// Whom the client wants to act as, if it says so; not yet prepared.
    pub authzid: Option<String>,
    /// Who the client is; not yet prepared.
    pub authcid: String,
    gs2_header: String,
    bare: String,
    nonce: String,
}

impl ClientFirst {
    /// Reads `client-first-message` (RFC 5802 §7).
    pub fn parse(message: &[u8]) -> Result<ClientFirst, ScramError> {
        let text = readable(message)?;
        let (flag, rest) = text.split_once(',').ok_or(ScramError::Syntax)?;
        match flag {
            // `y`: the client could bind channels and believes we cannot, which is true.
            "n" | "y" => {}
            _ if flag.starts_with("p=") => return Err(ScramError::Unsupported),
            _ => return Err(ScramError::Syntax),
        }
        let (authzid, bare) = rest.split_once(',').ok_or(ScramError::Syntax)?;
        let authzid = match authzid {
            "" => None,
            _ => Some(name(authzid.strip_prefix("a=").ok_or(ScramError::Syntax)?)?),
        };
        let gs2_header = text[..text.len() - bare.len()].to_owned();
        if bare.starts_with("m=") {
            return Err(ScramError::Unsupported);
        }
        let mut attributes = bare.split(',');
        let authcid = name(attribute(attributes.next(), "n=")?)?;
        let nonce = attribute(attributes.next(), "r=")?.to_owned();
        let printable = nonce.bytes().all(|b| b.is_ascii_graphic());
        if nonce.is_empty() || nonce.len() > MAX_NONCE || !printable {
            return Err(ScramError::Syntax);
        }
        Ok(ClientFirst { authzid, authcid, gs2_header, bare: bare.to_owned(), nonce })
    }
}

/// An exchange after our first message was made.
#[derive(Debug)]
pub struct ScramServer {
    verifier: ScramVerifier,
    gs2_header: String,
    nonce: String,
    auth_message: String,
    server_first: String,
}

impl ScramServer {
    /// Answers the client's first message with a fresh nonce.
    pub fn new(first: &ClientFirst, verifier: ScramVerifier) -> ScramServer {
        let nonce = STANDARD.encode(rand::random::<[u8; 18]>());
        ScramServer::with_nonce(first, verifier, &nonce)
    }

    fn with_nonce(first: &ClientFirst, verifier: ScramVerifier, nonce: &str) -> ScramServer {
        let nonce = format!("{}{nonce}", first.nonce);
        let salt = STANDARD.encode(&verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let auth_message = format!("{},{server_first},", first.bare);
        let gs2_header = first.gs2_header.clone();
        ScramServer { verifier, gs2_header, nonce, auth_message, server_first }
    }

    /// `server-first-message`.
    pub fn first(&self) -> &str {
        &self.server_first
    }

    /// Checks `client-final-message` and gives `server-final-message`, by which the client knows
    /// that we know the verifier.
    pub fn finish(self, message: &[u8]) -> Result<String, ScramError> {
        let text = readable(message)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramError::Syntax)?;
        let proof = key(proof).map_err(|_| ScramError::Syntax)?;
        let mut attributes = without_proof.split(',');
        let binding = STANDARD.decode(attribute(attributes.next(), "c=")?);
        let binding = binding.map_err(|_| ScramError::Syntax)?;
        let nonce = attribute(attributes.next(), "r=")?;
        let auth_message = format!("{}{without_proof}", self.auth_message);
        let signature = hmac(&self.verifier.stored_key, &[auth_message.as_bytes()]);
        let client_key: Vec<u8> = proof.iter().zip(signature).map(|(p, s)| p ^ s).collect();
        let stored_key: Key = Sha256::digest(&client_key).into();
        let right = stored_key.ct_eq(&self.verifier.stored_key)
            & nonce.as_bytes().ct_eq(self.nonce.as_bytes())
            & binding.ct_eq(self.gs2_header.as_bytes());
        if !bool::from(right) {
            return Err(ScramError::WrongProof);
        }
        let answer = hmac(&self.verifier.server_key, &[auth_message.as_bytes()]);
        Ok(format!("v={}", STANDARD.encode(answer)))
    }
}

/// HMAC-SHA-256 over the parts in a row.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    // A key of any length is legal, so the fallback is never taken.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn key(text: &str) -> Result<Key, VerifierError> {
    let bytes = STANDARD.decode(text).map_err(|_| VerifierError::Syntax)?;
    bytes.try_into().map_err(|_| VerifierError::Syntax)
}

fn readable(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MAX_MESSAGE || message.contains(&0) {
        return Err(ScramError::Syntax);
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Syntax)
}

fn attribute<'a>(part: Option<&'a str>, prefix: &str) -> Result<&'a str, ScramError> {
    part.and_then(|part| part.strip_prefix(prefix)).ok_or(ScramError::Syntax)
}

/// `saslname` (RFC 5802 §5.1): a comma is written `=2C`, an equals sign `=3D`.
fn name(text: &str) -> Result<String, ScramError> {
    let mut parts = text.split('=');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (escaped, rest) = match part.get(..2) {
            Some("2C") => (',', &part[2..]),
            Some("3D") => ('=', &part[2..]),
            _ => return Err(ScramError::Syntax),
        };
        name.push(escaped);
        name.push_str(rest);
    }
    if name.is_empty() { Err(ScramError::Syntax) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677 §3.
    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn example() -> ScramServer {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = ScramVerifier::derive("pencil", 4096, &salt);
        let verifier = ScramVerifier::parse(&verifier.to_string()).unwrap();
        assert!(verifier.matches("pencil") && !verifier.matches("Pencil"));
        ScramServer::with_nonce(&ClientFirst::parse(FIRST.as_bytes()).unwrap(), verifier, NONCE)
    }

    #[test]
    fn the_example_of_the_rfc_holds() {
        let server = example();
        assert_eq!(
            server.first(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let last = server.finish(FINAL.as_bytes()).unwrap();
        assert_eq!(last, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn any_change_of_the_last_message_is_refused() {
        for (from, to, error) in [
            ("dHzb", "eHzb", ScramError::WrongProof),
            ("c=biws", "c=eSws", ScramError::WrongProof),
            ("$k0", "$k1", ScramError::WrongProof),
            ("r=rOpr", "r=", ScramError::WrongProof),
            (",p=", ",q=", ScramError::Syntax),
            ("c=biws", "c=b!ws", ScramError::Syntax),
            ("dHzb", "", ScramError::Syntax),
        ] {
            let message = FINAL.replace(from, to);
            assert_eq!(example().finish(message.as_bytes()), Err(error), "{message}");
        }
    }

    #[test]
    fn first_messages_are_read() {
        let first = ClientFirst::parse(b"y,a=x=2Cy,n=a=3Db,r=abc,ext=1").unwrap();
        assert_eq!(first.authzid.as_deref(), Some("x,y"));
        assert_eq!((first.authcid.as_str(), first.nonce.as_str()), ("a=b", "abc"));
        assert_eq!(first.gs2_header, "y,a=x=2Cy,");
        for (message, error) in [
            ("p=tls-unique,,n=u,r=x", ScramError::Unsupported),
            ("n,,m=ext,n=u,r=x", ScramError::Unsupported),
            ("n,,n=,r=x", ScramError::Syntax),
            ("n,,n=u,r=", ScramError::Syntax),
            ("n,,n=u=2c,r=x", ScramError::Syntax),
            ("n,,n=u,r=a b", ScramError::Syntax),
            ("n,u,n=u,r=x", ScramError::Syntax),
            ("n,n=u,r=x", ScramError::Syntax),
            ("z,,n=u,r=x", ScramError::Syntax),
            ("", ScramError::Syntax),
        ] {
            assert_eq!(ClientFirst::parse(message.as_bytes()), Err(error), "{message}");
        }
    }

    #[test]
    fn a_fake_is_stable_and_matches_nothing() {
        let fake = |name| ScramVerifier::fake(name, 4096, b"secret");
        assert_eq!(fake("a").salt, fake("a").salt);
        assert_ne!(fake("a").salt, fake("b").salt);
        assert_ne!(fake("a").salt, ScramVerifier::fake("a", 4096, b"other").salt);
        assert!(!fake("a").matches("a"));
    }

    #[test]
    fn broken_verifiers_are_refused() {
        let good = ScramVerifier::derive("x", 4096, b"salt").to_string();
        assert!(ScramVerifier::parse(&good).is_ok());
        assert_eq!(
            ScramVerifier::parse(&good.replace("4096", "4095")),
            Err(VerifierError::Iterations)
        );
        for bad in ["", "4096", "4096$$$", &format!("{good}$"), &good[..good.len() - 4]] {
            assert_eq!(ScramVerifier::parse(bad), Err(VerifierError::Syntax), "{bad}");
        }
    }
}
