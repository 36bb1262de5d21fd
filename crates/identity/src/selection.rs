//! Which fields a signature covers (RFC 6376 §5.4).

use std::collections::HashMap;

use waypost_mail::{HeaderBlock, SignRequest};

use crate::error::SignError;
use crate::header;

/// The fields signed when a request lists none: those of RFC 6376 §5.4.1, and what has come to
/// matter since (RFC 8058 §4 wants `List-Unsubscribe-Post` signed).
pub const RECOMMENDED: &[&str] = &[
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-Disposition",
    "Content-ID",
    "Content-Description",
    "Auto-Submitted",
    "Resent-Date",
    "Resent-From",
    "Resent-Sender",
    "Resent-To",
    "Resent-Cc",
    "Resent-Message-ID",
    "List-Id",
    "List-Help",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Subscribe",
    "List-Post",
    "List-Owner",
    "List-Archive",
];

/// The fields that nobody may add when a request lists neither fields nor these: what a reader
/// sees, and what decides how the body is read (RFC 6376 §8.15).
pub const OVERSIGNED: &[&str] = &[
    "From",
    "Reply-To",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "Content-Type",
    "Content-Transfer-Encoding",
];

/// The fields that no request may list: other hosts add or remove them (RFC 6376 §5.4, RFC 8617
/// §4.1.2), so that their signature would not survive.
pub const UNSIGNABLE: &[&str] = &[
    "Return-Path",
    "Received",
    "Delivered-To",
    "Bcc",
    "Resent-Bcc",
    "DKIM-Signature",
    "Authentication-Results",
    "ARC-Seal",
    "ARC-Message-Signature",
    "ARC-Authentication-Results",
];

/// Most fields that one signature covers. A stranger's message may have tens of thousands.
const MAX_FIELDS: usize = 500;
/// Longest name of a field that can be listed.
const MAX_NAME: usize = 76;

/// The names that a request covers, each once, in lower case and in the order of `h=`.
#[derive(Debug)]
pub(crate) struct Listed(Vec<Name>);

#[derive(Debug)]
struct Name {
    text: String,
    oversigned: bool,
}

impl Listed {
    /// Reads the lists of a request.
    pub(crate) fn of(request: &SignRequest) -> Result<Listed, SignError> {
        let mut listed = Listed(vec![Name { text: "from".to_owned(), oversigned: false }]);
        let recommended = request.headers.is_empty();
        let oversigned = recommended && request.oversign.is_empty();
        listed.add(if recommended { RECOMMENDED } else { &[] }, false)?;
        listed.add(&request.headers, false)?;
        listed.add(if oversigned { OVERSIGNED } else { &[] }, true)?;
        listed.add(&request.oversign, true)?;
        Ok(listed)
    }

    /// What a seal covers: the recommended fields, and the signatures that were there
    /// (RFC 8617 §4.1.2).
    pub(crate) fn sealed() -> Listed {
        let names = RECOMMENDED.iter().copied().chain(["DKIM-Signature"]);
        let name = |name: &str| Name { text: name.to_ascii_lowercase(), oversigned: false };
        Listed(names.map(name).collect())
    }

    fn add<T: AsRef<str>>(&mut self, names: &[T], oversigned: bool) -> Result<(), SignError> {
        for name in names {
            let text = legal(name.as_ref())?;
            match self.0.iter_mut().find(|known| known.text == text) {
                Some(known) => known.oversigned |= oversigned,
                None => self.0.push(Name { text, oversigned }),
            }
        }
        Ok(())
    }
}

/// RFC 5322 §2.2, but for the semicolon, which ends a tag (RFC 6376 §3.2).
fn legal(name: &str) -> Result<String, SignError> {
    let printable = |b: u8| (33..=126).contains(&b) && b != b':' && b != b';';
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(printable) {
        return Err(SignError::NoField(name.to_owned()));
    }
    if UNSIGNABLE.iter().any(|other| other.eq_ignore_ascii_case(name)) {
        return Err(SignError::Unsignable(name.to_owned()));
    }
    Ok(name.to_ascii_lowercase())
}

/// The fields of one message that one signature covers.
#[derive(Debug)]
pub(crate) struct Selection {
    /// The names of `h=`.
    pub(crate) names: Vec<String>,
    /// The fields in canonical form, CRLF behind each: what is signed before the signature's own.
    pub(crate) canonical: Vec<u8>,
}

impl Selection {
    /// Picks the fields of each name from the bottom up (RFC 6376 §5.4.2).
    pub(crate) fn pick(listed: &Listed, header: &HeaderBlock) -> Result<Selection, SignError> {
        let mut present: HashMap<String, Vec<&[u8]>> = HashMap::new();
        for (name, value) in header.iter() {
            present.entry(name.to_ascii_lowercase()).or_default().push(value);
        }
        let count = |name: &str| present.get(name).map_or(0, Vec::len);
        let from = count("from");
        if from != 1 {
            return Err(SignError::From(from));
        }
        let total = listed.0.iter().map(|name| count(&name.text)).sum();
        if total > MAX_FIELDS {
            return Err(SignError::TooManyFields(total));
        }
        let mut selection = Selection { names: Vec::new(), canonical: Vec::new() };
        for name in &listed.0 {
            for value in present.get(&name.text).into_iter().flatten().rev() {
                selection.names.push(name.text.clone());
                header::relaxed(&name.text, value, &mut selection.canonical);
                selection.canonical.extend_from_slice(b"\r\n");
            }
            // A name without a field signs that there is none (RFC 6376 §5.4).
            if name.oversigned {
                selection.names.push(name.text.clone());
            }
        }
        Ok(selection)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn request(headers: &[&str], oversign: &[&str]) -> SignRequest {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        SignRequest {
            domain: "example.org".to_owned(),
            selector: "s".to_owned(),
            key: "k".to_owned(),
            headers: owned(headers),
            oversign: owned(oversign),
            expire_after: None,
        }
    }

    fn pick(
        headers: &[&str],
        oversign: &[&str],
        text: &'static str,
    ) -> Result<Selection, SignError> {
        let header = HeaderBlock::parse(Bytes::from_static(text.as_bytes()));
        Selection::pick(&Listed::of(&request(headers, oversign))?, &header)
    }

    #[test]
    fn every_occurrence_from_the_bottom_up() {
        let text = "To: 1\r\nX: top\r\nFrom: a\r\nx : mid\r\n dle\r\nTo: 2\r\nX: bottom\r\n";
        let picked = pick(&["X", "Absent", "To", "x"], &[], text).unwrap();
        assert_eq!(picked.names, ["from", "x", "x", "x", "to", "to"]);
        let canonical = "from:a\r\nx:bottom\r\nx:mid dle\r\nx:top\r\nto:2\r\nto:1\r\n";
        assert_eq!(String::from_utf8(picked.canonical).unwrap(), canonical);
    }

    #[test]
    fn oversigned_once_more_than_it_occurs() {
        let text = "From: a\r\nSubject: s\r\nReceived: x\r\n";
        let picked = pick(&["Subject"], &["from", "SUBJECT", "Cc"], text).unwrap();
        assert_eq!(picked.names, ["from", "from", "subject", "subject", "cc"]);
        assert_eq!(picked.canonical, b"from:a\r\nsubject:s\r\n");
    }

    #[test]
    fn defaults() {
        let text = "Received: x\r\nFrom: a\r\nTo: t\r\nList-Id: l\r\nX-Other: o\r\n";
        let count = |names: &[String], name: &str| names.iter().filter(|n| *n == name).count();
        let neither = pick(&[], &[], text).unwrap().names;
        for (name, times) in [("from", 2), ("to", 2), ("cc", 1), ("list-id", 1), ("received", 0)] {
            assert_eq!(count(&neither, name), times, "{name}");
        }
        assert_eq!(pick(&[], &["To"], text).unwrap().names, ["from", "to", "to", "list-id"]);
        assert_eq!(pick(&["To"], &[], text).unwrap().names, ["from", "to"]);
    }

    #[test]
    fn the_sets_do_not_contradict_each_other() {
        assert!(OVERSIGNED.iter().all(|name| RECOMMENDED.contains(name)));
        assert!(RECOMMENDED.iter().all(|name| !UNSIGNABLE.contains(name)));
    }

    #[test]
    fn one_from() {
        assert_eq!(pick(&[], &[], "To: t\r\n").unwrap_err(), SignError::From(0));
        let two = pick(&[], &[], "From: a\r\nfrom: b\r\n").unwrap_err();
        assert_eq!(two, SignError::From(2));
    }

    #[test]
    fn a_flood_of_fields_is_refused() {
        let text: &'static str = format!("From: a\r\n{}", "To: t\r\n".repeat(500)).leak();
        assert_eq!(pick(&["To"], &[], text).unwrap_err(), SignError::TooManyFields(501));
        assert_eq!(pick(&["Cc"], &[], text).unwrap().names, ["from"]);
    }

    #[test]
    fn bad_lists() {
        let text = "From: a\r\n";
        for name in ["", "To:", "a;b", "T o", "\u{fc}", "x\r\ny", &"x".repeat(77)] {
            let expected = SignError::NoField(name.to_owned());
            assert_eq!(pick(&[name], &[], text).unwrap_err(), expected);
            assert_eq!(pick(&[], &[name], text).unwrap_err(), expected);
        }
        let expected = SignError::Unsignable("dkim-signature".to_owned());
        assert_eq!(pick(&["dkim-signature"], &[], text).unwrap_err(), expected);
    }
}
