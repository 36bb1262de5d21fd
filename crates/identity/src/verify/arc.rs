//! Whether the chain of those who passed a message on is unbroken (RFC 8617 §5.2).

use mail_auth::arc::{ArcError, ChainValidation};
use mail_auth::common::crypto::Algorithm;
use mail_auth::{AuthenticatedMessage, DkimResult, Error, MessageAuthenticator};
use waypost_mail::Timestamp;

use super::dkim::{MAX_LISTED, expiry, is_named};
use super::findings::{ArcFinding, AuthResult};

/// Longest chain (RFC 8617 §4.2.1).
const MAX_SETS: usize = 50;
const FIELDS: [&str; 3] = ["ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results"];

/// Expiry is judged by our clock.
pub(super) fn prune(message: &mut AuthenticatedMessage<'_>, now: Timestamp) {
    for header in &mut message.ams_headers {
        header.header.x = expiry(header.header.x, header.header.t, now);
    }
}

/// Looks at the whole chain.
pub(super) async fn check(
    authenticator: &MessageAuthenticator,
    message: &AuthenticatedMessage<'_>,
) -> ArcFinding {
    match obstacle(message) {
        Some(reason) => found(message, AuthResult::Fail, Some(reason)),
        None => {
            let (result, reason) = judge(authenticator.verify_arc(message).await.result());
            found(message, result, reason)
        }
    }
}

/// What is known of the chain when there is no time to verify it.
pub(super) fn unknown(message: &AuthenticatedMessage<'_>) -> ArcFinding {
    found(message, AuthResult::TempError, Some("the time is up"))
}

fn found(
    message: &AuthenticatedMessage<'_>,
    result: AuthResult,
    reason: Option<&'static str>,
) -> ArcFinding {
    let last = message.as_headers.iter().max_by_key(|seal| seal.header.i);
    ArcFinding {
        result,
        sets: last.map_or(0, |seal| seal.header.i),
        given_up: last.is_some_and(|seal| seal.header.cv == ChainValidation::Fail),
        reason,
    }
}

/// What need not be verified.
fn obstacle(message: &AuthenticatedMessage<'_>) -> Option<&'static str> {
    let is_ours = |error| FIELDS.iter().any(|name| is_named(error, name));
    if message.errors.iter().any(is_ours) {
        return Some("a field of the chain cannot be read");
    }
    let counts = [message.as_headers.len(), message.ams_headers.len(), message.aar_headers.len()];
    if counts != [counts[0]; 3] {
        return Some("a set is not complete");
    }
    if counts[0] > MAX_SETS {
        return Some("the chain is too long");
    }
    let by_sha1 = message.as_headers.iter().any(|seal| seal.header.a == Algorithm::RsaSha1)
        || message.ams_headers.iter().any(|signed| signed.header.a == Algorithm::RsaSha1);
    if by_sha1 {
        return Some("SHA-1 vouches for nothing");
    }
    let too_many = message.ams_headers.iter().any(|signed| signed.header.h.len() > MAX_LISTED);
    too_many.then_some("a signature lists too many fields")
}

/// RFC 8617 knows no other results than none, pass and fail; one that may be another in an hour is
/// called that all the same.
fn judge(result: &DkimResult) -> (AuthResult, Option<&'static str>) {
    match result {
        DkimResult::Pass => (AuthResult::Pass, None),
        DkimResult::None => (AuthResult::None, None),
        DkimResult::TempError(_) => (AuthResult::TempError, Some("a DNS server does not answer")),
        DkimResult::Neutral(error) | DkimResult::Fail(error) | DkimResult::PermError(error) => {
            (AuthResult::Fail, Some(why(error)))
        }
    }
}

fn why(error: &Error) -> &'static str {
    match error {
        Error::Arc(ArcError::FailedBodyHashMatch) => "the body is not the one that was sealed",
        Error::Arc(ArcError::SignatureExpired) => "the last signature is expired",
        Error::Arc(ArcError::InvalidCV) => "somebody on the way found it broken",
        Error::Arc(_) => "the sets are not in order",
        Error::Crypto(_) => "a signature is not of this message",
        _ => "a key cannot be had",
    }
}
