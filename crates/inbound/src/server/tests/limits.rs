//! Limits of number and time, and the end of the program.

use std::sync::Arc;
use std::time::Duration;

use waypost_hooks::Pass;
use waypost_spool::SpoolError;

use super::setup::House;
use crate::ListenerKind::{Relay, Submissions};
use crate::metrics::{ListenerLabel, RefusedLabels};

const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn too_many_sessions_are_turned_away_until_one_ends() {
    let house = House::open(|s| s.limits.max_sessions = 2).await;
    let mut first = house.knock(Relay).await;
    let _second = house.knock(Relay).await;
    let mut third = house.connect(Relay).await;
    assert_eq!(third.reply().await, "421 4.3.2 Too many sessions, try again later");
    assert!(third.is_over().await);
    assert!(house.connect(Submissions).await.is_over().await);
    first.expect("QUIT", "221").await;
    assert!(first.is_over().await);
    drop(first);
    let label = ListenerLabel { listener: "relay".into() };
    let open = house.server.metrics().open.get_or_create_owned(&label);
    while open.get() > 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    house.knock(Relay).await;
    let refused = RefusedLabels { listener: "relay".into(), reason: "sessions" };
    assert_eq!(house.server.metrics().refused.get_or_create_owned(&refused).get(), 1);
}

#[tokio::test]
async fn one_address_has_its_share() {
    let house = House::open(|s| s.limits.max_sessions_per_address = 1).await;
    let _first = house.knock(Relay).await;
    let reply = house.connect(Relay).await.reply().await;
    assert_eq!(reply, "421 4.7.0 Too many sessions from your address");
}

#[tokio::test]
async fn who_says_nothing_or_too_little_is_sent_home() {
    let house = House::open(|s| s.limits.command_timeout = SHORT).await;
    let mut silent = house.knock(Relay).await;
    assert_eq!(silent.reply().await, "421 4.4.2 Waited too long, closing");
    assert!(silent.is_over().await);
    let mut dripping = house.knock(Relay).await;
    for _ in 0..3 {
        dripping.send(b"N").await;
        tokio::time::sleep(SHORT / 4).await;
    }
    assert!(dripping.reply().await.starts_with("421 4.4.2"));
}

#[tokio::test]
async fn a_body_that_stops_is_sent_home_and_leaves_nothing() {
    let house = House::open(|s| {
        s.relay.networks.push("127.0.0.0/8".parse().unwrap());
        s.limits.data_timeout = SHORT;
    })
    .await;
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO peer.example", "250-").await;
    peer.send(b"MAIL FROM:<>\r\nRCPT TO:<x@y.example>\r\nDATA\r\n").await;
    for expected in ["250", "250", "354"] {
        assert!(peer.reply().await.starts_with(expected));
    }
    peer.send(b"Subject: half").await;
    assert!(peer.reply().await.starts_with("421 4.4.2"));
    assert_eq!(house.spool.commits(), 0);
}

#[tokio::test]
async fn no_session_lasts_for_ever() {
    let house = House::open(|s| s.limits.session_lifetime = SHORT).await;
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO peer.example", "250-").await;
    assert_eq!(peer.reply().await, "421 4.4.2 Session lasted too long, closing");
}

#[tokio::test]
async fn a_handshake_takes_only_so_long() {
    let house = House::open(|s| s.limits.handshake_timeout = SHORT).await;
    assert!(house.connect(Submissions).await.is_over().await);
}

#[tokio::test]
async fn a_full_or_failing_spool_puts_mail_off() {
    let house = House::open(|s| s.relay.networks.push("127.0.0.0/8".parse().unwrap())).await;
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO peer.example", "250-").await;
    house.spool.set_full(true);
    peer.expect("MAIL FROM:<>", "452 4.3.1").await;
    house.spool.set_full(false);
    house.spool.fail_next(SpoolError::Failed("test".into()));
    assert!(peer.deliver("x@y.example").await.starts_with("451 4.3.0"));
    assert!(peer.deliver("x@y.example").await.starts_with("250"));
    assert_eq!(house.spool.commits(), 1);
}

#[tokio::test]
async fn at_the_end_idle_sessions_leave_and_transactions_finish() {
    let mut house = House::open(|s| s.relay.networks.push("127.0.0.0/8".parse().unwrap())).await;
    let mut idle = house.knock(Relay).await;
    let mut busy = house.knock(Relay).await;
    busy.expect("EHLO peer.example", "250-").await;
    busy.expect("MAIL FROM:<>", "250").await;
    house.stop();
    assert_eq!(idle.reply().await, "421 4.3.2 Service shutting down, try again later");
    assert!(idle.is_over().await);
    drop(idle);
    let late = tokio::net::TcpStream::connect(house.address(Relay)).await;
    assert!(late.is_err(), "a new peer came in");
    busy.expect("RCPT TO:<x@y.example>", "250").await;
    busy.expect("DATA", "354").await;
    busy.expect("Subject: last\r\n\r\n.", "250 2.0.0").await;
    assert!(busy.reply().await.starts_with("421 4.3.2"));
    drop(busy);
    assert_eq!(house.spool.commits(), 1);
    assert_eq!(house.end().await, 0);
}

#[tokio::test]
async fn at_the_end_patience_ends_too() {
    let mut house = House::with(Arc::new(Pass), SHORT, |_| {}).await;
    let mut busy = house.knock(Relay).await;
    busy.expect("EHLO peer.example", "250-").await;
    busy.expect("MAIL FROM:<>", "250").await;
    house.stop();
    assert!(busy.is_over().await);
    assert_eq!(house.end().await, 1);
}

#[tokio::test]
async fn everything_is_counted() {
    let house = House::open(|s| s.relay.networks.push("127.0.0.0/8".parse().unwrap())).await;
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO peer.example", "250-").await;
    peer.deliver("x@y.example").await;
    let mut registry = prometheus_client::registry::Registry::default();
    house.server.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "waypost_inbound_sessions_total{listener=\"relay\"} 1",
        "waypost_inbound_sessions_open{listener=\"relay\"} 1",
        "waypost_inbound_messages_total{listener=\"relay\",result=\"accepted\"} 1",
        "waypost_inbound_bytes_total{listener=\"relay\"} 106",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
