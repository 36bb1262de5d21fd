//! A next hop says that it is too much: nothing goes there for a while, also when the program ends and
//! starts meanwhile.

use waypost_harness::upstream::{Act, Upstream};
use waypost_scenarios::{Door, Home, eventually};
use waypost_smtp::Phase;

const PROGRAM: &str = env!("CARGO_BIN_EXE_waypost-in-a-story");
const TOO_MUCH: &str = "450 4.7.1 Error: too much mail, slow down";

#[tokio::test]
async fn as_it_was_asked_for() {
    let upstream = Upstream::new().on(Phase::Mail, Act::Say(TOO_MUCH.into()));
    let home = Home::new().trusting().route("*", upstream.listen().await.unwrap());
    let relay = home.spawn(PROGRAM).await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.deliver("a@home.example", &["b@there.example"], "Subject: one\r\n\r\nText\r\n").await;
    eventually("a rest", || relay.log().contains("too much mail: the way rests")).await;
    assert!(relay.stop().await.success());

    upstream.relent();
    let before = upstream.connections();
    let relay = home.spawn(PROGRAM).await;
    assert!(relay.log().contains("the way goes on resting"), "{}", relay.log());
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.deliver("a@home.example", &["c@there.example"], "Subject: two\r\n\r\nText\r\n").await;
    let postponed = |line: &str| line.contains("postponed") && line.contains("c@there.example");
    let waits = || relay.log().lines().any(postponed);
    eventually("the second message is put off", waits).await;
    assert_eq!(upstream.connections(), before, "nobody has called there");
    assert!(upstream.mails().is_empty());
    assert!(relay.stop().await.success());
}
