//! As many messages wait as may: those who come are put off, and once one has left mail is taken again.

use waypost_harness::upstream::{Act, Upstream};
use waypost_scenarios::{Door, Home, Peer, eventually};
use waypost_smtp::Phase;

async fn put_off(key: &str, value: &str) {
    let upstream = Upstream::new().on(Phase::Mail, Act::Say("450 4.2.1 busy".to_owned()));
    let home = Home::new()
        .trusting()
        .set("queue", key, value)
        .route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut there = relay.peer(Door::Relay).await;
    there.hello().await;
    let content = format!("Subject: x\r\n\r\n{}", "line\r\n".repeat(1000));
    there.deliver("a@sender.example", &["b@dest.example"], &content).await;
    there.expect("MAIL FROM:<a@sender.example>", "452 4.3.1 Too much mail").await;
    let mut late = Peer::to(relay.address(Door::Relay)).await;
    late.hear("421 4.3.1").await;
    assert!(late.is_over().await);
    let refused = "waypost_inbound_refused_total{listener=\"relay\",reason=\"queue\"}";
    assert_eq!(relay.counter(refused).await, 1);
    upstream.relent();
    relay.empty().await;
    eventually("it has arrived", || upstream.mails().len() == 1).await;
    there.deliver("a@sender.example", &["b@dest.example"], "Subject: y\r\n\r\n").await;
    relay.empty().await;
    relay.peer(Door::Relay).await.hello().await;
}

#[tokio::test]
async fn by_their_number() {
    put_off("max-messages", "1").await;
}

#[tokio::test]
async fn by_their_size() {
    put_off("max-size", "\"4KiB\"").await;
}
