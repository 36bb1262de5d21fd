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
    id: u32,
    range: Range<usize>,
    colon: usize,
}

/// The header fields of a message, up to and without the blank line.
///
/// Lines that are no fields (there is mail like that) are kept where they are. Every field has an id,
/// which edits of other fields do not change; new fields get new ids.
#[derive(Debug, Clone)]
pub struct HeaderBlock {
    bytes: Bytes,
    fields: Vec<Field>,
    next_id: u32,
}

/// One field of a [`HeaderBlock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldView<'a> {
    /// Its id in the block.
    pub id: u32,
    /// Its name; empty for a line that is no field.
    pub name: &'a str,
    /// The raw value, folding and final CRLF included.
    pub value: &'a [u8],
    /// The whole field as it is.
    pub raw: &'a [u8],
}

impl FieldView<'_> {
    /// The value without folding; octets that are no UTF-8 are replaced.
    pub fn unfolded(&self) -> String {
        unfold(self.value)
    }
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
        HeaderBlock::parse_from(bytes, 0)
    }

    /// The same with ids from `next_id` on.
    fn parse_from(bytes: Bytes, mut next_id: u32) -> HeaderBlock {
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
                    fields.push(Field { id: next_id, range, colon });
                    next_id = next_id.saturating_add(1);
                }
            }
        }
        HeaderBlock { bytes, fields, next_id }
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
        self.views().map(|field| (field.name, field.value))
    }

    /// Every field, in order.
    pub fn views(&self) -> impl Iterator<Item = FieldView<'_>> {
        self.fields.iter().map(|field| self.view(field))
    }

    /// The field with this id.
    pub fn by_id(&self, id: u32) -> Option<FieldView<'_>> {
        self.fields.iter().find(|field| field.id == id).map(|field| self.view(field))
    }

    fn view(&self, field: &Field) -> FieldView<'_> {
        let is_field = field.colon > field.range.start;
        let name = &self.bytes[field.range.start..field.colon];
        let value = match is_field {
            true => &self.bytes[(field.colon + 1).min(field.range.end)..field.range.end],
            false => &self.bytes[field.range.clone()],
        };
        let name = std::str::from_utf8(name).unwrap_or("").trim_end();
        FieldView { id: field.id, name, value, raw: &self.bytes[field.range.clone()] }
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
        self.rebuilt(|field| (!field.name.eq_ignore_ascii_case(name)).then_some(field.raw))
    }

    /// The block without the field at `index`, counted from the top.
    pub fn without_at(self, index: usize) -> HeaderBlock {
        match self.fields.get(index).map(|field| field.id) {
            Some(id) => self.without_id(id),
            None => self,
        }
    }

    /// The block without the field of this id.
    pub fn without_id(self, id: u32) -> HeaderBlock {
        self.rebuilt(|field| (field.id != id).then_some(field.raw))
    }

    /// The block without the fields of these ids.
    pub fn without_ids(self, ids: &[u32]) -> HeaderBlock {
        if ids.is_empty() {
            return self;
        }
        self.rebuilt(|field| (!ids.contains(&field.id)).then_some(field.raw))
    }

    /// The block with another field, CRLF included, in the place of the one with this id.
    pub fn with_changed(self, id: u32, new: &[u8]) -> HeaderBlock {
        self.rebuilt(|field| Some(if field.id == id { new } else { field.raw }))
    }

    /// The block with whole fields, CRLF included, in front.
    pub fn with_top(self, fields: &[u8]) -> HeaderBlock {
        let added = HeaderBlock::parse_from(Bytes::copy_from_slice(fields), self.next_id);
        let next_id = added.next_id;
        added.followed_by(self, next_id)
    }

    /// The block with whole fields, CRLF included, at the end.
    pub fn with_bottom(self, fields: &[u8]) -> HeaderBlock {
        let added = HeaderBlock::parse_from(Bytes::copy_from_slice(fields), self.next_id);
        let next_id = added.next_id;
        self.followed_by(added, next_id)
    }

    fn followed_by(self, other: HeaderBlock, next_id: u32) -> HeaderBlock {
        let by = self.bytes.len();
        let bytes = [&self.bytes[..], &other.bytes[..]].concat().into();
        let mut fields = self.fields;
        fields.extend(other.fields.into_iter().map(|field| field.moved(by)));
        HeaderBlock { bytes, fields, next_id }
    }

    /// The block made anew of what `keep` says of each field; ids stay.
    fn rebuilt<'a>(&'a self, keep: impl Fn(FieldView<'a>) -> Option<&'a [u8]>) -> HeaderBlock {
        let mut bytes = Vec::with_capacity(self.bytes.len());
        let mut fields = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            let Some(raw) = keep(self.view(field)) else { continue };
            let start = bytes.len();
            bytes.extend_from_slice(raw);
            let colon = start + colon_of(raw).unwrap_or(0);
            fields.push(Field { id: field.id, range: start..bytes.len(), colon });
        }
        HeaderBlock { bytes: bytes.into(), fields, next_id: self.next_id }
    }
}

impl Field {
    fn moved(self, by: usize) -> Field {
        let range = self.range.start + by..self.range.end + by;
        Field { id: self.id, range, colon: self.colon + by }
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
    fn ids_outlive_edits_of_other_fields() {
        let block = block("A: 1\r\nB: 2\r\n x\r\nC: 3\r\n");
        let edited = block.with_top(b"T: t\r\n").without_id(0).with_changed(2, b"C: new\r\n");
        assert_eq!(edited.as_bytes(), "T: t\r\nB: 2\r\n x\r\nC: new\r\n");
        let ids: Vec<u32> = edited.views().map(|field| field.id).collect();
        assert_eq!(ids, [3, 1, 2]);
        assert_eq!(edited.by_id(1).map(|field| field.unfolded()), Some("2 x".to_owned()));
        assert_eq!(edited.with_bottom(b"Z: z\r\n").by_id(4).map(|f| f.name), Some("Z"));
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
