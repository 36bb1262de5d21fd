//! HAProxy in front: who connects there is the client here, by either version of its protocol.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;
use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, PASSWORD, USER};

use crate::program::{Ended, run};

/// It ends with the story.
struct Haproxy(Child);

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts it with these ways through: port, relay, and how it says for whom it speaks.
async fn haproxy(home: &Home, ways: &[(u16, SocketAddr, &str)]) -> Haproxy {
    let mut text =
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
            .to_owned();
    for (port, relay, how) in ways {
        text +=
            &format!("listen way-{port}\n bind 127.0.0.1:{port}\n server relay {relay} {how}\n");
    }
    let file = home.path("haproxy.cfg");
    fs::write(&file, text).unwrap();
    let mut command = Command::new("/usr/sbin/haproxy");
    command.arg("-db").arg("-f").arg(file).stdin(Stdio::null());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = child.expect("haproxy is not there. As root: apt-get install haproxy");
    let haproxy = Haproxy(child);
    for (port, ..) in ways {
        while TcpStream::connect(("127.0.0.1", *port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    haproxy
}

/// A port that nobody has.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn swaks(port: u16, from: &str, more: &[&str]) -> Ended {
    let port = port.to_string();
    let usual = ["--server", "127.0.0.1", "--port", &port, "--local-interface", from];
    let mail = ["--ehlo", "peer.example", "--from", "a@sender.example", "--to", "b@dest.example"];
    run("swaks", "swaks", &[&usual[..], &mail, more].concat(), "").await
}

#[tokio::test]
async fn by_both_versions_and_before_tls() {
    let upstream = Upstream::new();
    let home = Home::new()
        .users()
        .doors_say("proxy = { networks = [\"127.0.0.1\"] }")
        .set("relay", "networks", "[\"127.0.0.2\"]")
        .route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let (plain, submissions) = (relay.address(Door::Relay), relay.address(Door::Submissions));
    let (v1, v2, tls) = (free_port(), free_port(), free_port());
    let ways = [
        (v1, plain, "send-proxy"),
        (v2, plain, "send-proxy-v2 proxy-v2-options unique-id,crc32c"),
        (tls, submissions, "send-proxy-v2"),
    ];
    let _haproxy = haproxy(&home, &ways).await;
    for port in [v1, v2] {
        let ended = swaks(port, "127.0.0.2", &[]).await;
        assert!(ended.success && ended.said.contains("250 2.0.0 OK queued as"), "{}", ended.said);
        let ended = swaks(port, "127.0.0.3", &[]).await;
        assert!(ended.said.contains("550 5.7.1 Relaying denied"), "{}", ended.said);
    }
    let login = ["--tls-on-connect", "--auth-user", USER, "--auth-password", PASSWORD];
    let ended = swaks(tls, "127.0.0.4", &login).await;
    assert!(ended.success && ended.said.contains("250 2.0.0 OK queued as"), "{}", ended.said);
    relay.empty().await;
    let mut seen: Vec<String> = upstream.mails().into_iter().map(|mail| mail.content).collect();
    seen.sort_by_key(|text| text.contains("([127.0.0.4])"));
    let clients = ["([127.0.0.2])", "([127.0.0.2])", "([127.0.0.4])"];
    assert_eq!(seen.len(), clients.len());
    for (text, client) in seen.iter().zip(clients) {
        assert!(text.contains(&format!("from peer.example {client}")), "{text}");
    }
    // Past the proxy nobody comes in.
    let ended = swaks(plain.port(), "127.0.0.2", &[]).await;
    assert!(!ended.success && ended.said.contains("554 5.7.1 No service"), "{}", ended.said);
}
