//! Encoded words (RFC 2047) and encoded parameters (RFC 2231).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Most characters of an encoded word: 75 are allowed (RFC 2047 §2), but its line may have no more than
/// 76 with the name of the field before it.
const MAX_WORD: usize = 64;
/// Characters of a section of a long parameter.
const SECTION: usize = 60;

/// What octets over 127 stand for: UTF-8 where they are that, else it is not known (RFC 1428 §3).
pub(crate) fn charset(octets: &[u8]) -> &'static str {
    if std::str::from_utf8(octets).is_ok() { "utf-8" } else { "unknown-8bit" }
}

/// Text as encoded words, each to be divided from the next by white space, which is not part of the
/// text. They may stand wherever words may: in unstructured fields, phrases and comments.
pub(crate) fn encoded(text: &[u8], charset: &str) -> Vec<String> {
    let room = MAX_WORD - "=?".len() - charset.len() - "?q?".len() - "?=".len();
    let mut pieces = Vec::new();
    let mut rest = text;
    // What is mostly ASCII stays readable.
    let by_base64 = q_len(text) > text.len().div_ceil(3) * 8;
    while !rest.is_empty() {
        let mut end = 0;
        let mut used = 0;
        while let Some(next) = character(rest, end) {
            let more = match by_base64 {
                true => (end + next).div_ceil(3) * 4,
                false => used + q_len(&rest[end..end + next]),
            };
            if more > room {
                break;
            }
            used = more;
            end += next;
        }
        let (piece, behind) = rest.split_at(end.max(1));
        rest = behind;
        pieces.push(match by_base64 {
            true => format!("=?{charset}?b?{}?=", STANDARD.encode(piece)),
            false => format!("=?{charset}?q?{}?=", q(piece)),
        });
    }
    pieces
}

/// How many octets the character has that begins at `at`: words are not cut within one.
fn character(text: &[u8], at: usize) -> Option<usize> {
    let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
    let len = (1..=rest.len().min(4)).find(|len| std::str::from_utf8(&rest[..*len]).is_ok());
    Some(len.unwrap_or(1))
}

/// RFC 2047 §5 (3): what may stand in a phrase, which is the strictest place.
fn is_plain(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!*+-/".contains(&octet)
}

fn q_len(text: &[u8]) -> usize {
    text.iter().map(|octet| if is_plain(*octet) || *octet == b' ' { 1 } else { 3 }).sum()
}

fn q(text: &[u8]) -> String {
    let mut out = String::new();
    for octet in text {
        match octet {
            b' ' => out.push('_'),
            plain if is_plain(*plain) => out.push(char::from(*plain)),
            other => write_hex('=', *other, &mut out),
        }
    }
    out
}

/// A parameter of a field such as Content-Disposition, with what stands between it and the one before.
pub(crate) fn parameter(name: &str, value: &[u8]) -> String {
    let mut coded = Vec::new();
    let mut at = 0;
    while let Some(len) = character(value, at) {
        let mut one = String::new();
        for octet in &value[at..at + len] {
            match octet {
                b'.' | b'_' | b'-' => one.push(char::from(*octet)),
                plain if plain.is_ascii_alphanumeric() => one.push(char::from(*plain)),
                other => write_hex('%', *other, &mut one),
            }
        }
        coded.push(one);
        at += len;
    }
    let charset = charset(value);
    let whole: String = coded.concat();
    if whole.len() <= SECTION {
        return format!(";\r\n {name}*={charset}''{whole}");
    }
    let mut sections = vec![format!("{charset}''")];
    for one in coded {
        match sections.last_mut() {
            Some(last) if last.len() + one.len() <= SECTION => last.push_str(&one),
            _ => sections.push(one),
        }
    }
    let mut out = String::new();
    for (index, section) in sections.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(out, ";\r\n {name}*{index}*={section}");
    }
    out
}

fn write_hex(mark: char, octet: u8, out: &mut String) {
    let _ = write!(out, "{mark}{octet:02X}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mostly_ascii_stays_readable() {
        assert_eq!(encoded("Gr\u{fc}\u{df}e".as_bytes(), "utf-8"), ["=?utf-8?q?Gr=C3=BC=C3=9Fe?="]);
        assert_eq!(encoded("\u{4f60}\u{597d}".as_bytes(), "utf-8"), ["=?utf-8?b?5L2g5aW9?="]);
        assert_eq!(encoded(b"a\xfc b", "unknown-8bit"), ["=?unknown-8bit?q?a=FC_b?="]);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        for text in ["\u{4f60}".repeat(60), "b\u{fc}cher-".repeat(40), "x".repeat(300) + "\u{fc}"] {
            let words = encoded(text.as_bytes(), "utf-8");
            assert!(
                words.len() > 1 && words.iter().all(|word| word.len() <= MAX_WORD),
                "{words:?}"
            );
            let message = format!("Subject: {}\r\n\r\n", words.join("\r\n "));
            let read = mail_parser::MessageParser::default().parse(message.as_bytes()).unwrap();
            assert_eq!(read.subject().unwrap(), text);
        }
    }

    #[test]
    fn parameters() {
        assert_eq!(parameter("name", "\u{fc}.pdf".as_bytes()), ";\r\n name*=utf-8''%C3%BC.pdf");
        let long = parameter("filename", "\u{fc}".repeat(30).as_bytes());
        assert!(
            long.contains("\r\n filename*0*=utf-8''%C3") && long.contains(";\r\n filename*3*=")
        );
        assert!(long.lines().all(|line| line.len() <= 78), "{long}");
        let message = format!("Content-Type: text/plain{long}\r\n\r\nx");
        let message = message.replace("filename", "name");
        let read = mail_parser::MessageParser::default().parse(message.as_bytes()).unwrap();
        let kind = mail_parser::MimeHeaders::content_type(read.root_part()).unwrap();
        assert_eq!(kind.attribute("name").unwrap(), "\u{fc}".repeat(30));
    }
}
