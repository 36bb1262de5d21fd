//! The header of a message: found, read and edited without touching a byte that was not meant.

use std::ops::Range;

use bytes::Bytes;
use memchr::memmem;

/// Largest header taken, in octets: more is refused before anything is gathered in memory for it.
pub const MAX_HEADER: usize = 256 * 1024;

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No blank line within the limit.
    #[error("the header is longer than 256 KiB")]
    TooLong,
}

/// One field: where it lies in the block. A field includes its folded lines and final CRLF.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    range: Range<usize>,
    colon: usize,
}

/// The header fields of a message, up to and without the blank line.
///
/// Lines that are no fields (there is mail like that) are kept where they are.
#[derive(Debug, Clone)]
pub struct HeaderBlock {
    bytes: Bytes,
    fields: Vec<Field>,
}

/// How many octets of `start`, the beginning of a message, are header fields; the blank line is not
/// counted. Absent when the end of the header is not within `start`.
pub fn header_len(start: &[u8]) -> Option<usize> {
    if start.starts_with(b"\r\n") {
        return Some(0);
    }
    memmem::find(start, b"\r\n\r\n").map(|at| at + 2)
}

impl HeaderBlock {
    /// Reads the fields in `bytes`, which ends after the last field's CRLF.
    pub fn parse(bytes: Bytes) -> HeaderBlock {
        let mut fields: Vec<Field> = Vec::new();
        let mut at = 0;
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            let range = at..at + line.len();
            at = range.end;
            match fields.last_mut() {
                Some(last) if line.starts_with(b" ") || line.starts_with(b"\t") => {
                    last.range.end = range.end;
                }
                _ => {
                    let colon = colon_of(line).map_or(range.start, |colon| range.start + colon);
                    fields.push(Field { range, colon });
                }
            }
        }
        HeaderBlock { bytes, fields }
    }

    /// The bytes as they stand.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many fields there are.
    pub fn count(&self) -> usize {
        self.fields.len()
    }

    /// Name and raw value (folding and final CRLF included) of every field, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| {
            let name = &self.bytes[field.range.start..field.colon];
            let value = &self.bytes[(field.colon + 1).min(field.range.end)..field.range.end];
            (std::str::from_utf8(name).unwrap_or("").trim_end(), value)
        })
    }

    /// How many fields have this name, in any case.
    pub fn count_named(&self, name: &str) -> usize {
        self.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count()
    }

    /// The unfolded value of the first field of this name; octets that are no UTF-8 are replaced.
    pub fn first(&self, name: &str) -> Option<String> {
        let (_, value) = self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        Some(unfold(value))
    }

    /// True when an octet is over 127.
    pub fn is_eight_bit(&self) -> bool {
        !self.bytes.is_ascii()
    }

    /// The block without the fields of this name.
    pub fn without(self, name: &str) -> HeaderBlock {
        if self.count_named(name) == 0 {
            return self;
        }
        let mut kept = Vec::with_capacity(self.bytes.len());
        for (field, (n, _)) in self.fields.iter().zip(self.iter()) {
            if !n.eq_ignore_ascii_case(name) {
                kept.extend_from_slice(&self.bytes[field.range.clone()]);
            }
        }
        HeaderBlock::parse(kept.into())
    }

    /// The block without the field at `index`, counted from the top.
    pub fn without_at(self, index: usize) -> HeaderBlock {
        let Some(field) = self.fields.get(index) else { return self };
        let mut kept = self.bytes[..field.range.start].to_vec();
        kept.extend_from_slice(&self.bytes[field.range.end..]);
        HeaderBlock::parse(kept.into())
    }

    /// The block with whole fields, CRLF included, in front.
    pub fn with_top(self, fields: &[u8]) -> HeaderBlock {
        HeaderBlock::parse([fields, &self.bytes].concat().into())
    }

    /// The block with whole fields, CRLF included, at the end.
    pub fn with_bottom(self, fields: &[u8]) -> HeaderBlock {
        HeaderBlock::parse([&self.bytes[..], fields].concat().into())
    }
}

/// A field for the wire, `Name: value`, folded at spaces so that lines stay within 78 octets where
/// they can and within 998 always (RFC 5322 §2.1.1). Control characters become spaces.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut out = format!("{name}:").into_bytes();
    let mut column = out.len();
    for word in value.split(|c: char| c.is_control() || c == ' ').filter(|w| !w.is_empty()) {
        for piece in pieces(word) {
            if column + 1 + piece.len() > 78 && column > name.len() + 1 {
                out.extend_from_slice(b"\r\n");
                column = 0;
            }
            out.push(b' ');
            out.extend_from_slice(piece.as_bytes());
            column += 1 + piece.len();
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Cuts a word that no line can hold.
fn pieces(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len().min(900);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, tail) = rest.split_at(end);
        rest = tail;
        Some(piece)
    })
}

fn colon_of(line: &[u8]) -> Option<usize> {
    let colon = memchr::memchr(b':', line)?;
    let name = line[..colon].trim_ascii_end();
    let legal = !name.is_empty() && name.iter().all(|b| (33..=126).contains(b));
    legal.then_some(colon)
}

fn unfold(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    text.replace("\r\n", "").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> HeaderBlock {
        HeaderBlock::parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn finds_the_end() {
        assert_eq!(header_len(b"A: b\r\n\r\nbody"), Some(6));
        assert_eq!(header_len(b"\r\nbody"), Some(0));
        assert_eq!(header_len(b"A: b\r\n"), None);
    }

    #[test]
    fn edits_touch_only_what_they_name() {
        let text = "Bcc: x\r\n y\r\nSubject: s\r\nnonsense\r\nBCC : z\r\nTo: t\r\n";
        let edited = block(text).without("bcc");
        assert_eq!(edited.as_bytes(), "Subject: s\r\nnonsense\r\nTo: t\r\n");
        let edited = edited.without_at(0).with_top(b"A: 1\r\n").with_bottom(b"Z: 2\r\n");
        assert_eq!(edited.as_bytes(), "A: 1\r\nnonsense\r\nTo: t\r\nZ: 2\r\n");
    }

    #[test]
    fn reads_folded_values() {
        let block = block("Subject: one\r\n\ttwo\r\nX:\r\n");
        assert_eq!(block.first("subject").as_deref(), Some("one\ttwo"));
        assert_eq!(block.first("x").as_deref(), Some(""));
        assert_eq!(block.first("y"), None);
    }

    #[test]
    fn folds_and_never_lets_a_line_end_in() {
        let folded = field("X", &"word ".repeat(40));
        assert!(folded.split(|b| *b == b'\n').all(|line| line.len() <= 79));
        assert_eq!(field("X", "a\r\nBcc: b"), b"X: a Bcc: b\r\n");
        let long = field("X", &"y".repeat(5000));
        assert!(long.split(|b| *b == b'\n').all(|line| line.len() <= 998));
    }
}
