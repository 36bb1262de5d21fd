//! What was advertised is obeyed: a message that the next hop cannot take as it is comes back, and
//! is never sent wrong.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, Peer, Running};

/// An upstream for `dest.example` that lacks an extension, and one for the notices.
async fn world(lacks: &'static str) -> (Upstream, Upstream, Running) {
    let (lacking, senders) = (Upstream::new().without(lacks), Upstream::new());
    let home = Home::new()
        .trusting()
        .route("dest.example", lacking.listen().await.unwrap())
        .route("*", senders.listen().await.unwrap());
    let relay = home.start().await;
    (lacking, senders, relay)
}

async fn peer(relay: &Running) -> Peer {
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer
}

/// One notice about one recipient, with this status.
fn notice(senders: &Upstream, to: &str, status: &str) -> String {
    let mails = senders.mails();
    assert_eq!(mails.len(), 1, "one notice");
    assert_eq!((mails[0].from.as_str(), mails[0].to.as_slice()), ("", &[to.to_owned()][..]));
    let content = mails[0].content.clone();
    assert!(content.contains("\r\nAction: failed\r\n"), "{content}");
    assert!(content.contains(&format!("\r\nStatus: {status}\r\n")), "{content}");
    content
}

#[tokio::test]
async fn eight_bits_to_a_server_of_seven() {
    let (lacking, senders, relay) = world("8BITMIME").await;
    let mut peer = peer(&relay).await;
    peer.expect("MAIL FROM:<a@sender.example> BODY=8BITMIME", "250 2.1.0").await;
    peer.expect("RCPT TO:<b@dest.example>", "250 2.1.5").await;
    assert!(peer.data("Subject: x\r\n\r\ngr\u{fc}n\r\n").await.starts_with("250"));
    relay.empty().await;
    let content = notice(&senders, "a@sender.example", "5.6.3");
    assert!(content.contains("Final-Recipient: rfc822; b@dest.example"), "{content}");
    assert_eq!(lacking.mails(), []);
    assert!(!lacking.heard().contains("DATA"), "{}", lacking.heard());
}

/// What counts is what the message is, not what its sender said about it.
#[tokio::test]
async fn eight_bits_that_were_not_declared() {
    let (lacking, senders, relay) = world("8BITMIME").await;
    let mut peer = peer(&relay).await;
    peer.deliver("a@sender.example", &["b@dest.example"], "Subject: x\r\n\r\ngr\u{fc}n\r\n").await;
    relay.empty().await;
    notice(&senders, "a@sender.example", "5.6.3");
    assert_eq!(lacking.mails(), []);
}

#[tokio::test]
async fn seven_bits_declared_as_eight_are_sent() {
    let (lacking, senders, relay) = world("8BITMIME").await;
    let mut peer = peer(&relay).await;
    peer.expect("MAIL FROM:<a@sender.example> BODY=8BITMIME", "250 2.1.0").await;
    peer.expect("RCPT TO:<b@dest.example>", "250 2.1.5").await;
    assert!(peer.data("Subject: x\r\n\r\ngreen\r\n").await.starts_with("250"));
    relay.empty().await;
    assert_eq!((lacking.mails().len(), senders.mails().len()), (1, 0));
    assert!(!lacking.heard().contains("BODY="), "{}", lacking.heard());
}

#[tokio::test]
async fn international_addresses_to_a_server_without_them() {
    let (lacking, senders, relay) = world("SMTPUTF8").await;
    let mut peer = peer(&relay).await;
    peer.expect("MAIL FROM:<a@sender.example> SMTPUTF8", "250 2.1.0").await;
    peer.expect("RCPT TO:<b\u{e4}r@dest.example>", "250 2.1.5").await;
    assert!(peer.data("Subject: x\r\n\r\ny\r\n").await.starts_with("250"));
    relay.empty().await;
    notice(&senders, "a@sender.example", "5.6.7");
    assert_eq!(lacking.mails(), []);
    assert!(!lacking.heard().contains("MAIL FROM"), "{}", lacking.heard());
}

#[tokio::test]
async fn international_headers_to_a_server_without_them() {
    let (lacking, senders, relay) = world("SMTPUTF8").await;
    let mut peer = peer(&relay).await;
    peer.expect("MAIL FROM:<a@sender.example> SMTPUTF8 BODY=8BITMIME", "250 2.1.0").await;
    peer.expect("RCPT TO:<b@dest.example>", "250 2.1.5").await;
    assert!(peer.data("Subject: gr\u{fc}n\r\n\r\ny\r\n").await.starts_with("250"));
    relay.empty().await;
    notice(&senders, "a@sender.example", "5.6.7");
    assert_eq!(lacking.mails(), []);
}

/// A server that has both gets both, with the parameters that say so.
#[tokio::test]
async fn a_server_that_can_take_it_gets_it() {
    let upstream = Upstream::new();
    let relay = Home::new().trusting().route("*", upstream.listen().await.unwrap()).start().await;
    let mut peer = peer(&relay).await;
    peer.expect("MAIL FROM:<a@sender.example> SMTPUTF8 BODY=8BITMIME", "250 2.1.0").await;
    peer.expect("RCPT TO:<b\u{e4}r@dest.example>", "250 2.1.5").await;
    let content = "Subject: gr\u{fc}n\r\n\r\ngr\u{fc}n\r\n";
    assert!(peer.data(content).await.starts_with("250"));
    relay.empty().await;
    let mail = upstream.mails().pop().unwrap();
    assert_eq!(mail.to, ["b\u{e4}r@dest.example"]);
    assert!(mail.content.ends_with(content), "{}", mail.content);
    let heard = upstream.heard();
    let line = heard.lines().find(|line| line.starts_with("MAIL FROM")).unwrap();
    assert!(line.contains(" SMTPUTF8") && line.contains(" BODY=8BITMIME"), "{line}");
}
