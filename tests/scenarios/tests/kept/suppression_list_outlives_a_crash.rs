//! Who was put on the suppression list, or taken off, by an operator or by a bounce that was answered, is so
//! after a crash.

use waypost_admin::api::{Entries, ListSuppressions, Suppress, SuppressionPage, Unsuppress};
use waypost_harness::upstream::Upstream;
use waypost_mail::suppression::{Ground, Owner};
use waypost_mail::{Suppression, Timestamp};
use waypost_scenarios::{Door, Home, eventually};

const PROGRAM: &str = env!("CARGO_BIN_EXE_waypost-in-a-story");
const ALICE: &str = "alice@home.example";

fn by_hand(target: &str) -> Suppression {
    Suppression {
        target: target.parse().unwrap(),
        owner: Owner::Everybody,
        ground: Ground::Manual,
        since: Timestamp(0),
        expires: None,
        note: String::new(),
    }
}

#[tokio::test]
async fn as_it_was_answered() {
    let inside = Upstream::new();
    let home = Home::new()
        .trusting()
        .route("*", inside.listen().await.unwrap())
        .set("bounces", "domain", "\"bounces.example\"")
        .set("queue", "verp", "true")
        .set("suppression", "feed", "[\"bad-address\"]");
    let relay = home.spawn(PROGRAM).await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.deliver(ALICE, &["bob@there.example"], "Subject: news\r\n\r\nText\r\n").await;
    eventually("the copy", || inside.mails().len() == 1).await;
    let copy = inside.mails().remove(0);

    let entries = ["eve@there.example", "joe@there.example"].map(by_hand).to_vec();
    let client = relay.client();
    let _: Entries = client.post("/v1/suppressions/add", &Suppress { entries }).await.unwrap();
    let targets = vec!["joe@there.example".parse().unwrap()];
    let request = Unsuppress { targets, owner: None };
    let Entries { entries } = client.post("/v1/suppressions/remove", &request).await.unwrap();
    assert_eq!(entries, 1);
    let bounce = format!(
        "From: MAILER-DAEMON@there.example\r\nSubject: failure notice\r\n\r\n\
         Remote host said: 550 5.1.1 No such user\r\n\r\n\
         --- Below this line is a copy of the message.\r\n\r\n{}",
        copy.content
    );
    peer.deliver("", &[&copy.from], &bounce).await;
    relay.crash();

    let relay = home.start().await;
    let request = ListSuppressions::default();
    let listed: SuppressionPage =
        relay.client().post("/v1/suppressions/list", &request).await.unwrap();
    let mut listed: Vec<_> = listed.entries.iter().map(|entry| entry.target.to_string()).collect();
    listed.sort();
    assert_eq!(listed, ["bob@there.example", "eve@there.example"]);
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.expect(&format!("MAIL FROM:<{ALICE}>"), "250").await;
    peer.expect("RCPT TO:<bob@there.example>", "550 5.1.1").await;
    peer.expect("RCPT TO:<eve@there.example>", "550 5.7.1").await;
    peer.expect("RCPT TO:<joe@there.example>", "250").await;
    relay.stop().await;
}
