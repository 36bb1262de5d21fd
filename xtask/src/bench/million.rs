//! Many messages that wait for a destination that is down: what they cost in memory, how they slow the door,
//! and how long a relay that was killed takes to deliver again.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;
use tokio::time::Instant;

use super::cpu::Tree;
use super::relay::Running;
use super::sink::Sink;
use super::waypost::launch;

/// Messages whose rate is taken at the beginning and at the end.
const SAMPLE: u32 = 20_000;
/// Sessions that submit at once.
const SESSIONS: u32 = 20;
/// Fewer than a relay takes in one session by default.
const PER_CONNECTION: u32 = 500;
/// How long a delivery may take after the start.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long the dead destination is watched after the start.
const STORM: Duration = Duration::from_secs(90);
/// The message that was tried before the relay was killed, and the one that comes after its start.
const WAITING: &str = "<waiting@bench.example>";
const FRESH: &str = "<fresh@bench.example>";
/// By then it is due: the curve of its class says two seconds.
const DUE: Duration = Duration::from_secs(5);

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
    /// Octets of the spool's files: log, index, and the digests in the log's directory.
    log_bytes: u64,
    index_bytes: u64,
    digest_bytes: u64,
    /// Seconds from the start after `kill -9` to the greeting, to the delivery of a message that had waited
    /// and is due, and to that of a fresh one.
    greeting_seconds: f64,
    waiting_seconds: f64,
    fresh_seconds: f64,
    /// Seconds of processor time until then.
    cpu_seconds: f64,
    resident_after_start_bytes: u64,
    peak_after_start_bytes: u64,
    /// Attempts at the dead destination, from the start on.
    storm: Storm,
}

/// How attempts at a dead destination are spread.
#[derive(Debug, Serialize)]
struct Storm {
    seconds: u64,
    attempts: usize,
    mean_per_second: f64,
    peak_per_second: usize,
}

/// Fills the spool of a relay with `messages` for a destination that is down, kills it, starts it again.
pub(crate) fn run(
    home: &Path,
    program: &Path,
    ports: [u16; 2],
    sink: &Sink,
    messages: u32,
) -> anyhow::Result<Outcome> {
    let [port, later] = ports;
    let dead = Dead::start()?;
    let configuration = configure(home, port, [dead.port, later, sink.address.port()])?;
    let running = launch(program, &configuration, port)?;
    submit_one(port, "soon@bench.example", "to@soon.bench.example", WAITING)?;
    let (empty_per_second, full_per_second) = fill(&running, messages)?;
    let (resident_bytes, anonymous_bytes) = memory(running.id())?;
    running.kill()?;
    let spool = home.join("spool");
    let digest_bytes = octets(&spool.join("log"), Some("digest"))?;
    let log_bytes = octets(&spool.join("log"), None)? - digest_bytes;
    let index_bytes = octets(&spool.join("index"), None)?;
    thread::sleep(DUE);
    // Where the waiting message goes is well now.
    let second = Sink::start_at(later)?;
    dead.clear();
    let began = Instant::now();
    let running = launch(program, &configuration, port)?;
    let greeting_seconds = began.elapsed().as_secs_f64();
    submit_one(port, "from@bench.example", "to@live.bench.example", FRESH)?;
    let fresh_seconds = arrived(sink, FRESH, began)?;
    let waiting_seconds = arrived(&second, WAITING, began)?;
    let cpu_seconds = running.tree().cpu()?.as_secs_f64();
    let Tree(pid) = running.tree();
    let (resident_after_start_bytes, _) = memory(pid)?;
    let peak_after_start_bytes = status(pid, "VmHWM:")?;
    while began.elapsed() < STORM {
        sink.go_on()?;
        thread::sleep(Duration::from_millis(100));
    }
    let storm = dead.storm(began);
    running.stop()?;
    Ok(Outcome {
        messages,
        empty_per_second,
        full_per_second,
        resident_bytes,
        anonymous_bytes,
        log_bytes,
        index_bytes,
        digest_bytes,
        greeting_seconds,
        waiting_seconds,
        fresh_seconds,
        cpu_seconds,
        resident_after_start_bytes,
        peak_after_start_bytes,
        storm,
    })
}

/// Answers the rate at which the first messages were taken, and the last.
fn fill(running: &Running, messages: u32) -> anyhow::Result<(f64, f64)> {
    let sample = SAMPLE.min(messages / 4).max(SESSIONS);
    let empty_per_second = submit(running, sample)?;
    let mut sent = sample;
    while sent + 2 * sample <= messages {
        let rate = submit(running, sample)?;
        sent += sample;
        eprintln!("  {sent} wait, {rate:.0}/s");
    }
    Ok((empty_per_second, submit(running, messages - sent)?))
}

/// Seconds from `began` until the sink has a message.
fn arrived(sink: &Sink, id: &str, began: Instant) -> anyhow::Result<f64> {
    loop {
        if let Some(at) = sink.arrival(id) {
            return Ok((at - began).as_secs_f64());
        }
        sink.go_on()?;
        ensure!(began.elapsed() < PATIENCE, "{id} is not delivered after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

impl Outcome {
    /// The numbers beside their aims.
    pub(crate) fn print(&self) {
        let mb = |bytes: u64| bytes / 1_000_000;
        println!("{} messages wait for a destination that is down", self.messages);
        println!(
            "enqueue rate: {:.0}/s empty, {:.0}/s full: {:.2} (aim: at least 0.50)",
            self.empty_per_second,
            self.full_per_second,
            self.full_per_second / self.empty_per_second
        );
        println!(
            "memory: {} MB resident, {} MB of it anonymous; {} MB after the start, {} MB at most on the way there \
             (aim for a million: at most 500 MB)",
            mb(self.resident_bytes),
            mb(self.anonymous_bytes),
            mb(self.resident_after_start_bytes),
            mb(self.peak_after_start_bytes),
        );
        println!(
            "on disk: log {} MB, digests {:.1} MB, index {} MB",
            mb(self.log_bytes),
            self.digest_bytes as f64 / 1e6,
            mb(self.index_bytes)
        );
        println!(
            "after kill -9: {:.1} s to the greeting, {:.1} s until a message that waited is delivered, {:.1} s until a \
             fresh one is; {:.1} s of processor time (aim for a million: at most 10 s)",
            self.greeting_seconds, self.waiting_seconds, self.fresh_seconds, self.cpu_seconds
        );
        println!(
            "attempts at the dead destination in the first {} s: {}, {:.2} a second, {} in the busiest second",
            self.storm.seconds,
            self.storm.attempts,
            self.storm.mean_per_second,
            self.storm.peak_per_second
        );
    }

    /// The numbers for machines.
    pub(crate) fn write_json(&self, to: &Path) -> anyhow::Result<()> {
        Ok(fs::write(to, serde_json::to_vec_pretty(self)?)?)
    }
}

/// A destination that hangs up at once, and remembers when it was tried.
struct Dead {
    port: u16,
    attempts: Arc<Mutex<Vec<Instant>>>,
}

impl Dead {
    fn start() -> anyhow::Result<Dead> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let attempts = Arc::<Mutex<Vec<Instant>>>::default();
        let kept = attempts.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                drop(stream);
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            }
        });
        Ok(Dead { port, attempts })
    }

    fn clear(&self) {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn storm(&self, began: Instant) -> Storm {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = began.elapsed().as_secs();
        let mut each = vec![0; seconds as usize + 1];
        for at in attempts.iter() {
            if let Some(count) = each.get_mut((*at - began).as_secs() as usize) {
                *count += 1;
            }
        }
        let peak_per_second = each.into_iter().max().unwrap_or(0);
        let mean_per_second = attempts.len() as f64 / seconds.max(1) as f64;
        Storm { seconds, attempts: attempts.len(), mean_per_second, peak_per_second }
    }
}

/// Everything as it is by default, but for one sender whose mail is tried again soon.
fn configure(home: &Path, port: u16, hosts: [u16; 3]) -> anyhow::Result<PathBuf> {
    let [dead, later, sink] = hosts;
    let (spool, socket) = (home.join("spool"), home.join("admin.sock"));
    let route = |domain: &str, port: u16| {
        format!(
            "[[route]]\ndomains = [\"{domain}\"]\nvia = [{{ host = \"127.0.0.1\", port = {port} }}]\ntls = \"never\"\n"
        )
    };
    let text = format!(
        r#"hostname = "relay.bench.example"
[spool]
path = {spool:?}
[admin]
socket = {socket:?}
[log]
level = "warn"
[[listener]]
kind = "relay"
address = "127.0.0.1:{port}"
[relay]
networks = ["127.0.0.0/8"]
[[queue.class]]
name = "soon"
match = "sender:soon@bench.example"
first-retry = "2s"
max-retry = "2s"
{}{}{}"#,
        route("dead.bench.example", dead),
        route("soon.bench.example", later),
        route("*", sink)
    );
    let file = home.join("waypost.toml");
    fs::write(&file, text)?;
    Ok(file)
}

/// Octets of the files in a directory, of those with this ending alone when one is given.
fn octets(dir: &Path, end: Option<&str>) -> anyhow::Result<u64> {
    let mut octets = 0;
    for file in fs::read_dir(dir)? {
        let file = file?;
        let path = file.path();
        if end.is_none_or(|end| path.extension().is_some_and(|found| found == end)) {
            octets += file.metadata()?.len();
        }
    }
    Ok(octets)
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
        message(&mut stream, ("from@bench.example", &to), "Subject: waiting\r\n\r\nx\r\n")?;
    }
    Ok(())
}

fn submit_one(port: u16, from: &str, to: &str, id: &str) -> anyhow::Result<()> {
    let text = format!("Subject: one\r\nMessage-ID: {id}\r\n\r\nx\r\n");
    message(&mut connect(port)?, (from, to), &text)
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

fn message(
    stream: &mut BufReader<TcpStream>,
    (from, to): (&str, &str),
    text: &str,
) -> anyhow::Result<()> {
    let envelope = format!("MAIL FROM:<{from}>\r\nRCPT TO:<{to}>\r\nDATA\r\n");
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
    Ok((status(pid, "VmRSS:")?, status(pid, "RssAnon:")?))
}

/// A size in the status of a process, in octets.
fn status(pid: u32, name: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).with_context(|| format!("no {name} in its status"))
}
