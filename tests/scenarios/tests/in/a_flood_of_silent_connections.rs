//! Strangers open connections, say nothing, and come again when they are sent home; all the while mail
//! is taken from those who have some.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, Peer, eventually};

/// Sessions there may be, and connections that want to be among them.
const SESSIONS: usize = 64;
const FLOOD: u8 = 120;

/// One who connects, keeps silent for as long as it is let, and begins anew.
async fn flood(source: [u8; 4], to: SocketAddr, inside: Arc<AtomicUsize>, over: Arc<AtomicBool>) {
    while !over.load(Ordering::Relaxed) {
        let mut peer = Peer::from(source, to).await;
        if peer.reply().await.starts_with("220") {
            inside.fetch_add(1, Ordering::Relaxed);
            while !over.load(Ordering::Relaxed) && !peer.has_ended(Duration::from_millis(50)).await
            {
            }
        } else {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_is_taken_all_the_same() {
    let upstream = Upstream::new();
    let home = Home::new()
        .set("limits", "sessions", &SESSIONS.to_string())
        .set("limits", "sessions-per-address", "10")
        .set("limits", "sessions-per-network", "40")
        .route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let to = relay.address(Door::Relay);

    // Somebody is in the middle of a message when it begins.
    let mut before = Peer::from([127, 0, 0, 9], to).await;
    before.hear("220").await;
    before.hello().await;
    before.envelope("early@sender.example", &["b@inside.example"]).await;

    let (inside, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let mut strangers = JoinSet::new();
    for number in 0..FLOOD {
        let source = [127, 1, number % 3, 1 + number % 40];
        strangers.spawn(flood(source, to, inside.clone(), over.clone()));
    }
    eventually("the house is full", || inside.load(Ordering::Relaxed) >= SESSIONS - 1).await;

    for number in 0..20_u8 {
        let source = [127, 2, number, 1];
        let mut told = String::new();
        // A second must pass before the silent are held to have nothing to say; mail servers try again.
        for _ in 0..100 {
            let mut peer = Peer::from(source, to).await;
            told = peer.reply().await;
            if told.starts_with("220") {
                peer.hello().await;
                let content = format!("Subject: {number}\r\n\r\nx\r\n");
                peer.deliver("a@sender.example", &["b@inside.example"], &content).await;
                peer.expect("QUIT", "221").await;
                break;
            }
            assert!(told.starts_with("421 4.3.2"), "{told}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(told.starts_with("220"), "message {number} finds no room: {told}");
    }
    assert!(before.data("Subject: early\r\n\r\nx\r\n").await.starts_with("250 2.0.0"));
    assert!(relay.counter("waypost_inbound_sent_home_total").await > 0);
    over.store(true, Ordering::Relaxed);
    strangers.join_all().await;
    relay.empty().await;
    assert_eq!(upstream.mails().len(), 21);
}
