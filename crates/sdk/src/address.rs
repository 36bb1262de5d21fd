//! Addresses as the contract carries them: unquoted local part, lower-case domain.

use std::fmt;
use std::str::FromStr;

use crate::types::Mailbox;

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadAddress {
    text: String,
    why: &'static str,
}

impl BadAddress {
    pub(crate) fn new(text: &str, why: &'static str) -> BadAddress {
        BadAddress { text: text.to_owned(), why }
    }
}

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no address: {}", self.text, self.why)
    }
}

impl std::error::Error for BadAddress {}

impl Mailbox {
    /// Parts as they are, the domain in lower case. The host checks the result of an answer.
    pub fn new(local: impl Into<String>, domain: impl Into<String>) -> Mailbox {
        let mut domain = domain.into();
        domain.make_ascii_lowercase();
        Mailbox { local: local.into(), domain }
    }

    /// Reads `local@domain`, with or without angle brackets; the local part may be quoted
    /// (RFC 5321 §4.1.2), the domain may be an address literal.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Mailbox, BadAddress> {
        let bad = |why| BadAddress::new(text, why);
        let bare = text.trim();
        let bare = bare.strip_prefix('<').and_then(|t| t.strip_suffix('>')).unwrap_or(bare);
        let (local, domain) = bare.rsplit_once('@').ok_or_else(|| bad("it has no @"))?;
        let local = match local.strip_prefix('"') {
            Some(quoted) => unquote(quoted).ok_or_else(|| bad("its quotes do not pair"))?,
            None if is_dot_string(local) => local.to_owned(),
            None => return Err(bad("its local part needs quotes or is empty")),
        };
        if local.is_empty() || local.len() > 64 {
            return Err(bad("its local part must have 1 to 64 octets"));
        }
        if !is_domain(domain) {
            return Err(bad("its domain is not one"));
        }
        Ok(Mailbox::new(local, domain))
    }

    /// True when both name the same mailbox as far as a relay can know: domains in any case, local
    /// parts exactly.
    pub fn same(&self, other: &Mailbox) -> bool {
        self.local == other.local && self.domain.eq_ignore_ascii_case(&other.domain)
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.local) {
            return write!(f, "{}@{}", self.local, self.domain);
        }
        f.write_str("\"")?;
        for c in self.local.chars() {
            if c == '"' || c == '\\' {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        write!(f, "\"@{}", self.domain)
    }
}

impl FromStr for Mailbox {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Mailbox, BadAddress> {
        Mailbox::parse(text)
    }
}

/// What stands in quotes, its closing quote included.
fn unquote(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return chars.next().is_none().then_some(plain),
            '\\' => plain.push(chars.next()?),
            c if c.is_control() => return None,
            c => plain.push(c),
        }
    }
}

/// RFC 5321 §4.1.2 `Dot-string`, with RFC 6531 §3.3 for what is not ASCII.
fn is_dot_string(text: &str) -> bool {
    !text.is_empty() && text.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atext))
}

fn is_atext(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c >= 0x80 || b"!#$%&'*+-/=?^_`{|}~".contains(&c)
}

fn is_domain(domain: &str) -> bool {
    if let Some(literal) = domain.strip_prefix('[').and_then(|d| d.strip_suffix(']')) {
        return !literal.is_empty() && literal.bytes().all(|c| c.is_ascii_graphic() && c != b'[');
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_') || c >= 0x80)
    };
    domain.len() <= 253 && domain.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::Mailbox;

    #[test]
    fn what_is_read_is_written_again() {
        for text in [
            "a@b.example",
            "a.b+c@x",
            r#""a b"@x.example"#,
            r#""a\"\\"@x"#,
            "ü@ü.example",
            "a@[192.0.2.1]",
        ] {
            assert_eq!(Mailbox::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Mailbox::parse("<A@B.Example>").unwrap(), Mailbox::new("A", "b.example"));
        assert_eq!(Mailbox::parse(r#""plain"@x"#).unwrap().to_string(), "plain@x");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "@",
            "a@",
            "@b",
            "a b@c",
            "a..b@c",
            ".a@c",
            r#""a@c"#,
            r#""a"b@c"#,
            "a@b..c",
            "a@-b",
            "a@b c",
            "a\n@b",
            "a@[",
            "a@[]",
        ] {
            assert!(Mailbox::parse(text).is_err(), "{text}");
        }
    }
}
