//! DKIM2 (draft-ietf-dkim-dkim2-spec-04, as mail-auth implements it): a signature over one copy, bound
//! to the envelope with which it leaves.
//!
//! Only mail that begins here is signed, in the name of its sender's domain: a copy that carries DKIM2
//! fields already goes on as it is.

use std::collections::HashSet;
use std::fmt;
use std::io;

use mail_auth::AuthenticatedMessage;
use mail_auth::common::crypto::HashAlgorithm;
use mail_auth::dkim2::{Dkim2Signed, Dkim2Signer, Done, Hop, MessageHash, MessageInstance};
use waypost_mail::addresses::AddressList;
use waypost_mail::{HeaderBlock, Rope};
use waypost_smtp::{Mailbox, ReversePath};

use crate::body::{BodyHashes, Forms};
use crate::error::SignError;
use crate::keyring::Keyring;
use crate::name::Place;

/// How much of a body is hashed in one go.
const PIECE: usize = 256 * 1024;

/// Whose copies are signed, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyRequest {
    /// The name of the signing key in the configuration.
    pub key: String,
    /// The domain that signs (`d=`), for senders in it and in domains below it.
    pub domain: String,
    /// Under which name verifiers find the public key.
    pub selector: String,
}

/// Signs copies for one domain.
pub struct CopySigner {
    signer: Dkim2Signer<Done>,
    domain: String,
}

impl fmt::Debug for CopySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopySigner").field("domain", &self.domain).finish_non_exhaustive()
    }
}

/// A copy that is not signed although it should be.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Its body cannot be read.
    #[error("its body cannot be read ({0})")]
    Body(#[from] io::Error),
    /// The cryptography failed.
    #[error("the key for {domain} could not sign: {error}; make a new key if this lasts")]
    Crypto {
        /// For which domain.
        domain: String,
        /// What the library said.
        error: String,
    },
}

impl CopySigner {
    pub(crate) fn new(ring: &Keyring, request: &CopyRequest) -> Result<CopySigner, SignError> {
        let key = ring.get(&request.key);
        let key = key.ok_or_else(|| SignError::NoSuchKey(request.key.clone()))?;
        let place = Place::new(&request.selector, &request.domain)?;
        let secret = key.again().map_err(|error| SignError::Crypto {
            key: request.key.clone(),
            error: error.to_string(),
        })?;
        let domain = place.domain;
        let signer = Dkim2Signer::from_key(secret).domain(domain.clone()).selector(place.selector);
        Ok(CopySigner { signer, domain })
    }

    /// True when the copies of this sender are signed. Notices have none.
    pub fn speaks_for(&self, sender: &ReversePath) -> bool {
        let domain = sender.mailbox().and_then(|mailbox| mailbox.domain().name());
        domain.is_some_and(|domain| {
            let above = domain.strip_suffix(self.domain.as_str());
            above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
        })
    }

    /// The fields to put on top of this copy, CRLF included. None when it is signed already, or when the
    /// signature would tell recipients of each other: it names them all, so that those of several must
    /// stand in To or Cc.
    ///
    /// Blocks for the time it takes to read the body.
    ///
    /// # Errors
    /// When this machine fails; another attempt may do.
    pub fn sign(
        &self,
        header: &HeaderBlock,
        body: &Rope,
        sender: &ReversePath,
        recipients: &[&Mailbox],
    ) -> Result<Option<Vec<u8>>, CopyError> {
        let Some(sender) = sender.mailbox() else { return Ok(None) };
        if recipients.len() > 1 && !are_named(header, recipients) {
            return Ok(None);
        }
        let text = [header.as_bytes().as_ref(), b"\r\n"].concat();
        let message = AuthenticatedMessage::parse(&text).unwrap_or_default();
        let is_signed = message.has_dkim2_errors
            || !message.dkim2_signatures.is_empty()
            || !message.dkim2_instances.is_empty();
        if is_signed {
            return Ok(None);
        }
        let instance = first_instance(&message, body)?;
        let recipients: Vec<String> = recipients.iter().map(ToString::to_string).collect();
        let hop = Hop::<_, _, String>::real(sender.to_string(), &recipients);
        let signed = self.signer.sign_with_message_instance(&message, Some(&instance), hop);
        let signature = signed.map_err(|error| CopyError::Crypto {
            domain: self.domain.clone(),
            error: error.to_string(),
        })?;
        let signed = Dkim2Signed { message_instance: Some(instance), signature };
        Ok(Some(signed.to_header().into_bytes()))
    }
}

/// The message as it is now; its body is hashed as it is read.
fn first_instance(message: &AuthenticatedMessage<'_>, body: &Rope) -> io::Result<MessageInstance> {
    let forms = Forms { simple: true, ..Forms::default() };
    let hashes = BodyHashes::of(body.chunks(PIECE), forms)?;
    let body_hash = hashes.simple.map_or_else(Vec::new, |hash| hash.as_bytes().to_vec());
    let header_hash = HashAlgorithm::Sha256.headers_hash(message.headers.iter().copied());
    let hash = MessageHash {
        name: Some(HashAlgorithm::Sha256),
        header_hash: header_hash.as_ref().to_vec(),
        body_hash,
    };
    Ok(MessageInstance { m: 1, hashes: vec![hash], recipe: None })
}

/// True when every recipient stands where all of them read it.
fn are_named(header: &HeaderBlock, recipients: &[&Mailbox]) -> bool {
    let mut named = HashSet::new();
    let is_seen = |name: &str| ["To", "Cc"].iter().any(|seen| seen.eq_ignore_ascii_case(name));
    for field in header.views().filter(|field| is_seen(field.name)) {
        let value = field.unfolded();
        let found = AddressList::find(&value).found;
        named.extend(found.into_iter().map(|place| value[place].to_lowercase()));
    }
    recipients.iter().all(|recipient| named.contains(&recipient.to_string().to_lowercase()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::key::SigningKey;
    use crate::keygen::{Algorithm, generate};

    fn signer() -> CopySigner {
        let key = generate(Algorithm::Ed25519).unwrap();
        let key = SigningKey::from_pem(key.private_pem().as_bytes()).unwrap();
        let ring = Keyring::from_iter([("k".to_owned(), key)]);
        let request = CopyRequest {
            key: "k".to_owned(),
            domain: "Example.ORG".to_owned(),
            selector: "s".to_owned(),
        };
        CopySigner::new(&ring, &request).unwrap()
    }

    fn path(text: &str) -> ReversePath {
        ReversePath::Mailbox(text.parse().unwrap())
    }

    #[test]
    fn senders_in_the_domain_and_below_it_are_signed_for() {
        let signer = signer();
        let speaks = |text| signer.speaks_for(&path(text));
        assert!(speaks("a@example.org") && speaks("a@mail.EXAMPLE.org"));
        assert!(!speaks("a@notexample.org") && !speaks("a@org") && !speaks("a@[192.0.2.1]"));
        assert!(!signer.speaks_for(&ReversePath::Null));
    }

    #[test]
    fn a_signature_tells_nobody_of_recipients_that_were_hidden() {
        let signer = signer();
        let [one, two]: [Mailbox; 2] =
            ["one@dest.example", "two@dest.example"].map(|text| text.parse().unwrap());
        let body = Rope::from(Bytes::from_static(b"x\r\n"));
        let signed = |text: &'static str, recipients: &[&Mailbox]| {
            let header = HeaderBlock::parse(Bytes::from_static(text.as_bytes()));
            let signed = signer.sign(&header, &body, &path("a@example.org"), recipients);
            signed.unwrap().map(|fields| String::from_utf8(fields).unwrap())
        };
        let to_one = "From: a@example.org\r\nTo: One <ONE@dest.example>\r\n";
        let fields = signed(to_one, &[&one]).unwrap();
        assert!(fields.contains("DKIM2-Signature:") && fields.contains("Message-Instance:"));
        assert!(fields.ends_with("\r\n") && !fields.contains("\r\n\r\n"), "{fields}");
        assert!(signed("From: a@example.org\r\n", &[&two]).is_some());
        assert_eq!(signed(to_one, &[&one, &two]), None);
        let to_both = "From: a@example.org\r\nTo: one@dest.example\r\nCc: g: two@dest.example;\r\n";
        assert!(signed(to_both, &[&one, &two]).is_some());
        let again: &'static str = format!("{fields}{to_one}").leak();
        assert_eq!(signed(again, &[&one]), None);
    }
}
