//! The canonical forms of a body (RFC 6376 §3.4.3, §3.4.4), hashed while it goes by.

use std::fmt;
use std::io;

use mail_auth::common::crypto::{HashContext, HashImpl, HashOutput, Sha256};
use mail_auth::common::headers::Writer;

/// Octets gathered before they are hashed: runs between white space are short, calls are not free.
const GATHERED: usize = 16 * 1024;

/// The SHA-256 of a body in relaxed form: all that signing needs to know of it (`bh=`).
#[derive(Clone, PartialEq, Eq)]
pub struct BodyHash(HashOutput);

impl BodyHash {
    /// Hashes a body that comes in pieces, cut anywhere.
    ///
    /// # Errors
    /// The first error among the pieces.
    pub fn of<P: AsRef<[u8]>>(
        pieces: impl IntoIterator<Item = io::Result<P>>,
    ) -> io::Result<BodyHash> {
        let mut hasher = BodyHasher::new();
        for piece in pieces {
            hasher.push(piece?.as_ref());
        }
        Ok(hasher.finish())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl fmt::Debug for BodyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodyHash({:02x?})", self.as_bytes())
    }
}

/// Takes the octets behind a message's blank line, in pieces cut anywhere, and keeps none of them.
///
/// Lines end with CRLF alone; a bare CR or LF is hashed like any other octet. The end of the body
/// is the end of its last line, CRLF or not: SMTP adds the one that is missing.
pub struct BodyHasher(Relaxed<Gathered>);

impl BodyHasher {
    /// Before the first octet.
    pub fn new() -> BodyHasher {
        BodyHasher(Relaxed::new(Gathered::new()))
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.0.push(piece);
    }

    /// The hash of all that came. A body of nothing, or of blank lines only, is an empty one.
    pub fn finish(self) -> BodyHash {
        self.0.finish().complete()
    }
}

impl Default for BodyHasher {
    fn default() -> BodyHasher {
        BodyHasher::new()
    }
}

impl fmt::Debug for BodyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyHasher").finish_non_exhaustive()
    }
}

/// Which forms of a body are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Forms {
    pub(crate) relaxed: bool,
    pub(crate) simple: bool,
}

/// The SHA-256 of a body in the forms that were wanted.
#[derive(Debug, Default)]
pub(crate) struct BodyHashes {
    pub(crate) relaxed: Option<BodyHash>,
    pub(crate) simple: Option<BodyHash>,
}

impl BodyHashes {
    /// Hashes a body that comes in pieces, cut anywhere, once for both forms.
    pub(crate) fn of<P: AsRef<[u8]>>(
        pieces: impl IntoIterator<Item = io::Result<P>>,
        forms: Forms,
    ) -> io::Result<BodyHashes> {
        let mut relaxed = forms.relaxed.then(BodyHasher::new);
        let mut simple = forms.simple.then(|| Simple::new(Gathered::new()));
        if relaxed.is_none() && simple.is_none() {
            return Ok(BodyHashes::default());
        }
        for piece in pieces {
            let piece = piece?;
            if let Some(relaxed) = &mut relaxed {
                relaxed.push(piece.as_ref());
            }
            if let Some(simple) = &mut simple {
                simple.push(piece.as_ref());
            }
        }
        Ok(BodyHashes {
            relaxed: relaxed.map(BodyHasher::finish),
            simple: simple.map(|simple| simple.finish().complete()),
        })
    }
}

/// Writes the simple form of what it is given: line ends at the end are one. They are held back as a
/// count, so that memory does not grow with the body.
struct Simple<W> {
    sink: W,
    line_ends: u64,
    cr: bool,
}

impl<W: Writer> Simple<W> {
    fn new(sink: W) -> Simple<W> {
        Simple { sink, line_ends: 0, cr: false }
    }

    fn push(&mut self, mut rest: &[u8]) {
        while let Some(&first) = rest.first() {
            let mut taken = 1;
            match first {
                b'\n' if self.cr => {
                    self.cr = false;
                    self.line_ends += 1;
                }
                b'\r' => {
                    self.release_cr();
                    self.cr = true;
                }
                _ => {
                    self.release_cr();
                    taken = rest.iter().position(|b| *b == b'\r').unwrap_or(rest.len());
                    self.write(&rest[..taken]);
                }
            }
            rest = &rest[taken..];
        }
    }

    fn finish(mut self) -> W {
        self.release_cr();
        self.sink.write(b"\r\n");
        self.sink
    }

    fn release_cr(&mut self) {
        if std::mem::take(&mut self.cr) {
            self.write(b"\r");
        }
    }

    fn write(&mut self, run: &[u8]) {
        for _ in 0..std::mem::take(&mut self.line_ends) {
            self.sink.write(b"\r\n");
        }
        self.sink.write(run);
    }
}

/// Writes the relaxed form of what it is given. What may yet have to vanish (white space, line
/// ends, a CR) is held back as counts, so that memory does not grow with the body.
struct Relaxed<W> {
    sink: W,
    line_ends: u64,
    space: bool,
    cr: bool,
    wrote: bool,
}

impl<W: Writer> Relaxed<W> {
    fn new(sink: W) -> Relaxed<W> {
        Relaxed { sink, line_ends: 0, space: false, cr: false, wrote: false }
    }

    fn push(&mut self, mut rest: &[u8]) {
        while let Some(&first) = rest.first() {
            let mut taken = 1;
            if self.cr && first == b'\n' {
                self.end_line();
            } else {
                self.release_cr();
                match first {
                    b' ' | b'\t' => self.space = true,
                    b'\r' => self.cr = true,
                    _ => {
                        taken = rest.iter().position(|b| is_special(*b)).unwrap_or(rest.len());
                        self.write(&rest[..taken]);
                    }
                }
            }
            rest = &rest[taken..];
        }
    }

    fn finish(mut self) -> W {
        self.release_cr();
        if self.wrote {
            self.sink.write(b"\r\n");
        }
        self.sink
    }

    /// White space at the end of a line is ignored.
    fn end_line(&mut self) {
        self.cr = false;
        self.space = false;
        self.line_ends += 1;
    }

    /// A CR that no LF followed is an octet like others.
    fn release_cr(&mut self) {
        if self.cr {
            self.cr = false;
            self.write(b"\r");
        }
    }

    /// Something visible: whatever was held back before it counts.
    fn write(&mut self, run: &[u8]) {
        for _ in 0..self.line_ends {
            self.sink.write(b"\r\n");
        }
        if self.space {
            self.sink.write(b" ");
        }
        self.line_ends = 0;
        self.space = false;
        self.wrote = true;
        self.sink.write(run);
    }
}

fn is_special(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r')
}

struct Gathered {
    octets: Vec<u8>,
    context: <Sha256 as HashImpl>::Context,
}

impl Gathered {
    fn new() -> Gathered {
        Gathered { octets: Vec::new(), context: Sha256::hasher() }
    }

    fn complete(mut self) -> BodyHash {
        self.flush();
        BodyHash(self.context.complete())
    }

    fn flush(&mut self) {
        self.context.write(&self.octets);
        self.octets.clear();
    }
}

impl Writer for Gathered {
    fn write(&mut self, run: &[u8]) {
        if self.octets.len() + run.len() > GATHERED {
            self.flush();
        }
        if run.len() > GATHERED {
            self.context.write(run);
        } else {
            self.octets.extend_from_slice(run);
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn relaxed(body: &[u8]) -> Vec<u8> {
        relaxed_pieces(&[body])
    }

    fn relaxed_pieces(pieces: &[&[u8]]) -> Vec<u8> {
        let mut relaxed = Relaxed::new(Vec::new());
        for piece in pieces {
            relaxed.push(piece);
        }
        relaxed.finish()
    }

    #[test]
    fn the_example_of_rfc_6376_3_4_5() {
        assert_eq!(relaxed(b" C \r\nD \t E\r\n\r\n\r\n"), b" C\r\nD E\r\n");
    }

    #[test]
    fn nothing_visible_is_nothing() {
        for body in ["", "\r\n", "\r\n\r\n", " ", " \t\r\n", "\r\n \r\n\t\r\n \t \r\n"] {
            assert_eq!(relaxed(body.as_bytes()), b"", "{body:?}");
        }
    }

    #[test]
    fn lines_of_white_space_vanish_at_the_end_only() {
        assert_eq!(relaxed(b"a\r\n \r\n\t\r\nb\r\n  \r\n\t \t\r\n"), b"a\r\n\r\n\r\nb\r\n");
        assert_eq!(relaxed(b"\r\n \r\n  a"), b"\r\n\r\n a\r\n");
    }

    #[test]
    fn the_last_line_gets_its_end() {
        assert_eq!(relaxed(b"a"), b"a\r\n");
        assert_eq!(relaxed(b"a \t"), b"a\r\n");
        assert_eq!(relaxed(b"a\r"), b"a\r\r\n");
    }

    #[test]
    fn bare_cr_and_lf_are_octets() {
        assert_eq!(relaxed(b"a\rb \rc\nd \ne\r\r\n"), b"a\rb \rc\nd \ne\r\r\n");
        assert_eq!(relaxed(b"\n\n"), b"\n\n\r\n");
        assert_eq!(relaxed(b"a\r \r\n"), b"a\r\r\n");
    }

    #[test]
    fn other_octets_are_not_touched() {
        let long: Vec<u8> = (0..70_000u32).map(|n| 0x80 | n as u8).collect();
        assert_eq!(relaxed(&long), [&long[..], b"\r\n"].concat());
        assert_eq!(relaxed(b"a\x0cb\x0b\0\xff\r\n"), b"a\x0cb\x0b\0\xff\r\n");
    }

    #[test]
    fn cuts_do_not_matter() {
        let body = b"\r\n a  b\t\r\n\r \n\r\r\n\r\n  \r\nc \r\n \t\r\n\r\n";
        let whole = relaxed(body);
        for first in 0..=body.len() {
            for second in first..=body.len() {
                let pieces = [&body[..first], &body[first..second], &body[second..]];
                assert_eq!(relaxed_pieces(&pieces), whole, "cut at {first} and {second}");
            }
        }
    }

    /// RFC 6376 §3.4.3
    #[test]
    fn the_simple_form_touches_nothing_but_the_end() {
        let simple = |pieces: &[&[u8]]| {
            let mut simple = Simple::new(Vec::new());
            for piece in pieces {
                simple.push(piece);
            }
            simple.finish()
        };
        for (body, form) in [
            ("", "\r\n"),
            ("\r\n\r\n", "\r\n"),
            ("a", "a\r\n"),
            ("a\r", "a\r\r\n"),
            (" C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n"),
            ("\r\n\r\na\r\n \r\n\r\n", "\r\n\r\na\r\n \r\n"),
            ("a\n\n\r\r\n\nb\r\n", "a\n\n\r\r\n\nb\r\n"),
        ] {
            let body = body.as_bytes();
            for cut in 0..=body.len() {
                let made = simple(&[&body[..cut], &body[cut..]]);
                assert_eq!(String::from_utf8(made).unwrap(), form, "{body:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn both_forms_are_hashed_in_one_go() {
        let body = [Ok("a  b\r\n"), Ok("\r\n")];
        let hashes = BodyHashes::of(body, Forms { relaxed: true, simple: true }).unwrap();
        let of = |text: &str| BodyHash::of([Ok(text)]).unwrap();
        assert_eq!(hashes.relaxed, Some(of("a b\r\n")));
        let mut simple = Sha256::hasher();
        simple.write(b"a  b\r\n");
        assert_eq!(hashes.simple, Some(BodyHash(simple.complete())));
        let unread = [Err::<&str, _>(io::ErrorKind::NotFound.into())];
        assert!(BodyHashes::of(unread, Forms::default()).unwrap().relaxed.is_none());
    }

    #[test]
    fn known_hashes() {
        let base64 = |body: &[u8]| STANDARD.encode(BodyHash::of([Ok(body)]).unwrap().as_bytes());
        // RFC 6376 §3.4.4, the empty body; RFC 8463 §A.3, the example.
        assert_eq!(base64(b"\r\n \r\n"), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        let game = b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";
        assert_eq!(base64(game), "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=");
    }

    #[test]
    fn gathering_loses_nothing() {
        let lines = "word word\r\n".repeat(5000);
        let far_apart = format!("a{}b{}c", "\r\n".repeat(40_000), "x".repeat(50_000));
        for body in [lines.as_bytes(), far_apart.as_bytes()] {
            let at_once = BodyHash::of([Ok(body)]).unwrap();
            let piecemeal = BodyHash::of(body.chunks(7).map(Ok)).unwrap();
            let mut context = Sha256::hasher();
            context.write(&relaxed(body));
            assert_eq!(at_once.0, context.complete());
            assert_eq!(at_once, piecemeal);
        }
    }

    #[test]
    fn an_unreadable_piece_is_an_error() {
        let pieces = [Ok("a"), Err(io::ErrorKind::UnexpectedEof.into()), Ok("b")];
        assert_eq!(BodyHash::of(pieces).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
