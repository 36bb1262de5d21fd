//! Every stage of a message's way asks policy, in order, once.

use std::sync::Arc;

use waypost_harness::hooks::{RecordingHooks, Stage};
use waypost_harness::upstream::Upstream;
use waypost_hooks::EventKind;
use waypost_scenarios::{Door, Home, eventually};

#[tokio::test]
async fn of_a_submitted_message() {
    let hooks = Arc::new(RecordingHooks::new());
    let upstream = Upstream::new();
    let home =
        Home::new().users().hooks(hooks.clone()).route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Submission).await;
    peer.hello().await;
    let mut peer = peer.starttls(relay.roots()).await;
    peer.login().await;
    let to = ["b@dest.example", "c@dest.example"];
    let id = peer.deliver("a@sender.example", &to, "Subject: x\r\n\r\ny\r\n").await;
    peer.expect("QUIT", "221").await;
    relay.empty().await;
    let expected = [
        (Stage::Connect, "submission"),
        (Stage::Helo, "peer.example"),
        (Stage::Helo, "peer.example"),
        (Stage::Auth, "anna"),
        (Stage::Sender, "a@sender.example"),
        (Stage::Recipients, "b@dest.example"),
        (Stage::Recipients, "c@dest.example"),
        (Stage::Message, id.as_str()),
        (Stage::Route, "b@dest.example c@dest.example"),
        (Stage::Prepare, "b@dest.example c@dest.example"),
        (Stage::Attempt, "delivered delivered"),
    ];
    assert_eq!(hooks.asked(), expected.map(|(stage, about)| (stage, about.to_owned())));
    let kinds = [
        EventKind::SessionOpened,
        EventKind::MessageAccepted,
        EventKind::SessionClosed,
        EventKind::Delivered,
    ];
    eventually("all events are told", || kinds.iter().all(|kind| hooks.events().contains(kind)))
        .await;
    let events = hooks.events();
    assert_eq!(events.iter().filter(|kind| **kind == EventKind::Delivered).count(), 2);
    assert_eq!(events[0], EventKind::SessionOpened, "{events:?}");
}

/// Our own notices come in by no session, and are asked about all the same.
#[tokio::test]
async fn of_a_notice() {
    let hooks = Arc::new(RecordingHooks::new());
    let refusing = Upstream::new().refusing("b@dest.example", "550 5.1.1 nobody");
    let senders = Upstream::new();
    let home = Home::new()
        .trusting()
        .hooks(hooks.clone())
        .route("dest.example", refusing.listen().await.unwrap())
        .route("*", senders.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.deliver("a@sender.example", &["b@dest.example"], "Subject: x\r\n\r\ny\r\n").await;
    // Between the record of a bounce and its notice the queue shows neither for a moment.
    eventually("the notice", || senders.mails().len() == 1).await;
    relay.empty().await;
    let stages = hooks.stages();
    let expected = [
        Stage::Connect,
        Stage::Helo,
        Stage::Sender,
        Stage::Recipients,
        Stage::Message,
        Stage::Route,
        Stage::Prepare,
        Stage::Attempt,
        // The notice.
        Stage::Message,
        Stage::Route,
        Stage::Prepare,
        Stage::Attempt,
    ];
    assert_eq!(stages, expected);
    eventually("the bounce is told", || hooks.events().contains(&EventKind::Bounced)).await;
}
