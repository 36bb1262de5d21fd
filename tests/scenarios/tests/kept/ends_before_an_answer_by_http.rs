//! The relay ends, at any step of making a message durable, before the client has its answer; the
//! message is delivered meanwhile, and the client sends the request again with the same key.

use std::fs;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, STORY_ENDS};

const PROGRAM: &str = env!("CARGO_BIN_EXE_waypost-in-a-story");
/// What comes first is not in the log at the next start, the rest is.
const STEPS: [&str; 4] = ["Append", "Appended", "Synced", "Applied"];

/// All that the server says until it hangs up.
async fn post(door: std::net::SocketAddr, token: &str) -> String {
    let body = "Subject: an order\r\n\r\nText\r\n";
    let request = format!(
        "POST /v1/messages?from=a@shop.example&to=b@dest.example HTTP/1.1\r\nHost: x\r\n\
         Authorization: Bearer {token}\r\nContent-Type: message/rfc822\r\nConnection: close\r\n\
         Idempotency-Key: order\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(door).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A process that ends may reset the connection.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn and_the_message_is_sent_once() {
    let mut replayed = 0;
    for step in STEPS {
        let upstream = Upstream::new();
        let home = Home::new().door(Door::Http).set("auth", "senders", "\"any\"");
        let token = home.token("shop");
        let home = home.tokens().route("*", upstream.listen().await.unwrap());
        let marker = home.path("end-now");
        let relay = home
            .spawn_with(PROGRAM, &[(STORY_ENDS, &format!("{step}:{}", marker.display()))])
            .await;
        fs::write(&marker, "").unwrap();
        let mut relay = relay;
        assert_eq!(post(relay.address(Door::Http), &token).await, "", "{step}");
        assert!(!relay.ended().await.success(), "{step}");

        let relay = home.start().await;
        relay.empty().await;
        let before = upstream.mails().len();
        let answer = post(relay.address(Door::Http), &token).await;
        assert!(answer.starts_with("HTTP/1.1 202 "), "{step}: {answer}");
        let again = answer.contains("idempotency-replayed: true");
        assert_eq!(again, before == 1, "{step}: {answer}");
        replayed += usize::from(again);
        relay.empty().await;
        assert_eq!(upstream.mails().len(), 1, "{step}");
        relay.stop().await;
    }
    assert!(replayed >= 3, "{replayed}: the steps behind the sync are durable");
}
