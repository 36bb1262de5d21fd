//! curl logs in by tokens: an issuer is asked about them, or has signed them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use waypost_scenarios::{Door, Home, Running};

use crate::program::{Ended, run};

const ALICE: &str = "alice@sender.example";

/// A server that answers questions about tokens (RFC 7662).
struct Issuer {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Issuer {
    /// `good-…` is alice's and may send, `weak-…` is hers and may not; the rest is nobody's. With
    /// `broken` in it, the server fails.
    async fn new() -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, requests) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::<String>::new())));
        let (count, seen) = (asked.clone(), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 8192];
                let mut length = 0;
                while !is_whole(&request[..length]) {
                    length += stream.read(&mut request[length..]).await.unwrap();
                }
                let request = String::from_utf8(request[..length].to_vec()).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let answer = answer(&request);
                seen.lock().unwrap().push(request);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Issuer { address, asked, requests }
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((header, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = header.lines().find_map(|line| {
        line.to_ascii_lowercase().strip_prefix("content-length: ").and_then(|n| n.parse().ok())
    });
    body.len() >= length.unwrap_or(0)
}

fn answer(request: &str) -> String {
    let body = request.split("\r\n\r\n").nth(1).unwrap();
    let (status, says) = if body.contains("broken") {
        ("503 Down", "{}".to_owned())
    } else if body.contains("token=good") {
        ("200 OK", format!(r#"{{"active": true, "username": "{ALICE}", "scope": "read send"}}"#))
    } else if body.contains("token=weak") {
        ("200 OK", format!(r#"{{"active": true, "username": "{ALICE}", "scope": "read"}}"#))
    } else {
        ("200 OK", r#"{"active": false}"#.to_owned())
    };
    let length = says.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{says}")
}

async fn curl(relay: &Running, home: &Home, user: &str, token: &str, mechanism: &str) -> Ended {
    let port = relay.address(Door::Submissions).port();
    let (url, resolve) = (
        format!("smtps://relay.example:{port}/peer.example"),
        format!("relay.example:{port}:127.0.0.1"),
    );
    let authority = home.authority_file().display().to_string();
    let (user, mechanism) = (format!("{user}:"), format!("AUTH={mechanism}"));
    let arguments = [
        ["--url", &url],
        ["--resolve", &resolve],
        ["--cacert", &authority],
        ["--user", &user],
        ["--oauth2-bearer", token],
        ["--login-options", &mechanism],
        ["--mail-from", ALICE],
        ["--mail-rcpt", "b@inside.example"],
        ["--upload-file", "-"],
        ["--max-time", "30"],
    ];
    let mut arguments = arguments.concat();
    arguments.extend(["--silent", "--show-error", "--verbose"]);
    run("curl", "curl", &arguments, "Subject: by token\r\n\r\nHello\r\n").await
}

#[tokio::test]
async fn that_an_endpoint_knows() {
    let issuer = Issuer::new().await;
    let secret = "a secret with ümlaut";
    let home = Home::new().users();
    let file = home.path("oauth.secret");
    std::fs::write(&file, secret).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let home = home
        .set("auth", "senders", "\"own\"")
        .set("auth.oauth", "introspection", &format!("\"http://{}/introspect\"", issuer.address))
        .set("auth.oauth", "client-id", "\"waypost\"")
        .set("auth.oauth", "client-secret-file", &format!("{file:?}"))
        .set("auth.oauth", "scope", "[\"send\"]")
        .set("auth.failures", "delay", "\"1ms\"");
    let relay = home.start().await;
    for mechanism in ["OAUTHBEARER", "XOAUTH2"] {
        let ended = curl(&relay, &home, ALICE, "good-token", mechanism).await;
        assert!(ended.success, "{mechanism}: {}", ended.said);
        assert!(ended.said.contains("< 250 2.0.0 OK queued as "), "{}", ended.said);
        for (user, token) in
            [(ALICE, "stolen"), (ALICE, "weak-token"), ("bob@sender.example", "good-token")]
        {
            let ended = curl(&relay, &home, user, token, mechanism).await;
            assert!(!ended.success, "{}", ended.said);
            assert!(ended.said.contains("< 334 "), "the reason comes first: {}", ended.said);
            assert!(ended.said.contains("< 535 5.7.8 "), "{mechanism} {token}: {}", ended.said);
        }
        // That nobody can be asked is not the client's fault.
        let ended = curl(&relay, &home, ALICE, "broken", mechanism).await;
        assert!(ended.said.contains("< 454 4.7.0 "), "{mechanism}: {}", ended.said);
    }
    // What the issuer vouches for is remembered, also where that is not enough here.
    let about_good = |request: &&String| request.contains("token=good");
    let requests = issuer.requests.lock().unwrap().clone();
    assert_eq!(requests.iter().filter(about_good).count(), 1);
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 2 + 2 * 2, "good and weak, then each time");
    assert!(requests[0].starts_with("POST /introspect HTTP/1.1\r\n"), "{}", requests[0]);
    assert!(relay.queued().iter().all(|message| message.sender.to_string() == ALICE));
}
