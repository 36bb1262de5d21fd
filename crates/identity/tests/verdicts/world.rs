//! A DNS server, our verifier that asks it, and what others say who ask it too.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use waypost_dns::{Config, Hickory};
use waypost_harness::zone::Zone;
use waypost_identity::verify::{Arrival, Checks, Findings, Limits, Peer, Verifier};
use waypost_mail::header::header_len;
use waypost_mail::{Clock, HeaderBlock, Rope, SystemClock, Timestamp};
use waypost_smtp::ReversePath;

pub(crate) const HOSTNAME: &str = "relay.example.org";

pub(crate) struct World {
    pub(crate) zone: Zone,
    pub(crate) verifier: Verifier,
}

impl World {
    pub(crate) async fn new(zone: &str) -> World {
        let zone = Zone::serve(zone).await;
        let timeout = Duration::from_secs(2);
        let config = Config { servers: vec![zone.addr], timeout, ..Config::default() };
        let verifier = Verifier::new(&Hickory::new(config).unwrap(), HOSTNAME);
        World { zone, verifier }
    }

    pub(crate) async fn finds(
        &self,
        message: &[u8],
        from: Option<(&str, &str)>,
        sender: &str,
    ) -> Findings {
        self.finds_at(message, from, sender, SystemClock.now(), Limits::default()).await
    }

    /// `from` is the peer's address and what it says to HELO.
    pub(crate) async fn finds_at(
        &self,
        message: &[u8],
        from: Option<(&str, &str)>,
        sender: &str,
        now: Timestamp,
        limits: Limits,
    ) -> Findings {
        let length = header_len(message).unwrap();
        let header = HeaderBlock::parse(Bytes::copy_from_slice(&message[..length]));
        let body = Rope::from(Bytes::copy_from_slice(&message[length + 2..]));
        let sender = match sender {
            "" => ReversePath::Null,
            sender => ReversePath::Mailbox(sender.parse().unwrap()),
        };
        let peer = from.map(|(ip, helo)| Peer { ip: ip.parse().unwrap(), helo });
        let arrival = Arrival { header: &header, body: &body, peer, sender: &sender, now };
        self.verifier.verify(&arrival, Checks::ALL, limits).await.unwrap()
    }

    /// One answer for each case.
    pub(crate) async fn opinions(&self, cases: Vec<Value>) -> Vec<Value> {
        let mut command = Command::new(python());
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verdicts");
        command.arg(scripts.join("opinion.py")).arg(self.zone.addr.port().to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let asked = cases.len();
        // The server lives on our runtime, so the program must not hold its thread.
        let ended = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            let cases = serde_json::to_vec(&cases).unwrap();
            child.stdin.take().unwrap().write_all(&cases).unwrap();
            child.wait_with_output().unwrap()
        });
        let output = ended.await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo xtask setup brings what it needs. {said}");
        println!("{said}");
        let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answers.len(), asked);
        answers
    }

    /// One opinion about a message that is given back.
    pub(crate) async fn rewritten(&self, case: Value) -> Vec<u8> {
        let answer = self.opinions(vec![case]).await.remove(0);
        STANDARD.decode(answer.as_str().unwrap()).unwrap()
    }

    /// dkimpy signs `message` for `domain` with the key in `pem`.
    pub(crate) async fn signed(
        &self,
        message: &[u8],
        domain: &str,
        pem: &str,
        options: Value,
    ) -> Vec<u8> {
        let case = json!({
            "do": "sign", "message": encoded(message), "selector": "s", "domain": domain,
            "key": pem, "options": options,
        });
        self.rewritten(case).await
    }
}

pub(crate) fn encoded(message: &[u8]) -> String {
    STANDARD.encode(message)
}

/// The Python with the modules: `WAYPOST_TEST_PYTHON`, or where `cargo xtask setup` puts it.
fn python() -> String {
    if let Ok(python) = std::env::var("WAYPOST_TEST_PYTHON") {
        return python;
    }
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let python = target.parent().unwrap().join("test-venv/bin/python");
    assert!(python.exists(), "there is no {}: cargo xtask setup makes it", python.display());
    python.display().to_string()
}
