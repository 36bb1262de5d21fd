//! Every short mixture of CR, LF and dots in a body, against what RFC 5321 §4.1.1.4 says in the
//! fewest words: `CRLF.CRLF` ends it, and a bare CR or LF spoils it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::VecDeque;

use crate::script::{self, Peer};

const LETTERS: [u8; 3] = [b'\r', b'\n', b'.'];
const LONGEST: u32 = 6;
const INNER: &[u8] = b"MAIL FROM:<evil@b.example>\r\nRCPT TO:<victim@d.example>\r\nDATA\r\nx";

/// A body as the RFC reads it, without any of our code.
struct Read {
    /// Where what follows the body begins.
    end: usize,
    is_clean: bool,
    text: Vec<u8>,
}

fn read(wire: &[u8]) -> Read {
    // The body begins at the start of a line: the CRLF before it ended DATA.
    let whole = [b"\r\n", wire].concat();
    let end = whole.windows(5).position(|five| five == b"\r\n.\r\n").unwrap();
    let text = String::from_utf8(whole[..end + 2].to_vec()).unwrap();
    let lines: Vec<_> = text.split_inclusive("\r\n").skip(1).collect();
    let is_clean = lines.iter().all(|line| !line.trim_end_matches("\r\n").contains(['\r', '\n']));
    let is_clean = is_clean && !lines.iter().any(|line| line.ends_with("\r\r\n"));
    let text = lines.iter().map(|line| line.strip_prefix('.').unwrap_or(line)).collect::<String>();
    Read { end: end + 3, is_clean, text: text.into_bytes() }
}

/// Sends a body and what must not be obeyed inside it; what was asked and replied since DATA.
fn played(wire: &[u8], cut: usize) -> (Vec<String>, Vec<String>) {
    let mut peer = Peer::new(script::rules());
    let mut say = |bytes: &[u8]| peer.receive(bytes, &mut VecDeque::new());
    say(b"");
    say(b"EHLO peer.example\r\n");
    say(b"MAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n");
    peer.take_seen();
    for piece in wire.chunks(cut) {
        peer.receive(piece, &mut VecDeque::new());
    }
    let seen = peer.take_seen();
    (seen.events, seen.replies)
}

fn mixtures() -> impl Iterator<Item = Vec<u8>> {
    (0..=LONGEST).flat_map(|length| {
        (0..LETTERS.len().pow(length)).map(move |number| {
            let letter = |place| LETTERS[number / LETTERS.len().pow(place) % LETTERS.len()];
            (0..length).map(letter).collect()
        })
    })
}

#[test]
fn nothing_but_a_dot_on_a_line_of_its_own_ends_a_message() {
    let mut ends = 0;
    for mixture in mixtures() {
        for (before, behind) in [(&b""[..], INNER), (b"a", INNER), (b"a\r\n", INNER), (INNER, b"")]
        {
            let wire = [before, &mixture, behind, b"\r\n.\r\nNOOP\r\n"].concat();
            let expected = read(&wire);
            // A mixture that holds the true end is the peer's own two messages: not smuggling.
            if &wire[expected.end..] != b"NOOP\r\n" {
                ends += 1;
                continue;
            }
            for cut in [1, 2, 3, wire.len()] {
                let (events, replies) = played(&wire, cut);
                let shown = wire.escape_ascii();
                assert_eq!(replies.len(), 2, "out of step after {shown}: {replies:?}");
                assert!(replies[1].starts_with("250 2.0.0"), "{shown}: {replies:?}");
                if expected.is_clean {
                    let size = expected.text.len();
                    assert!(events.contains(&format!("ASK commit {size}")), "{shown}: {events:?}");
                    assert!(replies[0].starts_with("250 2.0.0"), "{shown}: {replies:?}");
                } else {
                    assert_eq!(events, ["DISCARD"], "{shown}");
                    assert!(replies[0].starts_with("554 5.6.0"), "{shown}: {replies:?}");
                }
            }
        }
    }
    assert!(ends > 10, "the generator makes no true ends");
}
