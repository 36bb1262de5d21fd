//! Signed zones served by Knot DNS, a server that is not ours: what DNSSEC proves and what it refutes.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a server that does not start fails its test"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

const KNOTD: &str = "/usr/sbin/knotd";
const KEYMGR: &str = "/usr/sbin/keymgr";
/// How often it is asked whether it has started, and how long each time.
const ASKED: usize = 600;
const PATIENCE: Duration = Duration::from_millis(50);

/// A running server on loopback, UDP and TCP of one port; gone when dropped.
///
/// The text is zone-file text in parts that each begin with `$ORIGIN name.`; SOA, NS and the delegations
/// from the part above (the root, where no other is) are added, and records without TTL have 0. Every
/// part is signed, and its key is vouched for by the part above, unless it has the line `; unsigned` (which
/// that part proves) or `; forged` (its keys are not the ones that are vouched for: all of it is bogus). One
/// with the line `; hashed` proves what is not there by NSEC3 with 150 iterations, which counts for
/// nothing (RFC 9276 §3.2).
#[derive(Debug)]
pub struct Knot {
    /// Where it listens.
    pub addr: SocketAddr,
    anchor: String,
    child: Child,
    _directory: TempDir,
}

impl Knot {
    /// Serves zone text on a free port.
    ///
    /// # Panics
    /// When Knot is not installed, or does not take the text.
    pub fn serve(text: &str) -> Knot {
        let directory = tempfile::tempdir().expect("a directory");
        let parts = parts(text);
        write_config(directory.path(), &parts, free());
        let anchor = write_zones(directory.path(), &parts);
        // Somebody else may have taken the port meanwhile.
        for _ in 0..5 {
            let addr = free();
            write_config(directory.path(), &parts, addr);
            let log = fs::File::create(directory.path().join("log")).expect("a file");
            let mut child = Command::new(KNOTD)
                .args(["-c", "knot.conf"])
                .current_dir(directory.path())
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("a file"))
                .stderr(log)
                .spawn()
                .expect("knotd, of Debian's package knot, is installed");
            if answers(addr, &mut child) {
                return Knot { addr, anchor, child, _directory: directory };
            }
            let _ = (child.kill(), child.wait());
        }
        let log = fs::read_to_string(directory.path().join("log")).unwrap_or_default();
        panic!("knotd does not answer: {log}");
    }

    /// The root's key as the text of a trust-anchor file.
    pub fn trust_anchor(&self) -> &str {
        &self.anchor
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// A zone's text, by its name.
type Parts = BTreeMap<String, String>;

fn parts(text: &str) -> Parts {
    let mut parts = Parts::from([(".".to_owned(), String::new())]);
    let mut name = None;
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        if let Some(origin) = line.strip_prefix("$ORIGIN ") {
            parts.entry(origin.to_owned()).or_default();
            name = Some(origin.to_owned());
        } else {
            let name = name.as_ref().expect("zone text begins with $ORIGIN");
            let part = parts.get_mut(name).expect("it was just put there");
            let _ = writeln!(part, "{line}");
        }
    }
    parts
}

fn has(part: &str, mark: &str) -> bool {
    part.lines().any(|line| line == mark)
}

/// The part that delegates to this one.
fn above<'a>(parts: &'a Parts, name: &str) -> &'a str {
    let holds = |other: &&String| *other != name && name.ends_with(&format!(".{other}"));
    parts.keys().filter(holds).max_by_key(|other| other.len()).map_or(".", String::as_str)
}

fn file_of(name: &str) -> String {
    format!("zone-{name}zone")
}

fn write_config(directory: &Path, parts: &Parts, addr: SocketAddr) {
    let mut text = format!(
        "server:\n    rundir: \"{path}\"\n    listen: {ip}@{port}\n    \
         background-workers: 1\n    udp-workers: 1\n    tcp-workers: 1\n\
         log:\n  - target: stderr\n    any: warning\n\
         database:\n    storage: \"{path}/keys\"\n\
         policy:\n  - id: fixed\n    manual: on\n    algorithm: ecdsap256sha256\n  \
         - id: hashed\n    manual: on\n    algorithm: ecdsap256sha256\n    nsec3: on\n    \
         nsec3-iterations: 150\n    nsec3-salt-length: 0\n\
         template:\n  - id: default\n    storage: \"{path}\"\n    zonefile-sync: -1\n    \
         zonefile-load: whole\n    journal-content: none\nzone:\n",
        path = directory.display(),
        ip = addr.ip(),
        port = addr.port(),
    );
    for (name, part) in parts {
        let _ = writeln!(text, "  - domain: {name}\n    file: {}", file_of(name));
        if !has(part, "; unsigned") {
            let policy = if has(part, "; hashed") { "hashed" } else { "fixed" };
            let _ = writeln!(text, "    dnssec-signing: on\n    dnssec-policy: {policy}");
        }
    }
    fs::write(directory.join("knot.conf"), text).expect("a file");
    // Some versions of keymgr do not make it.
    fs::create_dir_all(directory.join("keys")).expect("a directory");
}

/// Writes the zones with their delegations; the root's key as a line.
fn write_zones(directory: &Path, parts: &Parts) -> String {
    let mut delegations: BTreeMap<&str, String> = BTreeMap::new();
    for (name, part) in parts {
        if has(part, "; unsigned") {
            let _ = writeln!(delegations.entry(above(parts, name)).or_default(), "{name} NS ns.");
            continue;
        }
        keymgr(directory, &[name, "generate", "algorithm=ecdsap256sha256", "ksk=yes", "zsk=yes"]);
        if name != "." {
            let mut vouched = keymgr(directory, &[name, "ds"]);
            if has(part, "; forged") {
                vouched = forged(&vouched);
            }
            let delegation = delegations.entry(above(parts, name)).or_default();
            let _ = write!(delegation, "{name} NS ns.\n{vouched}");
        }
    }
    for (name, part) in parts {
        let delegations = delegations.get(name.as_str()).map_or("", String::as_str);
        let text = format!(
            "$ORIGIN {name}\n$TTL 0\n@ SOA ns. hostmaster. 1 3600 600 86400 0\n@ NS ns.\n\
             {part}{delegations}"
        );
        fs::write(directory.join(file_of(name)), text).expect("a file");
    }
    keymgr(directory, &[".", "dnskey"]).replacen(" DNSKEY ", " 0 IN DNSKEY ", 1)
}

/// DS records of keys that nobody has: every digest begins with another digit.
fn forged(records: &str) -> String {
    let mut text = String::new();
    for line in records.lines() {
        let (start, digest) = line.rsplit_once(' ').expect("a DS record has fields");
        let first = if digest.starts_with('0') { '1' } else { '0' };
        let _ = writeln!(text, "{start} {first}{}", &digest[1..]);
    }
    text
}

fn keymgr(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new(KEYMGR)
        .args(["-c", "knot.conf"])
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("keymgr, of Debian's package knot, is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "keymgr {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn free() -> SocketAddr {
    for _ in 0..20 {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = tcp.local_addr().expect("a bound socket has an address");
        if UdpSocket::bind(addr).is_ok() {
            return addr;
        }
    }
    panic!("no port is free for both UDP and TCP");
}

/// Waits until it answers for the root; false when it ended or takes too long.
fn answers(addr: SocketAddr, child: &mut Child) -> bool {
    // ID, RD, one question: ". IN SOA".
    let question = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1];
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let _ = socket.set_read_timeout(Some(PATIENCE));
    for _ in 0..ASKED {
        let mut answer = [0; 512];
        let sent = socket.send_to(&question, addr);
        let answered = sent.and_then(|_| socket.recv(&mut answer)).is_ok_and(|len| {
            // No error, and at least one record.
            len > 12 && answer[3] & 0x0f == 0 && answer[7] > 0
        });
        if answered {
            return true;
        }
        if child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return false;
        }
        // A port that is closed is answered at once.
        std::thread::sleep(PATIENCE / 5);
    }
    false
}
