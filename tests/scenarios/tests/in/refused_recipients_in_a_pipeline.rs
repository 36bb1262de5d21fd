//! A group of commands in one write, some of which are refused: each gets its own reply, in order.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home};

#[tokio::test]
async fn the_others_get_the_message() {
    let upstream = Upstream::new();
    let home = Home::new().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let group = "MAIL FROM:<a@sender.example>\r\nRCPT TO:<one@inside.example>\r\n\
                 RCPT TO:<two@elsewhere.example>\r\nRCPT TO:<no address>\r\n\
                 RCPT TO:<three@inside.example>\r\nDATA\r\n";
    peer.send(group).await;
    let replies =
        ["250 2.1.0", "250 2.1.5", "550 5.7.1 Relaying denied", "501 5.1.3", "250 2.1.5", "354"];
    for reply in replies {
        peer.hear(reply).await;
    }
    peer.send("Subject: x\r\n\r\ny\r\n.\r\nQUIT\r\n").await;
    peer.hear("250 2.0.0 OK queued as ").await;
    peer.hear("221 2.0.0").await;
    relay.empty().await;
    let mails = upstream.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].to, ["one@inside.example", "three@inside.example"]);
}

#[tokio::test]
async fn when_all_are_refused_there_is_no_message() {
    let relay = Home::new().start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let group = "MAIL FROM:<a@sender.example>\r\nRCPT TO:<one@elsewhere.example>\r\n\
                 RCPT TO:<two@elsewhere.example>\r\nDATA\r\n";
    peer.send(group).await;
    for reply in ["250 2.1.0", "550 5.7.1", "550 5.7.1", "554 5.5.1"] {
        peer.hear(reply).await;
    }
    // The line is a command again, not content.
    peer.expect("RSET", "250 2.0.0").await;
    assert_eq!(
        relay.counter("waypost_smtp_messages_total{listener=\"relay\",result=\"accepted\"}").await,
        0
    );
    assert!(relay.queued().is_empty());
}
