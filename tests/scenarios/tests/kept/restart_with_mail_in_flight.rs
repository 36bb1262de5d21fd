//! The relay ends while the upstream has not answered: after the start the mail is sent again.

use waypost_harness::upstream::{Act, Upstream};
use waypost_scenarios::{Door, Home, Peer, eventually};
use waypost_smtp::Phase;

const PROGRAM: &str = env!("CARGO_BIN_EXE_waypost-in-a-story");
const FLEET: usize = 5;

/// Each of the first connections hangs at this phase.
async fn world(phase: Phase) -> (Upstream, Home) {
    let in_lines = Upstream::new().without("PIPELINING").without("CHUNKING");
    let upstream = (0..FLEET).fold(in_lines, |upstream, _| upstream.once(phase, Act::Hang));
    let home = Home::new().trusting().route("*", upstream.listen().await.unwrap()).set(
        "delivery",
        "reply-timeout",
        "\"10s\"",
    );
    (upstream, home)
}

async fn send(peer: &mut Peer) {
    peer.hello().await;
    for number in 0..FLEET {
        let content = format!("Subject: number {number}\r\n\r\nText\r\n");
        peer.deliver("a@sender.example", &["b@there.example"], &content).await;
    }
}

fn subjects(upstream: &Upstream) -> Vec<String> {
    let subject = |content: &str| {
        content.lines().find_map(|l| l.strip_prefix("Subject: ")).unwrap().to_owned()
    };
    let mut subjects: Vec<_> = upstream.mails().iter().map(|mail| subject(&mail.content)).collect();
    subjects.sort();
    subjects
}

fn all() -> Vec<String> {
    (0..FLEET).map(|number| format!("number {number}")).collect()
}

#[tokio::test]
async fn killed_in_any_phase() {
    for phase in [Phase::Greeting, Phase::Mail, Phase::Data, Phase::Eod] {
        let (upstream, home) = world(phase).await;
        let relay = home.spawn(PROGRAM).await;
        send(&mut relay.peer(Door::Relay).await).await;
        eventually("an attempt under way", || upstream.connections() > 0).await;
        if phase == Phase::Eod {
            eventually("a final dot", || upstream.heard().contains("\r\n.\r\n")).await;
        }
        relay.crash();
        assert!(subjects(&upstream).is_empty(), "{phase}: the upstream took nothing");

        // What was on its way when the relay died is not read late and taken.
        upstream.forsake();
        upstream.relent();
        let relay = home.start().await;
        relay.empty().await;
        assert_eq!(subjects(&upstream), all(), "{phase}");
        relay.stop().await;
    }
}

/// The upstream has taken the message, and the relay dies before it could note that: the one case
/// in which a message comes twice.
#[tokio::test]
async fn killed_after_the_upstream_took_it() {
    let upstream = Upstream::new().once(Phase::Eod, Act::Drop);
    let home = Home::new()
        .trusting()
        .route("*", upstream.listen().await.unwrap())
        .set("queue", "first-retry", "\"1h\"")
        .set("queue", "max-retry", "\"1h\"");
    let relay = home.spawn(PROGRAM).await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.deliver("a@sender.example", &["b@there.example"], "Subject: twice\r\n\r\nText\r\n").await;
    eventually("the mail", || upstream.mails().len() == 1).await;
    relay.crash();
    let relay = home.start().await;
    for waiting in relay.queued() {
        // Due at once when the attempt was not noted, in an hour when it was.
        let _ = relay.queue().retry(waiting.id).await;
    }
    relay.empty().await;
    assert_eq!(subjects(&upstream), ["twice", "twice"]);
    relay.stop().await;
}

#[tokio::test]
async fn stopped_in_order() {
    let (upstream, home) = world(Phase::Eod).await;
    let home = home
        .set("delivery", "reply-timeout", "\"400ms\"")
        .set("queue", "first-retry", "\"1h\"")
        .set("queue", "max-retry", "\"1h\"");
    let relay = home.start().await;
    send(&mut relay.peer(Door::Relay).await).await;
    eventually("a final dot", || upstream.heard().contains("\r\n.\r\n")).await;
    relay.stop().await;
    assert!(subjects(&upstream).is_empty());

    upstream.relent();
    let relay = home.start().await;
    assert_eq!(relay.queued().len(), FLEET, "nothing is lost");
    assert!(relay.queued().iter().any(|message| message.tries == 1), "the attempt was noted");
    for message in relay.queued() {
        // What was not tried yet is under way already.
        let _ = relay.queue().retry(message.id).await;
    }
    relay.empty().await;
    assert_eq!(subjects(&upstream), all());
    relay.stop().await;
}
