//! A relay that runs as a process of its own, so that it can be ended any way.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::RootCertStore;
use tokio::time::{Instant, sleep};
use waypost_admin::Client;
use waypost_admin::api::Overview;

use crate::home::Places;
use crate::{Door, Home, PATIENCE, Peer};

/// A relay's process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    client: Client,
    roots: RootCertStore,
    doors: Vec<(String, String)>,
    _places: Arc<Places>,
}

impl Process {
    pub(crate) async fn spawn(program: &Path, home: &Home, variables: &[(&str, &str)]) -> Process {
        let log = home.path("log");
        let file = File::create(&log).unwrap();
        let child = Command::new(program)
            .args(["run", "--config"])
            .arg(home.file())
            .env_remove("WAYPOST_LOG")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::from(file.try_clone().unwrap()))
            .stderr(Stdio::from(file))
            .spawn()
            .unwrap();
        let (client, roots) = (home.client(), home.roots());
        let (doors, _places) = (Vec::new(), home.places());
        let mut process = Process { child, log, client, roots, doors, _places };
        process.doors = process.answers().await;
        process
    }

    async fn answers(&mut self) -> Vec<(String, String)> {
        let began = Instant::now();
        loop {
            let overview: Result<Overview, _> = self.client.get("/v1/status").await;
            if let Ok(overview) = overview
                && overview.pid == self.child.id()
            {
                let doors = overview.listeners.into_iter();
                return doors.map(|door| (door.name, door.address)).collect();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the relay ended at once, {ended:?}: {}", self.log());
            assert!(began.elapsed() < PATIENCE, "the relay does not answer: {}", self.log());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where this door is.
    ///
    /// # Panics
    /// When the home has no such door.
    pub fn address(&self, door: Door) -> SocketAddr {
        let there = self.doors.iter().find(|(name, _)| name == door.name());
        there.and_then(|(_, address)| address.parse().ok()).expect("there is this door")
    }

    /// A peer that has connected to this door and heard the greeting; on
    /// [`Door::Submissions`] it speaks TLS.
    pub async fn peer(&self, door: Door) -> Peer {
        let mut peer = Peer::to(self.address(door)).await;
        if door == Door::Submissions {
            peer = peer.encrypt(&self.roots).await;
        }
        peer.hear("220 ").await;
        peer
    }

    /// The client for operators.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What it has written to standard output and standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Ends it as a crash would: SIGKILL, nothing is written any more.
    pub fn crash(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it with SIGTERM.
    pub async fn stop(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended().await
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE * 2, "the relay does not end: {}", self.log());
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
