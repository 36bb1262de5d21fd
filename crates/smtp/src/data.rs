//! How a body is framed on its way in: dots (RFC 5321 §4.5.2) or counted octets (RFC 3030 §2).
//!
//! A [`Decoder`] takes raw octets and gives the message, in chunks of at most [`CHUNK`] octets,
//! while [`Lines`] watches what passes. Only `CRLF.CRLF` ends data; what other systems may take
//! for an end (`LF.LF`, `CR.CR`, `CRLF.CR CRLF` …) is content with a bare CR or LF in it, and such
//! a message is refused whole. [`Lines`] also knows the longest line (RFC 5321 §4.5.3.1.6); what
//! follows is a question of policy, and a [`Folder`] is one answer.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memchr_iter, memmem};

/// The most octets that one chunk carries.
pub const CHUNK: usize = 64 * 1024;
/// The most octets of one line, without its CRLF (RFC 5321 §4.5.3.1.6, RFC 5322 §2.1.1).
pub const MAX_TEXT_LINE: u64 = 998;

/// What is known about the octets of a message so far. It does not depend on how they were cut.
#[derive(Debug, Clone)]
pub struct Lines {
    size: u64,
    bare: bool,
    nul: bool,
    eight_bit: bool,
    after_cr: bool,
    at_start: bool,
    /// Octets since the last LF.
    line: u64,
    longest: u64,
}

impl Default for Lines {
    fn default() -> Self {
        Lines {
            size: 0,
            bare: false,
            nul: false,
            eight_bit: false,
            after_cr: false,
            at_start: true,
            line: 0,
            longest: 0,
        }
    }
}

impl Lines {
    /// Octets of the message, after dots were removed.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// True when a CR came without its LF or a LF without its CR (RFC 5321 §2.3.8).
    pub fn has_bare_line_ending(&self) -> bool {
        self.bare
    }

    /// True when every line ended with CRLF, the last one too.
    pub fn are_whole(&self) -> bool {
        !self.bare && !self.after_cr && self.at_start
    }

    /// True when there was a NUL (RFC 5322 §2.2 leaves no place for it).
    pub fn has_nul(&self) -> bool {
        self.nul
    }

    /// True when an octet was over 127, promised by `BODY=8BITMIME` or not.
    pub fn is_eight_bit(&self) -> bool {
        self.eight_bit
    }

    /// True when a line had more than [`MAX_TEXT_LINE`] octets before its CRLF.
    pub fn has_long_line(&self) -> bool {
        self.longest > MAX_TEXT_LINE
    }

    /// Watches the next octets pass: in whole passes of vectorised searches, instead of one look at every
    /// octet.
    pub fn look(&mut self, text: &[u8]) {
        let Some(&last) = text.last() else { return };
        let is_pair = |at: usize| if at == 0 { self.after_cr } else { text[at - 1] == b'\r' };
        let (mut pairs, mut start, mut line) = (0, 0, self.line);
        for at in memchr_iter(b'\n', text) {
            line += (at - start) as u64;
            self.longest = self.longest.max(line.saturating_sub(u64::from(is_pair(at))));
            (start, line) = (at + 1, 0);
            if is_pair(at) {
                pairs += 1;
            } else {
                self.bare = true;
            }
        }
        let at_start = last == b'\n' && is_pair(text.len() - 1);
        let ends_with_cr = last == b'\r';
        let returns = memchr_iter(b'\r', text).count() + usize::from(self.after_cr);
        self.bare |= returns - usize::from(ends_with_cr) != pairs;
        self.nul |= memchr(0, text).is_some();
        self.eight_bit |= !text.is_ascii();
        self.size = self.size.saturating_add(text.len() as u64);
        self.line = line + (text.len() - start) as u64;
        self.longest = self.longest.max(self.line.saturating_sub(u64::from(ends_with_cr)));
        self.after_cr = ends_with_cr;
        self.at_start = at_start;
    }
}

/// What came out of the framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// More octets are needed.
    NeedInput,
    /// Octets of the message, never empty.
    Text(Bytes),
    /// The message is complete.
    End,
}

/// Takes the framing off one message. Use either [`Decoder::dotted`] or [`Decoder::counted`].
#[derive(Debug, Clone, Default)]
pub struct Decoder {
    lines: Lines,
    ended: bool,
}

impl Decoder {
    /// What has passed so far.
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    /// The next piece of a message sent with DATA (RFC 5321 §4.5.2). What follows the end stays in
    /// `input`. After [`Piece::End`] it gives nothing else.
    pub fn dotted(&mut self, input: &mut BytesMut) -> Piece {
        let mut gathered = BytesMut::new();
        while !self.ended && gathered.len() < CHUNK {
            match self.segment(input, CHUNK - gathered.len()) {
                Some(text) if gathered.is_empty() => gathered = text,
                Some(text) => gathered.extend_from_slice(&text),
                None => break,
            }
        }
        match (gathered.is_empty(), self.ended) {
            (false, _) => Piece::Text(gathered.freeze()),
            (true, true) => Piece::End,
            (true, false) => Piece::NeedInput,
        }
    }

    /// The next octets of a chunk sent with BDAT (RFC 3030 §2), of which `left` are still to come;
    /// nothing when there are none in `input`.
    pub fn counted(&mut self, input: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
        let text = take_counted(input, left)?;
        self.lines.look(&text);
        Some(text)
    }

    /// Ends a message that came with BDAT. A last line without CRLF gets one, because any hop that
    /// takes it with DATA needs it; then these two octets are returned.
    pub fn finish(&mut self) -> Option<Bytes> {
        if self.lines.after_cr {
            self.lines.bare = true;
            return None;
        }
        if self.lines.at_start {
            return None;
        }
        let end = Bytes::from_static(b"\r\n");
        self.lines.look(&end);
        Some(end)
    }

    /// Text up to the next dot that begins a line, or up to what is there.
    fn segment(&mut self, input: &mut BytesMut, room: usize) -> Option<BytesMut> {
        if self.lines.at_start && input.first() == Some(&b'.') {
            match input[1..] {
                [] | [b'\r'] => return None,
                [b'\r', b'\n', ..] => {
                    input.advance(3);
                    self.ended = true;
                    return None;
                }
                _ => {
                    input.advance(1);
                    self.lines.at_start = false;
                }
            }
        }
        let there = input.len().min(room);
        let end = self.next_dot(&input[..input.len().min(room + 1)]).unwrap_or(there);
        let text = input.split_to(end);
        self.lines.look(&text);
        (!text.is_empty()).then_some(text)
    }

    /// Where the line starts that begins with a dot.
    fn next_dot(&self, text: &[u8]) -> Option<usize> {
        if self.lines.after_cr && text.starts_with(b"\n.") {
            return Some(1);
        }
        memmem::find(text, b"\r\n.").map(|at| at + 2)
    }
}

/// Breaks lines over [`MAX_TEXT_LINE`] octets by CRLF and a space, which in a header is folding
/// (RFC 5322 §2.2.3) and elsewhere changes the text. Where it breaks does not depend on how octets
/// were cut.
#[derive(Debug, Clone, Default)]
pub struct Folder {
    /// Octets of the present line that went out.
    column: u64,
    added: u64,
}

impl Folder {
    /// Octets put in so far.
    pub fn added(&self) -> u64 {
        self.added
    }

    /// The next octets of a message without bare CR or LF, with breaks where they are needed.
    pub fn fold(&mut self, text: Bytes) -> Bytes {
        let mut out = BytesMut::new();
        let mut copied = 0;
        let mut start = 0;
        while start < text.len() {
            let end = memchr(b'\n', &text[start..]).map_or(text.len(), |at| start + at + 1);
            let line = &text[start..end];
            let mut at = 0;
            while let Some(cut) = self.cut(&line[at..]) {
                out.extend_from_slice(&text[copied..start + at + cut]);
                out.extend_from_slice(b"\r\n ");
                (copied, at) = (start + at + cut, at + cut);
                (self.column, self.added) = (1, self.added + 3);
            }
            self.column += (line.len() - at) as u64;
            if line.ends_with(b"\n") {
                self.column = 0;
            }
            start = end;
        }
        if copied == 0 && out.is_empty() {
            return text;
        }
        out.extend_from_slice(&text[copied..]);
        out.freeze()
    }

    /// Where the rest of a line must be broken, unless it or its CRLF still fits.
    fn cut(&self, rest: &[u8]) -> Option<usize> {
        let room = MAX_TEXT_LINE.saturating_sub(self.column) as usize;
        let next = *rest.get(room)?;
        (!matches!(next, b'\r' | b'\n')).then_some(room)
    }
}

/// Takes octets of a counted chunk off the input without looking at them.
pub(crate) fn take_counted(input: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
    let wanted = usize::try_from(*left).unwrap_or(usize::MAX);
    let length = wanted.min(input.len()).min(CHUNK);
    if length == 0 {
        return None;
    }
    *left -= length as u64;
    Some(input.split_to(length).freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text, whether it ended, and what was left.
    fn dotted(raw: &[u8], cut: usize) -> (Vec<u8>, Lines, bool, Vec<u8>) {
        let (mut decoder, mut input, mut text) = (Decoder::default(), BytesMut::new(), Vec::new());
        let mut ended = false;
        for piece in raw.chunks(cut.max(1)) {
            input.extend_from_slice(piece);
            loop {
                match decoder.dotted(&mut input) {
                    Piece::NeedInput => break,
                    Piece::Text(chunk) => text.extend_from_slice(&chunk),
                    Piece::End => {
                        ended = true;
                        break;
                    }
                }
            }
        }
        (text, decoder.lines, ended, input.to_vec())
    }

    #[test]
    fn dots_are_taken_off_and_the_end_is_found() {
        let raw = b"a\r\n..b\r\n.c\r\n...\r\n.\r\nQUIT\r\n";
        for cut in [1, 2, 3, 4, 5, 7, raw.len()] {
            let (text, lines, ended, left) = dotted(raw, cut);
            assert_eq!(text, b"a\r\n.b\r\nc\r\n..\r\n");
            assert!(ended && !lines.has_bare_line_ending() && !lines.has_nul());
            assert_eq!(lines.size(), text.len() as u64);
            assert_eq!(left, b"QUIT\r\n", "cut every {cut}");
        }
        let (text, _, ended, left) = dotted(b".\r\nX", 9);
        assert_eq!((text, ended, left), (vec![], true, b"X".to_vec()));
    }

    #[test]
    fn nothing_else_ends_data() {
        for raw in [
            &b"a\n.\nb"[..],
            b"a\n.\r\nb",
            b"a\r\n.\nb",
            b"a\r.\rb",
            b"a\r\n.\rb",
            b"a\r\n.\r\r\nb",
            b"a\r.\r\nb",
            b"a\r\n\r.\r\nb",
            b".\nb",
            b"a\r\n\0.\r\n\rb",
        ] {
            for cut in 1..=raw.len() {
                let (_, lines, ended, _) = dotted(raw, cut);
                assert!(!ended, "{raw:?} ended data");
                assert!(lines.has_bare_line_ending(), "{raw:?} passed");
            }
        }
    }

    #[test]
    fn a_long_body_comes_in_bounded_chunks() {
        let mut input = BytesMut::from(&b"x".repeat(3 * CHUNK)[..]);
        input.extend_from_slice(b"\r\n.\r\n");
        let mut decoder = Decoder::default();
        let mut size = 0;
        while let Piece::Text(text) = decoder.dotted(&mut input) {
            assert!(text.len() <= CHUNK);
            size += text.len();
        }
        assert_eq!(size, 3 * CHUNK + 2);
        assert!(input.is_empty());
    }

    #[test]
    fn counted_octets_are_not_unstuffed_but_watched_across_chunks() {
        let mut decoder = Decoder::default();
        let mut input = BytesMut::from(&b"..a\r\nb\xfc"[..]);
        let mut left = 4;
        assert_eq!(decoder.counted(&mut input, &mut left).unwrap(), "..a\r");
        assert_eq!(left, 0);
        left = 3;
        assert_eq!(decoder.counted(&mut input, &mut left).unwrap(), &b"\nb\xfc"[..]);
        assert_eq!(decoder.finish().unwrap(), "\r\n");
        assert_eq!(decoder.finish(), None);
        let lines = decoder.lines();
        assert!(!lines.has_bare_line_ending() && lines.is_eight_bit());
        assert_eq!(lines.size(), 9);
    }

    #[test]
    fn lines_are_whole_when_each_has_its_end() {
        let of = |text: &[u8], cut: usize| {
            let mut lines = Lines::default();
            text.chunks(cut).for_each(|piece| lines.look(piece));
            lines.are_whole()
        };
        for cut in 1..6 {
            for whole in ["", "a\r\n", ".\r\n\r\n"] {
                assert!(of(whole.as_bytes(), cut), "{whole:?} by {cut}");
            }
            for broken in ["a", "a\r", "a\n", "a\rb\r\n", "\r\r\n", "a\nb\r\n", "a\r\nb"] {
                assert!(!of(broken.as_bytes(), cut), "{broken:?} by {cut}");
            }
        }
    }
}
