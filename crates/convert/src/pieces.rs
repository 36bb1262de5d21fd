//! The pieces that the value of a header field consists of.

use crate::media::{behind_comment, quoted};

/// A piece of a structured value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Space,
    /// The inside of a comment.
    Comment(Vec<u8>),
    Quoted(Vec<u8>),
    /// The inside of angle brackets.
    Angle(Vec<u8>),
    Atom(Vec<u8>),
    /// One of `,;:`.
    Mark(u8),
}

/// A structured value, cut up.
pub(crate) fn pieces(mut rest: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    while let Some((&first, behind)) = rest.split_first() {
        match first {
            b' ' | b'\t' => {
                rest = rest.trim_ascii_start();
                pieces.push(Piece::Space);
            }
            b'(' => {
                let after = behind_comment(rest);
                let inside = &rest[1..rest.len() - after.len()];
                pieces.push(Piece::Comment(inside.strip_suffix(b")").unwrap_or(inside).to_vec()));
                rest = after;
            }
            b'"' => {
                let (text, after) = quoted(behind);
                pieces.push(Piece::Quoted(text));
                rest = after;
            }
            b'<' => {
                let end = behind.iter().position(|octet| *octet == b'>').unwrap_or(behind.len());
                pieces.push(Piece::Angle(behind[..end].to_vec()));
                rest = behind.get(end + 1..).unwrap_or_default();
            }
            b',' | b';' | b':' => {
                pieces.push(Piece::Mark(first));
                rest = behind;
            }
            _ => {
                let ends = |octet: &u8| b" \t(\"<,;:".contains(octet);
                let len = rest.iter().position(ends).unwrap_or(rest.len()).max(1);
                pieces.push(Piece::Atom(rest[..len].to_vec()));
                rest = &rest[len..];
            }
        }
    }
    pieces
}

/// The value without its folding and final line end.
pub(crate) fn unfolded(raw: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(raw.len());
    for line in raw.split_inclusive(|octet| *octet == b'\n') {
        value.extend_from_slice(line.strip_suffix(b"\r\n").unwrap_or(line));
    }
    value.trim_ascii().to_vec()
}

/// White space and words of unstructured text.
pub(crate) fn spaced(value: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut words = Vec::new();
    let mut rest = value;
    while !rest.is_empty() {
        let word = rest.trim_ascii_start();
        let space = &rest[..rest.len() - word.len()];
        let len = word.iter().position(u8::is_ascii_whitespace).unwrap_or(word.len());
        words.push((space.to_vec(), word[..len].to_vec()));
        rest = &word[len..];
    }
    words
}

/// What stands between semicolons outside quotes and comments.
pub(crate) fn sections(value: &[u8]) -> Vec<Vec<u8>> {
    let mut sections = vec![Vec::new()];
    let mut rest = value;
    while let Some((&first, behind)) = rest.split_first() {
        let taken = match first {
            b';' => {
                sections.push(Vec::new());
                rest = behind;
                continue;
            }
            b'(' => rest.len() - behind_comment(rest).len(),
            b'"' => rest.len() - quoted(behind).1.len(),
            _ => 1,
        };
        if let Some(last) = sections.last_mut() {
            last.extend_from_slice(&rest[..taken]);
        }
        rest = &rest[taken..];
    }
    sections
}
