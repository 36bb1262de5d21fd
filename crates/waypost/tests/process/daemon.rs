//! A relay in a process of its own, and the commands that speak to it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::peer::Peer;

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until there is an answer.
pub(crate) fn until<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < end, "in vain: {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Where a relay lives: its configuration, its spool, its log. Outlives its processes.
pub(crate) struct Home {
    dir: TempDir,
    spool: PathBuf,
}

impl Home {
    /// One whose mail goes to `next_hop`; `more` is further configuration.
    pub(crate) fn new(next_hop: SocketAddr, more: &str) -> Home {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        let home = Home { dir, spool };
        home.configure("waypost", &[("*", next_hop)], more);
        home
    }

    /// The same with its spool elsewhere.
    pub(crate) fn with_spool(next_hop: SocketAddr, spool: &Path, more: &str) -> Home {
        let home = Home { dir: tempfile::tempdir().unwrap(), spool: spool.to_owned() };
        home.configure("waypost", &[("*", next_hop)], more);
        home
    }

    /// Writes the configuration `name`, with its own socket for operators.
    pub(crate) fn configure(&self, name: &str, routes: &[(&str, SocketAddr)], more: &str) {
        let route = |(domain, hop): &(&str, SocketAddr)| {
            format!(
                "[[route]]\ndomains = [\"{domain}\"]\nvia = [{{ host = \"{}\", port = {} }}]\n",
                hop.ip(),
                hop.port()
            )
        };
        let more = if more.contains("keep-free") {
            more.to_owned()
        } else {
            format!(
                "[spool]\npath = \"{}\"\nkeep-free = \"1MiB\"\nreserve = \"1MiB\"\n{more}",
                self.spool.display()
            )
        };
        let text = format!(
            "hostname = \"relay.example\"\n{more}\n\
             [admin]\nsocket = \"{socket}\"\n\
             [[listener]]\nname = \"in\"\nkind = \"relay\"\naddress = \"127.0.0.1:0\"\n\
             [relay]\nnetworks = [\"127.0.0.0/8\"]\n{routes}",
            socket = self.socket(name).display(),
            routes = routes.iter().map(route).collect::<String>(),
        );
        fs::write(self.file(name), text).unwrap();
    }

    /// The configuration file of this name.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.toml"))
    }

    /// The socket for operators.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.sock"))
    }

    /// The spool.
    pub(crate) fn spool(&self) -> &Path {
        &self.spool
    }

    /// Runs a command to its end. The configuration is named for it.
    pub(crate) fn command(&self, args: &[&str]) -> Output {
        self.command_of("waypost", args)
    }

    /// The same with another configuration.
    pub(crate) fn command_of(&self, name: &str, args: &[&str]) -> Output {
        let mut program = self.program(name, args);
        let running = std::thread::spawn(move || program.output().unwrap());
        until("the end of the command", || running.is_finished().then_some(()));
        running.join().unwrap()
    }

    /// What a command answers in JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.push("--json");
        let output = self.command(&args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The messages in the queue.
    pub(crate) fn queue(&self) -> Vec<Value> {
        self.json(&["queue", "list"])["messages"].as_array().unwrap().clone()
    }

    /// Starts the relay and waits until it answers.
    pub(crate) fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    /// The same with these variables in its environment.
    pub(crate) fn start_with(&self, environment: &[(&str, &Path)]) -> Daemon {
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut program = self.program("waypost", &["run"]);
        program.envs(environment.iter().copied()).stdout(Stdio::null()).stderr(log);
        let child = program.spawn().unwrap();
        let mut daemon = Daemon { child, door: SocketAddr::from(([0, 0, 0, 0], 0)) };
        daemon.door = until("a relay that answers", || {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                panic!("the relay ended with {status}:\n{}", self.log());
            }
            let status = self.command(&["status", "--json"]);
            let status: Value = serde_json::from_slice(&status.stdout).ok()?;
            // The socket of a relay that was killed may still be there: it answers nobody.
            (status["pid"].as_u64() == Some(daemon.child.id().into()))
                .then(|| status["listeners"][0]["address"].as_str().unwrap().parse().unwrap())
        });
        daemon
    }

    /// All that relays have logged here.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn program(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waypost"));
        command.args(args).arg("--config").arg(self.file(name)).stdin(Stdio::null());
        command.env_remove("WAYPOST_LOG").env_remove("LISTEN_FDS").env_remove("LISTEN_PID");
        command
    }
}

/// A test that fails shows what the relay had to say.
impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "the end of the log:\n{}",
                lines[lines.len().saturating_sub(40)..].join("\n")
            );
        }
    }
}

/// A running relay; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    /// Where it takes mail.
    pub(crate) door: SocketAddr,
}

impl Daemon {
    /// A peer that has said EHLO.
    pub(crate) fn peer(&self) -> Peer {
        self.knock().unwrap()
    }

    /// A peer, or what it was told instead of the greeting.
    pub(crate) fn knock(&self) -> std::io::Result<Peer> {
        Peer::connect(self.door)
    }

    /// As the power fails.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// True until it has ended.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> ExitStatus {
        until("the end of the relay", || self.child.try_wait().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Output as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
