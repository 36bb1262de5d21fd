//! Routes that refuse mail or throw it away, and waiting mail that meets another route than before.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::Door;

use crate::way::{ALICE, BOB, Way, home_to, nobody, patient};

#[tokio::test]
async fn a_peer_is_refused_in_the_words_of_the_route() {
    let upstream = Upstream::new();
    let home = home_to(upstream.listen().await.unwrap());
    let mut way = Way::through(home).await;
    way.home = way.home.without_routes().route_as("*", "fail = \"550 5.1.2 We have left\"");
    way.home.reload().await.unwrap();
    let mut peer = way.relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.envelope(ALICE, &[BOB]).await;
    let reply = peer.data("Subject: a\r\n\r\nb\r\n").await;
    assert!(reply.starts_with("550 5.1.2 We have left"), "{reply}");
    way.relay.empty().await;
    assert!(upstream.mails().is_empty() && way.alice.mails().is_empty());
    way.relay.stop().await;
}

#[tokio::test]
async fn mail_is_taken_and_nobody_gets_it() {
    let home = patient(waypost_scenarios::Home::new()).route_as("hole.example", "discard = true");
    let way = Way::through(home).await;
    let id = way.send_to(&["x@hole.example"]).await;
    way.settled(&id).await;
    assert!(way.alice.mails().is_empty());
    way.relay.stop().await;
}

#[tokio::test]
async fn waiting_mail_follows_the_route_that_is_there_when_it_is_tried_again() {
    let upstream = Upstream::new();
    let mut way = Way::through(patient(home_to(nobody()))).await;
    let id = way.send().await;
    way.deferred(&id).await;
    way.home = way.home.route_first("there.example", upstream.listen().await.unwrap());
    way.home.reload().await.unwrap();
    assert!(upstream.mails().is_empty(), "it waits until it is tried");
    way.retry(&id).await;
    way.settled(&id).await;
    assert_eq!(upstream.mails().len(), 1);
    way.relay.stop().await;
}
