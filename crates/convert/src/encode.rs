//! Quoted-printable and base64 (RFC 2045 §6.7, §6.8), written while the content goes by.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Most characters of a line of quoted-printable, the soft line break included.
const QP_LINE: usize = 76;
/// Octets in a line of base64.
const BASE64_GROUP: usize = 57;

/// Writes quoted-printable. Every octet can be decoded from it; CRLF stays what it is.
#[derive(Debug, Default)]
pub(crate) struct Quoted {
    column: usize,
    /// White space that is written plainly unless the line ends behind it.
    space: Option<u8>,
}

impl Quoted {
    /// Octets of a line. A CR or LF among them is a bare one.
    pub(crate) fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        for octet in octets {
            if let Some(space) = self.space.take() {
                self.put(&[space], out);
            }
            match octet {
                b' ' | b'\t' => self.space = Some(*octet),
                b'=' => self.escape(*octet, out),
                33..=126 => self.put(&[*octet], out),
                _ => self.escape(*octet, out),
            }
        }
    }

    pub(crate) fn line_end(&mut self, out: &mut Vec<u8>) {
        self.end_space(out);
        out.extend_from_slice(b"\r\n");
        self.column = 0;
    }

    /// The content is over. When it is the message's, its last line gets an end that is none of the
    /// content's.
    pub(crate) fn finish(&mut self, ends_message: bool, out: &mut Vec<u8>) {
        self.end_space(out);
        if ends_message && self.column > 0 {
            out.extend_from_slice(b"=\r\n");
        }
    }

    fn end_space(&mut self, out: &mut Vec<u8>) {
        if let Some(space) = self.space.take() {
            self.escape(space, out);
        }
    }

    fn escape(&mut self, octet: u8, out: &mut Vec<u8>) {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        let digit = |nibble: u8| HEX[usize::from(nibble & 15)];
        self.put(&[b'=', digit(octet >> 4), digit(octet)], out);
    }

    fn put(&mut self, token: &[u8], out: &mut Vec<u8>) {
        if self.column + token.len() >= QP_LINE {
            out.extend_from_slice(b"=\r\n");
            self.column = 0;
        }
        // Where a line begins anew it must not begin like a delimiter.
        let token = if self.column == 0 && token == b"-" { b"=2D" } else { token };
        out.extend_from_slice(token);
        self.column += token.len();
    }
}

/// Writes base64, each line but the first behind a CRLF.
#[derive(Debug, Default)]
pub(crate) struct Base64 {
    group: Vec<u8>,
    wrote: bool,
}

impl Base64 {
    pub(crate) fn push(&mut self, mut octets: &[u8], out: &mut Vec<u8>) {
        if !self.group.is_empty() {
            let (some, rest) = octets.split_at(octets.len().min(BASE64_GROUP - self.group.len()));
            self.group.extend_from_slice(some);
            octets = rest;
            if self.group.len() < BASE64_GROUP {
                return;
            }
            let group = std::mem::take(&mut self.group);
            self.write(&group, out);
        }
        let mut groups = octets.chunks_exact(BASE64_GROUP);
        for group in &mut groups {
            self.write(group, out);
        }
        self.group.extend_from_slice(groups.remainder());
    }

    /// The content is over. Its last line is not ended.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        let group = std::mem::take(&mut self.group);
        if !group.is_empty() {
            self.write(&group, out);
        }
    }

    fn write(&mut self, group: &[u8], out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.wrote, true) {
            out.extend_from_slice(b"\r\n");
        }
        let mut line = String::with_capacity(QP_LINE);
        STANDARD.encode_string(group, &mut line);
        out.extend_from_slice(line.as_bytes());
    }
}

/// How large content would become.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sizes {
    pub(crate) octets: u64,
    /// Those that quoted-printable writes as three.
    pub(crate) escaped: u64,
}

impl Sizes {
    pub(crate) fn count(&mut self, octets: &[u8]) {
        let escaped = octets.iter().filter(|octet| !is_plain(**octet)).count();
        self.octets += octets.len() as u64;
        self.escaped += escaped as u64;
    }

    /// True when base64 takes fewer octets than quoted-printable.
    pub(crate) fn favour_base64(self) -> bool {
        let quoted = self.octets + 2 * self.escaped;
        let quoted = quoted + quoted / (QP_LINE as u64 - 1) * 3;
        let lines = self.octets.div_ceil(BASE64_GROUP as u64);
        lines * (QP_LINE as u64 + 2) < quoted
    }
}

fn is_plain(octet: u8) -> bool {
    matches!(octet, b'\t' | 32..=126) && octet != b'='
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(lines: &[&[u8]], ends: bool) -> String {
        let (mut quoted, mut out) = (Quoted::default(), Vec::new());
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                quoted.line_end(&mut out);
            }
            quoted.push(line, &mut out);
        }
        quoted.finish(ends, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn quoted_printable_as_rfc_2045_has_it() {
        assert_eq!(quoted(&["gr\u{fc}n = ok".as_bytes(), b""], true), "gr=C3=BCn =3D ok\r\n");
        assert_eq!(quoted(&[b"a ", b"b\t", b" c"], false), "a=20\r\nb=09\r\n c");
        assert_eq!(quoted(&[b"a\rb\nc\0", b"d"], true), "a=0Db=0Ac=00\r\nd=\r\n");
        assert_eq!(quoted(&[b"end "], false), "end=20");
        assert_eq!(quoted(&[], true), "");
    }

    #[test]
    fn no_line_is_too_long_and_none_looks_like_a_delimiter() {
        let long = "-".repeat(200);
        let made = quoted(&[long.as_bytes(), b"--b"], false);
        for line in made.split("\r\n") {
            assert!(line.len() <= 76 && !line.starts_with('-'), "{line}");
        }
        assert_eq!(made.replace("=\r\n", "").replace("=2D", "-"), format!("{long}\r\n--b"));
        let edge = "a".repeat(75);
        assert_eq!(quoted(&[edge.as_bytes()], false), edge);
        assert_eq!(quoted(&[edge.as_bytes(), b""], false), format!("{edge}\r\n"));
    }

    #[test]
    fn base64_in_pieces() {
        let content: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for size in [1, 7, 56, 57, 58, 1000] {
            let (mut base64, mut out) = (Base64::default(), Vec::new());
            content.chunks(size).for_each(|chunk| base64.push(chunk, &mut out));
            base64.finish(&mut out);
            let text = String::from_utf8(out).unwrap();
            assert!(!text.ends_with("\r\n") && text.lines().all(|line| line.len() <= 76));
            let joined = text.replace("\r\n", "");
            assert_eq!(STANDARD.decode(joined).unwrap(), content, "in pieces of {size}");
        }
        let (mut none, mut out) = (Base64::default(), Vec::new());
        none.finish(&mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn the_smaller_encoding_is_known() {
        let favour = |text: &str| {
            let mut sizes = Sizes::default();
            sizes.count(text.as_bytes());
            sizes.favour_base64()
        };
        assert!(!favour(&"Ein gr\u{fc}ner Satz mit Umlauten. ".repeat(40)));
        assert!(favour(&"\u{4f60}\u{597d}\u{4e16}\u{754c}".repeat(40)));
    }
}
