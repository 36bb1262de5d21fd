//! Patterns that operators write: globs, addresses, domains, networks. All can be read from
//! configuration, and each can tell whether it covers another one, so that a rule that an earlier
//! one hides can be found.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer};

use crate::types::Mailbox;

/// A text with `*` for any characters and `?` for one. ASCII letters match in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    /// In lower case.
    text: Box<str>,
    kind: Kind,
}

/// The usual globs need no search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Any,
    Exact,
    Contains,
    Other,
}

impl Glob {
    /// A glob of this text. Every text is one.
    pub fn new(text: &str) -> Glob {
        let text = text.to_ascii_lowercase().into_boxed_str();
        let inner = text.strip_prefix('*').and_then(|t| t.strip_suffix('*')).unwrap_or("*");
        let kind = match () {
            () if text.bytes().all(|c| c == b'*') && !text.is_empty() => Kind::Any,
            () if !text.contains(['*', '?']) => Kind::Exact,
            () if !inner.contains(['*', '?']) => Kind::Contains,
            () => Kind::Other,
        };
        Glob { text, kind }
    }

    /// True when all of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        match self.kind {
            Kind::Any => true,
            Kind::Exact => self.text.eq_ignore_ascii_case(text),
            Kind::Contains => contains(text, &self.text[1..self.text.len() - 1]),
            Kind::Other => self.search(text.as_bytes(), |p, c| p == b'?' || p == c),
        }
    }

    /// True when whatever `other` matches is matched by this one. May miss cases, never invents one.
    pub fn covers(&self, other: &Glob) -> bool {
        // A star of the other one may stand for anything, so only a star can cover it.
        self.search(other.text.as_bytes(), |p, c| (p == b'?' && c != b'*') || p == c)
    }

    /// A text that matches.
    pub fn example(&self) -> String {
        self.text.chars().filter(|c| *c != '*').map(|c| if c == '?' { 'x' } else { c }).collect()
    }

    /// True when it matches everything.
    pub fn is_any(&self) -> bool {
        self.kind == Kind::Any
    }

    /// Linear but for the last star, to which the search goes back.
    fn search(&self, text: &[u8], same: impl Fn(u8, u8) -> bool) -> bool {
        let pattern = self.text.as_bytes();
        let (mut p, mut t) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(&c) if same(c, text[t].to_ascii_lowercase()) => {
                    p += 1;
                    t += 1;
                }
                _ => match star {
                    Some((at, from)) => {
                        star = Some((at, from + 1));
                        p = at + 1;
                        t = from + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&c| c == b'*')
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// True when `needle`, in lower case, stands in `text` in any case.
pub fn contains(text: &str, needle: &str) -> bool {
    let (text, needle) = (text.as_bytes(), needle.as_bytes());
    let Some((&first, rest)) = needle.split_first() else { return true };
    let Some(last) = text.len().checked_sub(needle.len()) else { return false };
    let upper = first.to_ascii_uppercase();
    (0..=last).any(|at| {
        (text[at] == first || text[at] == upper)
            && text[at + 1..at + needle.len()].eq_ignore_ascii_case(rest)
    })
}

/// A domain, `*.` and a domain for all below it, or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainPattern {
    /// Every domain.
    Any,
    /// This domain.
    Exact(Box<str>),
    /// Every domain below; kept with its leading dot.
    Below(Box<str>),
}

impl DomainPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// The text is neither a domain nor a wildcard.
    pub fn parse(text: &str) -> Result<DomainPattern, String> {
        let text = text.to_ascii_lowercase();
        if text == "*" {
            return Ok(DomainPattern::Any);
        }
        let (domain, below) = match text.strip_prefix('*') {
            Some(suffix) => (suffix.strip_prefix('.').unwrap_or(""), true),
            None => (text.as_str(), false),
        };
        Mailbox::parse(&format!("x@{domain}")).map_err(|_| {
            format!("`{text}` is no domain; write `a.example`, `*.a.example` or `*`")
        })?;
        Ok(match below {
            true => DomainPattern::Below(format!(".{domain}").into()),
            false => DomainPattern::Exact(domain.into()),
        })
    }

    /// True when the domain matches; in any case.
    pub fn matches(&self, domain: &str) -> bool {
        match self {
            DomainPattern::Any => true,
            DomainPattern::Exact(exact) => exact.eq_ignore_ascii_case(domain),
            DomainPattern::Below(suffix) => {
                domain.len() > suffix.len()
                    && domain.as_bytes()[domain.len() - suffix.len()..]
                        .eq_ignore_ascii_case(suffix.as_bytes())
            }
        }
    }

    /// A domain that matches.
    pub fn example(&self) -> String {
        match self {
            DomainPattern::Any => "a.example".to_owned(),
            DomainPattern::Exact(domain) => domain.to_string(),
            DomainPattern::Below(suffix) => format!("x{suffix}"),
        }
    }

    /// True when whatever `other` matches is matched by this one.
    pub fn covers(&self, other: &DomainPattern) -> bool {
        match (self, other) {
            (DomainPattern::Any, _) => true,
            (DomainPattern::Exact(a), DomainPattern::Exact(b)) => a == b,
            (DomainPattern::Below(_), DomainPattern::Exact(b)) => self.matches(b),
            (DomainPattern::Below(a), DomainPattern::Below(b)) => b.ends_with(&**a),
            _ => false,
        }
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DomainPattern::Any => f.write_str("*"),
            DomainPattern::Exact(domain) => f.write_str(domain),
            DomainPattern::Below(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// An address or many: `eve@a.example`, `sales-*@a.example`, `*@*.a.example`, a [`DomainPattern`] for
/// all its addresses, or `<>` for the null sender. Local parts match in any case: operators mean
/// the mailbox, not its spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressPattern {
    /// The null sender.
    Null,
    /// Addresses with such a local part in such a domain.
    Address(Glob, DomainPattern),
}

impl AddressPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Says what can be written.
    pub fn parse(text: &str) -> Result<AddressPattern, String> {
        if text == "<>" {
            return Ok(AddressPattern::Null);
        }
        let (local, domain) = text.rsplit_once('@').unwrap_or(("*", text));
        if local.is_empty() {
            return Err(format!("`{text}` has no local part; write `*@…` for all of them"));
        }
        Ok(AddressPattern::Address(Glob::new(local), DomainPattern::parse(domain)?))
    }

    /// True when the address matches.
    pub fn matches(&self, address: &Mailbox) -> bool {
        match self {
            AddressPattern::Null => false,
            AddressPattern::Address(local, domain) => {
                domain.matches(&address.domain) && local.matches(&address.local)
            }
        }
    }

    /// True when the sender matches; none is the null sender.
    pub fn matches_sender(&self, sender: Option<&Mailbox>) -> bool {
        match sender {
            Some(address) => self.matches(address),
            None => *self == AddressPattern::Null,
        }
    }

    /// True when whatever `other` matches is matched by this one.
    pub fn covers(&self, other: &AddressPattern) -> bool {
        match (self, other) {
            (AddressPattern::Null, AddressPattern::Null) => true,
            (AddressPattern::Address(a, b), AddressPattern::Address(c, d)) => {
                a.covers(c) && b.covers(d)
            }
            _ => false,
        }
    }
}

/// Addresses of the internet: `192.0.2.0/24`, `2001:db8::/32`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads a network.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Network, String> {
        let bad = || format!("`{text}` is no network; write `192.0.2.0/24` or `2001:db8::/32`");
        let (base, prefix) = match text.split_once('/') {
            Some((base, prefix)) => (base, Some(prefix)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| bad())?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|bits| *bits <= width).ok_or_else(bad)?,
            None => width,
        };
        Ok(Network { base, prefix })
    }

    /// True when the address lies within.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let differing = |a: u128, b: u128, width: u8| {
            (a ^ b).checked_shr(u32::from(width - self.prefix)).unwrap_or(0)
        };
        match (self.base, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                differing(u32::from(a).into(), u32::from(b).into(), 32) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => differing(a.into(), b.into(), 128) == 0,
            _ => false,
        }
    }

    /// True when all of `other` lies within.
    pub fn covers(&self, other: &Network) -> bool {
        self.prefix <= other.prefix && self.contains(other.base)
    }
}

macro_rules! read_as_text {
    ($($pattern:ident),+) => {$(
        impl<'de> Deserialize<'de> for $pattern {
            fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<$pattern, D::Error> {
                let text = String::deserialize(reader)?;
                $pattern::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    )+};
}

read_as_text!(DomainPattern, AddressPattern, Network);

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Glob, D::Error> {
        Ok(Glob::new(&String::deserialize(reader)?))
    }
}

#[cfg(test)]
mod tests {
    use super::{AddressPattern, DomainPattern, Glob, Network, contains};
    use crate::types::Mailbox;

    #[test]
    fn globs() {
        for (glob, text) in [
            ("*", ""),
            ("a*c", "aBxC"),
            ("*.exe", "a.b.EXE"),
            ("a?c", "abc"),
            ("*ab*ab*", "xabyab"),
            ("", ""),
            ("*mid*", "aMIDb"),
            ("a**", "a"),
        ] {
            assert!(Glob::new(glob).matches(text), "{glob} {text}");
            assert!(Glob::new(glob).matches(&Glob::new(glob).example()), "{glob}");
        }
        for (glob, text) in [
            ("a*c", "abd"),
            ("a?c", "ac"),
            ("", "a"),
            ("*ab*ab*", "xab"),
            ("abc", "abcd"),
            ("?", ""),
        ] {
            assert!(!Glob::new(glob).matches(text), "{glob} {text}");
        }
    }

    #[test]
    fn globs_cover_only_what_they_match() {
        let covers = |a, b| Glob::new(a).covers(&Glob::new(b));
        assert!(
            covers("*", "x*") && covers("a*", "ab*") && covers("a*", "a*c") && covers("a?*", "ab")
        );
        assert!(
            !covers("a?", "a*") && !covers("ab*", "a*") && !covers("a", "*") && !covers("?b", "*b")
        );
    }

    #[test]
    fn needles_match_in_any_case() {
        assert!(contains("Try AGAIN Later", "again l") && contains("x", "") && contains("ab", "b"));
        assert!(!contains("agai", "again") && !contains("", "a"));
    }

    #[test]
    fn domains_and_what_is_below() {
        let pattern = |text| DomainPattern::parse(text).unwrap();
        for text in ["*", "a.example", "*.a.example"] {
            assert!(pattern(text).matches(&pattern(text).example()), "{text}");
        }
        assert!(pattern("*.a.example").matches("X.A.example"));
        assert!(!pattern("*.a.example").matches("a.example"));
        assert!(!pattern("*.a.example").matches("ba.example"));
        assert!(pattern("*.a.example").covers(&pattern("*.b.a.example")));
        assert!(!pattern("*.b.a.example").covers(&pattern("*.a.example")));
        assert!(!pattern("a.example").covers(&pattern("*.a.example")));
        for bad in ["", "*a.example", "a..b", "a b", "@", "*."] {
            assert!(DomainPattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses() {
        let pattern = |text| AddressPattern::parse(text).unwrap();
        let eve = Mailbox::new("Eve", "a.example");
        for text in ["eve@a.example", "a.example", "e*@a.example", "*", "*@*.example"] {
            assert!(pattern(text).matches(&eve), "{text}");
        }
        for text in ["bob@a.example", "*.a.example", "<>"] {
            assert!(!pattern(text).matches(&eve), "{text}");
        }
        assert!(pattern("<>").matches_sender(None) && !pattern("*").matches_sender(None));
        assert!(pattern("a.example").covers(&pattern("e*@a.example")));
        assert!(!pattern("e*@a.example").covers(&pattern("a.example")));
        assert!(AddressPattern::parse("@a.example").is_err());
    }

    #[test]
    fn networks() {
        let net = |text| Network::parse(text).unwrap();
        assert!(net("192.0.2.0/24").contains("192.0.2.255".parse().unwrap()));
        assert!(!net("192.0.2.0/24").contains("192.0.3.0".parse().unwrap()));
        assert!(net("0.0.0.0/0").contains("8.8.8.8".parse().unwrap()));
        assert!(!net("0.0.0.0/0").contains("::1".parse().unwrap()));
        assert!(net("2001:db8::/32").contains("2001:db8:1::".parse().unwrap()));
        assert!(
            net("::1").contains("::1".parse().unwrap())
                && !net("::1").contains("::2".parse().unwrap())
        );
        assert!(
            net("10.0.0.0/8").covers(&net("10.1.0.0/16"))
                && !net("10.1.0.0/16").covers(&net("10.0.0.0/8"))
        );
        for bad in ["", "1.2.3", "1.2.3.4/33", "a/8", "1.2.3.4/", "::/129"] {
            assert!(Network::parse(bad).is_err(), "{bad}");
        }
    }
}
