//! Where the mail goes: an SMTP server that keeps nothing but a tally of what arrived. It costs
//! as little as it can, because it shares the machine with the relay it measures.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

/// A running sink on loopback; it lives as long as the process.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    tally: Arc<Mutex<Tally>>,
    interrupted: Arc<AtomicBool>,
}

/// What arrived since the last [`Sink::clear`].
#[derive(Default)]
pub(crate) struct Tally {
    /// Message-ID to the times it came and when it first did.
    messages: HashMap<Vec<u8>, Arrival>,
    /// How many bodies had this fingerprint.
    bodies: BTreeMap<Body, u64>,
    nameless: u64,
    last: Option<Instant>,
}

struct Arrival {
    times: u32,
    first: Instant,
}

/// Length and CRC-32C of what followed the header.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Body {
    length: usize,
    checksum: u32,
}

impl Sink {
    pub(crate) fn start() -> anyhow::Result<Self> {
        Self::start_at(0)
    }

    /// On this port of loopback; 0 for any.
    pub(crate) fn start_at(port: u16) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let tally = Arc::new(Mutex::new(Tally::default()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let kept = Arc::clone(&tally);
        let interrupted = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&interrupted);
        thread::Builder::new().name("sink".to_owned()).spawn(move || {
            let ended = runtime.block_on(async {
                tokio::spawn(interruption(asked));
                listen(listener, kept).await
            });
            eprintln!("the sink stopped listening: {ended:?}");
        })?;
        Ok(Self { address, tally, interrupted })
    }

    /// Fails once somebody has asked the benchmark to end, so that what it started is ended too.
    pub(crate) fn go_on(&self) -> anyhow::Result<()> {
        ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }

    pub(crate) fn clear(&self) {
        *self.tally() = Tally::default();
    }

    /// Waits until `messages` different ones are here; returns when the last of them came.
    /// Fails when nothing has come for `patience`.
    pub(crate) fn wait(&self, messages: usize, patience: Duration) -> anyhow::Result<Instant> {
        let mut held = 0;
        let mut progress = Instant::now();
        loop {
            self.go_on()?;
            let tally = self.tally();
            if let Some(last) = tally.last
                && tally.messages.len() >= messages
            {
                return Ok(last);
            }
            if tally.messages.len() > held {
                held = tally.messages.len();
                progress = Instant::now();
            }
            drop(tally);
            if progress.elapsed() > patience {
                bail!("the sink holds {held} of {messages} messages and nothing comes any more");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// When the message of this id first came, if it did.
    pub(crate) fn arrival(&self, id: &str) -> Option<Instant> {
        self.tally().messages.get(id.as_bytes()).map(|arrival| arrival.first)
    }

    /// The one body all messages had.
    pub(crate) fn body(&self) -> anyhow::Result<Body> {
        let tally = self.tally();
        let mut bodies = tally.bodies.keys();
        match (bodies.next(), bodies.next()) {
            (Some(body), None) => Ok(*body),
            (None, _) => bail!("no message came"),
            _ => bail!("the messages differ in their bodies: {:?}", tally.bodies),
        }
    }

    /// Refuses a run in which anything was lost, doubled, changed or made up.
    pub(crate) fn audit(&self, messages: usize, body: Body) -> anyhow::Result<()> {
        let tally = self.tally();
        let doubled = tally.messages.values().filter(|a| a.times > 1).count();
        let same = tally.bodies.get(&body).copied().unwrap_or(0);
        let all: u64 = tally.bodies.values().sum();
        if tally.messages.len() == messages && doubled == 0 && tally.nameless == 0 && same == all {
            return Ok(());
        }
        bail!(
            "of {messages} messages the sink holds {}: {doubled} came twice, {} without Message-ID, {} with another body",
            tally.messages.len(),
            tally.nameless,
            all - same,
        )
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without this an interrupt would end us alone: Postfix has left our session.
async fn interruption(asked: Arc<AtomicBool>) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            interrupt = tokio::signal::ctrl_c() => interrupt?,
            _ = terminate.recv() => {}
        }
        asked.store(true, Ordering::Relaxed);
    }
}

async fn listen(listener: std::net::TcpListener, tally: Arc<Mutex<Tally>>) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await.context("accept")?;
        let tally = Arc::clone(&tally);
        // A peer that breaks off loses its own message, and the count shows it.
        tokio::spawn(async move { converse(stream, &tally).await.ok() });
    }
}

/// One connection: what came and is not yet understood, and the replies not yet sent.
#[derive(Default)]
struct Session {
    input: Vec<u8>,
    output: Vec<u8>,
    in_data: bool,
    /// How much of `input` is known to hold no end of data.
    searched: usize,
    ended: bool,
}

const END_OF_DATA: &[u8] = b"\r\n.\r\n";
const EHLO_REPLY: &[u8] =
    b"250-sink.bench.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n";

async fn converse(mut stream: TcpStream, tally: &Mutex<Tally>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut session = Session::default();
    session.input.reserve(128 * 1024);
    session.output.extend(b"220 sink.bench.example ESMTP\r\n");
    while !session.ended {
        stream.write_all(&session.output).await?;
        session.output.clear();
        if stream.read_buf(&mut session.input).await? == 0 {
            return Ok(());
        }
        session.consume(tally);
    }
    stream.write_all(&session.output).await
}

impl Session {
    fn consume(&mut self, tally: &Mutex<Tally>) {
        let mut taken = 0;
        while !self.ended {
            let length =
                if self.in_data { self.message(taken, tally) } else { self.command(taken) };
            match length {
                Some(length) => taken += length,
                None => break,
            }
        }
        self.input.drain(..taken);
        self.searched = self.searched.saturating_sub(taken);
    }

    /// One whole command line at `from`, answered; its length.
    fn command(&mut self, from: usize) -> Option<usize> {
        let rest = &self.input[from..];
        let end = memchr::memchr(b'\n', rest)?;
        let verb = rest[..end].get(..4).unwrap_or_default();
        let reply: &[u8] = match verb.to_ascii_uppercase().as_slice() {
            b"EHLO" => EHLO_REPLY,
            b"HELO" => b"250 sink.bench.example\r\n",
            b"DATA" => {
                self.in_data = true;
                self.searched = from + end + 1;
                b"354 go on\r\n"
            }
            b"QUIT" => {
                self.ended = true;
                b"221 2.0.0 bye\r\n"
            }
            b"MAIL" | b"RCPT" | b"RSET" | b"NOOP" => b"250 2.0.0 ok\r\n",
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
        tally.lock().unwrap_or_else(PoisonError::into_inner).count(&self.input[from..end], now);
        self.in_data = false;
        self.output.extend(b"250 2.0.0 kept\r\n");
        Some(end - from)
    }
}

impl Tally {
    fn count(&mut self, message: &[u8], now: Instant) {
        let header = memchr::memmem::find(message, b"\r\n\r\n").map_or(message.len(), |at| at + 4);
        let (header, body) = message.split_at(header);
        let body = Body { length: body.len(), checksum: crc32c::crc32c(body) };
        *self.bodies.entry(body).or_default() += 1;
        self.last = Some(now);
        match message_id(header) {
            Some(id) => {
                let arrival =
                    self.messages.entry(id.to_vec()).or_insert(Arrival { times: 0, first: now });
                arrival.times += 1;
            }
            None => self.nameless += 1,
        }
    }
}

fn message_id(header: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"message-id:";
    header.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then(|| value.trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TALK: &[u8] = b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n\
        Received: x\r\nMessage-Id: <1@a>\r\n\r\nhello\r\n.\r\n\
        MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nMessage-ID: <1@a>\r\n\r\nhallo\r\n.\r\nQUIT\r\n";

    #[test]
    fn counts_the_same_at_every_split() {
        for cut in 1..TALK.len() {
            let tally = Mutex::new(Tally::default());
            let mut session = Session::default();
            for part in [&TALK[..cut], &TALK[cut..]] {
                session.input.extend(part);
                session.consume(&tally);
            }
            let tally = tally.into_inner().unwrap();
            assert!(session.ended, "cut at {cut}");
            assert_eq!(tally.messages[b"<1@a>".as_slice()].times, 2, "cut at {cut}");
            assert_eq!(tally.bodies.len(), 2, "cut at {cut}");
            assert_eq!(tally.nameless, 0, "cut at {cut}");
        }
    }
}
