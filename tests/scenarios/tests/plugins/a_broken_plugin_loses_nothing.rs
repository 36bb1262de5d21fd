//! What happens to mail when a plugin fails is written down, and none of it is a loss.

use waypost_harness::upstream::Upstream;
use waypost_mail::MessageId;
use waypost_scenarios::{Door, Home};

/// A relay does not start without the policy it was told to have.
#[tokio::test]
async fn a_relay_without_its_policy_does_not_start() {
    let home = Home::new().trusting().plugin("guard", "guard-rust", "config = { tag = 1 }");
    let why = home.try_start().await.unwrap_err();
    assert!(why.contains("plugin guard") && why.contains("tag"), "{why}");
    home.put_component("guard", b"\0asm\x01\0\0\0");
    let why = home.try_start().await.unwrap_err();
    assert!(why.contains("is a core module, not a component"), "{why}");
}

/// What is not granted is not done: the answer is refused whole, the message with 451, and sent again it
/// goes through once the grant is there.
#[tokio::test]
async fn an_answer_beyond_its_grants_is_a_fault_for_now() {
    let upstream = Upstream::new();
    let home = Home::new().trusting().route("*", upstream.listen().await.unwrap());
    let lines = "config = { tag = \"X-Guard\" }\n[plugin.grants]\nedit = { add = [\"X-Other\"] }";
    let home = home.plugin("guard", "guard-rust", lines);
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.envelope("a@sender.example", &["b@dest.example"]).await;
    let reply = peer.data("Subject: x\r\n\r\ny\r\n").await;
    assert!(reply.starts_with("451 4.3.0"), "{reply}");
    assert!(relay.queued().is_empty());
    let home = home.without_plugins().plugin(
        "guard",
        "guard-rust",
        "config = { tag = \"X-Guard\" }\n[plugin.grants]\nedit = { add = [\"X-Guard\"] }",
    );
    home.reload().await.unwrap();
    peer.deliver("a@sender.example", &["b@dest.example"], "Subject: x\r\n\r\ny\r\n").await;
    relay.empty().await;
    assert_eq!(upstream.mails().len(), 1);
}

/// The relay rule stands before policy: a plugin that has no objection to anybody opens nothing, and what
/// it puts in a recipient's place must be granted.
#[tokio::test]
async fn no_plugin_opens_the_relay() {
    let upstream = Upstream::new();
    let home = Home::new().route("*", upstream.listen().await.unwrap());
    let grants = "config = { tag = \"X-Guard\" }\n[plugin.grants]\naccept = true\n\
                  edit = { add = [\"*\"], recipients = true }";
    let home = home.plugin("guard", "guard-rust", grants);
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.expect("MAIL FROM:<a@sender.example>", "250").await;
    peer.expect("RCPT TO:<b@elsewhere.example>", "550 5.7.1").await;
    peer.expect("RCPT TO:<alias-b@elsewhere.example>", "550 5.7.1").await;
    peer.expect("RCPT TO:<alias-b@inside.example>", "250").await;
    assert!(peer.data("Subject: x\r\n\r\ny\r\n").await.starts_with("250"));
    relay.empty().await;
    assert_eq!(upstream.mails()[0].to, ["b@inside.example"]);
}

/// Quarantined by a plugin: kept, not delivered, and there after a restart, until it is released.
#[tokio::test]
async fn quarantine_outlives_a_restart() {
    let upstream = Upstream::new();
    let home = Home::new().trusting().route("*", upstream.listen().await.unwrap());
    let lines = "config = { tag = \"X-Guard\" }\n[plugin.grants]\nedit = { add = [\"X-*\"] }";
    let home = home.plugin("guard", "guard-rust", lines);
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let text = "Subject: [internal] x\r\n\r\ny\r\n";
    let id = peer.deliver("a@sender.example", &["b@dest.example"], text).await;
    peer.expect("QUIT", "221").await;
    relay.stop().await;
    let relay = home.start().await;
    assert_eq!(relay.queued().len(), 1);
    assert!(upstream.mails().is_empty());
    relay.queue().release(id.parse::<MessageId>().unwrap()).await.unwrap();
    relay.empty().await;
    assert!(upstream.mails()[0].content.contains("X-Guard: checked by guard in Rust"));
}
