//! SCRAM-SHA-256 and SCRAM-SHA-1 as the server (RFC 5802, RFC 7677), with and without channel
//! binding by `tls-exporter` (RFC 9266).

mod verifier;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

pub use verifier::{ScramHash, ScramVerifier, VerifierError};

/// Longest message of a client that is looked at, in octets.
const MAX_MESSAGE: usize = 8192;
/// Longest nonce a client may bring, in octets.
const MAX_NONCE: usize = 512;

/// Why an exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message is not what RFC 5802 §7 allows.
    #[error("a SCRAM message cannot be read")]
    Syntax,
    /// The client binds channels where the mechanism does not, or does not where it does, or in a
    /// way that is not ours, or insists on an extension.
    #[error("the client asks for another channel binding than the mechanism's, or an extension")]
    Unsupported,
    /// The client could bind channels and believes that we cannot, which somebody told it who is
    /// between us (RFC 5802 §6).
    #[error("the client did not see that channel binding is offered")]
    Downgrade,
    /// The proof, the nonce or the repeated header is wrong.
    #[error("the SCRAM proof is wrong")]
    WrongProof,
}

/// What is the same at both ends of one TLS session and nowhere else: its `tls-exporter` value
/// (RFC 9266 §2). Its Debug form is empty.
#[derive(Clone, PartialEq, Eq)]
pub struct ChannelBinding(pub [u8; 32]);

impl fmt::Debug for ChannelBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelBinding")
    }
}

/// What an exchange demands of the client about channel binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding<'a> {
    /// The mechanism is a `-PLUS`: the client binds to this channel.
    To(&'a ChannelBinding),
    /// The mechanism does not bind, and its `-PLUS` was offered beside it.
    Waived,
    /// Nothing was offered that binds.
    Absent,
}

/// What a client says of channel binding in its first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flag {
    /// `n`: it cannot.
    Cannot,
    /// `y`: it could and believes that we cannot.
    Could,
    /// `p=tls-exporter`.
    Exporter,
    /// `p=` something else.
    Other,
}

/// The first message of a client, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFirst {
    /// Whom the client wants to act as, if it says so; not yet prepared.
    pub authzid: Option<String>,
    /// Who the client is; not yet prepared.
    pub authcid: String,
    flag: Flag,
    gs2_header: String,
    bare: String,
    nonce: String,
}

impl ClientFirst {
    /// Reads `client-first-message` (RFC 5802 §7).
    ///
    /// # Errors
    /// When it cannot be read or asks for an extension.
    pub fn parse(message: &[u8]) -> Result<ClientFirst, ScramError> {
        let text = readable(message)?;
        let (flag, rest) = text.split_once(',').ok_or(ScramError::Syntax)?;
        let flag = match flag {
            "n" => Flag::Cannot,
            "y" => Flag::Could,
            "p=tls-exporter" => Flag::Exporter,
            _ if flag.starts_with("p=") => Flag::Other,
            _ => return Err(ScramError::Syntax),
        };
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
        Ok(ClientFirst { authzid, authcid, flag, gs2_header, bare: bare.to_owned(), nonce })
    }

    /// What the client must repeat in `c=`: its header, and behind it the channel's value.
    fn binding(&self, demanded: Binding<'_>) -> Result<Vec<u8>, ScramError> {
        let header = self.gs2_header.as_bytes();
        match (demanded, self.flag) {
            (Binding::To(channel), Flag::Exporter) => Ok([header, &channel.0].concat()),
            (Binding::Waived, Flag::Could) => Err(ScramError::Downgrade),
            (Binding::Waived | Binding::Absent, Flag::Cannot) | (Binding::Absent, Flag::Could) => {
                Ok(header.to_vec())
            }
            _ => Err(ScramError::Unsupported),
        }
    }
}

/// An exchange after our first message was made.
#[derive(Debug)]
pub struct ScramServer {
    verifier: ScramVerifier,
    binding: Vec<u8>,
    nonce: String,
    auth_message: String,
    server_first: String,
}

impl ScramServer {
    /// Answers the client's first message with a fresh nonce.
    ///
    /// # Errors
    /// When the client does not bind to the channel as it is demanded.
    pub fn new(
        first: &ClientFirst,
        verifier: ScramVerifier,
        demanded: Binding<'_>,
    ) -> Result<ScramServer, ScramError> {
        let nonce = STANDARD.encode(rand::random::<[u8; 18]>());
        ScramServer::with_nonce(first, verifier, demanded, &nonce)
    }

    fn with_nonce(
        first: &ClientFirst,
        verifier: ScramVerifier,
        demanded: Binding<'_>,
        nonce: &str,
    ) -> Result<ScramServer, ScramError> {
        let binding = first.binding(demanded)?;
        let nonce = format!("{}{nonce}", first.nonce);
        let salt = STANDARD.encode(&verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let auth_message = format!("{},{server_first},", first.bare);
        Ok(ScramServer { verifier, binding, nonce, auth_message, server_first })
    }

    /// `server-first-message`.
    pub fn first(&self) -> &str {
        &self.server_first
    }

    /// Checks `client-final-message` and gives `server-final-message`, by which the client knows
    /// that we know the verifier.
    ///
    /// # Errors
    /// When it cannot be read or proves nothing.
    pub fn finish(self, message: &[u8]) -> Result<String, ScramError> {
        let hash = self.verifier.hash;
        let text = readable(message)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramError::Syntax)?;
        let proof = verifier::key(hash, proof).ok_or(ScramError::Syntax)?;
        let mut attributes = without_proof.split(',');
        let binding = STANDARD.decode(attribute(attributes.next(), "c=")?);
        let binding = binding.map_err(|_| ScramError::Syntax)?;
        let nonce = attribute(attributes.next(), "r=")?;
        let auth_message = format!("{}{without_proof}", self.auth_message);
        let signature = hash.hmac(&self.verifier.stored_key, &[auth_message.as_bytes()]);
        let client_key: Vec<u8> = proof.iter().zip(signature).map(|(p, s)| p ^ s).collect();
        let right = hash.digest(&client_key).ct_eq(&self.verifier.stored_key)
            & nonce.as_bytes().ct_eq(self.nonce.as_bytes())
            & binding.ct_eq(&self.binding);
        if !bool::from(right) {
            return Err(ScramError::WrongProof);
        }
        let answer = hash.hmac(&self.verifier.server_key, &[auth_message.as_bytes()]);
        Ok(format!("v={}", STANDARD.encode(answer)))
    }
}

/// HMAC-SHA-256 over the parts in a row.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // It has 32 octets always, so the fallback is never taken.
    ScramHash::Sha256.hmac(key, parts).try_into().unwrap_or([0; 32])
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

    fn verifier(hash: ScramHash, salt: &str) -> ScramVerifier {
        let verifier = ScramVerifier::derive(hash, "pencil", 4096, &STANDARD.decode(salt).unwrap());
        let verifier = ScramVerifier::parse(hash, &verifier.to_string()).unwrap();
        assert!(verifier.matches("pencil") && !verifier.matches("Pencil"));
        verifier
    }

    fn begun(first: &str, demanded: Binding<'_>) -> Result<ScramServer, ScramError> {
        let verifier = verifier(ScramHash::Sha256, "W22ZaJ0SNY7soEsUEjb6gQ==");
        let first = ClientFirst::parse(first.as_bytes())?;
        ScramServer::with_nonce(&first, verifier, demanded, NONCE)
    }

    fn example() -> ScramServer {
        begun(FIRST, Binding::Absent).unwrap()
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

    /// RFC 5802 §5.
    #[test]
    fn the_older_example_holds_with_sha_1() {
        let first = ClientFirst::parse(b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL").unwrap();
        let verifier = verifier(ScramHash::Sha1, "QSXCR+Q6sek8bf92");
        let nonce = "3rfcNHYJY1ZVvWVs7j";
        let server = ScramServer::with_nonce(&first, verifier, Binding::Absent, nonce).unwrap();
        let last = server.finish(
            b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        );
        assert_eq!(last.unwrap(), "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=");
    }

    #[test]
    fn the_client_binds_as_the_mechanism_says_and_is_not_downgraded() {
        let channel = ChannelBinding([7; 32]);
        let (to, waived, absent) = (Binding::To(&channel), Binding::Waived, Binding::Absent);
        for (flag, demanded, expected) in [
            ("p=tls-exporter", to, None),
            ("n", to, Some(ScramError::Unsupported)),
            ("y", to, Some(ScramError::Unsupported)),
            ("p=tls-unique", to, Some(ScramError::Unsupported)),
            ("n", waived, None),
            ("y", waived, Some(ScramError::Downgrade)),
            ("p=tls-exporter", waived, Some(ScramError::Unsupported)),
            ("n", absent, None),
            ("y", absent, None),
            ("p=tls-exporter", absent, Some(ScramError::Unsupported)),
        ] {
            let begun = begun(&format!("{flag},,n=user,r=abc"), demanded);
            assert_eq!(begun.err(), expected, "{flag} {demanded:?}");
        }
    }

    #[test]
    fn a_proof_for_another_channel_proves_nothing() {
        let finish = |ours: u8, theirs: u8| {
            let channel = ChannelBinding([ours; 32]);
            let server = begun("p=tls-exporter,,n=user,r=abc", Binding::To(&channel)).unwrap();
            let header = [b"p=tls-exporter,,", &[theirs; 32][..]].concat();
            let without = format!("c={},r=abc{NONCE}", STANDARD.encode(header));
            let message = proved("n=user,r=abc", &server, &without);
            server.finish(message.as_bytes())
        };
        assert!(finish(1, 1).is_ok());
        assert_eq!(finish(1, 2), Err(ScramError::WrongProof));
    }

    /// The client's final message, with the proof of somebody who knows the password.
    fn proved(bare: &str, server: &ScramServer, without_proof: &str) -> String {
        let hash = ScramHash::Sha256;
        let salted = pbkdf2::pbkdf2_hmac_array::<sha2::Sha256, 32>(
            b"pencil",
            &STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(),
            4096,
        );
        let client_key = hash.hmac(&salted, &[b"Client Key"]);
        let auth_message = format!("{bare},{},{without_proof}", server.first());
        let signature = hash.hmac(&hash.digest(&client_key), &[auth_message.as_bytes()]);
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(k, s)| k ^ s).collect();
        format!("{without_proof},p={}", STANDARD.encode(proof))
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
            ("p,,n=u,r=x", ScramError::Syntax),
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
}
