//! Header fields that are not ASCII, written so that they are and mean the same.

use bytes::Bytes;
use waypost_mail::HeaderBlock;

use crate::parameters::parameters;
use crate::pieces::unfolded;
use crate::words::charset;
use crate::writer::{Bare, Writer};
use crate::{MAX_LINE, Unfit};

/// Fields in which words stand beside addresses.
const ADDRESSES: [&str; 18] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Bcc",
    "Resent-From",
    "Resent-Sender",
    "Resent-Reply-To",
    "Resent-To",
    "Resent-Cc",
    "Resent-Bcc",
    "Return-Path",
    "Errors-To",
    "Mail-Followup-To",
    "Mail-Reply-To",
    "Disposition-Notification-To",
    "Return-Receipt-To",
];
/// Fields of words alone, or of words before an identifier that is like a domain.
const PHRASES: [&str; 2] = ["Keywords", "List-Id"];
/// Fields with parameters.
const PARAMETERS: [&str; 2] = ["Content-Type", "Content-Disposition"];
/// Fields with addresses of the web, in angle brackets or without.
const URIS: [&str; 7] = [
    "Content-Location",
    "List-Help",
    "List-Post",
    "List-Owner",
    "List-Subscribe",
    "List-Unsubscribe",
    "List-Archive",
];
/// Fields that tell what happened on the way: who reads them finds the same elsewhere.
const TRACES: [&str; 4] =
    ["Received", "Received-SPF", "Authentication-Results", "ARC-Authentication-Results"];
/// Fields in which nothing but a comment may be written another way: names that must stay the same, and
/// signatures.
const IDENTIFIERS: [&str; 12] = [
    "Message-ID",
    "Resent-Message-ID",
    "In-Reply-To",
    "References",
    "Content-ID",
    "DKIM-Signature",
    "DomainKey-Signature",
    "ARC-Seal",
    "ARC-Message-Signature",
    "DKIM2-Signature",
    "Message-Instance",
    "MT-Priority",
];
/// Other fields in which only comments are free text.
const STRUCTURED: [&str; 7] = [
    "Date",
    "Resent-Date",
    "MIME-Version",
    "Content-Transfer-Encoding",
    "List-Unsubscribe-Post",
    "Auto-Submitted",
    "TLS-Required",
];

/// These fields, CRLF included, with those that are not ASCII written in ASCII. Everything else stays
/// as it is.
///
/// # Errors
/// The first field that has no such form.
pub fn ascii_fields(fields: &[u8]) -> Result<Vec<u8>, Unfit> {
    if fields.is_ascii() {
        return Ok(fields.to_vec());
    }
    let block = HeaderBlock::parse(Bytes::copy_from_slice(fields));
    let mut out = Vec::with_capacity(fields.len() * 2);
    for field in block.views() {
        match field.raw.is_ascii() {
            true => out.extend_from_slice(field.raw),
            false => out.extend(ascii_field(field.name, field.value)?),
        }
    }
    Ok(out)
}

fn ascii_field(name: &str, raw: &[u8]) -> Result<Vec<u8>, Unfit> {
    let unfit =
        || Unfit::Field(if name.is_empty() { "(a line that is none)" } else { name }.to_owned());
    let value = unfolded(raw);
    if name.is_empty() || value.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
        return Err(unfit());
    }
    let made = written(name, &value).ok_or_else(unfit)?;
    let fits = made.split(|octet| *octet == b'\n').all(|line| line.len() <= MAX_LINE + 1);
    fits.then_some(made).ok_or_else(unfit)
}

/// The whole field in ASCII, CRLF included, where it has such a form.
fn written(name: &str, value: &[u8]) -> Option<Vec<u8>> {
    let is_in = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    if is_in(&PARAMETERS) {
        return parameters(name, value);
    }
    let mut writer = Writer::new(charset(value));
    match () {
        () if is_in(&ADDRESSES) => writer.structured(value, Bare::Address)?,
        () if is_in(&PHRASES) => writer.structured(value, Bare::Phrase)?,
        () if is_in(&URIS) => writer.structured(value, Bare::Uri)?,
        () if is_in(&TRACES) => writer.structured(value, Bare::Trace)?,
        () if is_in(&IDENTIFIERS) => writer.structured(value, Bare::Identifier)?,
        () if is_in(&STRUCTURED) => writer.structured(value, Bare::Token)?,
        () => writer.unstructured(value),
    }
    Some(writer.fold(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ascii(field: &str) -> String {
        let made = ascii_fields(format!("{field}\r\n").as_bytes()).unwrap();
        assert!(made.is_ascii() && made.ends_with(b"\r\n"));
        let made = String::from_utf8(made).unwrap();
        assert!(made.lines().all(|line| line.len() <= 78 && !line.trim().is_empty()), "{made}");
        made.trim_end().to_owned()
    }

    fn unfit(field: &str) -> String {
        match ascii_fields(format!("A: b\r\n{field}\r\n").as_bytes()) {
            Err(Unfit::Field(name)) => name,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_ascii_stays_as_it_is() {
        let fields = "Subject:  two  spaces\r\n\tand a fold\r\nTo: a@b.example\r\n";
        let both = format!("{fields}X: \u{fc}\r\n");
        let made = ascii_fields(both.as_bytes()).unwrap();
        assert_eq!(made, format!("{fields}X: =?utf-8?q?=C3=BC?=\r\n").as_bytes());
    }

    #[test]
    fn unstructured_text_keeps_its_white_space() {
        assert_eq!(
            ascii("Subject: ganz  gr\u{fc}n ist es"),
            "Subject: ganz  =?utf-8?q?gr=C3=BCn?= ist es"
        );
        assert_eq!(ascii("Subject: \u{fc} a \u{fc}"), "Subject: =?utf-8?q?=C3=BC_a_=C3=BC?=");
        assert_eq!(
            ascii("Subject: =?utf-8?q?x?= \u{fc} =?utf-8?q?y?="),
            "Subject: =?utf-8?q?x?= =?utf-8?q?_=C3=BC_?= =?utf-8?q?y?="
        );
        let long = ascii(&format!("X-Long: {}", "w\u{fc}rde ".repeat(50)));
        assert!(long.contains("\r\n =?utf-8?q?"));
    }

    #[test]
    fn names_comments_and_domains_of_addresses() {
        assert_eq!(
            ascii("To: J\u{fc}rgen \"M. \u{fc}\" <j@b\u{fc}cher.example>, plain@x.example"),
            "To: =?utf-8?q?J=C3=BCrgen_M=2E_=C3=BC?= <j@xn--bcher-kva.example>,\r\n plain@x.example"
        );
        assert_eq!(
            ascii("Cc: Fr\u{fc}he: a@b.example, c@d.example (\u{fc}ber);"),
            "Cc: =?utf-8?q?Fr=C3=BChe?= : a@b.example, c@d.example\r\n (=?utf-8?q?=C3=BCber?=);"
        );
        assert_eq!(ascii("From: a@b\u{fc}cher.example"), "From: a@xn--bcher-kva.example");
        assert_eq!(unfit("From: J <j\u{fc}@b.example>"), "From");
        assert_eq!(unfit("Reply-To: j\u{fc}@b.example"), "Reply-To");
        assert_eq!(unfit("To: \"j\u{fc}\"@b.example"), "To");
    }

    #[test]
    fn other_fields() {
        assert_eq!(ascii("Keywords: gr\u{fc}n, blau"), "Keywords: =?utf-8?q?gr=C3=BCn?= , blau");
        assert_eq!(
            ascii("Received: from b\u{fc}cher.example (h\u{fc}) by x for <\u{fc}@y>; date"),
            "Received: from xn--bcher-kva.example (=?utf-8?q?h=C3=BC?=) by x ; date"
        );
        assert_eq!(
            ascii("Content-Disposition: attachment; filename=\"\u{fc}.pdf\"; size=3"),
            "Content-Disposition: attachment;\r\n filename*=utf-8''%C3%BC.pdf;\r\n size=3"
        );
        assert_eq!(unfit("Message-ID: <\u{fc}x@b.example>"), "Message-ID");
        assert_eq!(unfit("Content-Type: t\u{fc}/plain"), "Content-Type");
        assert_eq!(unfit("n\u{fc}nsense"), "(a line that is none)");
    }

    #[test]
    fn fields_of_the_way_are_never_in_the_way() {
        assert_eq!(
            ascii(
                "Received: from a (b [192.0.2.1])\r\n\tby x (Postfix) with UTF8SMTPS id X\r\n\tfor <\u{fc}@y>; date"
            ),
            "Received: from a (b [192.0.2.1]) by x (Postfix) with UTF8SMTPS id X ; date"
        );
        assert_eq!(ascii("Received: by x id X for \u{fc}@y; date"), "Received: by x id X ; date");
        assert_eq!(
            ascii("Received: from h!\u{fc} by x; date"),
            "Received: from (=?utf-8?q?h!=C3=BC?=) by x; date"
        );
        assert_eq!(
            ascii(
                "Authentication-Results: x; dmarc=pass header.from=b\u{fc}cher.example;\r\n spf=pass smtp.mailfrom=\u{fc}@y"
            ),
            "Authentication-Results: x; dmarc=pass header.from=xn--bcher-kva.example;\r\n spf=pass (=?utf-8?q?smtp=2Emailfrom=3D=C3=BC=40y?=)"
        );
        assert_eq!(
            ascii("Received-SPF: pass envelope-from=\"\u{fc}@y\"; helo=x"),
            "Received-SPF: pass (=?utf-8?q?envelope-from=3D=C3=BC=40y?=); helo=x"
        );
    }

    #[test]
    fn fields_of_lists() {
        assert_eq!(
            ascii("List-Id: Gr\u{fc}ne <gr\u{fc}ne.liste.example>"),
            "List-Id: =?utf-8?q?Gr=C3=BCne?= <xn--grne-1ra.liste.example>"
        );
        assert_eq!(
            ascii(
                "List-Unsubscribe: <https://b\u{fc}cher.example:8443/\u{fc}?a=b>, <mailto:\u{fc}@x.example>"
            ),
            "List-Unsubscribe: <https://xn--bcher-kva.example:8443/%C3%BC?a=b>,\r\n <mailto:%C3%BC@x.example>"
        );
        assert_eq!(ascii("Content-Location: \u{fc}/x.png"), "Content-Location: %C3%BC/x.png");
    }

    #[test]
    fn words_that_are_encoded_already_are_not_encoded_again() {
        assert_eq!(
            ascii("From: =?utf-8?q?x?= \u{fc} b =?utf-8?q?y?= <a@b.example>"),
            "From: =?utf-8?q?x?= =?utf-8?q?_=C3=BC_b_?= =?utf-8?q?y?= <a@b.example>"
        );
        assert_eq!(
            ascii(
                "Content-Disposition: attachment; filename=\"\u{fc}.pdf\"; FileName*=UTF-8''%C3%BC.pdf"
            ),
            "Content-Disposition: attachment;\r\n FileName*=UTF-8''%C3%BC.pdf"
        );
    }

    #[test]
    fn encoded_words_stand_apart_and_lines_stay_short() {
        assert_eq!(ascii("To: J\u{fc}<a@b.example>"), "To: =?utf-8?q?J=C3=BC?= <a@b.example>");
        for field in [
            format!("Keywords: {}", "\u{fc},".repeat(300)),
            format!("Received: from x {}; date", "(\u{fc})".repeat(250)),
            format!("To: {}", "\"\u{fc}\"<a@b.example>,".repeat(40)),
        ] {
            ascii(&field);
        }
        let fold = format!("\r\n {}", "x".repeat(400));
        assert_eq!(
            unfit(&format!("Content-Type: a/b; x=\"{}\"; y=\u{fc}", fold.repeat(3))),
            "Content-Type"
        );
    }

    #[test]
    fn octets_of_no_known_meaning_are_kept_as_such() {
        let made = ascii_fields(b"Subject: gr\xfcn\r\n").unwrap();
        assert_eq!(made, b"Subject: =?unknown-8bit?q?gr=FCn?=\r\n");
    }
}
