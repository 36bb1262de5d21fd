//! The relay ends while a submitter waits for the next hop: before its answer, it was promised nothing,
//! and it sends the message again. The message may arrive twice and is not lost.

use std::fs;

use waypost_harness::upstream::{Act, Upstream};
use waypost_scenarios::{Door, Home, Peer, STORY_ENDS, eventually};
use waypost_smtp::Phase;

const PROGRAM: &str = env!("CARGO_BIN_EXE_waypost-in-a-story");
/// What comes first is not in the log at the next start, the rest is.
const STEPS: [&str; 4] = ["Append", "Appended", "Synced", "Applied"];
const BOB: &str = "bob@dest.example";
const CAROL: &str = "carol@dest.example";
const CONTENT: &str = "Subject: x\r\n\r\nText\r\n";

async fn home_to(upstream: &Upstream) -> Home {
    let address = upstream.listen().await.unwrap();
    let via = format!("via = [{{ host = \"{}\", port = {} }}]", address.ip(), address.port());
    Home::new().trusting().route_as("*", &format!("{via}\ncut-through = true\n"))
}

/// Sends a message, and does not wait for the answer.
async fn send(peer: &mut Peer, to: &[&str]) {
    peer.hello().await;
    peer.envelope("a@sender.example", to).await;
    peer.expect("DATA", "354").await;
    peer.send(format!("{CONTENT}.\r\n")).await;
}

/// The next hop has the message, and its word has not come to the submitter.
#[tokio::test]
async fn between_the_next_hops_reply_and_ours() {
    let upstream = Upstream::new().once(Phase::Eod, Act::Withhold);
    let home = home_to(&upstream).await;
    let relay = home.spawn(PROGRAM).await;
    let mut peer = relay.peer(Door::Relay).await;
    send(&mut peer, &[BOB]).await;
    eventually("the next hop has it", || upstream.mails().len() == 1).await;
    relay.crash();
    assert!(peer.is_over().await, "the submitter has no answer");

    let relay = home.start().await;
    assert!(relay.queued().is_empty(), "nothing was promised, and nothing is kept");
    let mut peer = relay.peer(Door::Relay).await;
    send(&mut peer, &[BOB]).await;
    assert!(peer.reply().await.contains(" delivered to "));
    assert_eq!(upstream.mails().len(), 2, "twice, and not lost");
    relay.stop().await;
}

/// One recipient was taken and the other one is to be kept: at each step of making that durable.
#[tokio::test]
async fn while_what_is_left_becomes_durable() {
    let mut kept = 0;
    for step in STEPS {
        let upstream = Upstream::new().refusing_once(CAROL, "450 4.2.1 busy");
        let home = home_to(&upstream).await;
        let marker = home.path("end-now");
        let ends = format!("{step}:{}", marker.display());
        let mut relay = home.spawn_with(PROGRAM, &[(STORY_ENDS, &ends)]).await;
        fs::write(&marker, "").unwrap();
        let mut peer = relay.peer(Door::Relay).await;
        send(&mut peer, &[BOB, CAROL]).await;
        assert!(peer.is_over().await, "{step}");
        assert!(!relay.ended().await.success(), "{step}");
        assert_eq!(upstream.mails().len(), 1, "{step}");

        let relay = home.start().await;
        relay.empty().await;
        let to =
            |name: &str| upstream.mails().iter().filter(|m| m.to.contains(&name.into())).count();
        let was_kept = to(CAROL) == 1;
        kept += usize::from(was_kept);
        assert_eq!(to(BOB), 1, "{step}: who was taken is not tried again by us");
        // The submitter, who has no answer, sends it again to both.
        let mut peer = relay.peer(Door::Relay).await;
        send(&mut peer, &[BOB, CAROL]).await;
        assert!(peer.reply().await.starts_with("250 "), "{step}");
        relay.empty().await;
        let twice = if was_kept { 2 } else { 1 };
        assert_eq!((to(BOB), to(CAROL)), (2, twice), "{step}: each has it at least once");
        relay.stop().await;
    }
    assert!(kept >= 3, "{kept}: the steps behind the sync are durable");
}

/// What took too long is durable before its submitter hears so.
#[tokio::test]
async fn after_it_was_told_that_the_message_is_kept() {
    let upstream = Upstream::new().once(Phase::Data, Act::Hang);
    let home = home_to(&upstream).await.set("delivery", "cut-through-patience", "\"1s\"");
    let relay = home.spawn(PROGRAM).await;
    let mut peer = relay.peer(Door::Relay).await;
    send(&mut peer, &[BOB]).await;
    peer.hear("250 2.0.0 OK queued as ").await;
    relay.crash();
    let relay = home.start().await;
    relay.empty().await;
    assert_eq!(upstream.mails().len(), 1);
    relay.stop().await;
}
