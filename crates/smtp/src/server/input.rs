//! Bytes that wait for their turn, and how lines are found in them.

use bytes::{Buf, BytesMut};
use memchr::memchr;

/// The longest command line with its CRLF. RFC 5321 §4.5.3.1.4 asks for 512 octets and more for
/// the parameters of extensions.
const MAX_LINE: usize = 2048;
/// The same for AUTH and its responses (RFC 4954 §4).
const MAX_AUTH_LINE: usize = 12 * 1024;
/// The most octets of a line too long that are skipped in search of its end.
const MAX_SKIPPED: usize = 1024 * 1024;

/// What the input begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// No whole line yet.
    Partial,
    /// A line of so many octets without its CRLF.
    Whole(usize),
    /// A line over the limit was there and is gone.
    TooLong,
    /// A line far over the limit: nobody should wait for its end.
    Endless,
}

/// The input of a session.
#[derive(Debug, Default)]
pub(super) struct Input {
    pub(super) buffer: BytesMut,
    /// Octets at the front that hold no line end.
    searched: usize,
    /// Octets of the present line that were thrown away.
    skipped: usize,
}

impl Input {
    /// Finds a command line; [`Input::take`] takes it. Only CRLF ends a line (RFC 5321 §2.3.8).
    pub(super) fn command(&mut self) -> Line {
        let auth = self.buffer.get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"AUTH "));
        self.line(if auth { MAX_AUTH_LINE } else { MAX_LINE })
    }

    /// Finds a response to an AUTH challenge.
    pub(super) fn response(&mut self) -> Line {
        self.line(MAX_AUTH_LINE)
    }

    /// The length of a command line at the front, if there is a whole one within the limit.
    pub(super) fn peek(&mut self) -> Option<usize> {
        let end = self.line_end()?;
        (self.skipped == 0 && end <= MAX_LINE).then(|| end - 2)
    }

    /// Takes a line found at the front, without its CRLF.
    pub(super) fn take(&mut self, length: usize) -> BytesMut {
        self.searched = 0;
        let line = self.buffer.split_to(length);
        self.buffer.advance(2);
        line
    }

    /// Throws away everything.
    pub(super) fn clear(&mut self) {
        *self = Input::default();
    }

    fn line(&mut self, max: usize) -> Line {
        let end = self.line_end();
        let length = self.skipped + end.unwrap_or(self.buffer.len());
        let fits = self.skipped == 0 && length <= max;
        match end {
            Some(end) if fits => return Line::Whole(end - 2),
            None if fits => return Line::Partial,
            _ => self.skip(end),
        }
        match end {
            _ if length > MAX_SKIPPED => Line::Endless,
            Some(_) => Line::TooLong,
            None => Line::Partial,
        }
    }

    /// Behind the first CRLF.
    fn line_end(&mut self) -> Option<usize> {
        while let Some(found) = memchr(b'\n', &self.buffer[self.searched..]) {
            let at = self.searched + found;
            if at > 0 && self.buffer[at - 1] == b'\r' {
                self.searched = at;
                return Some(at + 1);
            }
            self.searched = at + 1;
        }
        self.searched = self.buffer.len();
        None
    }

    /// Throws away a line too long, or what is there of it but for a CR that may be half its end.
    fn skip(&mut self, end: Option<usize>) {
        let half = usize::from(self.buffer.last() == Some(&b'\r'));
        let gone = end.unwrap_or(self.buffer.len() - half);
        self.buffer.advance(gone);
        self.searched = 0;
        self.skipped = if end.is_some() { 0 } else { self.skipped + gone };
    }
}
