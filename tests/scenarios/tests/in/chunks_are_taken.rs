//! CHUNKING (RFC 3030): content comes in counted pieces, in which a dot is only a dot.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home};

#[tokio::test]
async fn in_several_pieces() {
    let upstream = Upstream::new();
    let relay = Home::new().trusting().route("*", upstream.listen().await.unwrap()).start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let content = "Subject: x\r\n\r\n.\r\n..\r\nafter the dots\r\n";
    let (first, last) = content.split_at(15);
    peer.send(format!(
        "MAIL FROM:<a@sender.example>\r\nRCPT TO:<b@dest.example>\r\nBDAT {}\r\n{first}BDAT {}\r\n{last}BDAT 0 LAST\r\nNOOP\r\n",
        first.len(),
        last.len(),
    ))
    .await;
    for reply in
        ["250 2.1.0", "250 2.1.5", "250 2.0.0", "250 2.0.0", "250 2.0.0 OK queued as ", "250 2.0.0"]
    {
        peer.hear(reply).await;
    }
    relay.empty().await;
    let mails = upstream.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].content.ends_with(&format!("\r\n{content}")), "{}", mails[0].content);
}

#[tokio::test]
async fn not_mixed_with_data_and_not_without_a_recipient() {
    let relay = Home::new().trusting().start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.expect("MAIL FROM:<a@sender.example>", "250").await;
    peer.send("BDAT 6 LAST\r\nQUIT\r\n").await;
    // The six octets are content, although there is nobody to send them to.
    peer.hear("503 5.5.1").await;
    peer.expect("RSET", "250").await;
    peer.envelope("a@sender.example", &["b@dest.example"]).await;
    peer.expect("BDAT 3\r\na", "250").await;
    peer.expect("DATA", "503 5.5.1").await;
    assert!(relay.queued().is_empty());
}
