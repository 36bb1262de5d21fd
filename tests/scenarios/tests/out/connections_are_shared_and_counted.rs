//! Connections are used again, and never more of them than allowed.

use std::time::Duration;

use tokio::time::sleep;
use waypost_harness::upstream::{Act, Upstream};
use waypost_scenarios::{Home, eventually};
use waypost_smtp::Phase;

use crate::way::{ALICE, BOB, Way, home_to, patient};

async fn one_by_one(upstream: &Upstream, change: impl Fn(Home) -> Home) -> Way {
    let home = home_to(upstream.listen().await.unwrap()).set("queue", "per-destination", "1");
    Way::through(change(home)).await
}

async fn send_six(way: &Way) {
    for number in 0..6 {
        way.post(ALICE, &[BOB], &format!("number {number}")).await;
    }
    way.relay.empty().await;
}

#[tokio::test]
async fn many_messages_take_one_connection() {
    let upstream = Upstream::new();
    let way = one_by_one(&upstream, |home| home).await;
    send_six(&way).await;
    assert_eq!((upstream.mails().len(), upstream.connections()), (6, 1));
    assert_eq!(upstream.heard().matches("EHLO").count(), 1);
    way.relay.stop().await;
    assert!(upstream.heard().ends_with("QUIT\r\n"), "it leaves politely");
}

#[tokio::test]
async fn a_connection_has_its_share_of_messages() {
    let upstream = Upstream::new();
    let limit = |home: Home| home.set("delivery", "messages-per-connection", "2");
    let way = one_by_one(&upstream, limit).await;
    send_six(&way).await;
    assert_eq!((upstream.mails().len(), upstream.connections()), (6, 3));
    way.relay.stop().await;
}

#[tokio::test]
async fn an_upstream_that_closes_early_loses_nothing() {
    let upstream = Upstream::new().messages_per_connection(1);
    let way = one_by_one(&upstream, patient).await;
    send_six(&way).await;
    assert_eq!((upstream.mails().len(), upstream.connections()), (6, 6));
    way.relay.stop().await;
}

#[tokio::test]
async fn a_destination_gets_no_more_at_once_than_allowed() {
    let upstream = Upstream::new().on(Phase::Mail, Act::Hang);
    let home = patient(home_to(upstream.listen().await.unwrap()));
    let home = home.set("queue", "per-destination", "3").set("delivery", "reply-timeout", "\"2s\"");
    let way = Way::through(home).await;
    // A destination proves itself with one message; more at once come when it answered.
    for number in 0..9 {
        way.post(ALICE, &[BOB], &format!("number {number}")).await;
    }
    eventually("three at once", || upstream.connections() == 3).await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(upstream.connections(), 3);
    let status = way.relay.overview().await.queue;
    assert_eq!((status.leased, status.waiting), (3, 6), "{status:#?}");
    drop(way.relay);
}
