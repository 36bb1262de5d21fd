//! One connection to the sink: SMTP as far as relays need it, and no further.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;

use super::places::Place;
use super::tally::Tally;

/// What all connections share.
pub(crate) struct Habits {
    pub(crate) tally: Mutex<Tally>,
    /// Whether [`Place::Slow`] takes its time.
    pub(crate) slow: AtomicBool,
    pub(crate) acceptor: TlsAcceptor,
}

/// How long a message takes where things are slow.
const SLOWNESS: Duration = Duration::from_millis(500);

const END_OF_DATA: &[u8] = b"\r\n.\r\n";
const GREETING: &[u8] = b"220 sink.bench.example ESMTP\r\n";
const EHLO_REPLY: &[u8] =
    b"250-sink.bench.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-CHUNKING\r\n250 ENHANCEDSTATUSCODES\r\n";
const SECURE_EHLO_REPLY: &[u8] =
    b"250-sink.bench.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-CHUNKING\r\n250-STARTTLS\r\n250 ENHANCEDSTATUSCODES\r\n";
/// Recipients whose first attempt is put off.
const LATER: &[u8] = b"<later";

/// Speaks with one peer to its end.
pub(crate) async fn converse(
    mut stream: TcpStream,
    place: Place,
    habits: &Habits,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut session = Session::new(GREETING, place.is_secure());
    speak(&mut stream, place, habits, &mut session).await?;
    if !session.encrypts {
        return Ok(());
    }
    let mut stream = habits.acceptor.accept(stream).await?;
    speak(&mut stream, place, habits, &mut Session::new(b"", false)).await
}

async fn speak<S>(
    stream: &mut S,
    place: Place,
    habits: &Habits,
    session: &mut Session,
) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while !session.ended {
        stream.write_all(&session.output).await?;
        stream.flush().await?;
        session.output.clear();
        if stream.read_buf(&mut session.input).await? == 0 {
            return Ok(());
        }
        let taken = session.consume(&habits.tally);
        if place == Place::Slow && taken > 0 && habits.slow.load(Ordering::Relaxed) {
            sleep(SLOWNESS).await;
        }
    }
    stream.write_all(&session.output).await?;
    stream.flush().await
}

/// What comes next.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Awaits {
    #[default]
    Command,
    /// A message up to its dot.
    Data,
    /// So many octets of one.
    Chunk(Chunk),
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Chunk {
    octets: usize,
    last: bool,
}

/// What came and is not yet understood, and the replies not yet sent.
#[derive(Default)]
struct Session {
    input: Vec<u8>,
    output: Vec<u8>,
    awaits: Awaits,
    /// The chunks of this message that were followed by others.
    chunks: Vec<u8>,
    /// How much of `input` is known to hold no end of data.
    searched: usize,
    /// Recipients of this transaction that were taken.
    recipients: usize,
    ended: bool,
    offers_tls: bool,
    /// It ended with STARTTLS.
    encrypts: bool,
}

impl Session {
    fn new(greeting: &[u8], offers_tls: bool) -> Session {
        let mut session = Session { offers_tls, ..Session::default() };
        session.input.reserve(128 * 1024);
        session.output.extend(greeting);
        session
    }

    /// Answers all that is whole; how many messages were among it.
    fn consume(&mut self, tally: &Mutex<Tally>) -> usize {
        let (mut taken, mut messages) = (0, 0);
        while !self.ended {
            let (length, ended) = match self.awaits {
                Awaits::Command => (self.command(taken, tally), false),
                Awaits::Data => (self.message(taken, tally), true),
                Awaits::Chunk(chunk) => (self.chunk(taken, chunk, tally), chunk.last),
            };
            let Some(length) = length else { break };
            taken += length;
            messages += usize::from(ended);
        }
        self.input.drain(..taken);
        self.searched = self.searched.saturating_sub(taken);
        messages
    }

    /// One whole command line at `from`, answered; its length.
    fn command(&mut self, from: usize, tally: &Mutex<Tally>) -> Option<usize> {
        let rest = &self.input[from..];
        let end = memchr::memchr(b'\n', rest)?;
        let line = &rest[..end];
        let verb = line.get(..4).unwrap_or_default();
        let reply: &[u8] = match verb.to_ascii_uppercase().as_slice() {
            b"EHLO" if self.offers_tls => SECURE_EHLO_REPLY,
            b"EHLO" => EHLO_REPLY,
            b"HELO" => b"250 sink.bench.example\r\n",
            b"STAR" if self.offers_tls => {
                self.ended = true;
                self.encrypts = true;
                b"220 2.0.0 go on\r\n"
            }
            b"DATA" if self.recipients == 0 => b"503 5.5.1 to whom?\r\n",
            b"BDAT" => match chunk(line) {
                Some(chunk) => {
                    self.awaits = Awaits::Chunk(chunk);
                    b""
                }
                None => b"501 5.5.4 how much?\r\n",
            },
            b"DATA" => {
                self.awaits = Awaits::Data;
                self.searched = from + end + 1;
                b"354 go on\r\n"
            }
            b"QUIT" => {
                self.ended = true;
                b"221 2.0.0 bye\r\n"
            }
            b"RCPT" if is_put_off(line, tally) => b"451 4.2.1 later\r\n",
            b"RCPT" => {
                self.recipients += 1;
                b"250 2.0.0 ok\r\n"
            }
            b"MAIL" | b"RSET" => {
                self.recipients = 0;
                self.chunks.clear();
                b"250 2.0.0 ok\r\n"
            }
            b"NOOP" => b"250 2.0.0 ok\r\n",
            _ => b"500 5.5.1 what?\r\n",
        };
        self.output.extend(reply);
        Some(end + 1)
    }

    /// One whole message at `from`, counted and answered; its length.
    fn message(&mut self, from: usize, tally: &Mutex<Tally>) -> Option<usize> {
        let Some(end) = memchr::memmem::find(&self.input[self.searched..], END_OF_DATA) else {
            let unsure = self.input.len().saturating_sub(END_OF_DATA.len() - 1);
            self.searched = unsure.max(self.searched);
            return None;
        };
        let end = self.searched + end + END_OF_DATA.len();
        let now = Instant::now();
        let message = self.input[from..end].strip_suffix(b".\r\n").unwrap_or_default();
        tally.lock().unwrap_or_else(PoisonError::into_inner).count(message, now);
        self.awaits = Awaits::Command;
        self.recipients = 0;
        self.output.extend(b"250 2.0.0 kept\r\n");
        Some(end - from)
    }

    /// One whole chunk at `from`, answered, and counted when it is the last of its message; its length.
    fn chunk(&mut self, from: usize, chunk: Chunk, tally: &Mutex<Tally>) -> Option<usize> {
        let octets = self.input.get(from..from + chunk.octets)?;
        self.awaits = Awaits::Command;
        let reply: &[u8] = match (self.recipients, chunk.last) {
            (0, _) => b"503 5.5.1 to whom?\r\n",
            (_, false) => {
                self.chunks.extend(octets);
                b"250 2.0.0 go on\r\n"
            }
            (_, true) => {
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                if self.chunks.is_empty() {
                    tally.count(octets, Instant::now());
                } else {
                    self.chunks.extend(octets);
                    tally.count(&self.chunks, Instant::now());
                    self.chunks.clear();
                }
                self.recipients = 0;
                b"250 2.0.0 kept\r\n"
            }
        };
        self.output.extend(reply);
        Some(chunk.octets)
    }
}

/// `BDAT 1234 LAST` (RFC 3030 §2).
fn chunk(line: &[u8]) -> Option<Chunk> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace().skip(1);
    let octets = words.next()?.parse().ok()?;
    Some(Chunk { octets, last: words.next().is_some_and(|word| word.eq_ignore_ascii_case("LAST")) })
}

/// True for the first attempt at a recipient that is to come later.
fn is_put_off(line: &[u8], tally: &Mutex<Tally>) -> bool {
    memchr::memmem::find(line, LATER)
        .is_some_and(|at| tally.lock().unwrap_or_else(PoisonError::into_inner).is_new(&line[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tally::Body;

    const TALK: &[u8] = b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n\
        Received: x\r\nMessage-Id: <1@a>\r\n\r\nhello\r\n.\r\n\
        MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nMessage-ID: <1@a>\r\n\r\nhallo\r\n.\r\nQUIT\r\n";
    const CHUNKS: &[u8] = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 28 LAST\r\n\
        Message-Id: <1@a>\r\n\r\nhello\r\n\
        MAIL FROM:<a@b>\r\nBDAT 7\r\nhello\r\n\
        RCPT TO:<c@d>\r\nBDAT 24\r\nMessage-Id: <2@a>\r\n\r\nhelBDAT 4 last\r\nlo\r\n\
        MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nMessage-ID: <3@a>\r\n\r\nhello\r\n.\r\nQUIT\r\n";

    /// What came of a talk whose octets came in two parts.
    fn told(talk: &[u8], cut: usize) -> (Session, Tally, usize) {
        let tally = Mutex::new(Tally::default());
        let mut session = Session::default();
        let mut messages = 0;
        for part in [&talk[..cut], &talk[cut..]] {
            session.input.extend(part);
            messages += session.consume(&tally);
        }
        (session, tally.into_inner().unwrap(), messages)
    }

    #[test]
    fn counts_the_same_at_every_split() {
        for cut in 1..TALK.len() {
            let (session, tally, messages) = told(TALK, cut);
            assert!(session.ended && !session.encrypts, "cut at {cut}");
            assert_eq!((messages, tally.times("<1@a>")), (2, 2), "cut at {cut}");
            assert!(tally.body().unwrap_err().to_string().contains("differ"), "cut at {cut}");
        }
    }

    #[test]
    fn a_message_in_chunks_is_that_message() {
        for cut in 1..CHUNKS.len() {
            let (session, tally, messages) = told(CHUNKS, cut);
            assert!(session.ended, "cut at {cut}");
            let counted = ["<1@a>", "<2@a>", "<3@a>"].map(|id| tally.times(id));
            assert_eq!((messages, counted), (3, [1; 3]), "cut at {cut}");
            assert_eq!(tally.body().unwrap(), Body::of_lines("hello\r\n"), "cut at {cut}");
            let replies = String::from_utf8(session.output).unwrap();
            assert!(replies.contains("503"), "a chunk for nobody: {replies}");
        }
    }

    #[test]
    fn some_are_put_off_once() {
        let tally = Mutex::new(Tally::default());
        let mut session = Session::new(b"", true);
        session.input.extend(b"MAIL FROM:<a@b>\r\nRCPT TO:<later1@d>\r\nDATA\r\n".repeat(2));
        session.input.extend(b"\r\n.\r\nSTARTTLS\r\n");
        session.consume(&tally);
        let replies = String::from_utf8(session.output).unwrap();
        let codes: Vec<&str> = replies.lines().map(|line| &line[..3]).collect();
        assert_eq!(codes, ["250", "451", "503", "250", "250", "354", "250", "220"]);
        assert!(session.encrypts);
    }
}
