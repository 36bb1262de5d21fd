//! The story of a message has what each plugin said about it, from the session it came by on.

use waypost_admin::Story;
use waypost_harness::upstream::Upstream;
use waypost_history::{Decided, Note};
use waypost_scenarios::{Door, Home};

const GUARD: &str = "config = { tag = \"X-Guard\" }\n\
    [plugin.grants]\nedit = { add = [\"X-*\"] }\n";

fn decisions(story: &Story) -> Vec<&Decided> {
    let notes = story.history.notes.iter();
    notes
        .filter_map(|told| match &told.note {
            Note::Decided(decided) => Some(&**decided),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn at_each_stage_with_changes_and_its_version() {
    let upstream = Upstream::new();
    let home = Home::new().trusting().route("*", upstream.listen().await.unwrap());
    let home = home.plugin("guard", "guard-rust", GUARD);
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let content = "Subject: x\r\n\r\ny\r\n";
    let first = peer.deliver("a@sender.example", &["b@dest.example"], content).await;
    let second = peer.deliver("a@sender.example", &["c@dest.example"], content).await;
    relay.empty().await;
    for (id, whom) in [(&first, "b@dest.example"), (&second, "c@dest.example")] {
        let path = format!("/v1/messages/{id}/why");
        let story: Story = relay.client().get(&path).await.unwrap();
        let said = decisions(&story);
        let stages: Vec<&str> = said.iter().map(|decided| decided.stage.as_str()).collect();
        assert_eq!(stages, ["recipients", "message"], "each once, and its own: {story}");
        assert_eq!(said[0].about, whom);
        let message = said[1];
        assert_eq!((message.plugin.as_str(), message.generation), ("guard", 1));
        assert_eq!((message.mode.as_str(), message.digest.len()), ("enforce", 12));
        assert!(message.edits.iter().any(|edit| edit.starts_with("add X-Guard")), "{story}");
        let text = story.to_string();
        assert!(text.contains("plugin guard at message"), "{text}");
    }
    relay.stop().await;
}
