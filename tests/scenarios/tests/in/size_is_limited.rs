//! SIZE (RFC 1870): what is too large is refused as early as can be.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home};

#[tokio::test]
async fn when_declared_and_when_found_out() {
    let upstream = Upstream::new();
    let home = Home::new()
        .trusting()
        .set("limits", "message-size", "\"64KiB\"")
        .route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    assert!(peer.hello().await.iter().any(|offer| offer == "SIZE 65536"));
    peer.expect("MAIL FROM:<a@sender.example> SIZE=65537", "552 5.3.4").await;
    let line = format!("{}\r\n", "x".repeat(62));
    let of = |octets: usize| format!("Subject: x\r\n\r\n{}", line.repeat(octets / 64));

    peer.envelope("a@sender.example", &["b@dest.example"]).await;
    assert!(peer.data(of(65_536)).await.starts_with("552 5.3.4"));
    peer.envelope("a@sender.example", &["b@dest.example"]).await;
    let large = of(65_536);
    let reply = peer.expect(&format!("BDAT {} LAST\r\n{large}", large.len()), "552 5.3.4").await;
    assert_eq!(reply.lines().count(), 1);
    // What was said after the chunk ended (CRLF) is an empty command.
    peer.hear("500 5.5.2").await;

    peer.expect("MAIL FROM:<a@sender.example> SIZE=65000", "250 2.1.0").await;
    peer.expect("RCPT TO:<b@dest.example>", "250 2.1.5").await;
    let good = of(65_000);
    assert!(peer.data(&good).await.starts_with("250 2.0.0 OK queued as "));
    relay.empty().await;
    let mails = upstream.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].content.ends_with(&good));
}
