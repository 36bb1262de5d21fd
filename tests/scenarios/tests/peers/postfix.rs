//! Postfix as an instance of its own: own configuration, queue and data, one port on loopback.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use waypost_scenarios::{PATIENCE, eventually};

const HINT: &str = "As root: apt-get install postfix (or cargo xtask setup)";

/// The daemons, none of them in a chroot.
const SERVICES: &str = "\
pickup    unix  n - n 1     1 pickup
cleanup   unix  n - n -     0 cleanup
qmgr      unix  n - n 300   1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n -     - trivial-rewrite
bounce    unix  - - n -     0 bounce
defer     unix  - - n -     0 bounce
trace     unix  - - n -     0 bounce
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n -     - proxymap
proxywrite unix - - n -     1 proxymap
smtp      unix  - - n -     - smtp
relay     unix  - - n -     - smtp
error     unix  - - n -     - error
retry     unix  - - n -     - error
virtual   unix  - n n -     - virtual
anvil     unix  - - n -     1 anvil
scache    unix  - - n -     1 scache
postlog   unix-dgram n - n - 1 postlogd
";

/// A running instance, ended with its daemons when dropped.
pub(crate) struct Postfix {
    child: Child,
    home: TempDir,
    pub(crate) address: SocketAddr,
}

impl Postfix {
    /// Starts one with these lines in its main.cf. The files are in the directory's `etc` already.
    pub(crate) async fn start(home: TempDir, more: &str) -> Postfix {
        assert!(geteuid().is_root(), "only root can start Postfix: run the tests as root");
        let place = |name: &str| home.path().join(name);
        for directory in ["etc", "data", "queue"] {
            fs::create_dir_all(place(directory)).unwrap();
        }
        // Its daemons are not root when they walk down here.
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let owner = User::from_name("postfix").unwrap();
        let owner = owner.unwrap_or_else(|| panic!("there is no user postfix. {HINT}"));
        chown(place("data"), Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).unwrap();
        // Postfix wants a number, and nobody else may get it while it starts.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::write(place("etc/main.cf"), main_cf(home.path()) + more).unwrap();
        let door = format!("127.0.0.1:{port} inet n - n - - smtpd\n");
        fs::write(place("etc/master.cf"), door + SERVICES).unwrap();
        let etc = place("etc").display().to_string();
        let checked = command("/usr/sbin/postfix", &["-c", &etc, "check"]).output();
        let checked = checked.unwrap_or_else(|why| panic!("/usr/sbin/postfix: {why}. {HINT}"));
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        let master = format!("{}/master", default("daemon_directory"));
        // Its own group of processes: it signals all of them when it ends.
        let child = command(&master, &["-c", &etc, "-d"]).process_group(0).spawn().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let postfix = Postfix { child, home, address };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < PATIENCE, "Postfix does not answer: {}", postfix.log());
            sleep(Duration::from_millis(20)).await;
        }
        postfix
    }

    /// Its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until it has logged this.
    pub(crate) async fn logs(&self, words: &str) {
        eventually(&format!("Postfix logs {words}"), || self.log().contains(words)).await;
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("Postfix says:\n{}", self.log());
        }
        // Asked, not killed: only the master knows its daemons.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A compiled-in default, such as where the daemons are.
fn default(name: &str) -> String {
    let output = Command::new("/usr/sbin/postconf").args(["-d", "-h", name]).output();
    let output = output.unwrap_or_else(|why| panic!("/usr/sbin/postconf: {why}. {HINT}"));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn main_cf(home: &Path) -> String {
    let home = home.display();
    format!(
        "compatibility_level = 3.6\n\
         queue_directory = {home}/queue\n\
         data_directory = {home}/data\n\
         maillog_file = {home}/log\n\
         maillog_file_prefixes = {home}\n\
         mail_owner = postfix\n\
         setgid_group = postdrop\n\
         myhostname = postfix.example\n\
         mydestination =\n\
         local_recipient_maps =\n\
         alias_maps =\n\
         inet_interfaces = loopback-only\n\
         inet_protocols = ipv4\n\
         mynetworks = 127.0.0.0/8\n\
         smtpd_peername_lookup = no\n\
         smtp_dns_support_level = disabled\n\
         minimal_backoff_time = 1s\n\
         queue_run_delay = 1s\n"
    )
}
