//! What is measured: a relay that can be started, talked to, and ended by its process id.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use super::cpu::Tree;

/// A spool with a million messages may take longer than an empty one.
const START_PATIENCE: Duration = Duration::from_secs(300);
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// A mail relay set up to send everything to the sink.
pub(crate) trait Relay {
    fn name(&self) -> &str;

    /// What was set, for the report.
    fn settings(&self) -> Vec<String>;

    /// Starts it, with every sync of the disk noted in `trace` if given.
    fn start(&self, trace: Option<&Path>) -> anyhow::Result<Running>;

    /// How many groups its spool has committed since it started, if it commits in groups.
    fn groups(&self) -> anyhow::Result<Option<u64>>;
}

/// A relay that answers on its port. Dropping it ends it.
pub(crate) struct Running {
    child: Child,
    /// Works for the relay and is counted with it.
    helper: Option<Helper>,
    pub(crate) port: u16,
    trace: Option<PathBuf>,
}

impl Running {
    /// Spawns the command and waits for its greeting.
    pub(crate) fn launch(
        command: Command,
        port: u16,
        trace: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut command = match trace {
            Some(file) => traced(&command, file),
            None => command,
        };
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("{program} did not start"))?;
        let trace = trace.map(Path::to_path_buf);
        let mut running = Self { child, helper: None, port, trace };
        running.greeting(&program)?;
        Ok(running)
    }

    /// With a process that works for it, and ends with it.
    pub(crate) fn with(mut self, helper: Child) -> Self {
        self.helper = Some(Helper(helper));
        self
    }

    pub(crate) fn tree(&self) -> Tree {
        Tree(self.child.id())
    }

    /// What it and its helper have cost.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let helper = self.helper.as_ref().map(|helper| Tree(helper.0.id()).cpu()).transpose()?;
        Ok(self.tree().cpu()? + helper.unwrap_or_default())
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// The calls that sync the disk, made so far.
    pub(crate) fn syncs(&self) -> anyhow::Result<u64> {
        let file = self.trace.as_ref().context("this relay is not traced")?;
        let calls = ["fsync(", "fdatasync(", "sync_file_range("];
        let lines = fs::read_to_string(file)?;
        let begun = |line: &&str| calls.iter().any(|call| line.contains(call));
        Ok(u64::try_from(lines.lines().filter(begun).count())?)
    }

    fn greeting(&mut self, program: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < START_PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                bail!("{program} ended at once: {status}");
            }
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                stream.set_read_timeout(Some(START_PATIENCE))?;
                let mut greeting = [0; 3];
                stream.read_exact(&mut greeting)?;
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("{program} does not answer on port {}", self.port)
    }

    /// Ends it in order, so that it can start again on the same spool.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)?;
        let began = Instant::now();
        while began.elapsed() < STOP_PATIENCE {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        bail!("process {} does not end when asked", self.child.id())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().try_into()?), signal)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Asked first: only the relay itself knows its children.
            let asked = self.signal(Signal::SIGTERM);
            thread::sleep(Duration::from_millis(500));
            if asked.is_err() || matches!(self.child.try_wait(), Ok(None)) {
                self.child.kill().ok();
            }
            self.child.wait().ok();
        }
    }
}

struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The same command under strace, with the relay and not strace as our child (`-D`).
fn traced(command: &Command, file: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace
        .args(["-D", "-f", "-qq", "--seccomp-bpf"])
        .args(["-e", "trace=fsync,fdatasync,sync_file_range"])
        .args(["-e", "signal=none", "-o"])
        .arg(file)
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            strace.env(name, value);
        }
    }
    strace
}

/// Free ports below those that the system hands to clients: a relay must find its own free again
/// after thousands of connections.
pub(crate) fn free_ports() -> impl Iterator<Item = u16> {
    // Two runs at once should not begin their search at one place.
    let first = std::process::id() % 10_000;
    (0..10_000)
        .map(move |step| 20_000 + (first + step) % 10_000)
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
}
