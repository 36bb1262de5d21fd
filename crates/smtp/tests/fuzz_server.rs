//! The server conversation and its framing against peers that send anything at all.
//!
//! Each target runs for a second and a half, or for `WAYPOST_FUZZ_SECONDS`. What every session must
//! keep to is asserted where sessions are played, in `script`.

mod script;

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::time::Duration;

use bolero::{TypeGenerator, check};
use bytes::BytesMut;
use script::{Peer, Script, Seen};
use waypost_smtp::Reply;
use waypost_smtp::data::{Decoder, Piece};
use waypost_smtp::server::{Answer, AuthRule, FutureRelease, Offers, Rules, TlsRule};

fn time() -> Duration {
    let seconds = std::env::var("WAYPOST_FUZZ_SECONDS").ok();
    Duration::from_secs_f64(seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(1.5))
}

/// Speech that is likely to get somewhere, mixed with any bytes.
#[derive(Debug, Clone, TypeGenerator)]
enum Said {
    Line(u8),
    Transaction(bool),
    Login,
    Data(Vec<u8>),
    Bdat(u8, bool, Vec<u8>),
    Text(Vec<u8>),
    Bytes(Vec<u8>),
}

impl Said {
    fn write(&self, out: &mut Vec<u8>) {
        const LINES: [&str; 31] = [
            "EHLO peer.example",
            "HELO peer.example",
            "MAIL FROM:<a@b.example>",
            "MAIL FROM:<> SIZE=10 BODY=8BITMIME",
            "MAIL FROM:<\u{fc}@b.example> SMTPUTF8",
            "MAIL FROM:<> BODY=BINARYMIME RET=FULL ENVID=x",
            "MAIL FROM:<> BY=60;RT HOLDFOR=90 MT-PRIORITY=-9 REQUIRETLS",
            "MAIL FROM:<> HOLDUNTIL=1970-01-01T00:00:00Z BY=-1;N",
            "RCPT TO:<c@d.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;+41@b",
            "RCPT TO:<c@d.example> ORCPT=utf-8;\\x{FC}\u{fc}",
            "RCPT TO:<c@d.example>",
            "RCPT TO:<postmaster>",
            "RCPT TO:<\u{fc}@d.example>",
            "DATA",
            "DATA now",
            ".",
            "..",
            "",
            "BDAT 0 LAST",
            "BDAT x",
            "BDAT 99999999999999999",
            "RSET",
            "NOOP",
            "VRFY a",
            "HELP",
            "STARTTLS",
            "AUTH PLAIN AGEAYg==",
            "AUTH LOGIN",
            "*",
            "YQ==",
            "QUIT",
        ];
        match self {
            Said::Line(line) => {
                let line = LINES[usize::from(*line) % LINES.len()];
                out.extend_from_slice(format!("{line}\r\n").as_bytes());
            }
            Said::Transaction(data) => {
                out.extend_from_slice(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\n");
                out.extend_from_slice(if *data { b"DATA\r\n" } else { b"" });
            }
            Said::Login => {
                out.extend_from_slice(b"RSET\r\nEHLO x\r\nAUTH LOGIN\r\nYQ==\r\nYg==\r\n");
            }
            Said::Data(text) => {
                Said::Transaction(true).write(out);
                out.extend(body(text));
                out.extend_from_slice(b"\r\n.\r\n");
            }
            Said::Bdat(more, last, text) => {
                let last = if *last { " LAST" } else { "" };
                let text = body(text);
                let size = text.len() + usize::from(more % 8 == 0);
                out.extend_from_slice(format!("BDAT {size}{last}\r\n").as_bytes());
                out.extend(text);
            }
            Said::Text(text) => out.extend(body(text)),
            Said::Bytes(bytes) => out.extend_from_slice(bytes),
        }
    }
}

/// Lines, mostly.
fn body(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in bytes {
        match byte {
            0..100 => out.extend_from_slice(b"\r\n"),
            100..160 => out.push(b'.'),
            160..252 => out.push(b'a'),
            252 => out.push(b'\r'),
            253 => out.push(b'\n'),
            254 => out.push(0),
            255 => out.push(0xff),
        }
    }
    out
}

/// Octets that matter in a body, more often than chance has them.
fn body_octet(byte: u8) -> u8 {
    match byte % 16 {
        0..5 => b'\r',
        5..10 => b'\n',
        10..13 => b'.',
        13 => b'a',
        _ => byte,
    }
}

fn answer(byte: u8) -> Option<Answer> {
    match byte {
        0..170 => None,
        170..190 => Some(Answer::Reply(Reply::RELAY_DENIED)),
        190..210 => Some(Answer::Reply(Reply::LOCAL_ERROR)),
        210..240 => Some(Answer::Challenge(vec![byte; usize::from(byte - 210)])),
        240..250 => Some(Answer::Reply(Reply::OK)),
        250..253 => Some(Answer::Disconnect(Reply::REFUSED_BY_POLICY)),
        253..255 => Some(Answer::Recipients(vec![])),
        255 => Some(Answer::Reply(Reply::START_DATA)),
    }
}

fn rules(bits: u8) -> Rules {
    Rules {
        tls: [TlsRule::Off, TlsRule::Offered, TlsRule::Required, TlsRule::Active]
            [usize::from(bits & 3)],
        auth: if bits & 4 == 0 { AuthRule::Off } else { AuthRule::Offered },
        submission: bits & 8 == 0,
        max_size: u64::from(bits & 0x70),
        max_recipients: 2,
        max_errors: if bits & 0x80 == 0 { 5 } else { 1000 },
        offers: Offers {
            dsn: true,
            binary_mime: bits & 0x10 != 0,
            require_tls: true,
            deliver_by: Some(60),
            future_release: Some(FutureRelease { interval: 90, until: 90 }),
            mt_priority: true,
            limits: true,
        },
        ..script::rules()
    }
}

/// The pieces of something, cut where `cuts` say.
fn pieces(bytes: &[u8], cuts: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut rest = bytes;
    for cut in cuts.iter().cycle().take(if cuts.is_empty() { 0 } else { bytes.len() }) {
        let (piece, more) = rest.split_at((usize::from(*cut) + 1).min(rest.len()));
        all.push(piece.to_vec());
        rest = more;
    }
    all.push(rest.to_vec());
    all
}

/// Sees that a session which was cut is the one that was not. There is one exception: bytes behind a
/// refused DATA close the connection, and those of a peer that happens to be slow do not.
fn assert_same(whole: &Seen, cut: &Seen) {
    let last = whole.replies.last().map_or("", |reply| &reply[..3]);
    let closed = whole.events.last().is_some_and(|event| event == "CLOSE");
    if whole != cut && closed && last != "421" && last != "221" {
        let events = &whole.events[..whole.events.len() - 1];
        assert!(cut.replies.starts_with(&whole.replies), "{whole:?}\n{cut:?}");
        // The last thing cut short may be a Discard.
        let discarded = events.last().is_some_and(|event| event == "DISCARD");
        let events = if discarded { &events[..events.len() - 1] } else { events };
        assert!(cut.events.starts_with(events), "{whole:?}\n{cut:?}");
        return;
    }
    assert_eq!(whole, cut);
}

#[test]
fn a_session_does_not_depend_on_how_bytes_are_cut() {
    check!()
        .with_test_time(time())
        .with_iterations(usize::MAX)
        .with_type::<(Vec<Said>, Vec<u8>, Vec<u8>, u8)>()
        .for_each(|(said, answers, cuts, bits)| {
            let mut bytes = Vec::new();
            said.iter().for_each(|said| said.write(&mut bytes));
            let play = |cuts: &[u8]| {
                let mut peer = Peer::new(rules(*bits));
                let mut answers: VecDeque<_> = answers.iter().copied().map(answer).collect();
                answers.push_front(None);
                for piece in pieces(&bytes, cuts) {
                    peer.receive(&piece, &mut answers);
                }
                peer.take_seen()
            };
            let whole = play(&[]);
            assert_same(&whole, &play(&[0]));
            assert_same(&whole, &play(cuts));
        });
}

#[test]
fn dialogues_with_damage_do_not_depend_on_how_bytes_are_cut() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let texts: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .filter(|text| !text.contains("\\*") && !text.contains("TOGETHER"))
        .collect();
    check!()
        .with_test_time(time())
        .with_iterations(usize::MAX)
        .with_type::<(u8, Vec<(u16, u8, Vec<u8>)>, Vec<u8>)>()
        .for_each(|(which, damage, cuts)| {
            let mut script = Script::parse(&texts[usize::from(*which) % texts.len()]);
            for (place, removed, added) in damage.iter().take(3) {
                let group = usize::from(*place) % script.groups.len();
                let bytes = &mut script.groups[group].bytes;
                let from = usize::from(place / 7) % (bytes.len() + 1);
                let to = (from + usize::from(removed % 4)).min(bytes.len());
                bytes.splice(from..to, added.iter().copied().map(body_octet));
            }
            let play = |cuts: &[u8]| {
                let seen = script.play(|_, bytes| pieces(bytes, cuts));
                seen.into_iter().fold(Seen::default(), |mut all, seen| {
                    all.events.extend(seen.events);
                    all.replies.extend(seen.replies);
                    all
                })
            };
            assert_same(&play(&[]), &play(&[0]));
            assert_same(&play(&[]), &play(cuts));
        });
}

/// RFC 5321 §4.5.2 an octet at a time: the text, and what is behind the end if there was one.
fn slow_text(raw: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let mut text = Vec::new();
    let mut at = 0;
    while at < raw.len() {
        let starts_line =
            text.is_empty() && at == 0 || text.ends_with(b"\r\n") && raw[at - 1] == b'\n';
        if starts_line && raw[at] == b'.' {
            if raw[at..].starts_with(b".\r\n") {
                return (text, Some(raw[at + 3..].to_vec()));
            }
            if b".\r".starts_with(&raw[at..]) {
                return (text, None);
            }
            at += 1;
        }
        text.push(raw[at]);
        at += 1;
    }
    (text, None)
}

/// A CR or LF alone, an octet at a time; a CR at the end is still to be judged.
fn slow_bare(text: &[u8]) -> bool {
    (0..text.len()).any(|at| match text[at] {
        b'\r' => text.get(at + 1).is_some_and(|next| *next != b'\n'),
        b'\n' => at == 0 || text[at - 1] != b'\r',
        _ => false,
    })
}

#[test]
fn fast_framing_is_slow_framing() {
    check!()
        .with_test_time(time())
        .with_iterations(usize::MAX)
        .with_type::<(Vec<u8>, Vec<u8>)>()
        .for_each(|(raw, cuts)| {
            let raw: Vec<u8> = raw.iter().copied().map(body_octet).collect();
            let (mut dotted, mut counted) = (Decoder::default(), Decoder::default());
            let (mut text, mut ended) = (Vec::new(), false);
            let (mut input, mut octets) = (BytesMut::new(), Vec::new());
            for piece in pieces(&raw, cuts) {
                let mut chunk = BytesMut::from(&piece[..]);
                let mut left = piece.len() as u64;
                while let Some(bytes) = counted.counted(&mut chunk, &mut left) {
                    octets.extend_from_slice(&bytes);
                }
                input.extend_from_slice(&piece);
                while !ended {
                    match dotted.dotted(&mut input) {
                        Piece::NeedInput => break,
                        Piece::Text(bytes) => text.extend_from_slice(&bytes),
                        Piece::End => ended = true,
                    }
                }
            }
            let (slow, behind) = slow_text(&raw);
            assert_eq!(text, slow);
            assert_eq!(ended.then(|| input.to_vec()), behind);
            assert_eq!(dotted.lines().has_bare_line_ending(), slow_bare(&slow));
            assert_eq!(dotted.lines().size(), slow.len() as u64);
            assert_eq!(octets, raw);
            let end = counted.finish();
            assert_eq!(
                counted.lines().has_bare_line_ending(),
                slow_bare(&raw) || raw.ends_with(b"\r")
            );
            assert_eq!(
                end.is_some(),
                !raw.is_empty() && !raw.ends_with(b"\r\n") && !raw.ends_with(b"\r")
            );
            assert_eq!(counted.lines().has_nul(), raw.contains(&0));
            assert_eq!(counted.lines().is_eight_bit(), !raw.is_ascii());
        });
}
