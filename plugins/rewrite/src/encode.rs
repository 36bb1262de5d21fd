//! Transfer encodings (RFC 2045 §6), as far as a footer needs them.

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base 64 in one line.
pub(crate) fn base64(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, octet| bits << 8 | u32::from(*octet))
            << (8 * (3 - group.len()));
        for at in 0..4 {
            text.push(match at <= group.len() {
                true => char::from(BASE64[(bits >> (18 - 6 * at) & 63) as usize]),
                false => '=',
            });
        }
    }
    text
}

/// Base 64 in lines of 76 characters, each ended by CRLF but the last.
pub(crate) fn base64_lines(octets: &[u8]) -> String {
    let lines: Vec<String> = octets.chunks(57).map(base64).collect();
    lines.join("\r\n")
}

/// Reads base 64. Anything but its characters, blanks, line ends and padding at the end is no base 64.
pub(crate) fn base64_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count, mut padding) = (0_u32, 0_u32, 0_u32);
    for &c in text {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            b'=' => {
                padding += 1;
                continue;
            }
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        bits = bits << 6 | u32::from(value);
        count += 1;
        if count == 4 {
            octets.extend_from_slice(&bits.to_be_bytes()[1..]);
            (bits, count) = (0, 0);
        }
    }
    match (count, padding) {
        (0, 0) => {}
        (2, 2) => octets.push((bits >> 4) as u8),
        (3, 1) => octets.extend_from_slice(&((bits >> 2) as u16).to_be_bytes()),
        _ => return None,
    }
    Some(octets)
}

/// Quoted-printable (RFC 2045 §6.7). Lines of the text end with CRLF; what has no line end gets none.
pub(crate) fn quoted_printable(octets: &[u8]) -> Vec<u8> {
    let mut coded = Vec::with_capacity(octets.len() + octets.len() / 4);
    let mut column = 0;
    let mut at = 0;
    while at < octets.len() {
        if octets[at..].starts_with(b"\r\n") {
            coded.extend_from_slice(b"\r\n");
            (column, at) = (0, at + 2);
            continue;
        }
        let c = octets[at];
        let at_end = at + 1 == octets.len() || octets[at + 1..].starts_with(b"\r\n");
        let plain = match c {
            b'=' => false,
            b' ' | b'\t' => !at_end,
            _ => c.is_ascii_graphic(),
        };
        let width = if plain { 1 } else { 3 };
        if column + width > 75 {
            coded.extend_from_slice(b"=\r\n");
            column = 0;
        }
        // RFC 5321 §4.5.2 and mboxes: a dot or `From ` at the start of a line is coded, to be sure.
        if plain && !(column == 0 && matches!(c, b'.' | b'F')) {
            coded.push(c);
            column += 1;
        } else {
            coded.extend_from_slice(format!("={c:02X}").as_bytes());
            column += 3;
        }
        at += 1;
    }
    coded
}

#[cfg(test)]
mod tests {
    use super::{base64, base64_decoded, base64_lines, quoted_printable};

    #[test]
    fn base64_of_every_length() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
            assert_eq!(base64_decoded(coded.as_bytes()).unwrap(), plain.as_bytes());
        }
        let all: Vec<u8> = (0..=255).collect();
        let lines = base64_lines(&all);
        assert!(lines.lines().all(|line| line.len() <= 76));
        assert_eq!(base64_decoded(lines.as_bytes()).unwrap(), all);
        for bad in ["Zg", "Zg=", "Z", "Zg==Zg==", "Zm9v=", "Z*==", "Zm8=="] {
            assert_eq!(base64_decoded(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn quoted_printable_keeps_its_lines_short_and_legal() {
        assert_eq!(
            quoted_printable("a=ü \r\n.x\r\nFrom y".as_bytes()),
            b"a=3D=C3=BC=20\r\n=2Ex\r\n=46rom y"
        );
        let long = quoted_printable("ü".repeat(200).as_bytes());
        assert!(long.split(|c| *c == b'\n').all(|line| line.len() <= 77));
    }
}
