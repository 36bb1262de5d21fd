//! What a request is answered: who gets the message, or what is wrong.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use waypost_mail::MessageId;
use waypost_smtp::{Mailbox, Reply, Severity};

/// The media type of what went wrong (RFC 9457 §3).
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
/// When to try again unless something else is said.
pub(super) const AGAIN: Duration = Duration::from_secs(30);

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Accepted {
    /// The queue id, as logs and `waypost queue` have it.
    pub(super) id: String,
    /// Every recipient that was named, in order.
    pub(super) recipients: Vec<Fate>,
}

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fate {
    pub(super) address: String,
    /// `accepted`, `deferred` (try again later) or `refused`.
    pub(super) status: FateStatus,
    /// The reply, as SMTP has it.
    pub(super) code: u16,
    /// Its enhanced status code, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) enhanced: Option<String>,
    pub(super) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FateStatus {
    Accepted,
    Deferred,
    Refused,
}

impl Fate {
    pub(super) fn new(mailbox: &Mailbox, reply: &Reply) -> Fate {
        Fate {
            address: mailbox.to_string(),
            status: match reply.severity() {
                Severity::Positive => FateStatus::Accepted,
                Severity::Permanent => FateStatus::Refused,
                _ => FateStatus::Deferred,
            },
            code: reply.code.get(),
            enhanced: reply.enhanced.map(|enhanced| enhanced.to_string()),
            text: reply.text.to_string(),
        }
    }
}

impl Accepted {
    pub(super) fn new(id: MessageId, recipients: Vec<Fate>) -> Accepted {
        Accepted { id: id.to_string(), recipients }
    }
}

impl IntoResponse for Accepted {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, Json(self)).into_response()
    }
}

/// Why there is no message (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    #[serde(serialize_with = "number")]
    pub(super) status: StatusCode,
    pub(super) title: String,
    pub(super) detail: String,
    /// Where recipients were asked about: what was said of each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) recipients: Vec<Fate>,
    /// When to try again.
    #[serde(skip)]
    pub(super) again: Option<Duration>,
}

fn number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        let title = status.canonical_reason().unwrap_or("Problem").to_owned();
        Problem { status, title, detail: detail.into(), recipients: Vec::new(), again: None }
    }

    /// Says when to try again.
    pub(super) fn retry_after(self, wait: Duration) -> Problem {
        Problem { again: Some(wait), ..self }
    }

    /// What policy, or the relay, said of all of it.
    pub(super) fn of(reply: &Reply) -> Problem {
        let status = match (reply.severity(), reply.enhanced) {
            (Severity::Permanent, _) if reply.code.get() == 552 => StatusCode::PAYLOAD_TOO_LARGE,
            (Severity::Permanent, Some(enhanced)) if enhanced.1 == 7 => StatusCode::FORBIDDEN,
            (Severity::Permanent, _) => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, reply.to_string())
    }

    /// None of the recipients was taken: worth another try when one of them was put off.
    pub(super) fn nobody(recipients: Vec<Fate>) -> Problem {
        let later = recipients.iter().any(|fate| fate.status == FateStatus::Deferred);
        let status = match later {
            true => StatusCode::SERVICE_UNAVAILABLE,
            false => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Problem { recipients, ..Problem::new(status, "no recipient is accepted") }
    }

    pub(super) fn bad(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn wrong(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }
}

/// Whole seconds, never too few.
pub(super) fn seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).max(1).try_into().unwrap_or(u64::MAX)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let later =
            status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS;
        let again = self.again.or(later.then_some(AGAIN)).map(seconds);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM);
        if let Some(again) = again {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(again));
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 6750 §3.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_become_what_http_has_for_them() {
        for (reply, status) in [
            (Reply::LOCAL_ERROR, 503),
            (Reply::INSUFFICIENT_STORAGE, 503),
            (Reply::MESSAGE_TOO_BIG, 413),
            (Reply::REFUSED_BY_POLICY, 403),
            (Reply::MAILBOX_UNAVAILABLE, 422),
        ] {
            assert_eq!(Problem::of(&reply).status.as_u16(), status, "{reply}");
        }
        let mailbox: Mailbox = "a@b.example".parse().unwrap();
        let fate = |reply| Fate::new(&mailbox, &reply);
        let all = vec![fate(Reply::MAILBOX_UNAVAILABLE)];
        assert_eq!(Problem::nobody(all.clone()).status.as_u16(), 422);
        let some = [all, vec![fate(Reply::LOCAL_ERROR)]].concat();
        assert_eq!(Problem::nobody(some).status.as_u16(), 503);
    }
}
