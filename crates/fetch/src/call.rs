//! What a request carries besides its URL: method, fields and body, checked.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT_ENCODING, CONNECTION, HOST, USER_AGENT};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request};
use waypost_mail::fetch::{FetchError, FetchRequest};

use crate::target::Target;

/// Who we say we are when the caller does not.
const AGENT: &str = concat!("Waypost/", env!("CARGO_PKG_VERSION"));
/// Most header fields of a caller.
const MAX_FIELDS: usize = 64;
/// Most octets of their names and values.
const MAX_FIELD_OCTETS: usize = 16 * 1024;
/// Fields that frame the message or belong to the connection: two opinions about them are how
/// requests are smuggled (RFC 9112 §11.2).
const OURS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A request that may be sent to any target that is allowed.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    fields: HeaderMap,
    body: Bytes,
}

impl Call {
    pub(crate) fn new(request: FetchRequest, max_body: usize) -> Result<Call, FetchError> {
        let method = method(&request.method)?;
        if request.body.len() > max_body {
            let length = request.body.len();
            let reason =
                format!("the body has {length} octets, and at most {max_body} are allowed");
            return Err(FetchError::Invalid(reason));
        }
        // RFC 9110 §9.3.1, §9.3.2, §9.3.8: some servers take such a body for the next request.
        if !request.body.is_empty() && matches!(method.as_str(), "GET" | "HEAD" | "TRACE") {
            return Err(FetchError::Invalid(format!("{method} carries no body")));
        }
        Ok(Call { method, fields: fields(&request.headers)?, body: request.body })
    }

    pub(crate) fn method(&self) -> &str {
        self.method.as_str()
    }

    /// What is asked after a redirect (RFC 9110 §15.4): 303 turns everything but HEAD into GET, 301
    /// and 302 turn POST into GET, as all clients do.
    pub(crate) fn redirected(mut self, status: u16) -> Call {
        let becomes_get = match status {
            303 => self.method != Method::HEAD,
            301 | 302 => self.method == Method::POST,
            _ => false,
        };
        if becomes_get {
            self.method = Method::GET;
            self.body = Bytes::new();
            let names: Vec<HeaderName> = self.fields.keys().cloned().collect();
            for name in names.iter().filter(|name| name.as_str().starts_with("content-")) {
                self.fields.remove(name);
            }
        }
        self
    }

    /// The request as it is sent to `target`, over a connection that serves nothing else.
    pub(crate) fn request(&self, target: &Target) -> Result<Request<Full<Bytes>>, FetchError> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(target.path_and_query())
            .header(HOST, target.origin().authority())
            .body(Full::new(self.body.clone()))
            .map_err(|e| FetchError::Invalid(format!("the URL: {e}")))?;
        let fields = request.headers_mut();
        fields.extend(self.fields.clone());
        fields.insert(CONNECTION, HeaderValue::from_static("close"));
        fields.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        // RFC 9110 §12.5.3: without it a server may compress as it likes.
        fields.entry(ACCEPT_ENCODING).or_insert(HeaderValue::from_static("identity"));
        Ok(request)
    }
}

/// CONNECT is left out: it makes a tunnel, not a question.
fn method(text: &str) -> Result<Method, FetchError> {
    let method = Method::from_bytes(text.as_bytes()).ok().filter(|m| *m != Method::CONNECT);
    method.ok_or_else(|| FetchError::Invalid(format!("no method to ask by: {:?}", shown(text))))
}

fn fields(pairs: &[(String, String)]) -> Result<HeaderMap, FetchError> {
    let octets: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if pairs.len() > MAX_FIELDS || octets > MAX_FIELD_OCTETS {
        let reason = format!("more than {MAX_FIELDS} header fields or {MAX_FIELD_OCTETS} octets");
        return Err(FetchError::Invalid(reason));
    }
    let mut fields = HeaderMap::with_capacity(pairs.len());
    for (name, value) in pairs {
        let (name, value) = field(name, value)?;
        fields.append(name, value);
    }
    Ok(fields)
}

/// Values are not shown: they carry tokens.
fn field(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), FetchError> {
    let shown = shown(name);
    let invalid = |what: &str| FetchError::Invalid(format!("the header field {shown:?} {what}"));
    let parsed =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("has no legal name"))?;
    if OURS.contains(&parsed.as_str()) || parsed.as_str().starts_with("proxy-") {
        return Err(invalid("is set by the client alone"));
    }
    // RFC 9110 §5.5; CR, LF and NUL above all.
    if !value.bytes().all(|b| matches!(b, b'\t' | b' '..=b'~')) {
        return Err(invalid("has a value with characters other than printable ASCII"));
    }
    let value = HeaderValue::from_str(value).map_err(|_| invalid("has no legal value"))?;
    Ok((parsed, value))
}

/// The beginning of what the caller gave, for a message.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn call(
        method: &str,
        headers: &[(&str, &str)],
        body: &'static str,
    ) -> Result<Call, FetchError> {
        let headers = headers.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        let request = FetchRequest {
            method: method.into(),
            url: String::new(),
            headers,
            body: Bytes::from_static(body.as_bytes()),
            timeout: Duration::ZERO,
        };
        Call::new(request, 4)
    }

    fn invalid(call: Result<Call, FetchError>) -> bool {
        matches!(call, Err(FetchError::Invalid(_)))
    }

    #[test]
    fn fields_of_the_connection_are_not_the_callers() {
        for name in ["Host", "CONTENT-LENGTH", "transfer-encoding", "Connection", "Upgrade", "TE"] {
            assert!(invalid(call("GET", &[(name, "x")], "")), "{name}");
        }
        for name in ["Trailer", "Proxy-Authorization", "proxy-connection", "Expect", "Keep-Alive"] {
            assert!(invalid(call("GET", &[(name, "x")], "")), "{name}");
        }
        assert!(call("GET", &[("Authorization", "Bearer x"), ("Accept", "a\tb c")], "").is_ok());
    }

    #[test]
    fn nothing_is_injected_by_names_and_values() {
        for value in ["a\r\nX: y", "a\nX: y", "a\r", "a\0", "a\u{7f}", "ü"] {
            assert!(invalid(call("GET", &[("X-A", value)], "")), "{value:?}");
        }
        for name in ["", "a b", "a:", "a\r\nb", "a\0", "ü", "Host ", " Host"] {
            assert!(invalid(call("GET", &[(name, "x")], "")), "{name:?}");
        }
        for method in ["", "GET /", "G\r\nT", "CONNECT", "G\u{e9}T"] {
            assert!(invalid(call(method, &[], "")), "{method:?}");
        }
    }

    #[test]
    fn sizes_have_limits() {
        assert!(call("POST", &[], "1234").is_ok() && invalid(call("POST", &[], "12345")));
        assert!(invalid(call("GET", &[], "1")) && call("DELETE", &[], "1").is_ok());
        assert!(call("GET", &[("a", "b"); MAX_FIELDS], "").is_ok());
        assert!(invalid(call("GET", &[("a", "b"); MAX_FIELDS + 1], "")));
        assert!(invalid(call("GET", &[("a", &"b".repeat(MAX_FIELD_OCTETS))], "")));
    }

    #[test]
    fn redirects_keep_the_method_or_make_it_get() {
        for (method, status, then) in [
            ("GET", 301, "GET"),
            ("POST", 301, "GET"),
            ("PUT", 302, "PUT"),
            ("POST", 303, "GET"),
            ("DELETE", 303, "GET"),
            ("HEAD", 303, "HEAD"),
            ("POST", 307, "POST"),
            ("POST", 308, "POST"),
        ] {
            let call = call(method, &[("Content-Type", "a/b"), ("X", "y")], "").unwrap();
            let after = call.redirected(status);
            assert_eq!(after.method(), then, "{method} {status}");
            assert_eq!(after.fields.contains_key("content-type"), method == then, "{status}");
            assert!(after.fields.contains_key("x"));
        }
        let call = call("POST", &[], "1234").unwrap();
        assert_eq!(call.clone().redirected(308).body.len(), 4);
        assert_eq!(call.redirected(302).body.len(), 0);
    }
}
