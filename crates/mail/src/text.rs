//! The bytes of a message as policy sees and changes them: a header with ids, and a body of pieces.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::HeaderBlock;

/// Header and body of a message. Cheap to clone: nothing of a large body is copied.
#[derive(Debug, Clone)]
pub struct Text {
    /// The header fields, without the blank line.
    pub header: HeaderBlock,
    /// What follows the blank line.
    pub body: Rope,
}

impl Text {
    /// Octets of header, blank line and body.
    pub fn len(&self) -> u64 {
        self.header.as_bytes().len() as u64 + 2 + self.body.len()
    }

    /// False: there is always the blank line.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// Bytes that can be read where they are, such as a file's.
pub trait Source: Send + Sync + fmt::Debug {
    /// Exactly `len` octets from `offset` on. Blocking, and short where the page cache helps.
    ///
    /// # Errors
    /// When they cannot be read, or there are not as many.
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes>;
}

impl Source for File {
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let mut bytes = BytesMut::zeroed(len);
        self.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.freeze())
    }
}

/// A body as a row of pieces: what was received, and what was put in between.
#[derive(Debug, Clone, Default)]
pub struct Rope {
    pieces: Vec<Piece>,
    len: u64,
}

#[derive(Debug, Clone)]
enum Piece {
    Memory(Bytes),
    Stored { source: Arc<dyn Source>, offset: u64, len: u64 },
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Piece::Memory(bytes) => bytes.len() as u64,
            Piece::Stored { len, .. } => *len,
        }
    }

    /// The part from `from` up to `to`.
    fn part(&self, from: u64, to: u64) -> Piece {
        match self {
            Piece::Memory(bytes) => Piece::Memory(bytes.slice(from as usize..to as usize)),
            Piece::Stored { source, offset, .. } => {
                Piece::Stored { source: source.clone(), offset: offset + from, len: to - from }
            }
        }
    }

    fn read(&self, from: u64, len: usize) -> io::Result<Bytes> {
        match self {
            Piece::Memory(bytes) => Ok(bytes.slice(from as usize..from as usize + len)),
            Piece::Stored { source, offset, .. } => source.read_at(offset + from, len),
        }
    }
}

impl From<Bytes> for Rope {
    fn from(bytes: Bytes) -> Rope {
        let len = bytes.len() as u64;
        Rope { pieces: vec![Piece::Memory(bytes)], len }
    }
}

impl Rope {
    /// `len` octets from `offset` of something stored.
    pub fn stored(source: Arc<dyn Source>, offset: u64, len: u64) -> Rope {
        Rope { pieces: vec![Piece::Stored { source, offset, len }], len }
    }

    /// How many octets.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// At most `max` octets from `offset` on; fewer at the end, none behind it.
    ///
    /// # Errors
    /// When what is stored cannot be read.
    pub fn read_at(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        let end = self.len.min(offset.saturating_add(max as u64));
        if offset >= end {
            return Ok(Bytes::new());
        }
        let mut parts = Vec::new();
        let mut at = 0;
        for piece in &self.pieces {
            let (from, to) = (offset.max(at), end.min(at + piece.len()));
            if from < to {
                parts.push(piece.read(from - at, (to - from) as usize)?);
            }
            at += piece.len();
        }
        match parts.len() {
            1 => Ok(parts.swap_remove(0)),
            _ => Ok(parts.concat().into()),
        }
    }

    /// Replaces `remove` octets at `offset` by `insert`.
    ///
    /// # Errors
    /// When they are not all within the rope, which then stays as it is.
    pub fn splice(&mut self, offset: u64, remove: u64, insert: Bytes) -> Result<(), OutOfRange> {
        let end = offset.checked_add(remove).filter(|end| *end <= self.len).ok_or(OutOfRange)?;
        let mut pieces = self.cut(0, offset);
        let inserted = insert.len() as u64;
        if !insert.is_empty() {
            pieces.push(Piece::Memory(insert));
        }
        pieces.extend(self.cut(end, self.len));
        self.pieces = pieces;
        self.len = self.len - remove + inserted;
        Ok(())
    }

    /// The pieces from `from` up to `to`.
    fn cut(&self, from: u64, to: u64) -> Vec<Piece> {
        let mut at = 0;
        let mut pieces = Vec::new();
        for piece in &self.pieces {
            let (start, end) = (from.max(at), to.min(at + piece.len()));
            if start < end {
                pieces.push(piece.part(start - at, end - at));
            }
            at += piece.len();
        }
        pieces
    }

    /// The octets in order, in chunks of at most `size`.
    pub fn chunks(&self, size: usize) -> impl Iterator<Item = io::Result<Bytes>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            if at >= self.len {
                return None;
            }
            let chunk = self.read_at(at, size.max(1));
            at = chunk.as_ref().map_or(self.len, |chunk| at + chunk.len() as u64);
            Some(chunk)
        })
    }
}

/// A splice reaches beyond the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a splice reaches beyond the end of the body")]
pub struct OutOfRange;

#[cfg(test)]
mod tests {
    use super::*;

    fn all(rope: &Rope) -> Vec<u8> {
        rope.chunks(3).flat_map(Result::unwrap).collect()
    }

    #[test]
    fn splices_and_reads_across_pieces() {
        let mut rope = Rope::from(Bytes::from_static(b"hello world"));
        rope.splice(5, 1, Bytes::from_static(b", wide ")).unwrap();
        rope.splice(0, 1, Bytes::from_static(b"H")).unwrap();
        rope.splice(rope.len(), 0, Bytes::from_static(b"!")).unwrap();
        assert_eq!(all(&rope), b"Hello, wide world!");
        assert_eq!(rope.read_at(3, 6).unwrap(), "lo, wi");
        assert_eq!(rope.read_at(18, 6).unwrap(), "");
        assert_eq!(rope.splice(18, 1, Bytes::new()), Err(OutOfRange));
        assert_eq!(rope.splice(u64::MAX, 2, Bytes::new()), Err(OutOfRange));
        rope.splice(0, rope.len(), Bytes::new()).unwrap();
        assert!(rope.is_empty() && all(&rope).is_empty());
    }

    #[test]
    fn what_is_stored_is_not_copied_until_it_is_read() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"0123456789").unwrap();
        let mut rope = Rope::stored(Arc::new(file), 2, 6);
        rope.splice(3, 2, Bytes::from_static(b"--")).unwrap();
        assert_eq!(all(&rope), b"234--7");
        let short = Rope::stored(Arc::new(tempfile::tempfile().unwrap()), 0, 4);
        assert!(short.read_at(0, 4).is_err());
    }
}
