//! Where a request goes: a URL in its normal form, held against the rules.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::{Position, Url};
use waypost_mail::fetch::{AllowRule, FetchError, Origin};

/// Longest URL in octets (RFC 9110 §4.1 asks for at least 8000).
const MAX_URL: usize = 8192;
/// How often a path may be percent-encoded over and over.
const MAX_LAYERS: usize = 4;
/// How much of a path a message shows.
const SHOWN: usize = 100;

/// A URL whose path has no way up, and its origin.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    url: Url,
    origin: Origin,
}

impl Target {
    /// Reads an absolute URL.
    pub(crate) fn parse(text: &str) -> Result<Target, FetchError> {
        check_text(text)?;
        let url = Url::parse(text).map_err(|e| FetchError::Invalid(format!("the URL: {e}")))?;
        Target::new(url)
    }

    /// Where a redirect from here leads (RFC 9110 §10.2.2). Never to another origin: who is allowed
    /// to ask here has not been allowed to ask there, and the request may carry a token.
    pub(crate) fn follow(&self, location: &str) -> Result<Target, FetchError> {
        check_text(location)?;
        let url = self.url.join(location).map_err(|e| {
            FetchError::Protocol(format!("{self} redirects to what is no URL: {e}"))
        })?;
        let target = Target::new(url)?;
        if target.origin != self.origin {
            let reason = format!("{self} redirects to another origin, {}", target.origin);
            return Err(FetchError::Denied(reason));
        }
        Ok(target)
    }

    fn new(mut url: Url) -> Result<Target, FetchError> {
        if !url.username().is_empty() || url.password().is_some() {
            let reason = "the URL has a user or a password: send an Authorization field instead";
            return Err(FetchError::Invalid(reason.into()));
        }
        url.set_fragment(None);
        // What is neither http nor https has an origin that is opaque, "null".
        let origin = url.origin().ascii_serialization();
        let origin = origin.parse().map_err(|_| {
            FetchError::Invalid("the URL names no host that can be asked by http or https".into())
        })?;
        let target = Target { url, origin };
        if climbs(target.url.path()) {
            let reason = format!("the path of {target} hides a way up, or octets that are no text");
            return Err(FetchError::Denied(reason));
        }
        Ok(target)
    }

    /// Fails unless a rule covers it.
    pub(crate) fn check(&self, method: &str, rules: &[AllowRule]) -> Result<(), FetchError> {
        if rules.iter().any(|rule| rule.covers(&self.origin, method, self.url.path())) {
            return Ok(());
        }
        Err(FetchError::Denied(format!("no rule covers {method} {self}")))
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Path and query, as the request line carries them (RFC 9112 §3.2.1).
    pub(crate) fn path_and_query(&self) -> &str {
        &self.url[Position::BeforePath..Position::AfterQuery]
    }
}

impl fmt::Display for Target {
    /// Without the query, which may carry a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.url.path();
        let shown = path.get(..SHOWN).unwrap_or(path);
        let rest = if shown.len() < path.len() { "…" } else { "" };
        write!(f, "{}{shown}{rest}", self.origin)
    }
}

/// Parsers of URLs drop or rewrite these silently; whoever sends them means to confuse one.
fn check_text(text: &str) -> Result<(), FetchError> {
    if text.len() > MAX_URL {
        return Err(FetchError::Invalid(format!("the URL is longer than {MAX_URL} octets")));
    }
    if text.chars().any(|c| c.is_control() || c == ' ' || c == '\\') {
        let reason = "the URL has spaces, backslashes or control characters: percent-encode them";
        return Err(FetchError::Invalid(reason.into()));
    }
    Ok(())
}

/// True when a server that decodes too much could leave the path's directory. A [`Url`] has no `..`
/// (RFC 3986 §5.2.4), not even as `%2e%2e`; but some servers decode `%2f`, decode twice, take a
/// backslash for a slash, or cut a segment at its semicolon.
fn climbs(path: &str) -> bool {
    let Some(decoded) = decoded(path) else { return true };
    decoded.contains(char::is_control)
        || decoded.split(['/', '\\', ';']).any(|piece| piece == "." || piece == "..")
}

/// The path with all percent-encoding undone; none when that is no text, or never ends.
fn decoded(path: &str) -> Option<String> {
    let mut text = path.to_owned();
    for _ in 0..MAX_LAYERS {
        let next = percent_decode_str(&text).decode_utf8().ok()?.into_owned();
        if next == text {
            return Some(text);
        }
        text = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> String {
        Target::parse(text).unwrap().path_and_query().to_owned()
    }

    fn denied(text: &str) -> bool {
        matches!(Target::parse(text), Err(FetchError::Denied(_)))
    }

    fn invalid(text: &str) -> bool {
        matches!(Target::parse(text), Err(FetchError::Invalid(_)))
    }

    #[test]
    fn dots_are_gone_before_a_rule_is_asked() {
        for text in ["/v1/../admin", "/v1/%2e%2e/admin", "/v1/.%2E/admin", "/v1/./x/../../admin"] {
            assert_eq!(path(&format!("https://a.example{text}")), "/admin");
        }
        assert_eq!(path("https://a.example"), "/");
        assert_eq!(path("https://a.example/a?b=../c#d"), "/a?b=../c");
        assert_eq!(path("https://a.example/ü"), "/%C3%BC");
    }

    #[test]
    fn hidden_ways_up_are_denied() {
        for text in [
            "/v1/..%2fadmin",
            "/v1/..%5cadmin",
            "/v1/%252e%252e/admin",
            "/v1/%25252e%25252e%25252fadmin",
            "/v1/..;/admin",
            "/v1/%2e%2e;x=y/admin",
            "/v1/%2f..%2f/admin",
            "/v1/..%00/admin",
            "/v1/%0d%0aX:/admin",
            "/v1/%c0%ae%c0%ae/admin",
            "/v1/%2525252525252e/admin",
        ] {
            assert!(denied(&format!("https://a.example{text}")), "{text}");
        }
    }

    #[test]
    fn odd_but_honest_paths_pass() {
        for text in ["/a..b", "/...", "/a/.well-known", "/100%25", "/a%2Fb", "/a;b=c", "/a%20b"] {
            assert_eq!(path(&format!("https://a.example{text}")), text);
        }
    }

    #[test]
    fn what_is_no_url_to_ask_is_invalid() {
        for text in [
            "",
            "/v1",
            "a.example/",
            "ftp://a.example/",
            "file:///etc/passwd",
            "data:,x",
            "https://",
            "https://u@a.example/",
            "https://:p@a.example/",
            "https://a.example:b@c.example/",
            "https://a.example:0/",
            "https://a.example./",
            "https://a..example/",
            "https://a.example\\@b.example/",
            "https://a.exam\tple/",
            "https://a.example/x y",
            " https://a.example/",
            "https://a.example/\r\nHost: b",
        ] {
            assert!(invalid(text), "{text}");
        }
        assert!(invalid(&format!("https://a.example/{}", "x".repeat(MAX_URL))));
    }

    #[test]
    fn other_spellings_of_an_address_are_that_address() {
        for text in ["http://127.1/", "http://0x7f.1/", "http://2130706433/", "http://0177.0.0.1/"]
        {
            assert_eq!(Target::parse(text).unwrap().origin().to_string(), "http://127.0.0.1");
        }
        let mapped = Target::parse("http://[::ffff:127.0.0.1]/").unwrap();
        assert_ne!(mapped.origin().to_string(), "http://127.0.0.1");
    }

    #[test]
    fn redirects_stay_within_the_origin() {
        let from = Target::parse("https://a.example/v1/x?y").unwrap();
        let to = |location: &str| from.follow(location).map(|t| t.path_and_query().to_owned());
        assert_eq!(to("z"), Ok("/v1/z".into()));
        assert_eq!(to("/w?q"), Ok("/w?q".into()));
        assert_eq!(to("https://A.EXAMPLE:443/w"), Ok("/w".into()));
        assert_eq!(to("../../../etc"), Ok("/etc".into()));
        for location in
            ["http://a.example/", "https://a.example:444/", "//b.example/v1/", "https://b.example/"]
        {
            assert!(matches!(to(location), Err(FetchError::Denied(_))), "{location}");
        }
        for location in ["https://u:p@a.example/", "\\\\b.example", "file:///etc/passwd", "a b"] {
            assert!(matches!(to(location), Err(FetchError::Invalid(_))), "{location}");
        }
    }

    #[test]
    fn messages_show_no_query_and_no_endless_path() {
        let target = Target::parse(&format!("https://a.example/{}?key=s", "x".repeat(500)));
        let reason = target.unwrap().check("GET", &[]).unwrap_err().to_string();
        assert!(reason.len() < 200 && !reason.contains("key"), "{reason}");
    }
}
