//! Mail addresses as the envelope knows them (RFC 5321 §4.1.2, RFC 6531 §3.3).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest local part in octets (RFC 5321 §4.5.3.1.1).
pub const MAX_LOCAL: usize = 64;
/// Longest domain in octets (RFC 5321 §4.5.3.1.2).
pub const MAX_DOMAIN: usize = 255;

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@` between a local part and a domain.
    #[error("an address needs a local part, '@' and a domain")]
    NoDomain,
    /// The local part is neither a dot-string nor a quoted string.
    #[error("the local part is neither a dot-string nor a quoted string")]
    LocalPart,
    /// The domain is no host name and no address literal.
    #[error("the domain is neither a host name nor an address literal")]
    Domain,
    /// The local part or the domain is longer than RFC 5321 §4.5.3.1 allows.
    #[error("the local part is over 64 octets or the domain over 255")]
    TooLong,
    /// Octets over 127 without SMTPUTF8.
    #[error("an internationalized address needs SMTPUTF8")]
    NotAscii,
}

/// The part after `@`: always in one canonical form, so that it can be compared and used as a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Domain {
    /// A host name: lower case, A-labels (RFC 5890), no trailing dot.
    Name(String),
    /// An address literal, `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3).
    Literal(IpAddr),
}

impl Domain {
    /// Reads a domain or an address literal; U-labels become A-labels.
    pub fn parse(text: &str) -> Result<Domain, AddressError> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(AddressError::Domain)?;
            return parse_literal(inner).map(Domain::Literal).ok_or(AddressError::Domain);
        }
        if text.len() > MAX_DOMAIN {
            return Err(AddressError::TooLong);
        }
        let name = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii_strict(text).map_err(|_| AddressError::Domain)?
        };
        if name.len() > MAX_DOMAIN || !is_host_name(&name) {
            return Err(AddressError::Domain);
        }
        Ok(Domain::Name(name))
    }

    /// The host name, absent for an address literal.
    pub fn name(&self) -> Option<&str> {
        match self {
            Domain::Name(name) => Some(name),
            Domain::Literal(_) => None,
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Domain::Name(name) => f.write_str(name),
            Domain::Literal(IpAddr::V4(ip)) => write!(f, "[{ip}]"),
            Domain::Literal(IpAddr::V6(ip)) => write!(f, "[IPv6:{ip}]"),
        }
    }
}

impl FromStr for Domain {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Domain::parse(text)
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> String {
        domain.to_string()
    }
}

impl TryFrom<String> for Domain {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        Domain::parse(&text)
    }
}

/// One mailbox, `local@domain`. Two mailboxes that are written differently but mean the same
/// (`"bob"@EXAMPLE.org` and `bob@example.org`) are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mailbox {
    local: String,
    domain: Domain,
}

impl Mailbox {
    /// Reads `local@domain` without angle brackets. Non-ASCII is legal here; a conversation that
    /// lacks SMTPUTF8 asks [`Mailbox::is_ascii`].
    pub fn parse(text: &str) -> Result<Mailbox, AddressError> {
        let (local, rest) = if text.starts_with('"') {
            split_quoted(text)?
        } else {
            let at = text.find('@').ok_or(AddressError::NoDomain)?;
            let local = &text[..at];
            if !is_dot_string(local) {
                return Err(AddressError::LocalPart);
            }
            (local.to_owned(), &text[at..])
        };
        let domain = rest.strip_prefix('@').ok_or(AddressError::NoDomain)?;
        if local.len() > MAX_LOCAL {
            return Err(AddressError::TooLong);
        }
        Ok(Mailbox { local, domain: Domain::parse(domain)? })
    }

    /// A mailbox from parts. Fails when the local part has control characters, is empty or too long.
    pub fn new(local: impl Into<String>, domain: Domain) -> Result<Mailbox, AddressError> {
        let local = local.into();
        if local.is_empty() || local.chars().any(char::is_control) {
            return Err(AddressError::LocalPart);
        }
        if local.len() > MAX_LOCAL {
            return Err(AddressError::TooLong);
        }
        Ok(Mailbox { local, domain })
    }

    /// The local part with quoting removed, case kept, never empty.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain in canonical form.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// True when the address needs no SMTPUTF8. The domain is kept in A-labels, so only the local
    /// part decides (RFC 6531 §3.2).
    pub fn is_ascii(&self) -> bool {
        self.local.is_ascii()
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.local) {
            return write!(f, "{}@{}", self.local, self.domain);
        }
        f.write_str("\"")?;
        for c in self.local.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        write!(f, "\"@{}", self.domain)
    }
}

impl FromStr for Mailbox {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Mailbox::parse(text)
    }
}

impl From<Mailbox> for String {
    fn from(mailbox: Mailbox) -> String {
        mailbox.to_string()
    }
}

impl TryFrom<String> for Mailbox {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        Mailbox::parse(&text)
    }
}

/// Where bounces go: `MAIL FROM` (RFC 5321 §4.1.1.2). Displays without angle brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum ReversePath {
    /// `<>`: the message is itself a notice and must never cause another (RFC 5321 §4.5.5).
    Null,
    /// An ordinary sender.
    Mailbox(Mailbox),
}

impl ReversePath {
    /// The sender's mailbox, absent for `<>`.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            ReversePath::Null => None,
            ReversePath::Mailbox(mailbox) => Some(mailbox),
        }
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReversePath::Null => Ok(()),
            ReversePath::Mailbox(mailbox) => mailbox.fmt(f),
        }
    }
}

impl From<ReversePath> for String {
    fn from(path: ReversePath) -> String {
        path.to_string()
    }
}

impl TryFrom<String> for ReversePath {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Ok(ReversePath::Null);
        }
        Mailbox::parse(&text).map(ReversePath::Mailbox)
    }
}

impl From<Mailbox> for ReversePath {
    fn from(mailbox: Mailbox) -> Self {
        ReversePath::Mailbox(mailbox)
    }
}

fn parse_literal(inner: &str) -> Option<IpAddr> {
    let tagged = inner.get(..5).filter(|tag| tag.eq_ignore_ascii_case("ipv6:"));
    match tagged {
        Some(_) => inner[5..].parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => inner.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// Letters, digits, hyphens and (as practice has it) underscores, in labels of 1 to 63.
fn is_host_name(name: &str) -> bool {
    name.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    })
}

/// RFC 5321 §4.1.2 Dot-string, with RFC 6531 §3.3 UTF-8.
fn is_dot_string(local: &str) -> bool {
    local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~".contains(c)
        || (!c.is_ascii() && !c.is_control())
}

/// Takes a quoted string off the front: its content without quoting, and what follows.
fn split_quoted(text: &str) -> Result<(String, &str), AddressError> {
    let mut local = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if local.is_empty() => return Err(AddressError::LocalPart),
            '"' => return Ok((local, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, c)) if !c.is_control() => local.push(c),
                _ => return Err(AddressError::LocalPart),
            },
            c if c.is_control() => return Err(AddressError::LocalPart),
            c => local.push(c),
        }
    }
    Err(AddressError::LocalPart)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Mailbox::parse(text).map(|m| m.to_string()).unwrap_or_else(|e| e.to_string())
    }

    #[test]
    fn equal_addresses_have_one_form() {
        assert_eq!(shown("Bob@EXAMPLE.org"), "Bob@example.org");
        assert_eq!(shown("\"bob\"@example.org"), "bob@example.org");
        assert_eq!(shown("\"b\\ob\"@example.org"), "bob@example.org");
        assert_eq!(shown("\"a b\"@example.org"), "\"a b\"@example.org");
        assert_eq!(shown("\"a\\\"b\"@example.org"), "\"a\\\"b\"@example.org");
        assert_eq!(shown("\"a@b\"@example.org"), "\"a@b\"@example.org");
        assert_eq!(shown("x@[192.0.2.1]"), "x@[192.0.2.1]");
        assert_eq!(shown("x@[IPv6:2001:DB8::1]"), "x@[IPv6:2001:db8::1]");
        assert_eq!(shown("ü@bücher.example"), "ü@xn--bcher-kva.example");
    }

    #[test]
    fn illegal_addresses_are_refused() {
        for text in [
            "",
            "@",
            "a",
            "a@",
            "@b",
            ".a@b",
            "a.@b",
            "a..b@c",
            "a b@c",
            "\"\"@c",
            "\"a@c",
            "\"a\"b@c",
            "a@-b",
            "a@b-",
            "a@b..c",
            "a@b.",
            "a@[1.2.3]",
            "a@[1.2.3.4",
            "a@b c",
            "a@b\r\nRCPT",
            "\"a\r\n\"@b",
            "a\0@b",
        ] {
            assert!(Mailbox::parse(text).is_err(), "{text:?} was taken");
        }
        let long = format!("{}@b", "a".repeat(65));
        assert_eq!(Mailbox::parse(&long), Err(AddressError::TooLong));
    }

    #[test]
    fn null_sender_survives_serde() {
        let path = ReversePath::try_from(String::from(ReversePath::Null));
        assert_eq!(path, Ok(ReversePath::Null));
    }
}
