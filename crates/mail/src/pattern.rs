//! Domains as operators list them.

use std::fmt;
use std::str::FromStr;

use waypost_smtp::Domain;

/// `*` for every domain, `example.org` for that one, `*.example.org` for those below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainPattern {
    /// Every domain and address literal.
    Any,
    /// This domain.
    Exactly(String),
    /// Domains below this one, at any depth, but not itself.
    Below(String),
}

/// What is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no domain pattern: write \"example.org\", \"*.example.org\" or \"*\"")]
pub struct PatternError(String);

impl DomainPattern {
    /// True when the pattern covers `domain`.
    pub fn matches(&self, domain: &Domain) -> bool {
        match (self, domain.name()) {
            (DomainPattern::Any, _) => true,
            (DomainPattern::Exactly(exact), Some(name)) => exact == name,
            (DomainPattern::Below(parent), Some(name)) => name
                .strip_suffix(parent.as_str())
                .is_some_and(|front| front.len() > 1 && front.ends_with('.')),
            (_, None) => false,
        }
    }
}

impl FromStr for DomainPattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        let named = |name: &str| match Domain::parse(name) {
            Ok(Domain::Name(name)) => Ok(name),
            _ => Err(PatternError(text.to_owned())),
        };
        match text.strip_prefix("*.") {
            _ if text == "*" => Ok(DomainPattern::Any),
            Some(parent) => named(parent).map(DomainPattern::Below),
            None => named(text).map(DomainPattern::Exactly),
        }
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DomainPattern::Any => f.write_str("*"),
            DomainPattern::Exactly(name) => f.write_str(name),
            DomainPattern::Below(parent) => write!(f, "*.{parent}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, domain: &str) -> bool {
        pattern.parse::<DomainPattern>().unwrap().matches(&Domain::parse(domain).unwrap())
    }

    #[test]
    fn patterns_cover_what_they_say() {
        assert!(covers("*", "a.example") && covers("*", "[192.0.2.1]"));
        assert!(covers("Example.org", "example.org") && !covers("example.org", "a.example.org"));
        assert!(covers("*.example.org", "a.b.example.org"));
        assert!(!covers("*.example.org", "example.org"));
        assert!(!covers("*.example.org", "badexample.org"));
        for bad in ["", "*.", "**", "a..b", "*.*.org", "[1.2.3.4]", ".org"] {
            assert!(bad.parse::<DomainPattern>().is_err(), "{bad}");
        }
    }
}
