//! The relaxed form of a header field (RFC 6376 §3.4.2).

/// Appends the canonical field: name in lower case, value on one line, each run of white space one
/// space, none at the ends. The CRLF behind it is the caller's.
///
/// `value` is what stands behind the colon, folding included.
pub(crate) fn relaxed(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend(name.bytes().map(|b| b.to_ascii_lowercase()));
    out.push(b':');
    let start = out.len();
    let mut space = false;
    for line in value.split(|b| *b == b'\n') {
        for &octet in line.strip_suffix(b"\r").unwrap_or(line) {
            if matches!(octet, b' ' | b'\t') {
                space = true;
                continue;
            }
            if space && out.len() > start {
                out.push(b' ');
            }
            space = false;
            out.push(octet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(name: &str, value: &str) -> String {
        let mut out = Vec::new();
        relaxed(name, value.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_example_of_rfc_6376_3_4_5() {
        assert_eq!(canonical("A", " X\r\n"), "a:X");
        assert_eq!(canonical("B", " Y\t\r\n\tZ  \r\n"), "b:Y Z");
    }

    #[test]
    fn folding_and_white_space() {
        assert_eq!(canonical("SubJect", "\t one \r\n \t two\r\n\t\r\n three\t\r\n"), {
            "subject:one two three"
        });
        assert_eq!(canonical("X", "\r\n"), "x:");
        assert_eq!(canonical("X", " \r\n \t\r\n"), "x:");
        assert_eq!(canonical("X", "no space"), "x:no space");
    }

    #[test]
    fn only_space_and_tab_are_white() {
        assert_eq!(canonical("X", " a\x0cb \x0b c\rd\r\n"), "x:a\x0cb \x0b c\rd");
        assert_eq!(canonical("X", " gr\u{fc}\u{df}e\u{a0}!\r\n"), "x:gr\u{fc}\u{df}e\u{a0}!");
    }
}
