//! The hash of any body, cut in any way, is that of its canonical form made in the slow way that
//! RFC 6376 §3.4.4 describes.
//!
//! Runs for two seconds, or for `WAYPOST_FUZZ_SECONDS`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test by panicking")]

use std::time::Duration;

use bolero::{TypeGenerator, check};
use waypost_identity::{BodyHash, BodyHasher};

fn time() -> Duration {
    let seconds = std::env::var("WAYPOST_FUZZ_SECONDS").ok();
    Duration::from_secs_f64(seconds.map_or(2.0, |seconds| seconds.parse().unwrap()))
}

/// What bodies are made of, the troublesome parts more often than in mail.
#[derive(Debug, Clone, TypeGenerator)]
enum Part {
    LineEnd,
    Space,
    Tab,
    Cr,
    Lf,
    Octet(u8),
    Word(u8),
    Cut,
}

impl Part {
    fn write(&self, pieces: &mut Vec<Vec<u8>>) {
        let last = pieces.last_mut().unwrap();
        match self {
            Part::LineEnd => last.extend(b"\r\n"),
            Part::Space => last.push(b' '),
            Part::Tab => last.push(b'\t'),
            Part::Cr => last.push(b'\r'),
            Part::Lf => last.push(b'\n'),
            Part::Octet(octet) => last.push(*octet),
            Part::Word(length) => last.resize(last.len() + usize::from(*length), b'w'),
            Part::Cut => pieces.push(Vec::new()),
        }
    }
}

/// Each step of RFC 6376 §3.4.4 over the whole body, one after the other.
fn slowly(body: &[u8]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
    for (at, octet) in body.iter().enumerate() {
        lines.last_mut().unwrap().push(*octet);
        if *octet == b'\n' && at > 0 && body[at - 1] == b'\r' {
            let line = lines.last_mut().unwrap();
            line.truncate(line.len() - 2);
            lines.push(Vec::new());
        }
    }
    for line in &mut lines {
        while line.last().is_some_and(|octet| is_white(*octet)) {
            line.pop();
        }
        let mut before = false;
        line.retain(|octet| {
            !(std::mem::replace(&mut before, is_white(*octet)) && is_white(*octet))
        });
        line.iter_mut().filter(|octet| is_white(**octet)).for_each(|octet| *octet = b' ');
    }
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines.iter().flat_map(|line| [line.as_slice(), b"\r\n"].concat()).collect()
}

fn is_white(octet: u8) -> bool {
    octet == b' ' || octet == b'\t'
}

#[test]
fn any_body_in_any_pieces() {
    check!().with_type::<Vec<Part>>().with_test_time(time()).for_each(|parts| {
        let mut pieces = vec![Vec::new()];
        parts.iter().for_each(|part| part.write(&mut pieces));
        let mut hasher = BodyHasher::new();
        pieces.iter().for_each(|piece| hasher.push(piece));
        let canonical = slowly(&pieces.concat());
        assert_eq!(
            format!("{:?}", hasher.finish()),
            format!("BodyHash({:02x?})", sha256(&canonical))
        );
        // The canonical form is its own.
        assert_eq!(
            BodyHash::of([Ok(&canonical)]).unwrap(),
            BodyHash::of(pieces.iter().map(Ok)).unwrap()
        );
    });
}

fn sha256(octets: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, octets).as_ref().to_vec()
}
