//! ARC sets (RFC 8617 §5.1): what was found out about a message, sealed for those who get it next.
//!
//! The IETF is retiring ARC: it is sealed where somebody asks for it, and by RSA alone, which is what
//! verifiers of ARC know.

use mail_auth::AuthenticatedMessage;
use waypost_mail::{HeaderBlock, Timestamp, header};

use crate::body::BodyHash;
use crate::error::SignError;
use crate::field::{Tags, Unsigned};
use crate::header::relaxed;
use crate::key::SigningKey;
use crate::keyring::Keyring;
use crate::name::Place;
use crate::results;
use crate::selection::{Listed, Selection};
use crate::verify::{ArcFinding, AuthResult, Findings};
use crate::vouched::OwnSet;

const RESULTS: &str = "ARC-Authentication-Results";
/// Most sets of a chain (RFC 8617 §4.2.1).
const MAX_SETS: u32 = 50;

/// By whom messages are sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealRequest {
    /// The name of the signing key in the configuration.
    pub key: String,
    /// The domain that seals (`d=`).
    pub domain: String,
    /// Under which name verifiers find the public key (`s=`).
    pub selector: String,
}

/// Why nothing can be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// As for any signature.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// RFC 8617 names no other algorithm.
    #[error("the key {0:?} is not RSA, and verifiers of ARC know no other; make one of 2048 bits")]
    NotRsa(String),
}

/// What is said of the chain so far (`cv=`), and the number of the next set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Next {
    instance: u32,
    cv: &'static str,
}

impl Next {
    /// Nothing for a chain that is given up, full, or whose state is not known: a broken seal that
    /// says nothing new would harm what may be good.
    fn after(chain: &ArcFinding) -> Option<Next> {
        if chain.given_up || chain.sets >= MAX_SETS {
            return None;
        }
        let cv = match (chain.result, chain.sets) {
            (AuthResult::None, 0) => "none",
            (AuthResult::Pass, 1..) => "pass",
            (AuthResult::Fail, 1..) => "fail",
            _ => return None,
        };
        Some(Next { instance: chain.sets + 1, cv })
    }
}

impl Keyring {
    /// Whether `request` can be carried out on a proper message.
    ///
    /// # Errors
    /// There is no such key, or it cannot seal; or domain or selector are none.
    pub fn check_seal(&self, request: &SealRequest) -> Result<(), SealError> {
        self.read_seal(request).map(|_| ())
    }

    /// The three fields of one set, CRLF included, to be put on top; none where the chain is not to be
    /// sealed. `findings` were made of the message as it came in, `header` and `body` are the message
    /// as it will leave, `id` is who found them.
    ///
    /// # Errors
    /// See [`SignError::blame`]: the message can go on without.
    pub fn seal(
        &self,
        request: &SealRequest,
        id: &str,
        findings: &Findings,
        header: &HeaderBlock,
        body: &BodyHash,
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, SealError> {
        let Some(next) = findings.arc.as_ref().and_then(Next::after) else { return Ok(None) };
        let told = format!("i={}; {}", next.instance, results::text(id, findings));
        let told = header::field(RESULTS, &told);
        self.set(request, next, &told, header, body, now).map(Some)
    }

    /// A set of ours once more, for a copy that was changed: it says of the message and of the chain what
    /// it said. `header` is the copy's, without the fields of the set.
    ///
    /// # Errors
    /// As for [`Keyring::seal`].
    pub fn seal_again(
        &self,
        request: &SealRequest,
        set: &OwnSet,
        header: &HeaderBlock,
        body: &BodyHash,
        now: Timestamp,
    ) -> Result<Vec<u8>, SealError> {
        let next = Next { instance: set.instance, cv: set.chain };
        self.set(request, next, &set.results, header, body, now)
    }

    /// The fields of one set, of which `told` is one.
    fn set(
        &self,
        request: &SealRequest,
        next: Next,
        told: &[u8],
        header: &HeaderBlock,
        body: &BodyHash,
        now: Timestamp,
    ) -> Result<Vec<u8>, SealError> {
        let (key, place) = self.read_seal(request)?;
        let selection = Selection::pick(&Listed::sealed(), header)?;
        let tags = Tags {
            algorithm: key.algorithm(),
            domain: &place.domain,
            selector: &place.selector,
            signed_at: now.0 / 1000,
            expires_at: None,
            names: &selection.names,
            body,
        };
        let sign = |input: &[u8]| {
            key.sign(input).map_err(|error| SignError::Crypto {
                key: request.key.clone(),
                error: error.to_string(),
            })
        };
        let message = Unsigned::arc_message(next.instance, &tags);
        let mut input = selection.canonical;
        message.canonical(&mut input);
        let message = message.signed(&sign(&input)?);

        let seal = Unsigned::arc_seal(next.instance, next.cv, &tags);
        // RFC 8617 §5.1.2: what was found broken is not sealed again, only that it was.
        let mut input = if next.cv == "fail" { Vec::new() } else { earlier_sets(header) };
        for field in [told, message.as_slice()] {
            canonical(field, &mut input);
        }
        seal.canonical(&mut input);
        let seal = seal.signed(&sign(&input)?);
        Ok([seal.as_slice(), &message, told].concat())
    }

    fn read_seal(&self, request: &SealRequest) -> Result<(&SigningKey, Place), SealError> {
        let key = self.get(&request.key);
        let key = key.ok_or_else(|| SignError::NoSuchKey(request.key.clone()))?;
        if key.public().kind() != "rsa" {
            return Err(SealError::NotRsa(request.key.clone()));
        }
        let place = Place::new(&request.selector, &request.domain).map_err(SignError::Name)?;
        Ok((key, place))
    }
}

/// The sets that are there, in canonical form and in the order in which they were made, which is how
/// a seal covers them.
fn earlier_sets(block: &HeaderBlock) -> Vec<u8> {
    let text = [block.as_bytes().as_ref(), b"\r\n"].concat();
    let message = AuthenticatedMessage::parse(&text).unwrap_or_default();
    let mut input = Vec::new();
    let sets = message.aar_headers.iter().zip(&message.ams_headers).zip(&message.as_headers);
    for ((results, signature), seal) in sets {
        for (name, value) in [
            (results.name, results.value),
            (signature.name, signature.value),
            (seal.name, seal.value),
        ] {
            relaxed(String::from_utf8_lossy(name).trim(), value, &mut input);
            input.extend_from_slice(b"\r\n");
        }
    }
    input
}

/// A whole field in canonical form, CRLF behind it.
fn canonical(field: &[u8], input: &mut Vec<u8>) {
    let colon = field.iter().position(|octet| *octet == b':').unwrap_or(field.len());
    let (name, value) = field.split_at(colon);
    relaxed(&String::from_utf8_lossy(name), value.get(1..).unwrap_or_default(), input);
    input.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keygen::{Algorithm, generate};

    fn chain(result: AuthResult, sets: u32, given_up: bool) -> ArcFinding {
        ArcFinding { result, sets, given_up, reason: None }
    }

    #[test]
    fn a_chain_is_sealed_once_more_unless_that_says_nothing() {
        let next = |result, sets, given_up| {
            Next::after(&chain(result, sets, given_up)).map(|next| (next.instance, next.cv))
        };
        assert_eq!(next(AuthResult::None, 0, false), Some((1, "none")));
        assert_eq!(next(AuthResult::Pass, 1, false), Some((2, "pass")));
        assert_eq!(next(AuthResult::Fail, 3, false), Some((4, "fail")));
        assert_eq!(next(AuthResult::Fail, 3, true), None);
        assert_eq!(next(AuthResult::Fail, 0, false), None);
        assert_eq!(next(AuthResult::Pass, 50, false), None);
        assert_eq!(next(AuthResult::TempError, 1, false), None);
    }

    #[test]
    fn a_request_is_checked_before_there_is_a_message() {
        let key = |algorithm| {
            SigningKey::from_pem(generate(algorithm).unwrap().private_pem().as_bytes()).unwrap()
        };
        let ring = Keyring::from_iter([
            ("rsa".to_owned(), key(Algorithm::Rsa2048)),
            ("ed".to_owned(), key(Algorithm::Ed25519)),
        ]);
        let check = |key: &str, domain: &str| {
            let (key, domain) = (key.to_owned(), domain.to_owned());
            ring.check_seal(&SealRequest { key, domain, selector: "s".to_owned() })
        };
        assert_eq!(check("rsa", "example.org"), Ok(()));
        assert_eq!(check("ed", "example.org"), Err(SealError::NotRsa("ed".to_owned())));
        assert!(matches!(
            check("no", "example.org"),
            Err(SealError::Sign(SignError::NoSuchKey(_)))
        ));
        assert!(matches!(check("rsa", "a b"), Err(SealError::Sign(SignError::Name(_)))));
    }
}
