//! Names and patterns as policy writes them.

use std::net::IpAddr;
use std::str::FromStr;

use crate::units::UnitError;

/// How policy calls a table, a limit, a secret, a key, a namespace, a hop or a pool of sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) String);

impl FromStr for Name {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Name, UnitError> {
        let legal = |b: u8| is_low(b) || b"._-".contains(&b);
        let what = "name of 1 to 64 lower-case letters, digits, '.', '_' and '-'";
        read(text, is_of(text, 64, legal), what).map(Name)
    }
}

/// The name of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PluginName(pub(crate) String);

impl FromStr for PluginName {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<PluginName, UnitError> {
        let what = "name of 1 to 32 lower-case letters, digits and '-'";
        read(text, is_of(text, 32, |b| is_low(b) || b == b'-'), what).map(PluginName)
    }
}

/// Metadata that a plugin gives: its name, `/`, and a name within.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TagName(pub(crate) String);

impl TagName {
    /// Who gives it.
    pub(crate) fn plugin(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }
}

impl FromStr for TagName {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<TagName, UnitError> {
        let plugin = text.split_once('/').filter(|(_, key)| !key.is_empty());
        let legal = plugin.is_some_and(|(plugin, _)| plugin.parse::<PluginName>().is_ok())
            && is_of(text, 64, |b| is_low(b) || b"._/-".contains(&b));
        read(text, legal, "tag: a plugin's name, '/' and what that plugin calls it").map(TagName)
    }
}

/// The name of a header field (RFC 5322 §3.6.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldName(pub(crate) String);

impl FromStr for FieldName {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<FieldName, UnitError> {
        let legal = is_of(text, 255, |b| b.is_ascii_graphic() && b != b':' && b != b'*');
        read(text, legal, "name of a header field").map(FieldName)
    }
}

/// Header fields: a name, its beginning and `*`, or `*` for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldPattern(pub(crate) String);

impl FromStr for FieldPattern {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<FieldPattern, UnitError> {
        let front = text.strip_suffix('*').unwrap_or(text);
        let legal = text == "*" || front.parse::<FieldName>().is_ok();
        read(text, legal, "pattern of header fields").map(FieldPattern)
    }
}

/// An HTTP method (RFC 9110 §9.1), as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Method(pub(crate) String);

impl FromStr for Method {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Method, UnitError> {
        let legal = is_of(text, 32, |b| b.is_ascii_uppercase() || b == b'-') && text != "CONNECT";
        read(text, legal, "method to ask a web server by").map(Method)
    }
}

/// The beginning of a URL's path, as in a normal URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathPrefix(pub(crate) String);

impl FromStr for PathPrefix {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<PathPrefix, UnitError> {
        let normal = |b: u8| b.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&b);
        let legal = is_of(text, 1024, normal)
            && text.starts_with('/')
            && !text.split('/').any(|segment| matches!(segment, "." | ".."));
        read(text, legal, "beginning of a URL's path").map(PathPrefix)
    }
}

/// An address that connections can come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SourceIp(pub(crate) IpAddr);

impl FromStr for SourceIp {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<SourceIp, UnitError> {
        let ip = text.parse::<IpAddr>().ok();
        let one = ip.filter(|ip| !ip.is_unspecified() && !ip.is_multicast());
        one.map(SourceIp).ok_or_else(|| UnitError::new(text, "address of one machine"))
    }
}

fn read(text: &str, legal: bool, what: &'static str) -> Result<String, UnitError> {
    if legal { Ok(text.to_owned()) } else { Err(UnitError::new(text, what)) }
}

/// True when `text` has 1 to `most` octets, each of them legal.
fn is_of(text: &str, most: usize, legal: impl Fn(u8) -> bool) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(legal)
}

fn is_low(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes<T: FromStr>(good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(text.parse::<T>().is_ok(), "{text} was refused");
        }
        for text in bad {
            assert!(text.parse::<T>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn names_and_patterns_have_rules() {
        takes::<Name>(&["main-2026", "a.b_c"], &["", "A", "a/b", "a b", &"x".repeat(65)]);
        takes::<PluginName>(&["guard-2"], &["", "a.b", "Guard", &"x".repeat(33)]);
        takes::<TagName>(&["guard/score", "g/a/b"], &["score", "guard/", "/score", "A/b", "a/B"]);
        takes::<FieldName>(&["List-Id"], &["", "List-Id:", "X-*", "a b"]);
        takes::<FieldPattern>(&["*", "X-*", "Subject"], &["", "**", "*X", "X *"]);
        takes::<Method>(&["GET", "M-SEARCH"], &["", "get", "CONNECT", "GET /"]);
        takes::<PathPrefix>(&["/", "/v1/"], &["", "v1", "/a/../b", "/a?b", "/a b", "/."]);
        takes::<SourceIp>(
            &["192.0.2.1", "2001:db8::1"],
            &["0.0.0.0", "::", "224.0.0.1", "192.0.2.1/24"],
        );
    }
}
