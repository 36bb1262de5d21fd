//! Who may send to whom.

use super::setup::House;
use crate::ListenerKind::Relay;

#[tokio::test]
async fn strangers_reach_listed_domains_and_nobody_else() {
    let house = House::open(|settings| {
        settings.relay.domains.push("example.org".parse().unwrap());
    })
    .await;
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO peer.example", "250-").await;
    peer.expect("MAIL FROM:<a@sender.example>", "250").await;
    assert_eq!(peer.say("RCPT TO:<x@other.example>").await, "550 5.7.1 Relaying denied");
    peer.send(b"RCPT TO:<b@example.org>\r\nRCPT TO:<y@[192.0.2.1]>\r\nRCPT TO:<c@EXAMPLE.org>\r\n")
        .await;
    let mut replies = Vec::new();
    for _ in 0..3 {
        replies.push(peer.reply().await[..9].to_owned());
    }
    assert_eq!(replies, ["250 2.1.5", "550 5.7.1", "250 2.1.5"]);
    peer.expect("DATA", "354").await;
    let reply = peer.say("Subject: hi\r\n\r\n..Hello\r\n.").await;
    let (entry, text) = house.message();
    assert_eq!(reply, format!("250 2.0.0 OK queued as {}", entry.id));
    let recipients: Vec<_> =
        entry.recipients.iter().map(|r| r.recipient.mailbox.to_string()).collect();
    assert_eq!(recipients, ["b@example.org", "c@example.org"]);
    assert!(text.starts_with("Received: from peer.example ([127.0.0.1])"), "{text}");
    assert!(text.ends_with("Subject: hi\r\n\r\n.Hello\r\n"), "{text}");
    assert_eq!(entry.facts.listener, "relay");
    peer.expect("QUIT", "221").await;
    assert!(peer.is_over().await);
}

#[tokio::test]
async fn listed_networks_reach_everybody() {
    let house = House::open(|settings| {
        settings.relay.networks.push("127.0.0.0/8".parse().unwrap());
    })
    .await;
    let mut peer = house.knock(Relay).await;
    peer.expect("HELO peer.example", "250").await;
    assert!(peer.deliver("x@anywhere.example").await.starts_with("250 2.0.0"));
    assert!(peer.deliver("y@anywhere.example").await.starts_with("250 2.0.0"));
    assert_eq!(house.spool.commits(), 2);
}

#[tokio::test]
async fn users_reach_everybody_from_the_relay_port_too() {
    let house = House::open(|_| {}).await;
    let mut peer = house.encrypted(Relay).await;
    peer.expect("MAIL FROM:<a@sender.example>", "250").await;
    peer.expect("RCPT TO:<x@anywhere.example>", "550 5.7.1").await;
    peer.expect("RSET", "250").await;
    let plain = super::setup::b64("\0alice\0wonder");
    peer.expect(&format!("AUTH PLAIN {plain}"), "235").await;
    assert!(peer.deliver("x@anywhere.example").await.starts_with("250 2.0.0"));
}

#[tokio::test]
async fn postmaster_is_always_there() {
    let house = House::open(|_| {}).await;
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO peer.example", "250-").await;
    assert!(peer.deliver("PostMaster").await.starts_with("250 2.0.0"));
    let (entry, _) = house.message();
    assert_eq!(entry.recipients[0].recipient.mailbox.to_string(), "postmaster@mx.example.org");

    let house = House::open(|s| s.postmaster = "admin@example.net".parse().ok()).await;
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO peer.example", "250-").await;
    peer.deliver("postmaster").await;
    let (entry, _) = house.message();
    assert_eq!(entry.recipients[0].recipient.mailbox.to_string(), "admin@example.net");
}

#[tokio::test]
async fn a_transaction_given_up_leaves_nothing() {
    let house = House::open(|s| s.relay.networks.push("127.0.0.0/8".parse().unwrap())).await;
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO peer.example", "250-").await;
    peer.expect("MAIL FROM:<a@sender.example>", "250").await;
    peer.expect("RCPT TO:<x@anywhere.example>", "250").await;
    peer.expect("BDAT 7\r\nHello", "250").await;
    peer.expect("RSET", "250").await;
    assert!(peer.deliver("y@anywhere.example").await.starts_with("250"));
    let (entry, text) = house.message();
    assert_eq!(entry.recipients.len(), 1);
    assert!(!text.contains("Hello\r\nSubject"), "{text}");
}

#[tokio::test]
async fn a_large_message_goes_through_a_file() {
    let house = House::open(|s| s.relay.networks.push("127.0.0.0/8".parse().unwrap())).await;
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO peer.example", "250-").await;
    let body: String = (0..40_000).map(|n| format!("line number {n}\r\n")).collect();
    let mut group = b"MAIL FROM:<>\r\nRCPT TO:<x@y.example>\r\n".to_vec();
    group.extend_from_slice(format!("BDAT {} LAST\r\n", body.len() + 14).as_bytes());
    group.extend_from_slice(format!("Subject: x\r\n\r\n{body}").as_bytes());
    peer.send(&group).await;
    for expected in ["250 2.1.0", "250 2.1.5", "250 2.0.0"] {
        assert!(peer.reply().await.starts_with(expected));
    }
    let (entry, text) = house.message();
    assert_eq!(entry.size as usize, text.len());
    assert!(text.ends_with(&body));
    assert_eq!(
        std::fs::read_dir(waypost_spool::Spool::incoming(&*house.spool)).unwrap().count(),
        0
    );
}
