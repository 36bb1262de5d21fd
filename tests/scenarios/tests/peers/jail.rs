//! A program in a root of its own: Exim and OpenSMTPD cannot be installed beside Postfix, so they run out of
//! what `cargo xtask setup` unpacked, at the paths they were compiled for.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use waypost_harness::authority::Authority;
use waypost_scenarios::{PATIENCE, eventually};

/// A copy of an unpacked root, and the daemon that runs in it, which ends with it.
pub(crate) struct Jail {
    root: TempDir,
    daemon: Option<Child>,
    pub(crate) address: SocketAddr,
}

impl Jail {
    /// A copy of this root: its programs are links, everything else may be changed.
    pub(crate) fn new(name: &str) -> Jail {
        assert!(geteuid().is_root(), "only root can change its root: run the tests as root");
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let peers = std::env::var("WAYPOST_TEST_PEERS").map(PathBuf::from);
        let peer = peers.unwrap_or_else(|_| target.parent().unwrap().join("peers")).join(name);
        assert!(peer.exists(), "there is no {}: cargo xtask setup makes it", peer.display());
        let root = tempfile::Builder::new().prefix(name).tempdir_in(&target).unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let copied = copy(&peer.join("usr"), root.path(), "-al")
            || copy(&peer.join("usr"), root.path(), "-a");
        assert!(copied, "{} cannot be copied", peer.display());
        for entry in fs::read_dir(&peer).unwrap().map(Result::unwrap) {
            if entry.file_name() != "usr" {
                assert!(copy(&entry.path(), root.path(), "-a"), "{}", entry.path().display());
            }
        }
        // The daemons want a number, and nobody else may get it while they start.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Jail { root, daemon: None, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// A path within it as it is for us.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a file that only this user within it can read.
    pub(crate) fn put(&self, name: &str, text: &str, user: u32) {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(user), Some(user)).unwrap();
    }

    /// Lets every user within read a file.
    pub(crate) fn share(&self, name: &str) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// A certificate for 127.0.0.1 and its key, in `etc/chain` and `etc/key`.
    pub(crate) fn certificate(&self, authority: &Authority, user: u32) {
        let (chain, key) = authority.pair(&["127.0.0.1"]).unwrap();
        self.put("etc/chain", &chain, user);
        self.put("etc/key", &key, user);
    }

    /// Starts the daemon, which stays in the foreground, and waits until it answers. What it says goes to `log`.
    pub(crate) async fn start(&mut self, line: &[&str]) {
        let log = File::create(self.path("log")).unwrap();
        let mut command = self.command(line);
        // Its own group of processes: those it starts get its signals.
        command.stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        self.daemon = Some(command.spawn().unwrap());
        let began = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let patient = began.elapsed() < PATIENCE;
            assert!(patient, "{} does not answer: {}", line[0], self.log("log"));
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs a program in it to its end.
    pub(crate) fn run(&self, line: &[&str]) -> Output {
        let output = self.command(line).output().unwrap();
        assert!(output.status.success(), "{line:?}: {output:?}");
        output
    }

    fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new("chroot");
        command.arg(self.root.path()).args(line).stdin(Stdio::null());
        command
    }

    /// What a file within it says now.
    pub(crate) fn log(&self, name: &str) -> String {
        let octets = fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&octets).into_owned()
    }

    /// The messages in this user's maildir, once there are so many, in no order.
    pub(crate) async fn mails(&self, user: &str, count: usize) -> Vec<Vec<u8>> {
        let inbox = self.path("mail").join(user).join("new");
        let list = || fs::read_dir(&inbox).map(|all| all.flatten().collect::<Vec<_>>());
        eventually(&format!("{user} has {count} messages"), || {
            list().is_ok_and(|all| all.len() >= count)
        })
        .await;
        let all = list().unwrap();
        assert_eq!(all.len(), count, "{user} has more than that");
        all.iter().map(|entry| fs::read(entry.path()).unwrap()).collect()
    }
}

impl Drop for Jail {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            if std::thread::panicking() {
                eprintln!("the daemon says:\n{}", self.log("log"));
                eprintln!("{}", self.log("var/log/exim4/mainlog"));
            }
            // Asked, not killed: only the daemon knows its helpers.
            if let Ok(pid) = i32::try_from(daemon.id()) {
                let _ = killpg(Pid::from_raw(pid), Signal::SIGTERM);
            }
            let _ = daemon.wait();
        }
    }
}

fn copy(from: &Path, into: &Path, how: &str) -> bool {
    let copied = Command::new("cp").arg(how).arg(from).arg(into).stderr(Stdio::null()).status();
    copied.is_ok_and(|status| status.success())
}

/// What stands below the field that says how the message came to the host of this name, lines ending as
/// they do.
pub(crate) fn below_their_received<'a>(content: &'a [u8], host: &str) -> &'a [u8] {
    let by = format!("by {host} ");
    let is_field = |at: &usize| {
        let starts =
            content[*at..].starts_with(b"Received: ") && (*at == 0 || content[*at - 1] == b'\n');
        starts && field(&content[*at..]).windows(by.len()).any(|part| part == by.as_bytes())
    };
    let at = (0..content.len()).find(is_field);
    let at = at.unwrap_or_else(|| panic!("{host} left no field in {}", content.escape_ascii()));
    &content[at + field(&content[at..]).len()..]
}

/// The field that text begins with, with the end of its last line.
fn field(text: &[u8]) -> &[u8] {
    let ends = |at: &usize| {
        text[*at] == b'\n' && !text.get(at + 1).is_some_and(|next| b" \t".contains(next))
    };
    &text[..(0..text.len()).find(ends).map_or(text.len(), |at| at + 1)]
}
