//! Logins that fail, again and again.

use std::sync::Arc;
use std::time::Duration;

use waypost_hooks::Pass;
use waypost_mail::{Clock, SystemClock};
use waypost_spool::MemorySpool;

use super::setup::{House, Peer, b64, rooms};
use crate::ListenerKind::{Relay, Submissions};
use crate::Settings;

fn plain(name: &str, password: &str) -> String {
    format!("AUTH PLAIN {}", b64(format!("\0{name}\0{password}")))
}

fn strict(settings: &mut Settings) {
    settings.auth.failures.ban_after = 3;
}

/// Guesses until the door is shut; the last reply.
async fn hammer(peer: &mut Peer, name: &str) -> String {
    loop {
        let reply = peer.say(&plain(name, "wrong")).await;
        if !reply.starts_with("535") {
            return reply;
        }
    }
}

#[tokio::test]
async fn whoever_hammers_at_a_user_is_shut_out_and_the_user_is_not() {
    let house = House::open(strict).await;
    let mut users_own = house.encrypted_from(3).await;
    let mut open = house.encrypted_from(2).await;
    let mut attacker = house.encrypted_from(2).await;
    let reply = hammer(&mut attacker, "alice").await;
    assert!(reply.starts_with("421 4.7.0 Too many logins failed"), "{reply}");
    assert!(attacker.is_over().await);
    // A session that is open already gets no further guess, nor does a right password help there.
    open.expect(&plain("alice", "wonder"), "421 4.7.0").await;
    // And none begins.
    let mut again = house.connect_from(2, Relay).await;
    assert!(again.reply().await.starts_with("421 4.7.0 Too many logins failed"));
    assert!(house.connect_from(2, Submissions).await.is_over().await);
    users_own.expect(&plain("alice", "wonder"), "235").await;
    let mut fresh = house.encrypted_from(3).await;
    fresh.expect(&plain("alice", "wonder"), "235").await;
    let metrics = house.server.metrics();
    assert_eq!(metrics.bans.get(), 1);
    let refused = |listener: &str| {
        let labels =
            crate::metrics::RefusedLabels { listener: listener.to_owned(), reason: "banned" };
        metrics.refused.get(&labels).map_or(0, |counter| counter.get())
    };
    assert_eq!((refused("relay"), refused("submissions")), (1, 2));
}

#[tokio::test]
async fn a_ban_outlives_the_program_and_can_be_lifted() {
    let spool = Arc::new(MemorySpool::new());
    let before = rooms(spool.clone(), Arc::new(Pass)).await;
    before.bans.ban("127.0.0.2".parse().unwrap(), Duration::from_secs(60)).await;
    let after = rooms(spool, Arc::new(Pass)).await;
    let [ban] = after.bans.list()[..] else { panic!("{:?}", after.bans) };
    assert_eq!(ban.network.to_string(), "127.0.0.2/32");
    assert!(ban.until > SystemClock.now());
    assert_eq!(after.bans.lift(ban.network).await.unwrap(), 1);
    assert!(after.bans.on("127.0.0.2".parse().unwrap()).is_none());
}

#[tokio::test]
async fn listed_networks_are_never_shut_out() {
    let trusting: [fn(&mut Settings); 2] = [
        |settings| settings.auth.failures.never_ban = vec!["127.0.0.2".parse().unwrap()],
        |settings| settings.relay.networks = vec!["127.0.0.2".parse().unwrap()],
    ];
    for trust in trusting {
        let house = House::open(|settings| {
            strict(settings);
            trust(settings);
        });
        let house = house.await;
        let mut peer = house.encrypted_from(2).await;
        for _ in 0..5 {
            peer.expect(&plain("alice", "wrong"), "535").await;
        }
        peer.expect(&plain("alice", "wonder"), "235").await;
        assert!(house.server.house.rooms.bans.list().is_empty());
    }
}

/// Who failed waits longer and longer, here and for this user alone: seen by the clock of failures,
/// not by that of the test.
#[tokio::test]
async fn a_user_s_next_login_from_there_waits() {
    let delay = Duration::from_millis(50);
    let house = House::open(|settings| settings.auth.failures.delay = delay).await;
    let delayed = || house.server.metrics().logins_delayed.get();
    let mut peer = house.encrypted_from(2).await;
    peer.expect(&plain("alice", "wrong"), "535").await;
    let began = tokio::time::Instant::now();
    peer.expect(&plain("alice", "wrong"), "535").await;
    peer.expect(&plain("alice", "wonder"), "235").await;
    assert!(began.elapsed() >= delay, "{:?}", began.elapsed());
    house.encrypted_from(3).await.expect(&plain("alice", "wonder"), "235").await;
    house.encrypted_from(2).await.expect(&plain("carol", "both"), "235").await;
    assert!(delayed() >= 1);
}
