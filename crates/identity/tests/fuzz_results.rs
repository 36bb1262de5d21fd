//! Any header at all: what claims to be a field of ours goes, and nothing else changes. The fields are
//! mail-auth's and a stranger's, the reading is ours.

use bolero::check;
use bytes::Bytes;
use waypost_identity::results::{claims, without_claims};
use waypost_mail::HeaderBlock;

const OURS: &str = "relay.example.org";

/// Values made of pieces that matter, or of anything.
fn value(octets: &[u8]) -> Vec<u8> {
    const PIECES: [&str; 20] = [
        "relay.example.org",
        "RELAY.Example.Org",
        "relay",
        ".",
        "example.org",
        "mx.example.net",
        "(",
        ")",
        "\"",
        "\\",
        ";",
        " ",
        "\r\n ",
        "\t",
        "1",
        "=",
        "none",
        "spf=pass",
        "\u{fc}",
        "/",
    ];
    match octets.split_first() {
        Some((0, rest)) => rest.iter().copied().filter(|octet| !b"\r\n".contains(octet)).collect(),
        _ => octets.iter().flat_map(|o| PIECES[usize::from(*o) % PIECES.len()].bytes()).collect(),
    }
}

#[test]
fn no_claim_of_ours_is_left() {
    check!().for_each(|octets: &[u8]| {
        let fields: Vec<Vec<u8>> = octets.split(|octet| *octet == 0xff).map(value).collect();
        let mut text = Vec::new();
        for field in &fields {
            text.extend_from_slice(b"Authentication-Results: ");
            text.extend_from_slice(field);
            text.extend_from_slice(b"\r\nX-Other: relay.example.org\r\n");
        }
        let header = HeaderBlock::parse(Bytes::from(text));
        let before = header.count();
        let expected = header
            .views()
            .filter(|field| !(field.name == "Authentication-Results" && claims(field.value, OURS)));
        let expected: Vec<u8> = expected.flat_map(|field| field.raw.to_vec()).collect();
        let (left, count) = without_claims(header.clone(), OURS);
        assert_eq!(left.as_bytes(), &expected);
        assert_eq!(left.count() + count, before);
        assert_eq!(without_claims(left, OURS).1, 0);
    });
}

/// A reader who knows nothing of quotes and comments sees our name at the beginning of no field that
/// is left.
#[test]
fn no_plain_reader_is_fooled() {
    check!().for_each(|octets: &[u8]| {
        let value = value(octets);
        if claims(&value, OURS) {
            return;
        }
        let text = String::from_utf8_lossy(&value).to_lowercase();
        let first = text.split(';').next().unwrap_or_default().trim();
        assert_ne!(first, OURS);
        assert_ne!(first.trim_matches('"'), OURS);
    });
}
