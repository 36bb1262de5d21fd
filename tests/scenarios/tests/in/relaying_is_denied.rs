//! Strangers may send to the listed domains and to the postmaster, and to nobody else.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home};

#[tokio::test]
async fn strangers_reach_the_listed_domains_alone() {
    let upstream = Upstream::new();
    let home = Home::new()
        .set("relay", "domains", "[\"inside.example\", \"*.below.example\"]")
        .route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.expect("MAIL FROM:<a@inside.example>", "250 2.1.0").await;
    for (address, reply) in [
        ("b@inside.example", "250 2.1.5"),
        ("c@INSIDE.Example", "250 2.1.5"),
        ("b@a.below.example", "250 2.1.5"),
        ("b@below.example", "550 5.7.1 Relaying denied"),
        ("b@a.inside.example", "550 5.7.1 Relaying denied"),
        ("b@inside.example.org", "550 5.7.1 Relaying denied"),
        ("b%inside.example@elsewhere.example", "550 5.7.1 Relaying denied"),
        ("\"b@inside.example\"@elsewhere.example", "550 5.7.1 Relaying denied"),
        // RFC 5321 §3.6.1: a source route is dropped, and what counts is where it ends.
        ("@inside.example:b@elsewhere.example", "550 5.7.1 Relaying denied"),
        ("b@[127.0.0.1]", "550 5.7.1 Relaying denied"),
    ] {
        peer.expect(&format!("RCPT TO:<{address}>"), reply).await;
    }
    assert!(peer.data("Subject: x\r\n\r\ny\r\n").await.starts_with("250"));
    relay.empty().await;
    let mut reached: Vec<String> = upstream.mails().into_iter().flat_map(|mail| mail.to).collect();
    reached.sort();
    assert_eq!(reached, ["b@a.below.example", "b@inside.example", "c@inside.example"]);
}

#[tokio::test]
async fn the_postmaster_is_reached_by_everybody() {
    let upstream = Upstream::new();
    let home = Home::new()
        .set("", "postmaster", "\"ops@office.example\"")
        .route("office.example", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.expect("MAIL FROM:<>", "250 2.1.0").await;
    peer.expect("RCPT TO:<ops@office.example>", "550 5.7.1").await;
    peer.expect("RCPT TO:<PostMaster>", "250 2.1.5").await;
    assert!(peer.data("Subject: abuse\r\n\r\ny\r\n").await.starts_with("250"));
    relay.empty().await;
    let mails = upstream.mails();
    assert_eq!(
        (mails[0].from.as_str(), mails[0].to.as_slice()),
        ("", &["ops@office.example".to_owned()][..])
    );
}

#[tokio::test]
async fn logged_in_users_reach_everybody() {
    let relay = Home::new().users().start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let mut peer = peer.starttls(relay.roots()).await;
    peer.expect("MAIL FROM:<a@sender.example>", "250 2.1.0").await;
    peer.expect("RCPT TO:<b@elsewhere.example>", "550 5.7.1").await;
    peer.expect("RSET", "250").await;
    peer.login().await;
    peer.envelope("a@sender.example", &["b@elsewhere.example"]).await;
}

#[tokio::test]
async fn an_open_relay_does_not_start() {
    let home = Home::new().set("relay", "networks", "[\"0.0.0.0/0\"]");
    let refused = home.try_start().await.unwrap_err();
    assert!(refused.contains("open relay") && refused.contains("networks"), "{refused}");
    let home = Home::new().set("relay", "domains", "[\"*\"]");
    let refused = home.try_start().await.unwrap_err();
    assert!(refused.contains("open relay") && refused.contains("domains"), "{refused}");
}
