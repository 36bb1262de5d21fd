//! A route is for cut-through, and its time has not come: a limit is reached, a window is closed, the
//! submitter wants it held. The message takes the queue at once, and nobody waits for a next hop.

use std::fs;
use std::sync::Arc;

use tokio::net::TcpListener;
use waypost_harness::upstream::{Act, Upstream};
use waypost_harness::zone::Zone;
use waypost_mail::{ManualClock, Timestamp};
use waypost_scenarios::{Door, eventually};
use waypost_smtp::Phase;

use crate::the_next_hop_answers::{peer, through, through_to, went};
use crate::way::{ALICE, BOB, Way, patient};

const CONTENT: &str = "Subject: Hello\r\n\r\nThe text.\r\n";
const QUEUED: &str = "250 2.0.0 OK queued as ";
/// Two o'clock in the morning.
const NIGHT: Timestamp = Timestamp(1_800_064_800_000);
const PACK: &str = "
version = \"1\"
source = \"this story\"
[[provider]]
name = \"big\"
mx = [\"*.example\"]
connections = 1
";

/// The reply to a message from `from` to `to`.
async fn answer(way: &Way, from: &str, to: &str) -> String {
    let mut peer = peer(way).await;
    peer.envelope(from, &[to]).await;
    peer.data(CONTENT).await
}

#[tokio::test]
async fn a_class_has_reached_its_rate() {
    let upstream = Upstream::new();
    let class = r#"[{ name = "news", match = "sender:*@news.example", rate = "1/1h" }]"#;
    let home = through_to(upstream.listen().await.unwrap()).set("queue", "class", class);
    let way = Way::through(home).await;
    let editor = "editor@news.example";
    assert!(answer(&way, editor, BOB).await.contains(" delivered to "));
    assert!(answer(&way, editor, BOB).await.starts_with(QUEUED), "one in an hour");
    assert!(answer(&way, ALICE, BOB).await.contains(" delivered to "), "others go on");
    assert_eq!((went(&way.relay, "not-tried").await, upstream.mails().len()), (1, 2));
    assert_eq!(way.relay.queued()[0].tries, 0);
    way.relay.stop().await;
}

#[tokio::test]
async fn a_class_is_outside_of_its_windows() {
    let upstream = Upstream::new();
    let class =
        r#"[{ name = "day", match = "sender:*@news.example", windows = ["daily 06:00-22:00"] }]"#;
    let clock = Arc::new(ManualClock::at(NIGHT));
    let home = through_to(upstream.listen().await.unwrap()).set("queue", "class", class);
    let way = Way::through(home.clock(clock)).await;
    let editor = "editor@news.example";
    assert!(answer(&way, editor, BOB).await.starts_with(QUEUED));
    assert_eq!((went(&way.relay, "not-tried").await, upstream.connections()), (1, 0));
    way.relay.stop().await;
}

/// Two domains of one provider, which takes one connection: what was found out by the first attempt keeps the
/// second from being made.
#[tokio::test]
async fn a_provider_takes_no_more_at_once() {
    let zone = Zone::serve("$ORIGIN example.\nmx A 127.0.0.2\none MX 10 mx\ntwo MX 10 mx\n").await;
    let listener = TcpListener::bind(("127.0.0.2", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let upstream = Upstream::new().once(Phase::Eod, Act::Hang);
    upstream.attend(listener);
    let home = patient(waypost_scenarios::Home::new().dns(zone.addr, port));
    let home = home.route_as("*", "cut-through = true\n");
    let pack = home.path("providers.toml");
    fs::write(&pack, PACK).unwrap();
    let home = home.set("delivery", "providers", &format!("{pack:?}")).set(
        "delivery",
        "reply-timeout",
        "\"8s\"",
    );
    let way = Way::through(home).await;
    let mut first = peer(&way).await;
    first.envelope(ALICE, &["bob@one.example"]).await;
    first.expect("DATA", "354").await;
    first.send(format!("{CONTENT}.\r\n")).await;
    eventually("the provider has it", || upstream.heard().contains("The text.\r\n")).await;
    for _ in 0..2 {
        let reply = answer(&way, ALICE, "bob@two.example").await;
        assert!(reply.starts_with(QUEUED), "{reply}");
    }
    assert_eq!((went(&way.relay, "not-tried").await, upstream.connections()), (2, 1));
    // The first one's reply never comes.
    first.hear(QUEUED).await;
    way.relay.stop().await;
}

#[tokio::test]
async fn a_destination_has_as_many_attempts_as_it_may() {
    let upstream = Upstream::new().once(Phase::Eod, Act::Hang);
    let home = through_to(upstream.listen().await.unwrap())
        .set("queue", "per-destination", "1")
        .set("delivery", "reply-timeout", "\"8s\"");
    let way = Way::through(home).await;
    let mut first = peer(&way).await;
    first.envelope(ALICE, &[BOB]).await;
    first.expect("DATA", "354").await;
    first.send(format!("{CONTENT}.\r\n")).await;
    eventually("the next hop has it", || upstream.heard().contains("The text.\r\n")).await;
    assert!(answer(&way, ALICE, BOB).await.starts_with(QUEUED));
    assert_eq!((went(&way.relay, "not-tried").await, upstream.connections()), (1, 1));
    first.hear(QUEUED).await;
    way.relay.stop().await;
}

/// Who logs in may ask for that (RFC 4865): the message is tried when its time has come.
#[tokio::test]
async fn its_submitter_wants_it_held() {
    let upstream = Upstream::new();
    let home = through_to(upstream.listen().await.unwrap()).users();
    let way = Way::through(home.set("auth", "senders", "\"any\"")).await;
    let mut peer = way.relay.peer(Door::Submissions).await;
    peer.hello().await;
    peer.login().await;
    peer.expect(&format!("MAIL FROM:<{ALICE}> HOLDFOR=2"), "250 ").await;
    peer.expect(&format!("RCPT TO:<{BOB}>"), "250 ").await;
    let reply = peer.data(CONTENT).await;
    assert!(reply.starts_with(QUEUED), "{reply}");
    assert_eq!((went(&way.relay, "not-tried").await, upstream.connections()), (1, 0));
    let id = reply[QUEUED.len()..].to_owned();
    way.settled(&id).await;
    assert_eq!(upstream.mails().len(), 1);
    // And what is not to be held goes through.
    peer.envelope(ALICE, &[BOB]).await;
    let reply = peer.data(CONTENT).await;
    assert!(reply.contains(" delivered to "), "{reply}");
    way.relay.stop().await;
}

/// Of a deadline its sender may have to be told more than a reply says (RFC 2852).
#[tokio::test]
async fn its_submitter_names_a_deadline() {
    let upstream = Upstream::new();
    let way = through(&upstream).await;
    let mut peer = peer(&way).await;
    peer.expect(&format!("MAIL FROM:<{ALICE}> BY=3600;R"), "250 ").await;
    peer.expect(&format!("RCPT TO:<{BOB}>"), "250 ").await;
    let reply = peer.data(CONTENT).await;
    assert!(reply.starts_with(QUEUED), "{reply}");
    way.relay.stop().await;
}
