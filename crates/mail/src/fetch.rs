//! One question to a web server: what is asked, who may be asked, and what comes back.
//!
//! Rooms that need the web take a [`Fetch`] and say with each question what is [`Allow`]ed; the
//! client behind it (`waypost-fetch`) holds every URL, redirect and address against that.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use waypost_smtp::Domain;

/// Asks web servers.
#[async_trait]
pub trait Fetch: Send + Sync + fmt::Debug {
    /// Asks and waits for the whole answer, whatever its status. Dropping the future ends the
    /// connection.
    ///
    /// # Errors
    /// See [`FetchError`]; a status of 4xx or 5xx is an answer and no error.
    async fn fetch(
        &self,
        request: FetchRequest,
        allow: &Allow,
    ) -> Result<FetchResponse, FetchError>;
}

/// Who knows the addresses of host names.
#[async_trait]
pub trait Addresses: Send + Sync + fmt::Debug {
    /// The addresses of a host, best first; none when it has none. `host` is a name in A-labels
    /// without a trailing dot, to be taken as complete: a search list must not be tried.
    ///
    /// # Errors
    /// For a person: why it is not even known whether there are any.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String>;
}

/// What is asked.
#[derive(Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// As on the wire, in capitals: `GET`.
    pub method: String,
    /// Absolute, `http` or `https`, without user or password. What follows `#` is not sent.
    pub url: String,
    /// Names and values of further header fields. Those that frame the message or belong to the
    /// connection (`Host`, `Content-Length`, …) are the client's alone.
    pub headers: Vec<(String, String)>,
    /// What is sent along; must be empty for methods that carry nothing, such as GET.
    pub body: Bytes,
    /// For everything from the look-up of the name to the last octet of the answer.
    pub timeout: Duration,
}

impl fmt::Debug for FetchRequest {
    /// Shows no query, values or body: they carry tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.split(['?', '#']).next().unwrap_or_default();
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("FetchRequest")
            .field("method", &self.method)
            .field("url", &url)
            .field("headers", &names)
            .field("body", &self.body.len())
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchResponse {
    /// 200 to 599 in practice; servers may use any three digits.
    pub status: u16,
    /// Names in lower case and values, in the order of arrival for each name. Octets that are not
    /// UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
    /// As sent: nothing is decompressed.
    pub body: Bytes,
    /// The body was longer than [`Allow::max_response`] and is cut there.
    pub truncated: bool,
}

/// What a caller may ask for, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    /// One of them must cover the request, and each redirect anew. None allows nothing.
    pub rules: Vec<AllowRule>,
    /// Most octets of a response's body; longer ones are cut.
    pub max_response: usize,
    /// Most octets of a request's body; longer ones are refused.
    pub max_request: usize,
    /// Longest time a request may take, whatever it asks for.
    pub max_timeout: Duration,
    /// Names may lead to addresses that are not public. Only for places that the operator wrote down
    /// for the program itself: a plugin that could name them could reach what is behind our walls.
    pub private: bool,
    /// Redirects within the origin are followed, where a rule covers them. Otherwise the redirect is the
    /// answer.
    pub redirects: bool,
}

/// One place that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowRule {
    /// Exactly this scheme, host and port. An address written here may be private or loopback;
    /// a name may lead to public addresses only, unless [`Allow::private`] says otherwise.
    pub origin: Origin,
    /// In capitals; none means GET alone.
    pub methods: Vec<String>,
    /// Where paths must begin, in whole segments: `/v1` covers `/v1` and `/v1/x` but not `/v10`,
    /// `/v1/` covers what is below it, `/` or nothing covers all. As in a normal URL: it begins
    /// with `/` and is percent-encoded, otherwise it covers nothing.
    pub path_prefix: String,
}

impl AllowRule {
    /// True when the rule allows `method` at `path`, which is normal already (no `.` or `..`).
    pub fn covers(&self, origin: &Origin, method: &str, path: &str) -> bool {
        self.origin == *origin && self.covers_method(method) && self.covers_path(path)
    }

    fn covers_method(&self, method: &str) -> bool {
        match self.methods.as_slice() {
            [] => method == "GET",
            methods => methods.iter().any(|allowed| allowed == method),
        }
    }

    fn covers_path(&self, path: &str) -> bool {
        let prefix = self.path_prefix.as_str();
        path.strip_prefix(prefix).is_some_and(|rest| {
            prefix.is_empty() || prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/')
        })
    }
}

/// A web server as far as trust goes: scheme, host and port (RFC 6454 §4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Whether TLS is spoken.
    pub scheme: Scheme,
    /// A name, or an address.
    pub host: Domain,
    /// Never 0.
    pub port: u16,
}

/// How a web server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In clear text.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// The port where none is written (RFC 9110 §4.2.1, §4.2.2).
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        })
    }
}

impl Origin {
    /// The address, where the host is one and no name.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.host {
            Domain::Literal(ip) => Some(ip),
            Domain::Name(_) => None,
        }
    }

    /// Host and port as `Host` carries them: without the port that goes without saying.
    pub fn authority(&self) -> String {
        let host = match &self.host {
            Domain::Name(name) => name.clone(),
            Domain::Literal(IpAddr::V4(ip)) => ip.to_string(),
            Domain::Literal(IpAddr::V6(ip)) => format!("[{ip}]"),
        };
        if self.port == self.scheme.default_port() { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority())
    }
}

/// What is not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no origin: write \"https://api.example\" or \"http://127.0.0.1:8080\", without a path"
)]
pub struct OriginError(String);

impl FromStr for Origin {
    type Err = OriginError;
    fn from_str(text: &str) -> Result<Origin, OriginError> {
        parse_origin(text).ok_or_else(|| OriginError(text.to_owned()))
    }
}

fn parse_origin(text: &str) -> Option<Origin> {
    let (scheme, authority) = match text.split_once("://")? {
        ("http", authority) => (Scheme::Http, authority),
        ("https", authority) => (Scheme::Https, authority),
        _ => return None,
    };
    // The colons of an IPv6 address stand in brackets.
    let end = authority.find(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match authority[end..].find(':') {
        None => (authority, scheme.default_port()),
        Some(colon) => {
            let (host, port) = authority.split_at(end + colon);
            (host, parse_port(&port[1..])?)
        }
    };
    Some(Origin { scheme, host: parse_host(host)?, port })
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

fn parse_host(text: &str) -> Option<Domain> {
    if let Some(inner) = text.strip_prefix('[') {
        let ip: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        return Some(Domain::Literal(ip.into()));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return ip.is_ipv4().then_some(Domain::Literal(ip));
    }
    // URLs take every host that ends in a number for an IPv4 address; as a name it never matches.
    let last = text.rsplit('.').next()?;
    let number = last.starts_with("0x") || last.bytes().all(|b| b.is_ascii_digit());
    match Domain::parse(text) {
        Ok(name @ Domain::Name(_)) if !number => Some(name),
        _ => None,
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The operator does not allow it, or the place it leads to is never allowed.
    #[error("not allowed: {0}")]
    Denied(String),
    /// The caller asked for what cannot be asked.
    #[error("not a valid request: {0}")]
    Invalid(String),
    /// The time was over: while waiting for a turn, for the server, or for the rest of its answer.
    #[error("no whole answer in time: is the server slow, or the timeout too short?")]
    TimedOut,
    /// The header of the response has too many fields or octets.
    #[error("the header of the response is larger than is taken from any server")]
    TooLarge,
    /// The name or the server cannot be reached.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The server does not prove to be the one it should be, or speaks no TLS that is safe.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The server broke HTTP, redirects without end, or the connection broke in the middle.
    #[error("the server's answer cannot be used: {0}")]
    Protocol(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        text.parse().unwrap()
    }

    #[test]
    fn origins_are_read_and_written() {
        for (text, canonical) in [
            ("https://api.example", "https://api.example"),
            ("https://API.Example:443", "https://api.example"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("https://[2001:DB8::1]", "https://[2001:db8::1]"),
            ("http://bücher.example", "http://xn--bcher-kva.example"),
        ] {
            assert_eq!(origin(text).to_string(), canonical);
            assert_eq!(origin(canonical), origin(text));
        }
        assert_eq!(origin("https://a.example:8443").port, 8443);
        assert_ne!(origin("http://a.example:443"), origin("https://a.example"));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for bad in [
            "",
            "api.example",
            "ftp://a.example",
            "HTTPS//a",
            "https://",
            "https://a.example/",
            "https://a.example/v1",
            "https://u@a.example",
            "https://a.example:0",
            "https://a.example:",
            "https://a.example:+80",
            "https://a.example:65536",
            "https://a.example.",
            "https://*.example",
            "http://127.1",
            "http://0x7f.0.0.0x1",
            "http://::1",
            "http://[::1",
            "http://[127.0.0.1]",
            "http://[IPv6:::1]",
            "http://a.example\r\nx: y",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }

    fn covers(prefix: &str, methods: &[&str], method: &str, path: &str) -> bool {
        let rule = AllowRule {
            origin: origin("https://a.example"),
            methods: methods.iter().map(|&m| m.to_owned()).collect(),
            path_prefix: prefix.to_owned(),
        };
        assert!(!rule.covers(&origin("http://a.example"), method, path));
        assert!(!rule.covers(&origin("https://a.example:444"), method, path));
        assert!(!rule.covers(&origin("https://b.a.example"), method, path));
        rule.covers(&origin("https://a.example"), method, path)
    }

    #[test]
    fn a_prefix_ends_between_segments() {
        for (prefix, path) in
            [("/v1", "/v1"), ("/v1", "/v1/x"), ("/v1/", "/v1/x"), ("/v1/", "/v1/"), ("/", "/x")]
        {
            assert!(covers(prefix, &[], "GET", path), "{prefix} {path}");
        }
        assert!(covers("", &[], "GET", "/anything"));
        for (prefix, path) in
            [("/v1", "/v10"), ("/v1", "/V1"), ("/v1/", "/v1"), ("/v1", "/x/v1"), ("v1", "/v1")]
        {
            assert!(!covers(prefix, &[], "GET", path), "{prefix} {path}");
        }
    }

    #[test]
    fn methods_are_named_and_get_is_the_default() {
        assert!(covers("/", &[], "GET", "/") && !covers("/", &[], "HEAD", "/"));
        assert!(covers("/", &["POST", "PUT"], "PUT", "/"));
        assert!(!covers("/", &["POST"], "GET", "/") && !covers("/", &["POST"], "post", "/"));
    }

    #[test]
    fn a_request_does_not_show_its_secrets() {
        let request = FetchRequest {
            method: "POST".into(),
            url: "https://a.example/v1?key=secret".into(),
            headers: vec![("Authorization".into(), "Bearer secret".into())],
            body: Bytes::from_static(b"secret"),
            timeout: Duration::from_secs(1),
        };
        let shown = format!("{request:?}");
        assert!(!shown.contains("secret") && shown.contains("Authorization"), "{shown}");
    }
}
