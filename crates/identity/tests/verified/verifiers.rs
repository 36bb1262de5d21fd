//! The verifiers of others. Each asks a DNS server for the records that our keygen wrote.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mail_auth::hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use mail_auth::{AuthenticatedMessage, DkimResult, MessageAuthenticator};

/// Pass or not, for each signature from the top.
pub(crate) type Verdicts = Vec<bool>;

/// dkimpy's verdicts on each message.
pub(crate) async fn dkimpy(dns: SocketAddr, messages: &[Vec<u8>]) -> Vec<Verdicts> {
    program(&python(), "dkimpy.py", dns, messages).await
}

/// Mail::DKIM's verdicts on each message, for RSA signatures alone.
pub(crate) async fn mail_dkim(dns: SocketAddr, messages: &[Vec<u8>]) -> Vec<Verdicts> {
    program("perl", "mail_dkim.pl", dns, messages).await
}

/// mail-auth's verdicts on each message.
pub(crate) async fn mail_auth(dns: SocketAddr, messages: &[Vec<u8>]) -> Vec<Verdicts> {
    let mut server = NameServerConfig::udp_and_tcp(dns.ip());
    for connection in &mut server.connections {
        connection.port = dns.port();
    }
    let config = ResolverConfig::from_name_servers(vec![server]);
    let verifier = MessageAuthenticator::new(config, ResolverOpts::default()).unwrap();
    let mut all = Vec::new();
    for message in messages {
        let message = AuthenticatedMessage::parse(message).unwrap();
        let verdicts = verifier.verify_dkim(&message).await;
        all.push(verdicts.iter().map(|one| one.result() == &DkimResult::Pass).collect());
    }
    all
}

/// The server lives on our runtime, so the program must not hold its thread.
async fn program(
    program: &str,
    script: &str,
    dns: SocketAddr,
    messages: &[Vec<u8>],
) -> Vec<Verdicts> {
    assert_eq!(dns.ip(), Ipv4Addr::LOCALHOST);
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(program);
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verified");
    command.arg(scripts.join(script)).arg(dns.port().to_string()).stdin(Stdio::null());
    for (index, message) in messages.iter().enumerate() {
        let path = directory.path().join(format!("{index:03}.eml"));
        std::fs::write(&path, message).unwrap();
        command.arg(path);
    }
    let ended = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output = ended.unwrap_or_else(|error| panic!("{program} did not start: {error}"));
    let reasons = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: cargo xtask setup brings what it needs. {reasons}");
    println!("{script}: {reasons}");
    let told = String::from_utf8(output.stdout).unwrap();
    let verdict = |word| match word {
        "pass" => true,
        "fail" => false,
        _ => panic!("{script}: {word}"),
    };
    let all: Vec<Verdicts> =
        told.lines().map(|line| line.split_whitespace().map(verdict).collect()).collect();
    assert_eq!(all.len(), messages.len(), "{script}: {reasons}");
    all
}

/// The Python with dkimpy: `WAYPOST_TEST_PYTHON`, or where `cargo xtask setup` puts it.
fn python() -> String {
    if let Ok(python) = std::env::var("WAYPOST_TEST_PYTHON") {
        return python;
    }
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let python = target.parent().unwrap().join("test-venv/bin/python");
    assert!(python.exists(), "there is no {}: cargo xtask setup makes it", python.display());
    python.display().to_string()
}
