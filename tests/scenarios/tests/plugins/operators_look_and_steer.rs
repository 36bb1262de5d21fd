//! What operators see of plugins, and how they change them: by the file, by a signal, by a question.

use std::time::Duration;

use waypost_admin::api::{ExplainRequest, PolicyView, StageExplained};
use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home};

fn guard(tag: &str) -> String {
    format!(
        "config = {{ tag = \"{tag}\" }}\n[plugin.grants]\nedit = {{ add = [\"X-*\"] }}\n\
         [plugin.when]\nrecipient-domain = [\"dest.example\"]"
    )
}

#[tokio::test]
async fn explain_says_who_is_asked_and_why_others_are_not() {
    let home = Home::new().trusting().plugin("guard", "guard-rust", &guard("X-Guard"));
    let _relay = home.start().await;
    let ask = |to: &str| ExplainRequest {
        client: "192.0.2.1".to_owned(),
        from: "a@sender.example".to_owned(),
        to: vec![to.to_owned()],
        ..ExplainRequest::default()
    };
    let client = home.client();
    let at = |stages: &[StageExplained], name: &str| {
        let stage = stages.iter().find(|stage| stage.stage == name).unwrap();
        stage.plugins[0].why_not.clone()
    };
    let stages: Vec<StageExplained> =
        client.post("/v1/policy/explain", &ask("b@dest.example")).await.unwrap();
    assert_eq!(at(&stages, "recipients"), None);
    assert_eq!(at(&stages, "message"), None);
    assert_eq!(at(&stages, "route").as_deref(), Some("it has no route-hook"));
    let stages: Vec<StageExplained> =
        client.post("/v1/policy/explain", &ask("b@other.example")).await.unwrap();
    let why = at(&stages, "message");
    assert_eq!(why.as_deref(), Some("no recipient is in one of its domains"));
    let wrong = client.post::<Vec<StageExplained>>("/v1/policy/explain", &ask("nobody")).await;
    assert!(wrong.unwrap_err().to_string().contains("the recipient \"nobody\""));
}

#[tokio::test]
async fn calls_are_counted_and_shown() {
    let upstream = Upstream::new();
    let home = Home::new().trusting().route("*", upstream.listen().await.unwrap());
    let home = home.plugin("guard", "guard-rust", &guard("X-Guard"));
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.deliver("a@sender.example", &["b@dest.example"], "Subject: x\r\n\r\ny\r\n").await;
    peer.deliver("a@sender.example", &["b@other.example"], "Subject: x\r\n\r\ny\r\n").await;
    relay.empty().await;
    let view: PolicyView = home.client().get("/v1/policy").await.unwrap();
    let calls = |stage: &str| {
        view.plugins[0].stages.iter().find(|s| s.stage == stage).map(|s| (s.calls, s.failed))
    };
    assert_eq!((calls("recipients"), calls("message")), (Some((1, 0)), Some((1, 0))));
    let counter =
        "waypost_policy_calls_total{plugin=\"guard\",stage=\"message\",result=\"answered\"}";
    assert_eq!(relay.counter(counter).await, 1);
    assert_eq!(view.generations[0].state, "current");
}

/// The file watch waits until a file is quiet and loads it once, however often it was written.
#[tokio::test]
async fn a_changed_file_is_loaded_by_itself() {
    let upstream = Upstream::new();
    let home = Home::new()
        .trusting()
        .set("policy", "watch", "true")
        .route("*", upstream.listen().await.unwrap());
    let home = home.plugin("guard", "guard-rust", &guard("X-Guard"));
    let relay = home.start().await;
    // The watch must have seen the first state.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    for _ in 0..30 {
        home.put_guest("guard", "guard-c");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let mut tries = 0;
    loop {
        peer.deliver("a@sender.example", &["b@dest.example"], "Subject: x\r\n\r\ny\r\n").await;
        relay.empty().await;
        if upstream.mails().last().unwrap().content.contains("checked by guard in C") {
            break;
        }
        tries += 1;
        assert!(tries < 100, "the file was not loaded");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let view: PolicyView = home.client().get("/v1/policy").await.unwrap();
    assert!(view.generations[0].id <= 3, "{:?}", view.generations);
    // What is no component leaves the running one alone.
    home.put_component("guard", b"nothing");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    peer.deliver("a@sender.example", &["b@dest.example"], "Subject: x\r\n\r\ny\r\n").await;
    relay.empty().await;
    assert!(upstream.mails().last().unwrap().content.contains("checked by guard in C"));
}
