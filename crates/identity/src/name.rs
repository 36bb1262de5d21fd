//! Under which name a public key is found (RFC 6376 §3.6.2.1).

use waypost_smtp::Domain;

use crate::error::NameError;

/// Longest name in DNS without its root (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;

/// A selector and a domain, both legal, in lower case and A-labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) selector: String,
    pub(crate) domain: String,
}

impl Place {
    pub(crate) fn new(selector: &str, domain: &str) -> Result<Place, NameError> {
        let place = Place { selector: read_selector(selector)?, domain: read_domain(domain)? };
        let record = place.record();
        if record.len() > MAX_NAME { Err(NameError::TooLong(record)) } else { Ok(place) }
    }

    /// `selector._domainkey.domain`, without a final dot.
    pub(crate) fn record(&self) -> String {
        format!("{}._domainkey.{}", self.selector, self.domain)
    }
}

fn read_domain(text: &str) -> Result<String, NameError> {
    match Domain::parse(text) {
        Ok(Domain::Name(name)) if is_name(&name) => Ok(name),
        _ => Err(NameError::Domain(text.to_owned())),
    }
}

fn read_selector(text: &str) -> Result<String, NameError> {
    let name = text.to_ascii_lowercase();
    if is_name(&name) { Ok(name) } else { Err(NameError::Selector(text.to_owned())) }
}

/// RFC 5321 §4.1.2, sub-domains with dots between; RFC 1035 §2.3.4, the length of a label.
fn is_name(name: &str) -> bool {
    name.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_canonical() {
        let place = Place::new("2026.Q1", "M\u{fc}ller.Example").unwrap();
        assert_eq!(place.record(), "2026.q1._domainkey.xn--mller-kva.example");
    }

    #[test]
    fn what_is_no_name() {
        let long = "a".repeat(64);
        for text in ["", ".", "a..b", "-a", "a-", "a b", "a;b", "a\r\nb", "a_b", "a.", &long] {
            let domain = NameError::Domain(text.to_owned());
            assert_eq!(Place::new("s", text), Err(domain), "{text}");
            let selector = NameError::Selector(text.to_owned());
            assert_eq!(Place::new(text, "example.org"), Err(selector), "{text}");
        }
        assert!(matches!(Place::new("s", "[192.0.2.1]"), Err(NameError::Domain(_))));
        assert!(matches!(Place::new("\u{fc}", "example.org"), Err(NameError::Selector(_))));
    }

    #[test]
    fn dns_has_an_end() {
        let label = "a".repeat(60);
        let domain = [label.as_str(); 3].join(".");
        assert!(Place::new(&label[..59], &domain).is_ok());
        assert!(matches!(Place::new(&label, &domain), Err(NameError::TooLong(_))));
    }
}
