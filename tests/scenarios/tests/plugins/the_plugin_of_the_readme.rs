//! The plugin that the README has a newcomer write does what the README says.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home};

#[tokio::test]
async fn the_subject_of_strangers_is_tagged() {
    let upstream = Upstream::new();
    let home = Home::new().trusting().route("*", upstream.listen().await.unwrap());
    let lines =
        "config = { tag = \"[external]\" }\n[plugin.grants]\nedit = { remove = [\"Subject\"] }";
    let home = home.plugin("tagger", "tagger", lines);
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.deliver("a@sender.example", &["b@dest.example"], "Subject: hello\r\n\r\ny\r\n").await;
    relay.empty().await;
    let content = &upstream.mails()[0].content;
    assert!(content.contains("\r\nSubject: [external] hello\r\n"), "{content}");
}
