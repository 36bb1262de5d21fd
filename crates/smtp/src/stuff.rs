//! A message on its way out: dots doubled, line endings made canonical, the end marked.

use waypost_mutant::planted;

/// Writes a message as DATA wants it (RFC 5321 §4.5.2): a line that begins with a dot gets another
/// one, every line ends with CRLF, and [`Stuffer::finish`] adds the line with the lone dot.
///
/// A bare CR or LF becomes CRLF: none ever leaves, so that no receiver can see an end of data
/// where we see none. Chunks may be cut anywhere.
#[derive(Debug, Default)]
pub struct Stuffer {
    place: Place,
}

/// Where the next octet stands.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    LineStart,
    InLine,
    /// Behind a CR that has been written already.
    AfterCr,
}

impl Stuffer {
    /// An encoder at the start of a message.
    pub fn new() -> Stuffer {
        Stuffer::default()
    }

    /// Appends `chunk` to `out`, encoded.
    pub fn encode(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        out.reserve(chunk.len() + 16);
        // Octets before `copied` are in `out`; what follows is copied in runs as long as possible.
        let mut copied = 0;
        let mut at = 0;
        while at < chunk.len() {
            match self.place {
                Place::LineStart => {
                    if chunk[at] == b'.' && !planted!("a dot is not doubled") {
                        out.extend_from_slice(&chunk[copied..at]);
                        out.push(b'.');
                        copied = at;
                    }
                    self.place = Place::InLine;
                }
                Place::AfterCr => {
                    if chunk[at] == b'\n' {
                        at += 1;
                    } else {
                        out.extend_from_slice(&chunk[copied..at]);
                        out.push(b'\n');
                        copied = at;
                    }
                    self.place = Place::LineStart;
                }
                Place::InLine => {
                    let Some(length) = memchr::memchr2(b'\r', b'\n', &chunk[at..]) else { break };
                    at += length;
                    if chunk[at] == b'\n' {
                        out.extend_from_slice(&chunk[copied..at]);
                        out.push(b'\r');
                        copied = at;
                        self.place = Place::LineStart;
                    } else {
                        self.place = Place::AfterCr;
                    }
                    at += 1;
                }
            }
        }
        out.extend_from_slice(&chunk[copied..]);
    }

    /// Appends the end of data: the last line's end if it has none, and the lone dot.
    pub fn finish(self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.place {
            Place::LineStart => b".\r\n".as_slice(),
            Place::InLine => b"\r\n.\r\n",
            Place::AfterCr => b"\n.\r\n",
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stuffed(message: &[u8], chunk: usize) -> Vec<u8> {
        let mut stuffer = Stuffer::new();
        let mut out = Vec::new();
        for piece in message.chunks(chunk) {
            stuffer.encode(piece, &mut out);
        }
        stuffer.finish(&mut out);
        out
    }

    /// The rules said slowly.
    fn reference(message: &[u8]) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
        let mut octets = message.iter().peekable();
        while let Some(octet) = octets.next() {
            match octet {
                b'\r' => {
                    octets.next_if_eq(&&b'\n');
                    lines.push(Vec::new());
                }
                b'\n' => lines.push(Vec::new()),
                _ => lines.last_mut().unwrap().push(*octet),
            }
        }
        if lines.last().is_some_and(Vec::is_empty) {
            lines.pop();
        }
        let mut out = Vec::new();
        for line in lines {
            if line.first() == Some(&b'.') {
                out.push(b'.');
            }
            out.extend_from_slice(&line);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
        out
    }

    #[test]
    fn known_messages() {
        for (message, wire) in [
            ("", ".\r\n"),
            (".", "..\r\n.\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            ("a\r", "a\r\n.\r\n"),
            ("a\n.\nb", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\r.\rb", "a\r\n..\r\nb\r\n.\r\n"),
            ("\r\r\n\n", "\r\n\r\n\r\n.\r\n"),
            ("a\r\n..b\r\n", "a\r\n...b\r\n.\r\n"),
        ] {
            assert_eq!(stuffed(message.as_bytes(), 100), wire.as_bytes(), "{message:?}");
            assert_eq!(reference(message.as_bytes()), wire.as_bytes(), "reference, {message:?}");
        }
    }

    /// Every message of up to seven octets over the four that matter, in chunks of each size.
    #[test]
    fn all_short_messages_match_the_reference() {
        for length in 0..=7u32 {
            for number in 0..4usize.pow(length) {
                let message: Vec<u8> =
                    (0..length).map(|place| b"a.\r\n"[number >> (2 * place) & 3]).collect();
                let expected = reference(&message);
                for chunk in [1, 2, 3, 7] {
                    assert_eq!(stuffed(&message, chunk), expected, "{message:?} by {chunk}");
                }
            }
        }
    }
}
