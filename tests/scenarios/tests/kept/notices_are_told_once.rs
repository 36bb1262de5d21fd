//! The relay is killed around a notice: it is neither lost nor told again.

use waypost_harness::upstream::{Act, Upstream};
use waypost_scenarios::{Door, Home, eventually};
use waypost_smtp::Phase;

const PROGRAM: &str = env!("CARGO_BIN_EXE_waypost-in-a-story");

async fn home(upstream: &Upstream, senders: &Upstream) -> Home {
    Home::new()
        .trusting()
        .route("there.example", upstream.listen().await.unwrap())
        .route("*", senders.listen().await.unwrap())
}

fn actions(senders: &Upstream) -> Vec<String> {
    let action = |content: &str| {
        content.lines().find_map(|line| line.strip_prefix("Action: ")).unwrap().to_owned()
    };
    let mut all: Vec<_> = senders.mails().iter().map(|mail| action(&mail.content)).collect();
    all.sort();
    all
}

#[tokio::test]
async fn of_failure_and_of_what_was_passed_on() {
    let upstream = Upstream::new().refusing("nobody@there.example", "550 5.1.1 no such user");
    // Whoever has the sender's mail says nothing: the notices are under way when it happens.
    let senders = Upstream::new().on(Phase::Greeting, Act::Hang);
    let home = home(&upstream, &senders).await;
    let relay = home.spawn(PROGRAM).await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    for recipient in ["nobody@there.example", "b@there.example"] {
        peer.expect("MAIL FROM:<a@sender.example>", "250").await;
        peer.expect(&format!("RCPT TO:<{recipient}> NOTIFY=SUCCESS,FAILURE"), "250").await;
        assert!(peer.data("Subject: x\r\n\r\ny\r\n").await.starts_with("250"));
    }
    eventually("both notices under way", || senders.connections() >= 2).await;
    relay.crash();
    senders.relent();
    let relay = home.start().await;
    relay.empty().await;
    assert_eq!(actions(&senders), ["failed", "relayed"]);
    assert_eq!(upstream.mails().len(), 1);
    assert_eq!(upstream.heard().matches("RCPT TO:<nobody@").count(), 1, "settled with its notice");
    relay.stop().await;
}

#[tokio::test]
async fn of_delay() {
    let upstream = Upstream::new().on(Phase::Mail, Act::Say("451 4.3.0 not now".into()));
    let senders = Upstream::new();
    let home = home(&upstream, &senders).await.set("queue", "delay-notices", "[\"1s\"]");
    let relay = home.spawn(PROGRAM).await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.deliver("a@sender.example", &["b@there.example"], "Subject: x\r\n\r\ny\r\n").await;
    // It is logged when it is durable that the notice has arrived.
    eventually("the notice", || relay.log().contains("delivered")).await;
    relay.crash();
    assert_eq!(actions(&senders), ["delayed"]);
    let attempts = || upstream.heard().matches("MAIL FROM").count();
    let before = attempts();
    let relay = home.start().await;
    eventually("further attempts", || attempts() >= before + 2).await;
    upstream.relent();
    relay.empty().await;
    assert_eq!((actions(&senders).len(), upstream.mails().len()), (1, 1));
    relay.stop().await;
}
