//! Whatever a message is made of, and however it is cut: either there is no copy, or it is one that the
//! target takes, always the same, and a copy of the copy is the copy.
//!
//! Runs for two seconds, or for `WAYPOST_FUZZ_SECONDS`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test by panicking")]

use std::time::Duration;

use bolero::{TypeGenerator, check};
use bytes::Bytes;
use waypost_convert::{MAX_LINE, Rewrite, Survey, Target, Unfit};
use waypost_mail::HeaderBlock;
use waypost_mail::header::header_len;
use waypost_smtp::BodyType;

fn time() -> Duration {
    let seconds = std::env::var("WAYPOST_FUZZ_SECONDS").ok();
    Duration::from_secs_f64(seconds.map_or(2.0, |seconds| seconds.parse().unwrap()))
}

/// What messages are made of, the troublesome parts more often than in mail.
#[derive(Debug, Clone, TypeGenerator)]
enum Part {
    LineEnd,
    BlankLine,
    Cr,
    Lf,
    Octet(u8),
    Word(u16),
    Utf8,
    Text,
    Multipart(u8),
    Signed(u8),
    Message,
    Digest(u8),
    EightBit,
    Binary,
    Base64,
    Delimiter(u8),
    Close(u8),
    Subject,
    To,
    Name,
}

impl Part {
    fn write(&self, out: &mut Vec<u8>) {
        let letter = |number: &u8| char::from(b'a' + number % 3);
        let text = match self {
            Part::LineEnd => "\r\n".to_owned(),
            Part::BlankLine => "\r\n\r\n".to_owned(),
            Part::Cr => "\r".to_owned(),
            Part::Lf => "\n".to_owned(),
            Part::Octet(octet) => return out.push(*octet),
            Part::Word(length) => return out.resize(out.len() + usize::from(length % 3000), b'w'),
            Part::Utf8 => "gr\u{fc}n \u{4f60} ".to_owned(),
            Part::Text => "Content-Type: text/html; charset=utf-8\r\n".to_owned(),
            Part::Multipart(n) => {
                format!("Content-Type: multipart/mixed; boundary={}\r\n", letter(n))
            }
            Part::Signed(n) => {
                format!("Content-Type: multipart/signed; boundary=\"{}\"\r\n", letter(n))
            }
            Part::Message => "Content-Type: message/rfc822\r\n".to_owned(),
            Part::Digest(n) => {
                format!("Content-Type: multipart/digest; boundary={}\r\n", letter(n))
            }
            Part::EightBit => "Content-Transfer-Encoding: 8bit\r\n".to_owned(),
            Part::Binary => "Content-Transfer-Encoding: binary\r\n".to_owned(),
            Part::Base64 => "Content-Transfer-Encoding: base64\r\n".to_owned(),
            Part::Delimiter(n) => format!("\r\n--{}\r\n", letter(n)),
            Part::Close(n) => format!("\r\n--{}--\r\n", letter(n)),
            Part::Subject => "Subject: gr\u{fc}n =?utf-8?q?x?= \u{fc}\r\n".to_owned(),
            Part::To => "To: \"\u{fc}\" (\u{e4}) <a@b\u{fc}.example>, b: c@d;\r\n".to_owned(),
            Part::Name => "Content-Disposition: attachment; filename=\"\u{fc}\"\r\n".to_owned(),
        };
        out.extend(text.into_bytes());
    }
}

fn copy(target: Target, message: &[u8], size: usize) -> Result<(Vec<u8>, bool), Unfit> {
    let header = header_len(message).unwrap_or(message.len());
    let block = HeaderBlock::parse(Bytes::copy_from_slice(&message[..header]));
    let body = message.get(header + 2..).unwrap_or_default();
    let mut survey = Survey::new(target, &block)?;
    body.chunks(size).try_for_each(|piece| survey.push(piece))?;
    let plan = survey.finish()?;
    if plan.is_empty() {
        return Ok((message.to_vec(), true));
    }
    let mut rewrite = Rewrite::new(&plan).unwrap();
    let mut copy = plan.header().unwrap();
    copy.extend_from_slice(b"\r\n");
    for piece in body.chunks(size) {
        rewrite.push(piece).unwrap();
        copy.extend(rewrite.take_output());
    }
    rewrite.finish().unwrap();
    copy.extend(rewrite.take_output());
    Ok((copy, false))
}

fn is_fit(target: Target, copy: &[u8]) -> bool {
    let ascii = copy.is_ascii() || target.body != BodyType::SevenBit;
    ascii
        && copy.split_inclusive(|octet| *octet == b'\n').all(|line| {
            line.strip_suffix(b"\r\n").is_some_and(|text| {
                text.len() <= MAX_LINE && !text.iter().any(|octet| b"\r\n\0".contains(octet))
            })
        })
}

#[test]
fn a_copy_is_fit_and_does_not_depend_on_cuts() {
    let targets = [
        Target { body: BodyType::SevenBit, ascii_header: true },
        Target { body: BodyType::EightBitMime, ascii_header: false },
        Target { body: BodyType::EightBitMime, ascii_header: true },
    ];
    check!().with_test_time(time()).with_type::<(Vec<Part>, u8)>().for_each(|(parts, size)| {
        let mut message = Vec::new();
        parts.iter().for_each(|part| part.write(&mut message));
        if header_len(&message).is_none() {
            message.extend_from_slice(b"\r\n\r\n");
        }
        for target in targets {
            let whole = copy(target, &message, message.len().max(1));
            assert_eq!(copy(target, &message, usize::from(*size).max(1)), whole);
            let Ok((made, is_same)) = whole else { continue };
            // A message that can go as it is may lack the end of its last line: the wire adds it.
            assert!(is_same || is_fit(target, &made), "{}", String::from_utf8_lossy(&made));
            assert_eq!(copy(target, &made, made.len()), Ok((made.clone(), true)));
        }
    });
}
