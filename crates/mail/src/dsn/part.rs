//! The parts of a notice, encoded as its way needs it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::header::field;

/// What the way of the notice can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    SevenBit,
    EightBit,
}

/// One part of the report.
pub(super) struct Part {
    pub(super) content_type: &'static str,
    pub(super) description: &'static str,
    pub(super) content: Vec<u8>,
}

impl Part {
    pub(super) fn text(
        content_type: &'static str,
        description: &'static str,
        content: Vec<u8>,
    ) -> Part {
        Part { content_type, description, content }
    }

    pub(super) fn write(&self, transport: Transport, out: &mut Vec<u8>) {
        let ascii = self.content.is_ascii();
        let charset = match self.content_type {
            "text/plain" if ascii => "; charset=us-ascii",
            "text/plain" => "; charset=utf-8",
            _ => "",
        };
        let as_is = has_mail_lines(&self.content) && (ascii || transport == Transport::EightBit);
        let encoding = match (as_is, ascii) {
            (true, true) => "7bit",
            (true, false) => "8bit",
            (false, _) if is_mostly_text(&self.content) => "quoted-printable",
            (false, _) => "base64",
        };
        out.extend(field("Content-Type", &format!("{}{charset}", self.content_type)));
        out.extend(field("Content-Description", self.description));
        out.extend(field("Content-Transfer-Encoding", encoding));
        out.extend_from_slice(b"\r\n");
        match encoding {
            "base64" => base64_lines(&self.content, out),
            "quoted-printable" => quoted_printable(&self.content, out),
            _ => out.extend_from_slice(&self.content),
        }
    }
}

/// True when lines end with CRLF, there is no other CR or LF, and none has over 998 octets.
pub(super) fn has_mail_lines(content: &[u8]) -> bool {
    content.split_inclusive(|b| *b == b'\n').all(|line| {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        text.len() <= 998 && !text.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))
    })
}

/// True when base64 would not be the shorter of the two encodings.
fn is_mostly_text(content: &[u8]) -> bool {
    let tripled = content.iter().filter(|b| !matches!(b, b' '..=b'~' | b'\t' | b'\r' | b'\n'));
    tripled.count() <= content.len() / 6
}

/// RFC 2045 §6.8
fn base64_lines(content: &[u8], out: &mut Vec<u8>) {
    for octets in content.chunks(57) {
        out.extend_from_slice(STANDARD.encode(octets).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// RFC 2045 §6.7
fn quoted_printable(content: &[u8], out: &mut Vec<u8>) {
    const WIDTH: usize = 75;
    for line in content.split_inclusive(|b| *b == b'\n') {
        let (text, ended) = match line.strip_suffix(b"\r\n") {
            Some(text) => (text, true),
            None => (line, false),
        };
        let mut column = 0;
        for (at, byte) in text.iter().enumerate() {
            let last = at + 1 == text.len();
            let plain = matches!(byte, b'!'..=b'<' | b'>'..=b'~')
                || (matches!(byte, b' ' | b'\t') && !last);
            let width = if plain { 1 } else { 3 };
            if column + width > WIDTH {
                out.extend_from_slice(b"=\r\n");
                column = 0;
            }
            if plain {
                out.push(*byte);
            } else {
                out.extend_from_slice(format!("={byte:02X}").as_bytes());
            }
            column += width;
        }
        if ended {
            out.extend_from_slice(b"\r\n");
        }
    }
}
