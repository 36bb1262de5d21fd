//! The client conversation against servers that say anything at all.
//!
//! Each target runs for two seconds, or for `WAYPOST_FUZZ_SECONDS`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test by panicking"
)]

use std::time::Duration;

use bolero::{TypeGenerator, check};
use waypost_smtp::client::{
    Addressee, Credentials, Letter, Session, SessionConfig, SessionStep, StartTls, Transaction,
    TransactionStep,
};
use waypost_smtp::{
    BodyType, Domain, Extensions, Mailbox, Phase, Reply, ReplyError, ReplyParser, ReversePath,
    Stuffer,
};

fn time() -> Duration {
    let seconds = std::env::var("WAYPOST_FUZZ_SECONDS").ok();
    Duration::from_secs_f64(seconds.map_or(2.0, |seconds| seconds.parse().unwrap()))
}

/// Speech that is likely to get somewhere, mixed with any bytes.
#[derive(Debug, Clone, TypeGenerator)]
enum Said {
    Yes,
    GoOn,
    Line(u8, u8, bool),
    Bytes(Vec<u8>),
}

impl Said {
    fn write(&self, out: &mut Vec<u8>) {
        const CODES: [&str; 12] =
            ["220", "250", "250", "250", "354", "235", "334", "421", "450", "550", "502", "500"];
        const TEXTS: [&str; 10] = [
            "ok",
            "5.1.1 no",
            "2.0.0 yes",
            "STARTTLS",
            "AUTH PLAIN",
            "AUTH SCRAM-SHA-256",
            "AUTH=LOGIN",
            "SIZE 10",
            "\u{fc}\0\r",
            "PIPELINING",
        ];
        match self {
            Said::Yes => out.extend_from_slice(b"250 2.0.0 ok\r\n"),
            Said::GoOn => out.extend_from_slice(b"354 go on\r\n"),
            Said::Line(code, text, last) => {
                let code = CODES[usize::from(*code) % CODES.len()];
                let text = TEXTS[usize::from(*text) % TEXTS.len()];
                let separator = if *last { ' ' } else { '-' };
                out.extend_from_slice(format!("{code}{separator}{text}\r\n").as_bytes());
            }
            Said::Bytes(bytes) => out.extend_from_slice(bytes),
        }
    }

    fn all(said: &[Said]) -> Vec<u8> {
        let mut out = Vec::new();
        said.iter().for_each(|said| said.write(&mut out));
        out
    }
}

#[test]
fn replies_do_not_depend_on_how_bytes_are_cut() {
    check!()
        .with_test_time(time())
        .with_iterations(usize::MAX)
        .with_type::<(Vec<Said>, u8)>()
        .for_each(|(said, chunk)| {
            let bytes = Said::all(said);
            let whole = replies(&bytes, bytes.len().max(1));
            assert_eq!(replies(&bytes, usize::from(*chunk).max(1)), whole);
            for reply in whole.0 {
                assert!(!reply.text.contains(['\r', '\0']));
                assert!(!reply.text.lines().any(|line| line.chars().any(char::is_control)));
            }
        });
}

fn replies(bytes: &[u8], chunk: usize) -> (Vec<Reply>, Option<ReplyError>) {
    let mut parser = ReplyParser::new();
    let mut replies = Vec::new();
    for piece in bytes.chunks(chunk) {
        parser.push(piece);
        loop {
            match parser.pull() {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(error) => return (replies, Some(error)),
            }
        }
    }
    (replies, None)
}

#[derive(Debug, Clone, TypeGenerator)]
struct Hop {
    pipelining: bool,
    binary: bool,
    recipients: u8,
    local: String,
    before_body: Vec<Said>,
    after_body: Vec<Said>,
    /// Whether the body is sent when it is asked for.
    sends_body: bool,
    chunk: u8,
}

#[test]
fn no_server_confuses_a_transaction() {
    check!()
        .with_test_time(time())
        .with_iterations(usize::MAX)
        .with_type::<Hop>()
        .for_each(transact);
}

fn transact(hop: &Hop) {
    let domain = Domain::parse("example.net").unwrap();
    let odd = Mailbox::new(hop.local.clone(), domain);
    let recipients = usize::from(hop.recipients % 5);
    let sender = odd.clone().map_or(ReversePath::Null, ReversePath::Mailbox);
    let addressees = odd.into_iter().cycle().take(recipients).map(Addressee::from).collect();
    let body = if hop.binary { BodyType::BinaryMime } else { BodyType::SevenBit };
    let letter = Letter { body, ..Letter::new(sender, addressees, 10) };
    let recipients = letter.recipients.len();
    let extensions = Extensions {
        pipelining: hop.pipelining,
        smtputf8: true,
        chunking: true,
        binary_mime: true,
        dsn: true,
        ..Extensions::none()
    };
    let mut transaction = Transaction::new(letter, &extensions).unwrap();
    let mut body_sent = false;
    let mut output = transaction.take_output();
    let before = Said::all(&hop.before_body);
    let after = Said::all(&hop.after_body);
    let mut pieces = before.chunks(usize::from(hop.chunk).max(1));
    let mut rest = after.chunks(usize::from(hop.chunk).max(1));
    loop {
        let step = transaction.step();
        output.extend(transaction.take_output());
        match step {
            TransactionStep::SendBody if hop.sends_body => {
                transaction.body_sent();
                body_sent = true;
            }
            TransactionStep::SendBody | TransactionStep::NeedInput => {
                let piece = if body_sent { rest.next() } else { pieces.next() };
                let Some(piece) = piece else { break };
                transaction.push(piece);
            }
            TransactionStep::Done(result) => {
                assert_eq!(result.recipients.len(), recipients);
                for result in result.recipients {
                    let delivered = result.reply.is_positive();
                    assert!(!delivered || (body_sent && result.phase == Phase::Eod));
                }
                break;
            }
            TransactionStep::Failed(_) => break,
        }
    }
    for result in transaction.lost().into_iter().flatten() {
        assert!(!result.reply.is_positive() || body_sent);
    }
    assert_is_commands(&output, recipients);
}

/// No address can smuggle in a command.
fn assert_is_commands(output: &[u8], recipients: usize) {
    let output = std::str::from_utf8(output).unwrap();
    assert_eq!(output.matches(['\r', '\n']).count(), 2 * output.matches("\r\n").count());
    assert!(output.is_empty() || output.ends_with("\r\n"));
    let mut rcpts = 0;
    for line in output.split_terminator("\r\n") {
        match line.split(':').next().unwrap() {
            "RCPT TO" => rcpts += 1,
            "MAIL FROM" | "DATA" | "." | "BDAT 10 LAST" => {}
            other => panic!("{other} is no command of a transaction"),
        }
    }
    assert!(rcpts <= recipients);
}

#[derive(Debug, Clone, TypeGenerator)]
struct Opening {
    tls: u8,
    login: bool,
    said: Vec<Said>,
    chunk: u8,
}

#[test]
fn no_server_confuses_a_session() {
    check!()
        .with_test_time(time())
        .with_iterations(usize::MAX)
        .with_type::<Opening>()
        .for_each(open);
}

fn open(opening: &Opening) {
    let modes = [StartTls::Never, StartTls::IfOffered, StartTls::Required, StartTls::Active];
    let tls = modes[usize::from(opening.tls % 4)];
    let mut session = Session::new(SessionConfig {
        lmtp: false,
        ehlo_name: Domain::parse("relay.example").unwrap(),
        tls,
        credentials: opening.login.then(|| Credentials::new("relay", "geheim").unwrap()),
        allow_plaintext_auth: false,
        nonce: [7; 18],
    });
    let mut encrypted = tls == StartTls::Active;
    let bytes = Said::all(&opening.said);
    let mut pieces = bytes.chunks(usize::from(opening.chunk).max(1));
    loop {
        let step = session.step();
        let output = String::from_utf8(session.take_output()).unwrap();
        assert!(encrypted || !output.contains("AUTH PLAIN") && !output.contains("AUTH LOGIN"));
        match step {
            SessionStep::NeedInput => {
                let Some(piece) = pieces.next() else { return };
                session.push(piece);
            }
            SessionStep::Upgrade => {
                assert!(!encrypted);
                encrypted = true;
                session.upgraded();
            }
            SessionStep::Ready => {
                assert!(encrypted || tls != StartTls::Required);
                return;
            }
            SessionStep::Failed(_) => return,
        }
    }
}

/// Octets that matter to dot-stuffing, mixed with others.
#[derive(Debug, Clone, TypeGenerator)]
enum Piece {
    Dot,
    Cr,
    Lf,
    CrLf,
    Bytes(Vec<u8>),
}

#[test]
fn what_is_stuffed_comes_out_canonical() {
    let input = check!().with_test_time(time()).with_iterations(usize::MAX);
    input.with_type::<(Vec<Piece>, u8)>().for_each(|(pieces, chunk)| {
        let message: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| match piece {
                Piece::Dot => b".".to_vec(),
                Piece::Cr => b"\r".to_vec(),
                Piece::Lf => b"\n".to_vec(),
                Piece::CrLf => b"\r\n".to_vec(),
                Piece::Bytes(bytes) => bytes.clone(),
            })
            .collect();
        let mut stuffer = Stuffer::new();
        let mut wire = Vec::new();
        message.chunks(usize::from(*chunk).max(1)).for_each(|p| stuffer.encode(p, &mut wire));
        stuffer.finish(&mut wire);
        assert_eq!(received(&wire), canonical(&message));
    });
}

/// What a strict receiver gets: lines without CRLF, up to the lone dot, which must be the end.
fn received(wire: &[u8]) -> Vec<Vec<u8>> {
    let text = wire.strip_suffix(b"\r\n").expect("the last line has an end");
    let mut lines = vec![Vec::new()];
    let mut octets = text.iter().peekable();
    while let Some(octet) = octets.next() {
        match octet {
            b'\r' => {
                octets.next_if_eq(&&b'\n').expect("no bare CR");
                lines.push(Vec::new());
            }
            b'\n' => panic!("a bare LF"),
            _ => lines.last_mut().unwrap().push(*octet),
        }
    }
    assert_eq!(lines.pop().as_deref(), Some(b".".as_slice()));
    for line in &mut lines {
        assert_ne!(line, b".", "an end before the end");
        if line.first() == Some(&b'.') {
            line.remove(0);
        }
    }
    lines
}

fn canonical(message: &[u8]) -> Vec<Vec<u8>> {
    let text =
        String::from_utf8(message.iter().map(|b| if *b < 128 { *b } else { b'x' }).collect());
    let ends = text.unwrap().replace("\r\n", "\n").replace('\r', "\n");
    let mut at = 0;
    // Cut the original octets where the ends of the stand-in are.
    let mut lines = Vec::new();
    for line in ends.split_terminator('\n') {
        lines.push(message[at..at + line.len()].to_vec());
        at += line.len();
        at += if message[at..].starts_with(b"\r\n") { 2 } else { 1 };
    }
    lines
}
