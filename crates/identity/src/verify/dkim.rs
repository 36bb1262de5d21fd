//! What each signature is worth (RFC 6376).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use mail_auth::common::crypto::Algorithm;
use mail_auth::common::headers::Header;
use mail_auth::dkim::{DkimError, Signature};
use mail_auth::{AuthenticatedMessage, DkimResult, DnsError, Error, MessageAuthenticator};
use tokio::time::{Instant, timeout_at};
use waypost_mail::Timestamp;

use super::findings::{AuthResult, DkimFinding};

/// Most fields that a signature may list: each is looked for among all of the message's.
pub(super) const MAX_LISTED: usize = 500;

/// Takes away what is not looked at: signatures beyond `most`, and what they ask of us (reports,
/// RFC 6651; third parties, RFC 6541). Expiry is judged by our clock.
pub(super) fn prune(message: &mut AuthenticatedMessage<'_>, most: usize, now: Timestamp) {
    message.dkim_headers.truncate(most);
    for header in &mut message.dkim_headers {
        let signature = &mut header.header;
        signature.r = false;
        signature.atps = None;
        signature.x = expiry(signature.x, signature.t, now);
    }
}

/// An `x=` that means the same whatever the library's clock says: never, or long ago.
pub(super) fn expiry(expires: u64, signed: u64, now: Timestamp) -> u64 {
    let is_good = expires == 0 || (expires > signed && expires > now.0 / 1000);
    if is_good { 0 } else { 1 }
}

/// Looks at every signature. What is not known at `deadline` is a temporary error.
pub(super) async fn check(
    authenticator: &MessageAuthenticator,
    message: &AuthenticatedMessage<'_>,
    most: usize,
    deadline: Instant,
) -> Vec<DkimFinding> {
    let malformed = message.errors.iter().filter(|error| is_named(error, "DKIM-Signature"));
    let malformed = malformed.map(|error| unreadable(&error.header));
    let each =
        message.dkim_headers.iter().map(|header| one(authenticator, message, header, deadline));
    let mut findings = join_all(each).await;
    findings.extend(malformed);
    findings.truncate(most);
    findings
}

pub(super) fn is_named<T>(header: &Header<'_, T>, name: &str) -> bool {
    header.name.trim_ascii().eq_ignore_ascii_case(name.as_bytes())
}

async fn one(
    authenticator: &MessageAuthenticator,
    message: &AuthenticatedMessage<'_>,
    header: &Header<'_, Signature>,
    deadline: Instant,
) -> DkimFinding {
    let signature = &header.header;
    if let Some((result, reason)) = unusable(signature) {
        return finding(signature, result, Some(reason));
    }
    let single = AuthenticatedMessage {
        headers: message.headers.clone(),
        from: message.from.clone(),
        body_hashes: message.body_hashes.clone(),
        dkim_headers: vec![header.clone()],
        ..AuthenticatedMessage::default()
    };
    match timeout_at(deadline, authenticator.verify_dkim(&single)).await {
        Err(_) => finding(signature, AuthResult::TempError, Some("the time is up")),
        Ok(outputs) => {
            let (result, reason) = match outputs.first() {
                Some(output) => judge(output.result()),
                None => (AuthResult::None, None),
            };
            finding(signature, result, reason)
        }
    }
}

/// What need not be verified, because it could not pass.
fn unusable(signature: &Signature) -> Option<(AuthResult, &'static str)> {
    // RFC 8301 §3.1
    if signature.a == Algorithm::RsaSha1 {
        return Some((AuthResult::PermError, "SHA-1 vouches for nothing"));
    }
    // RFC 6376 §5.4
    if !signature.h.iter().any(|name| name.eq_ignore_ascii_case("from")) {
        return Some((AuthResult::PermError, "the author is not signed"));
    }
    if signature.h.len() > MAX_LISTED {
        return Some((AuthResult::Policy, "it lists too many fields"));
    }
    None
}

fn judge(result: &DkimResult) -> (AuthResult, Option<&'static str>) {
    match result {
        DkimResult::Pass => (AuthResult::Pass, None),
        DkimResult::None => (AuthResult::None, None),
        DkimResult::TempError(_) => (AuthResult::TempError, Some("a DNS server does not answer")),
        DkimResult::Neutral(error) | DkimResult::Fail(error) | DkimResult::PermError(error) => {
            why(error)
        }
    }
}

/// RFC 6376 §6.1: which of its failures is which result of RFC 8601 §2.7.1.
fn why(error: &Error) -> (AuthResult, Option<&'static str>) {
    let (result, reason) = match error {
        Error::Dkim(DkimError::FailedBodyHashMatch) => {
            (AuthResult::Fail, "the body is not the one that was signed")
        }
        Error::Dkim(DkimError::SignatureExpired) => (AuthResult::Fail, "the signature is expired"),
        Error::Dkim(DkimError::FailedAuidMatch) => {
            (AuthResult::PermError, "it speaks for somebody outside its domain")
        }
        Error::Dkim(DkimError::RevokedPublicKey) => (AuthResult::PermError, "the key is revoked"),
        Error::Dns(DnsError::RecordNotFound(_)) => (AuthResult::PermError, "there is no such key"),
        Error::Crypto(mail_auth::common::crypto::CryptoError::IncompatibleAlgorithms) => {
            (AuthResult::PermError, "the key is of another kind")
        }
        Error::Crypto(_) => (AuthResult::Fail, "the signature is not of this message"),
        _ => (AuthResult::PermError, "the key cannot be read"),
    };
    (result, Some(reason))
}

fn finding(signature: &Signature, result: AuthResult, reason: Option<&'static str>) -> DkimFinding {
    let beginning = STANDARD.encode(&signature.b[..signature.b.len().min(6)]);
    DkimFinding {
        result,
        domain: signature.d.clone(),
        selector: signature.s.clone(),
        algorithm: signature.a.name(),
        beginning,
        reason,
    }
}

/// A field that is no signature, or none that is accepted.
fn unreadable(error: &Error) -> DkimFinding {
    let (result, reason) = match error {
        // RFC 6376 §8.2
        Error::Dkim(DkimError::SignatureLength) => {
            (AuthResult::Policy, "it signs a part of the body (l=)")
        }
        _ => (AuthResult::Neutral, "the signature cannot be read"),
    };
    nameless(result, reason)
}

/// When there is no time to look for signatures.
pub(super) fn unknown() -> DkimFinding {
    nameless(AuthResult::TempError, "the time is up")
}

fn nameless(result: AuthResult, reason: &'static str) -> DkimFinding {
    DkimFinding {
        result,
        domain: String::new(),
        selector: String::new(),
        algorithm: "",
        beginning: String::new(),
        reason: Some(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_judged_by_our_clock() {
        let now = Timestamp(1_000_000);
        assert_eq!(expiry(0, 5, now), 0);
        assert_eq!(expiry(1_001, 5, now), 0);
        assert_eq!(expiry(1_000, 5, now), 1);
        assert_eq!(expiry(2_000, 2_000, now), 1);
    }

    #[test]
    fn what_cannot_pass_is_not_verified() {
        let signed = |names: &[&str], a| Signature {
            a,
            h: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Signature::default()
        };
        let result = |signature: &Signature| unusable(signature).map(|(result, _)| result);
        assert_eq!(result(&signed(&["From"], Algorithm::RsaSha256)), None);
        assert_eq!(result(&signed(&["From"], Algorithm::RsaSha1)), Some(AuthResult::PermError));
        assert_eq!(result(&signed(&["to"], Algorithm::RsaSha256)), Some(AuthResult::PermError));
        let many = [&["from"][..], &["x"; MAX_LISTED]].concat();
        assert_eq!(result(&signed(&many, Algorithm::RsaSha256)), Some(AuthResult::Policy));
    }
}
