//! Who is gone, or wants no more mail, gets none.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use waypost_admin::api::{Entries, ListSuppressions, Suppress, SuppressionPage, Unsuppress};
use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::Suppression;
use waypost_scenarios::{Door, PATIENCE};
use waypost_smtp::Phase;

use crate::the_next_hop_answers::through_to;
use crate::way::{ALICE, BOB, Way, home_to};

async fn rcpt(way: &Way, from: &str, to: &str) -> String {
    let mut peer = way.relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.say(&format!("MAIL FROM:<{from}>")).await;
    peer.say(&format!("RCPT TO:<{to}>")).await
}

async fn listed(way: &Way) -> Vec<Suppression> {
    let request = ListSuppressions::default();
    let page: SuppressionPage =
        way.relay.client().post("/v1/suppressions/list", &request).await.unwrap();
    page.entries
}

/// An entry is made behind the settlement, which alice hears of.
async fn somebody_listed(way: &Way) {
    let began = Instant::now();
    while listed(way).await.is_empty() {
        assert!(began.elapsed() < PATIENCE, "nobody is listed");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn after_a_bounce_that_says_so_also_after_a_restart() {
    let upstream = Upstream::new()
        .refusing(BOB, "550 5.1.1 no such user")
        .refusing("full@there.example", "552 5.2.2 mailbox full");
    let home =
        home_to(upstream.listen().await.unwrap()).set("suppression", "feed", "[\"bad-address\"]");
    let way = Way::through(home).await;
    let id = way.send_to(&[BOB, "full@there.example"]).await;
    way.settled(&id).await;
    way.notices(1).await;
    somebody_listed(&way).await;
    let refused = rcpt(&way, ALICE, BOB).await;
    assert!(
        refused.starts_with("550 5.1.1 bob@there.example is on the suppression list"),
        "{refused}"
    );
    assert!(
        rcpt(&way, ALICE, "full@there.example").await.starts_with("250"),
        "he may have room again"
    );
    assert!(rcpt(&way, "x@else.example", BOB).await.starts_with("250"), "others may try");
    assert!(rcpt(&way, "", BOB).await.starts_with("250"), "notices go to everybody");
    let counted = "waypost_suppression_refused_total{ground=\"bad-address\"}";
    assert_eq!(way.relay.counter(counted).await, 1);
    way.relay.stop().await;

    let relay = way.home.start().await;
    let way = Way { relay, ..way };
    assert!(rcpt(&way, ALICE, BOB).await.starts_with("550 5.1.1"));
    let [entry] = &listed(&way).await[..] else { panic!() };
    assert_eq!(
        (entry.owner.to_string(), entry.ground.word()),
        ("@home.example".into(), "bad-address")
    );
    assert!(entry.expires.is_some());
    let request = Unsuppress { targets: vec![entry.target.clone()], owner: None };
    let removed: Entries =
        way.relay.client().post("/v1/suppressions/remove", &request).await.unwrap();
    assert_eq!(removed.entries, 1);
    assert!(rcpt(&way, ALICE, BOB).await.starts_with("250"));
    way.relay.stop().await;
}

/// The submitter heard it of the next hop, and hears it of us the next time. What is put off is held against
/// nobody.
#[tokio::test]
async fn also_when_the_next_hop_said_so_to_the_submitter() {
    let dave = "dave@there.example";
    let upstream = Upstream::new()
        .once(Phase::Eod, Act::Say("452 4.3.1 no room".into()))
        .refusing(BOB, "550 5.1.1 no such user");
    let home = through_to(upstream.listen().await.unwrap());
    let way = Way::through(home.set("suppression", "feed", "[\"bad-address\"]")).await;
    let answer = async |to: &str| {
        let mut peer = way.relay.peer(Door::Relay).await;
        peer.hello().await;
        peer.envelope(ALICE, &[to]).await;
        peer.data("Subject: x\r\n\r\ny\r\n").await
    };
    assert!(answer(dave).await.starts_with("452 4.3.1 "));
    assert!(answer(BOB).await.starts_with("550 5.1.1 "));
    somebody_listed(&way).await;
    assert!(rcpt(&way, ALICE, BOB).await.starts_with("550 5.1.1 bob@there.example is on the"));
    assert!(rcpt(&way, ALICE, dave).await.starts_with("250"));
    assert!(way.alice.mails().is_empty(), "nobody is told twice");
    way.relay.stop().await;
}

#[tokio::test]
async fn without_the_configuration_nobody_is_listed_by_a_bounce() {
    let upstream = Upstream::new().on(Phase::Rcpt, Act::Say("550 5.1.1 no such user".into()));
    let way = Way::to(&upstream).await;
    let id = way.send().await;
    way.settled(&id).await;
    way.notices(1).await;
    assert!(rcpt(&way, ALICE, BOB).await.starts_with("250"));
    assert!(listed(&way).await.is_empty());
    way.relay.stop().await;
}

#[tokio::test]
async fn when_an_operator_says_so() {
    let way = Way::to(&Upstream::new()).await;
    let entry: Suppression = serde_json::from_value(serde_json::json!({
        "target": "@there.example", "owner": "everybody", "ground": "manual",
        "since": 0, "expires": null, "note": "sold",
    }))
    .unwrap();
    let request = Suppress { entries: vec![entry] };
    let added: Entries = way.relay.client().post("/v1/suppressions/add", &request).await.unwrap();
    assert_eq!(added.entries, 1);
    assert!(rcpt(&way, ALICE, BOB).await.starts_with("550 5.7.1 @there.example is on"));
    assert!(rcpt(&way, ALICE, "postmaster@there.example").await.starts_with("250"));
    assert!(rcpt(&way, ALICE, "bob@elsewhere.example").await.starts_with("250"));
    way.relay.stop().await;
}
