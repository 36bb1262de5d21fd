//! Policy names a next hop of the configuration, or one that is not there, or fails: mail goes where it
//! says, and where it says nothing useful mail waits and policy is asked again. Nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use waypost_harness::upstream::Upstream;
use waypost_hooks::{Fault, RouteGroup, RouteView};
use waypost_mail::{MessageId, RecipientState};
use waypost_scenarios::{Door, Home, Running, eventually};

use crate::says::{Says, all_go, by_name, fault, with_hop};

#[tokio::test]
async fn a_hop_that_has_a_name_is_found() {
    let (usual, named) = (Upstream::new(), Upstream::new());
    let policy = Says::new().of_a_route(|view| {
        let one = &view.recipients[..1];
        Ok(all_go(&RouteView { recipients: one, ..*view }, by_name("partner")))
    });
    let home = Home::new().trusting().hooks(policy.ready());
    let home = home.route("*", usual.listen().await.unwrap());
    let home = with_hop(home, "partner", named.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let to = ["b@dest.example", "c@dest.example"];
    peer.deliver("a@sender.example", &to, "Subject: x\r\n\r\ny\r\n").await;
    relay.empty().await;
    assert_eq!(named.mails()[0].to, ["b@dest.example"]);
    assert_eq!(usual.mails()[0].to, ["c@dest.example"], "who is not named goes as configured");
    assert_eq!((named.mails().len(), usual.mails().len()), (1, 1));
    relay.stop().await;
}

/// A message comes while policy is at a loss; then policy has mended, and an operator has it tried.
async fn waits_until_mended(answer: fn(&RouteView<'_>) -> Result<Vec<RouteGroup>, Fault>) {
    let upstream = Upstream::new();
    let mended = Arc::new(AtomicBool::new(false));
    let policy = Says::new().of_a_route({
        let mended = mended.clone();
        move |view| if mended.load(Ordering::SeqCst) { Ok(Vec::new()) } else { answer(view) }
    });
    let home = Home::new().trusting().hooks(policy.ready());
    let home = home.route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let id = peer.deliver("a@sender.example", &["b@dest.example"], "Subject: x\r\n\r\ny\r\n").await;
    let (tries, seconds) = wait(&relay, &id);
    assert!(tries == 0 && (60..70).contains(&seconds), "it was taken, and waits a minute at first");
    relay.stop().await;
    let relay = home.start().await;
    let retry = || async { relay.queue().retry(id.parse::<MessageId>().unwrap()).await.unwrap() };
    retry().await;
    // Asked once more, in vain: that is no attempt.
    eventually("it waits again", || wait(&relay, &id).0 == 0 && relay.queued()[0].in_flight == 0)
        .await;
    assert_eq!(upstream.connections(), 0);
    mended.store(true, Ordering::SeqCst);
    eventually("it is at rest", || relay.queued()[0].in_flight == 0).await;
    retry().await;
    relay.empty().await;
    assert_eq!(upstream.mails().len(), 1);
    relay.stop().await;
}

/// Attempts made, and how many seconds after its arrival it is due.
fn wait(relay: &Running, id: &str) -> (u32, u64) {
    let entry = relay.queue().show(id.parse().unwrap()).unwrap();
    let RecipientState::Waiting { due, tries, last: None } = &entry.recipients[0].state else {
        panic!("{:?}", entry.recipients[0])
    };
    (*tries, due.since(entry.received).as_secs())
}

#[tokio::test]
async fn a_policy_that_fails_is_asked_again() {
    waits_until_mended(|_| Err(fault())).await;
}

#[tokio::test]
async fn a_hop_that_nobody_knows_is_asked_about_again() {
    waits_until_mended(|view| Ok(all_go(view, by_name("nowhere")))).await;
}
