//! Logins send as what is their own.

use std::sync::Arc;
use std::time::Duration;

use waypost_hooks::Verdict;

use super::policy::Script;
use super::setup::{House, Peer, b64, users};
use crate::ListenerKind::{Relay, Submission};
use crate::{Account, SenderRule, SenderRules, Settings, Users, Wildcard};

const REFUSED: &str = "550 5.7.1 You are not logged in as somebody who may send as this address";

fn bound(settings: &mut Settings) {
    let alice = Account {
        send_as: vec!["alice@example.org".parse().unwrap(), "<>".parse().unwrap()],
        ..Account::clone(users().get("alice").unwrap())
    };
    let own = Account::clone(users().get("carol").unwrap());
    settings.users =
        Users::new([("alice".to_owned(), alice), ("carol@example.org".to_owned(), own)]);
    settings.auth.senders = SenderRules {
        rules: vec![SenderRule {
            users: vec![Wildcard("carol@*".to_owned())],
            may: vec!["@team.example".parse().unwrap()],
        }],
        ..SenderRules::default()
    };
}

async fn logged_in(house: &House, name: &str, password: &str) -> Peer {
    let mut peer = house.encrypted(Submission).await;
    peer.expect(&format!("AUTH PLAIN {}", b64(format!("\0{name}\0{password}"))), "235").await;
    peer
}

#[tokio::test]
async fn the_envelope_s_sender_is_the_login_s() {
    let house = House::open(bound).await;
    let mut alice = logged_in(&house, "alice", "wonder").await;
    for (sender, expected) in [
        ("alice@example.org", "250"),
        ("ALICE@EXAMPLE.ORG", "250"),
        ("", "250"),
        ("bob@example.org", REFUSED),
        ("x@team.example", REFUSED),
    ] {
        alice.expect(&format!("MAIL FROM:<{sender}>"), expected).await;
        alice.expect("RSET", "250").await;
    }
    let mut carol = logged_in(&house, "carol@example.org", "both").await;
    for (sender, expected) in [
        ("carol@example.org", "250"),
        ("x@team.example", "250"),
        ("", REFUSED),
        ("alice@example.org", REFUSED),
    ] {
        carol.expect(&format!("MAIL FROM:<{sender}>"), expected).await;
        carol.expect("RSET", "250").await;
    }
    // Whoever has not logged in is bound to nothing: others' servers send from anywhere.
    let change = |settings: &mut Settings| {
        bound(settings);
        settings.relay.networks = vec!["127.0.0.1".parse().unwrap()];
    };
    let house = House::open(change).await;
    let mut stranger = house.knock(Relay).await;
    stranger.expect("EHLO peer.example", "250-").await;
    stranger.expect("MAIL FROM:<bob@example.org>", "250").await;
}

#[tokio::test]
async fn the_from_field_too_where_that_is_said() {
    let message = async |from: &str, look: bool| {
        let house = House::open(|settings| {
            bound(settings);
            settings.auth.senders.from_field = look;
        });
        let house = house.await;
        let mut alice = logged_in(&house, "alice", "wonder").await;
        alice.expect("MAIL FROM:<alice@example.org>", "250").await;
        alice.expect("RCPT TO:<x@anywhere.example>", "250").await;
        alice.expect("DATA", "354").await;
        alice.say(&format!("From: {from}\r\n\r\nHello\r\n.")).await
    };
    assert!(message("Alice <alice@example.org>", true).await.starts_with("250"));
    let reply = message("Boss <boss@example.org>", true).await;
    assert!(reply.starts_with("550 5.7.1 The From field"), "{reply}");
    assert!(message("Boss <boss@example.org>", false).await.starts_with("250"));
}

#[tokio::test]
async fn logins_that_policy_grants_are_bound_too() {
    let policy = Script { connect: Some(Verdict::Proceed) };
    let house = House::with(Arc::new(policy), Duration::from_secs(5), |settings| {
        bound(settings);
        settings.limits.max_delay = Duration::ZERO;
    });
    let house = house.await;
    let mut peer = logged_in(&house, "oracle@example.org", "whatever").await;
    peer.expect("MAIL FROM:<bob@example.org>", REFUSED).await;
    peer.expect("MAIL FROM:<oracle@example.org>", "250").await;
}
