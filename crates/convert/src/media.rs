//! What the header of a part says about its content (RFC 2045).

use bytes::Bytes;
use waypost_mail::HeaderBlock;

/// Longest boundary that is looked for; RFC 2046 §5.1.1 allows 70 octets.
const MAX_BOUNDARY: usize = 200;

/// One part, or the message itself, by its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) kind: Kind,
    /// In lower case, `text/plain` where the header says nothing that can be read.
    pub(crate) media: String,
    /// The header says of what type it is.
    pub(crate) is_typed: bool,
    pub(crate) encoding: Encoding,
    /// A signature within the message covers it.
    pub(crate) sealed: bool,
    /// It begins a message: the one that is converted, or one that is enclosed.
    pub(crate) begins_message: bool,
}

/// What its content consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Octets that an encoding may stand for.
    Single,
    /// Parts between delimiters.
    Multipart(Vec<u8>),
    /// Another message.
    Message,
    /// Something that must not be encoded and is not looked into.
    Opaque,
}

/// How the content is encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// It is not: `7bit`, or nothing is said.
    SevenBit,
    /// It is not: `8bit`.
    EightBit,
    /// It is not: `binary`.
    Binary,
    /// It is, or so it says.
    Coded(String),
}

impl Part {
    /// `digest`: parts are messages unless they say otherwise (RFC 2046 §5.1.5).
    pub(crate) fn read(header: &[u8], digest: bool, sealed: bool, begins_message: bool) -> Part {
        let block = HeaderBlock::parse(Bytes::copy_from_slice(header));
        let raw = |name: &str| {
            block.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, raw)| raw)
        };
        let encoding = Encoding::read(raw("Content-Transfer-Encoding"));
        let said = raw("Content-Type").and_then(ContentType::read);
        let is_typed = said.is_some();
        let said = said.unwrap_or_else(|| ContentType {
            media: if digest { "message/rfc822" } else { "text/plain" }.to_owned(),
            boundary: None,
        });
        let kind = kind(&said, &encoding);
        Part { kind, media: said.media, is_typed, encoding, sealed, begins_message }
    }

    pub(crate) fn is_digest(&self) -> bool {
        self.media == "multipart/digest"
    }

    /// What it encloses is signed (RFC 1847 §2.1).
    pub(crate) fn is_signed(&self) -> bool {
        self.media == "multipart/signed"
    }

    /// Its lines are read by people, more or less: quoted-printable keeps them so.
    pub(crate) fn is_text(&self) -> bool {
        self.media.starts_with("text/") || self.media.starts_with("message/")
    }
}

fn kind(said: &ContentType, encoding: &Encoding) -> Kind {
    let is_coded = matches!(encoding, Encoding::Coded(_));
    match (said.media.as_str(), &said.boundary) {
        // RFC 6532 §3.7, RFC 6533 §3: these may be encoded.
        (
            "message/global"
            | "message/global-headers"
            | "message/global-delivery-status"
            | "message/global-disposition-notification",
            _,
        ) => Kind::Single,
        // RFC 2045 §6.4 forbids it, but there is mail like that.
        (media, _) if is_coded && media.starts_with("message/") => Kind::Single,
        ("message/rfc822" | "message/news", _) => Kind::Message,
        (media, Some(boundary)) if media.starts_with("multipart/") && !is_coded => {
            Kind::Multipart(boundary.clone())
        }
        (media, _) if media.starts_with("message/") || media.starts_with("multipart/") => {
            Kind::Opaque
        }
        _ => Kind::Single,
    }
}

impl Encoding {
    fn read(value: Option<&[u8]>) -> Encoding {
        let Some(value) = value else { return Encoding::SevenBit };
        let mut words = Words { rest: value };
        match words.next() {
            Some(Word::Token(token)) => match token.to_ascii_lowercase().as_str() {
                "7bit" => Encoding::SevenBit,
                "8bit" => Encoding::EightBit,
                "binary" => Encoding::Binary,
                other => Encoding::Coded(other.chars().take(40).collect()),
            },
            _ => Encoding::SevenBit,
        }
    }
}

/// A `Content-Type` field (RFC 2045 §5.1), as far as the structure depends on it.
#[derive(Debug, PartialEq, Eq)]
struct ContentType {
    media: String,
    boundary: Option<Vec<u8>>,
}

impl ContentType {
    /// Nothing where there is no type and subtype: such a field counts as absent (RFC 2045 §5.2).
    fn read(value: &[u8]) -> Option<ContentType> {
        let mut words = Words { rest: value };
        let (Some(Word::Token(main)), Some(Word::Special(b'/')), Some(Word::Token(sub))) =
            (words.next(), words.next(), words.next())
        else {
            return None;
        };
        let media = format!("{main}/{sub}").to_ascii_lowercase();
        let boundary = boundary(words).filter(|_| media.starts_with("multipart/"));
        Some(ContentType { media, boundary })
    }
}

/// The first parameter of this name that can be a boundary.
fn boundary(mut words: Words<'_>) -> Option<Vec<u8>> {
    while let Some(word) = words.next() {
        let Word::Token(name) = word else { continue };
        if !name.eq_ignore_ascii_case("boundary") {
            continue;
        }
        if words.next() != Some(Word::Special(b'=')) {
            continue;
        }
        let value = match words.rest.trim_ascii_start() {
            [b'"', text @ ..] => quoted(text).0,
            // There is mail with specials in it that are not quoted.
            rest => {
                let ends = |octet: &u8| octet.is_ascii_whitespace() || b";(\"".contains(octet);
                rest[..rest.iter().position(ends).unwrap_or(rest.len())].to_vec()
            }
        };
        // White space at the end is not the boundary's (RFC 2046 §5.1.1).
        let value = value.trim_ascii_end().to_vec();
        let legal = value.iter().all(|octet| (32..127).contains(octet));
        return (legal && (1..=MAX_BOUNDARY).contains(&value.len())).then_some(value);
    }
    None
}

#[derive(Debug, PartialEq, Eq)]
enum Word {
    Token(String),
    Quoted(Vec<u8>),
    Special(u8),
}

/// The words of a structured value, without white space and comments.
struct Words<'a> {
    rest: &'a [u8],
}

impl Iterator for Words<'_> {
    type Item = Word;

    fn next(&mut self) -> Option<Word> {
        loop {
            let (&first, behind) = self.rest.split_first()?;
            match first {
                b'(' => self.rest = behind_comment(self.rest),
                b'"' => {
                    let (text, rest) = quoted(behind);
                    self.rest = rest;
                    return Some(Word::Quoted(text));
                }
                octet if octet.is_ascii_whitespace() => self.rest = behind,
                octet if is_special(octet) => {
                    self.rest = behind;
                    return Some(Word::Special(octet));
                }
                _ => {
                    let ends = |octet: &u8| {
                        octet.is_ascii_whitespace() || is_special(*octet) || b"(\"".contains(octet)
                    };
                    let len = self.rest.iter().position(ends).unwrap_or(self.rest.len());
                    let (token, rest) = self.rest.split_at(len);
                    self.rest = rest;
                    return Some(Word::Token(String::from_utf8_lossy(token).into_owned()));
                }
            }
        }
    }
}

/// RFC 2045 §5.1 has more of these, but tokens with them are common and mean no harm.
fn is_special(octet: u8) -> bool {
    matches!(octet, b'/' | b';' | b'=' | b',' | b')')
}

/// What stands behind the comment that begins here, however deep it is nested.
pub(crate) fn behind_comment(text: &[u8]) -> &[u8] {
    let (mut depth, mut escaped) = (0usize, false);
    for (at, octet) in text.iter().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return &text[at + 1..];
        }
    }
    &[]
}

/// The text of the quoted string whose first quote was taken, without its folding, and what follows.
pub(crate) fn quoted(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let (mut out, mut escaped) = (Vec::new(), false);
    for (at, octet) in text.iter().enumerate() {
        match octet {
            _ if escaped => {
                escaped = false;
                out.push(*octet);
            }
            b'\\' => escaped = true,
            b'"' => return (out, &text[at + 1..]),
            b'\r' | b'\n' => {}
            _ => out.push(*octet),
        }
    }
    (out, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str) -> Part {
        Part::read(header.as_bytes(), false, false, false)
    }

    #[test]
    fn types_are_read_with_comments_folding_and_quotes() {
        let part =
            read("Content-Type: (a (b) c) Multipart/Mixed;\r\n\tx=y; BOUNDARY=\"a \\\"b \"\r\n");
        assert_eq!(part.kind, Kind::Multipart(b"a \"b".to_vec()));
        let part = read("content-type: multipart/digest; boundary=gc0p4Jq0M2Yt08jU534c0p=\r\n");
        assert!(part.is_digest());
        assert_eq!(part.kind, Kind::Multipart(b"gc0p4Jq0M2Yt08jU534c0p=".to_vec()));
        assert_eq!(read("Content-Type: text\r\n").media, "text/plain");
        assert!(!read("Content-Type: text\r\n").is_typed);
        assert_eq!(read("Content-Type: multipart/mixed\r\n").kind, Kind::Opaque);
        assert_eq!(read("Content-Type: message/partial; id=1\r\n").kind, Kind::Opaque);
        assert_eq!(read("Content-Type: message/global\r\n").kind, Kind::Single);
    }

    #[test]
    fn encodings_are_read() {
        let encoding =
            |value: &str| read(&format!("Content-Transfer-Encoding:{value}\r\n")).encoding;
        assert_eq!(encoding(" 8BIT (yes)"), Encoding::EightBit);
        assert_eq!(encoding("\r\n binary"), Encoding::Binary);
        assert_eq!(encoding(" Base64"), Encoding::Coded("base64".to_owned()));
        assert_eq!(encoding(""), Encoding::SevenBit);
        assert_eq!(read("").encoding, Encoding::SevenBit);
    }

    #[test]
    fn parts_of_a_digest_are_messages() {
        let in_digest = |header: &str| Part::read(header.as_bytes(), true, false, false).kind;
        assert_eq!(in_digest("A: b\r\n"), Kind::Message);
        assert_eq!(in_digest("Content-Type: text/plain\r\n"), Kind::Single);
    }
}
