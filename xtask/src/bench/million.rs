//! Many messages that wait for a destination that is down: what they cost in memory, how they slow the door,
//! and how long a relay that was killed takes to deliver again.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;
use tokio::time::Instant;

use super::relay::{Relay, Running};
use super::sink::Sink;
use super::waypost::Waypost;

/// Messages whose rate is taken at the beginning and at the end.
const SAMPLE: u32 = 20_000;
/// Sessions that submit at once.
const SESSIONS: u32 = 20;
/// Fewer than a relay takes in one session by default.
const PER_CONNECTION: u32 = 500;
/// How long a delivery may take after the start.
const PATIENCE: Duration = Duration::from_secs(600);

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    messages: u32,
    /// Messages accepted in a second with an empty queue, and with a full one.
    empty_per_second: f64,
    full_per_second: f64,
    /// Octets of memory: all, and those that no file is behind.
    resident_bytes: u64,
    anonymous_bytes: u64,
    /// Seconds from the start after `kill -9` to the greeting, and to the delivery of a fresh message.
    greeting_seconds: f64,
    delivery_seconds: f64,
    resident_after_start_bytes: u64,
}

/// Fills the spool of a relay with `messages` for a destination that is down, kills it, starts it again.
pub(crate) fn run(waypost: &Waypost, sink: &Sink, messages: u32) -> anyhow::Result<Outcome> {
    let running = waypost.start(None)?;
    let sample = SAMPLE.min(messages / 4).max(SESSIONS);
    let empty_per_second = submit(&running, sample)?;
    let mut sent = sample;
    while sent + 2 * sample <= messages {
        let rate = submit(&running, sample)?;
        sent += sample;
        eprintln!("  {sent} wait, {rate:.0}/s");
    }
    let full_per_second = submit(&running, messages - sent)?;
    let (resident_bytes, anonymous_bytes) = memory(running.id())?;
    running.kill()?;
    let began = Instant::now();
    let running = waypost.start(None)?;
    let greeting_seconds = began.elapsed().as_secs_f64();
    let id = "<fresh@bench.example>";
    submit_one(running.port, "to@live.bench.example", id)?;
    while sink.arrival(id).is_none() {
        sink.go_on()?;
        ensure!(began.elapsed() < PATIENCE, "nothing is delivered after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
    let delivery_seconds = began.elapsed().as_secs_f64();
    let (resident_after_start_bytes, _) = memory(running.id())?;
    running.stop()?;
    Ok(Outcome {
        messages,
        empty_per_second,
        full_per_second,
        resident_bytes,
        anonymous_bytes,
        greeting_seconds,
        delivery_seconds,
        resident_after_start_bytes,
    })
}

impl Outcome {
    /// The numbers beside their aims.
    pub(crate) fn print(&self) {
        let mib = |bytes: u64| bytes / 1024 / 1024;
        println!("{} messages wait for a destination that is down", self.messages);
        println!(
            "enqueue rate: {:.0}/s empty, {:.0}/s full: {:.2} (aim: at least 0.50)",
            self.empty_per_second,
            self.full_per_second,
            self.full_per_second / self.empty_per_second
        );
        println!(
            "memory: {} MiB resident, {} MiB anonymous; {} MiB after the start (aim for a million: at most 500 MB)",
            mib(self.resident_bytes),
            mib(self.anonymous_bytes),
            mib(self.resident_after_start_bytes)
        );
        println!(
            "after kill -9: {:.1} s to the greeting, {:.1} s to a delivery (aim for a million: at most 10 s)",
            self.greeting_seconds, self.delivery_seconds
        );
    }

    /// The numbers for machines.
    pub(crate) fn write_json(&self, to: &Path) -> anyhow::Result<()> {
        Ok(fs::write(to, serde_json::to_vec_pretty(self)?)?)
    }
}

/// Submits so many in several sessions; answers how many a second.
fn submit(running: &Running, messages: u32) -> anyhow::Result<f64> {
    let (port, each) = (running.port, messages.div_ceil(SESSIONS));
    let began = Instant::now();
    let sessions: Vec<_> =
        (0..SESSIONS).map(|_| thread::spawn(move || session(port, each))).collect();
    for session in sessions {
        session.join().map_err(|_| anyhow::anyhow!("a session panicked"))??;
    }
    Ok(f64::from(each * SESSIONS) / began.elapsed().as_secs_f64())
}

fn session(port: u16, messages: u32) -> anyhow::Result<()> {
    let mut stream = connect(port)?;
    for number in 0..messages {
        if number % PER_CONNECTION == PER_CONNECTION - 1 {
            stream = connect(port)?;
        }
        let to = format!("to{number}@dead.bench.example");
        message(&mut stream, &to, "Subject: waiting\r\n\r\nx\r\n")?;
    }
    Ok(())
}

fn submit_one(port: u16, to: &str, id: &str) -> anyhow::Result<()> {
    message(&mut connect(port)?, to, &format!("Subject: fresh\r\nMessage-ID: {id}\r\n\r\nx\r\n"))
}

fn connect(port: u16) -> anyhow::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut stream = BufReader::new(stream);
    expect(&mut stream, "220")?;
    stream.get_mut().write_all(b"EHLO client.bench.example\r\n")?;
    expect(&mut stream, "250")?;
    Ok(stream)
}

fn message(stream: &mut BufReader<TcpStream>, to: &str, text: &str) -> anyhow::Result<()> {
    let envelope = format!("MAIL FROM:<from@bench.example>\r\nRCPT TO:<{to}>\r\nDATA\r\n");
    stream.get_mut().write_all(envelope.as_bytes())?;
    for code in ["250", "250", "354"] {
        expect(stream, code)?;
    }
    stream.get_mut().write_all(format!("{text}.\r\n").as_bytes())?;
    expect(stream, "250")
}

fn expect(stream: &mut BufReader<TcpStream>, code: &str) -> anyhow::Result<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        ensure!(line.starts_with(code), "expected {code}, got {line:?}");
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}

/// Resident octets of a process, and those of them that no file is behind.
fn memory(pid: u32) -> anyhow::Result<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).with_context(|| format!("no {name} in its status"))
    };
    Ok((value("VmRSS:")?, value("RssAnon:")?))
}
