//! What nobody reads (before the first and behind the last delimiter of a multipart), made fit to be
//! sent.

use waypost_smtp::BodyType;

use crate::MAX_LINE;

/// True when a next hop that takes `body` would not take these octets of a line.
pub(crate) fn is_foul(octets: &[u8], body: BodyType) -> bool {
    match body {
        BodyType::SevenBit => octets.iter().any(|octet| is_no_line(*octet) || !octet.is_ascii()),
        BodyType::EightBitMime => octets.iter().any(|octet| is_no_line(*octet)),
        BodyType::BinaryMime => false,
    }
}

/// NUL, and CR or LF that end no line.
pub(crate) fn is_no_line(octet: u8) -> bool {
    matches!(octet, 0 | b'\r' | b'\n')
}

/// Puts `?` in the place of what must not be sent, and cuts long lines.
#[derive(Debug)]
pub(crate) struct Cleaner {
    body: BodyType,
    column: usize,
}

impl Cleaner {
    pub(crate) fn new(body: BodyType) -> Cleaner {
        Cleaner { body, column: 0 }
    }

    pub(crate) fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        if self.body == BodyType::BinaryMime {
            return out.extend_from_slice(octets);
        }
        for octet in octets {
            if self.column >= MAX_LINE {
                self.line_end(out);
            }
            out.push(if is_foul(&[*octet], self.body) { b'?' } else { *octet });
            self.column += 1;
        }
    }

    pub(crate) fn line_end(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
        self.column = 0;
    }

    /// A line begins that was not written here.
    pub(crate) fn begin_line(&mut self) {
        self.column = 0;
    }
}
