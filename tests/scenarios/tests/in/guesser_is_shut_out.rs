//! Somebody guesses a user's password from one address: that address is shut out, also after a
//! restart, and the user is not.

use waypost_admin::api::{Ban, LiftBans, Lifted};
use waypost_scenarios::{Door, Home, PASSWORD, Peer, Running, USER, b64};

fn plain(password: &str) -> String {
    format!("AUTH PLAIN {}", b64(format!("\0{USER}\0{password}")))
}

/// A peer at the port for submissions that comes from `127.0.0.x`.
async fn peer(relay: &Running, last: u8) -> Peer {
    let peer = Peer::from([127, 0, 0, last], relay.address(Door::Submissions)).await;
    let mut peer = peer.encrypt(relay.roots()).await;
    peer.hear("220 ").await;
    peer.hello().await;
    peer
}

async fn is_shut_out(relay: &Running, last: u8) {
    let mut peer = Peer::from([127, 0, 0, last], relay.address(Door::Submission)).await;
    peer.hear("421 4.7.0 Too many logins failed").await;
}

#[tokio::test]
async fn and_the_user_is_not() {
    let home = Home::new().users().set("auth.failures", "delay", "\"1ms\"").set(
        "auth.failures",
        "ban-after",
        "3",
    );
    let relay = home.start().await;
    let mut guesser = peer(&relay, 2).await;
    guesser.expect(&plain("letmein"), "535 5.7.8").await;
    guesser.expect(&plain("letmein2"), "535 5.7.8").await;
    guesser.expect(&plain("letmein3"), "421 4.7.0").await;
    is_shut_out(&relay, 2).await;
    peer(&relay, 3).await.expect(&plain(PASSWORD), "235").await;
    assert_eq!(relay.counter("waypost_inbound_bans_total").await, 1);
    let refused = "waypost_inbound_refused_total{listener=\"submission\",reason=\"banned\"}";
    assert_eq!(relay.counter(refused).await, 1);
    relay.stop().await;

    let relay = home.start().await;
    is_shut_out(&relay, 2).await;
    peer(&relay, 3).await.expect(&plain(PASSWORD), "235").await;
    let client = relay.client();
    let [ban] = &client.get::<Vec<Ban>>("/v1/bans").await.unwrap()[..] else { panic!("one ban") };
    assert_eq!(ban.network, "127.0.0.2/32");
    let request = LiftBans { network: Some("127.0.0.2".to_owned()), all: false };
    let lifted: Lifted = client.post("/v1/bans/lift", &request).await.unwrap();
    assert_eq!(lifted.lifted, 1);
    peer(&relay, 2).await.expect(&plain(PASSWORD), "235").await;
}
