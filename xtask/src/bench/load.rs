//! What is asked of a relay: many messages by Postfix's smtp-source, or one at a time by us.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use tokio::time::Instant;

use super::sink::Sink;

const SMTP_SOURCE: &str = "/usr/sbin/smtp-source";
const SOURCE_PATIENCE: Duration = Duration::from_secs(300);
const ARRIVAL_PATIENCE: Duration = Duration::from_secs(10);

/// One kind of load.
#[derive(Clone, Copy, Serialize, PartialEq, Eq, Debug)]
pub(crate) struct Case {
    pub(crate) sessions: u32,
    /// Many messages over one connection, or a connection for each.
    pub(crate) reuse: bool,
    /// Bytes of body.
    pub(crate) size: u32,
    pub(crate) messages: u32,
}

pub(crate) const SMALL: u32 = 4 * 1024;
pub(crate) const LARGE: u32 = 100 * 1024;
pub(crate) const MEBIBYTE: u32 = 1024 * 1024;

/// The case our aims are stated for.
pub(crate) const HEADLINE: Case = Case { sessions: 20, reuse: true, size: SMALL, messages: 4000 };

/// Every case of one pass; a quick one sends a tenth.
pub(crate) fn cases(quick: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for size in [SMALL, LARGE] {
        for reuse in [true, false] {
            for sessions in [1, 20, 100] {
                cases.push(Case::new(sessions, reuse, size, quick));
            }
        }
    }
    cases.push(Case::new(20, true, MEBIBYTE, quick));
    cases
}

impl Case {
    pub(crate) fn new(sessions: u32, reuse: bool, size: u32, quick: bool) -> Self {
        let messages = match (sessions, size) {
            (1, SMALL) => 1000,
            (_, SMALL) => 4000,
            (_, MEBIBYTE) => 200,
            (1, _) => 400,
            _ => 1200,
        };
        let messages = if quick { messages / 10 } else { messages };
        Self { sessions, reuse, size, messages: messages.max(sessions) }
    }

    /// The same case with just enough messages to wake every process of the relay.
    pub(crate) fn warm_up(self) -> Self {
        Self { messages: (self.sessions * 2).max(20), ..self }
    }

    /// Those that relays other than Waypost and Postfix are measured with.
    pub(crate) fn is_for_all(self) -> bool {
        self.is_headline() || self.size == MEBIBYTE
    }

    pub(crate) fn is_headline(self) -> bool {
        Self { messages: 0, ..self } == Self { messages: 0, ..HEADLINE }
    }

    /// Sends it all; returns when the last message was accepted.
    pub(crate) fn send(self, port: u16) -> anyhow::Result<Instant> {
        let mut command = Command::new(SMTP_SOURCE);
        command
            .args(["-s", &self.sessions.to_string()])
            .args(["-m", &self.messages.to_string()])
            .args(["-l", &self.size.to_string()])
            .args(["-C", "10", "-M", "client.bench.example"])
            .args(["-f", "from@bench.example", "-t", "to@sink.bench.example"]);
        if self.reuse {
            command.arg("-d");
        }
        let mut child = command
            .arg(format!("inet:127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .spawn()
            .context("smtp-source is not installed: cargo xtask setup")?;
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                ensure!(status.success(), "smtp-source: {status}");
                return Ok(Instant::now());
            }
            if began.elapsed() > SOURCE_PATIENCE {
                child.kill()?;
                child.wait()?;
                bail!("smtp-source is not done after {SOURCE_PATIENCE:?}");
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = if self.reuse { "many" } else { "one" };
        let (size, sessions) = (self.size / 1024, self.sessions);
        write!(f, "{size:>4} KiB ×{sessions:<3} {per:>4} per connection")
    }
}

/// A client that waits for its message to arrive before it sends another.
pub(crate) struct Patient {
    stream: BufReader<TcpStream>,
    sent: u32,
}

impl Patient {
    pub(crate) fn connect(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ARRIVAL_PATIENCE))?;
        let mut patient = Self { stream: BufReader::new(stream), sent: 0 };
        patient.expect("220")?;
        patient.say("EHLO client.bench.example\r\n", "250")?;
        Ok(patient)
    }

    /// One message of 4 KiB; the time from the first byte of MAIL FROM to the sink holding it.
    pub(crate) fn submit(&mut self, sink: &Sink) -> anyhow::Result<Duration> {
        self.sent += 1;
        let id = format!("<latency-{}@bench.example>", self.sent);
        let line = "X".repeat(62) + "\r\n";
        let body = line.repeat(SMALL as usize / line.len());
        let message = format!("Subject: latency\r\nMessage-ID: {id}\r\n\r\n{body}.\r\n");
        let began = Instant::now();
        self.say("MAIL FROM:<from@bench.example>\r\n", "250")?;
        self.say("RCPT TO:<to@sink.bench.example>\r\n", "250")?;
        self.say("DATA\r\n", "354")?;
        self.say(&message, "250")?;
        while began.elapsed() < ARRIVAL_PATIENCE {
            if let Some(arrived) = sink.arrival(&id) {
                return Ok(arrived - began);
            }
            thread::sleep(Duration::from_millis(1));
        }
        bail!("message {id} was accepted and did not arrive")
    }

    fn say(&mut self, line: &str, code: &str) -> anyhow::Result<()> {
        self.stream.get_mut().write_all(line.as_bytes())?;
        self.expect(code)
    }

    /// Reads one reply whole and insists on its code.
    fn expect(&mut self, code: &str) -> anyhow::Result<()> {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            ensure!(line.starts_with(code), "expected {code}, got {line:?}");
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(());
            }
        }
    }
}
