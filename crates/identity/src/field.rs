//! The text of a `DKIM-Signature` field (RFC 6376 §3.5), and of the two that seal (RFC 8617 §4.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use waypost_mail::Timestamp;

use crate::body::BodyHash;
use crate::error::SignError;
use crate::header;

const DKIM: &str = "DKIM-Signature";
const ARC_MESSAGE: &str = "ARC-Message-Signature";
const ARC_SEAL: &str = "ARC-Seal";
/// Longest line where tags allow it (RFC 5322 §2.1.1).
const LINE: usize = 78;
/// Base64 on one line behind `b=` and a tab.
const SIGNATURE_LINE: usize = 72;
/// Largest time that verifiers need to understand (RFC 6376 §3.5, `x=`).
const FOREVER: u64 = 999_999_999_999;

/// What the field says.
#[derive(Debug)]
pub(crate) struct Tags<'a> {
    pub(crate) algorithm: &'a str,
    pub(crate) domain: &'a str,
    pub(crate) selector: &'a str,
    /// Both in seconds since 1970.
    pub(crate) signed_at: u64,
    pub(crate) expires_at: Option<u64>,
    pub(crate) names: &'a [String],
    pub(crate) body: &'a BodyHash,
}

/// When a signature made `now` expires; at least a second later (RFC 6376 §3.5).
pub(crate) fn expiry(
    now: Timestamp,
    after: Option<std::time::Duration>,
) -> Result<Option<u64>, SignError> {
    match after.map(|after| after.as_secs()) {
        None => Ok(None),
        Some(0) => Err(SignError::Expired),
        Some(seconds) => Ok(Some((now.0 / 1000).saturating_add(seconds).min(FOREVER))),
    }
}

/// The field up to `b=`, which is what its own signature covers.
#[derive(Debug)]
pub(crate) struct Unsigned {
    name: &'static str,
    text: String,
    column: usize,
}

impl Unsigned {
    /// A signature of the author's side.
    pub(crate) fn dkim(tags: &Tags<'_>) -> Unsigned {
        let mut field = Unsigned::begin(DKIM);
        field.word("v=1;");
        field.of_message(tags);
        field.end()
    }

    /// The signature of a message in a set of this number.
    pub(crate) fn arc_message(instance: u32, tags: &Tags<'_>) -> Unsigned {
        let mut field = Unsigned::begin(ARC_MESSAGE);
        field.word(&format!("i={instance};"));
        field.of_message(tags);
        field.end()
    }

    /// The seal of a set of this number, which says that the chain was `cv`.
    pub(crate) fn arc_seal(instance: u32, cv: &str, tags: &Tags<'_>) -> Unsigned {
        let mut field = Unsigned::begin(ARC_SEAL);
        field.word(&format!("i={instance};"));
        field.word(&format!("a={};", tags.algorithm));
        field.word(&format!("t={};", tags.signed_at));
        field.word(&format!("cv={cv};"));
        field.word(&format!("d={};", tags.domain));
        field.word(&format!("s={};", tags.selector));
        field.end()
    }

    fn begin(name: &'static str) -> Unsigned {
        let text = format!("{name}:");
        Unsigned { name, column: text.len(), text }
    }

    fn of_message(&mut self, tags: &Tags<'_>) {
        self.word(&format!("a={};", tags.algorithm));
        self.word("c=relaxed/relaxed;");
        self.word(&format!("d={};", tags.domain));
        self.word(&format!("s={};", tags.selector));
        self.word(&format!("t={};", tags.signed_at));
        if let Some(expires_at) = tags.expires_at {
            self.word(&format!("x={expires_at};"));
        }
        self.names(tags.names);
        self.word(&format!("bh={};", STANDARD.encode(tags.body.as_bytes())));
    }

    fn end(mut self) -> Unsigned {
        // On a line of its own: no white space between `b=` and what verifiers take out behind it.
        self.fold();
        self.joined("b=");
        self
    }

    /// Appends the field as it is signed: canonical, with an empty `b=` and no CRLF behind it
    /// (RFC 6376 §3.7).
    pub(crate) fn canonical(&self, out: &mut Vec<u8>) {
        header::relaxed(self.name, &self.text.as_bytes()[self.name.len() + 1..], out);
    }

    /// The whole field, final CRLF included.
    pub(crate) fn signed(mut self, signature: &[u8]) -> Vec<u8> {
        let encoded = STANDARD.encode(signature);
        let mut rest = encoded.as_str();
        while let Some((line, further)) = rest.split_at_checked(SIGNATURE_LINE) {
            self.joined(line);
            rest = further;
        }
        self.joined(rest);
        self.text.push_str("\r\n");
        self.text.into_bytes()
    }

    fn names(&mut self, names: &[String]) {
        let mut names = names.iter().peekable();
        let mut tag = "h=";
        while let Some(name) = names.next() {
            let end = if names.peek().is_some() { ':' } else { ';' };
            let piece = format!("{tag}{name}{end}");
            if tag.is_empty() {
                self.joined(&piece)
            } else {
                self.word(&piece)
            }
            tag = "";
        }
    }

    /// With white space in front.
    fn word(&mut self, word: &str) {
        if self.column + 1 + word.len() > LINE {
            self.fold();
        } else {
            self.text.push(' ');
            self.column += 1;
        }
        self.text.push_str(word);
        self.column += word.len();
    }

    /// Where white space in front is allowed, but only used when the line is full.
    fn joined(&mut self, piece: &str) {
        if self.column + piece.len() > LINE {
            self.fold();
        }
        self.text.push_str(piece);
        self.column += piece.len();
    }

    fn fold(&mut self) {
        self.text.push_str("\r\n\t");
        self.column = 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn unsigned(names: &[String], domain: &str) -> Unsigned {
        Unsigned::dkim(&Tags {
            algorithm: "rsa-sha256",
            domain,
            selector: "sel",
            signed_at: 1_700_000_000,
            expires_at: Some(1_700_000_060),
            names,
            body: &BodyHash::of([Ok("")]).unwrap(),
        })
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("x-field-{n}")).collect()
    }

    #[test]
    fn a_whole_field() {
        let field = unsigned(&names(2), "example.org").signed(&[0; 60]);
        let expected = "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=sel;\r\n\
            \tt=1700000000; x=1700000060; h=x-field-0:x-field-1;\r\n\
            \tbh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\r\n\
            \tb=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n\
            \tAAAAAAAA\r\n";
        assert_eq!(String::from_utf8(field).unwrap(), expected);
    }

    #[test]
    fn lines_are_short_and_none_is_blank() {
        for count in 1..60 {
            for octets in [1, 53, 54, 55, 64, 256, 384, 512] {
                let field = unsigned(&names(count), "example.org").signed(&vec![7; octets]);
                let text = String::from_utf8(field).unwrap();
                let lines: Vec<&str> = text.strip_suffix("\r\n").unwrap().split("\r\n").collect();
                assert!(lines.iter().all(|line| line.len() <= LINE), "{text}");
                assert!(lines.iter().all(|line| !line.trim().is_empty()), "{text}");
                assert!(lines.iter().skip(1).all(|line| line.starts_with('\t')), "{text}");
            }
        }
    }

    #[test]
    fn what_cannot_be_folded_stays_whole() {
        let domain = format!("{}.example", "a".repeat(63));
        let field = unsigned(&names(1), &domain).signed(b"x");
        assert!(String::from_utf8(field).unwrap().contains(&format!("d={domain};")));
    }

    #[test]
    fn the_signature_s_own_field_ends_with_an_empty_b() {
        let mut out = Vec::new();
        unsigned(&names(2), "example.org").canonical(&mut out);
        let expected = "dkim-signature:v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=sel; \
            t=1700000000; x=1700000060; h=x-field-0:x-field-1; \
            bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn expiries() {
        let now = Timestamp(1_700_000_000_999);
        let after = |duration| expiry(now, Some(duration));
        assert_eq!(expiry(now, None), Ok(None));
        assert_eq!(after(Duration::from_secs(60)), Ok(Some(1_700_000_060)));
        assert_eq!(after(Duration::from_millis(999)), Err(SignError::Expired));
        assert_eq!(after(Duration::MAX), Ok(Some(FOREVER)));
    }
}
