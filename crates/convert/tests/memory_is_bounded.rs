//! A message of 50 MiB is converted in the memory of its pieces. In a process of its own: its peak is
//! what is measured.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use bytes::Bytes;
use waypost_convert::{Rewrite, Survey, Target};
use waypost_mail::HeaderBlock;
use waypost_smtp::BodyType;

const PIECE: usize = 128 * 1024;
const PIECES: usize = 400;
const MIB: u64 = 1024 * 1024;

/// The most memory that this process has had, in octets.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// A part of text without line ends, then one of octets.
fn pieces() -> impl Iterator<Item = Bytes> {
    let text = Bytes::from("gr\u{fc}n und immer gr\u{fc}n ".repeat(PIECE / 22));
    let octets: Vec<u8> = (0..=255u8).cycle().take(PIECE).collect();
    let octets = Bytes::from(octets);
    let begin = Bytes::from_static(b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n");
    let between = Bytes::from_static(b"\r\n--b\r\nContent-Type: image/png\r\n\r\n");
    std::iter::once(begin)
        .chain(std::iter::repeat_n(text, PIECES / 2))
        .chain(std::iter::once(between))
        .chain(std::iter::repeat_n(octets, PIECES / 2))
        .chain(std::iter::once(Bytes::from_static(b"\r\n--b--\r\n")))
}

#[test]
fn of_a_message_of_50_mib() {
    let header = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n";
    let header = HeaderBlock::parse(Bytes::from(header));
    let target = Target { body: BodyType::SevenBit, ascii_header: true };
    let before = peak();
    let mut survey = Survey::new(target, &header).unwrap();
    pieces().for_each(|piece| survey.push(&piece).unwrap());
    let plan = survey.finish().unwrap();
    let mut rewrite = Rewrite::new(&plan).unwrap();
    let (mut read, mut written, mut largest) = (0, 0, 0);
    for piece in pieces() {
        rewrite.push(&piece).unwrap();
        let out = rewrite.take_output();
        assert!(out.is_ascii());
        read += piece.len() as u64;
        written += out.len() as u64;
        largest = largest.max(out.len());
    }
    rewrite.finish().unwrap();
    assert!(read > 49 * MIB && written > read, "{read} became {written}");
    assert!(largest < 2 * PIECE, "a piece became {largest} octets");
    let grown = peak() - before;
    assert!(grown < 8 * MIB, "memory has grown by {grown} octets");
}
