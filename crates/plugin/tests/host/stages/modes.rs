//! Plugins whose answers do not count, and conditions under which they are asked.

use std::time::Duration;

use serde_json::json;
use waypost_plugin::when::Filter;
use waypost_plugin::{Mode, Stage};

use crate::testbed::mail::facts;
use crate::testbed::{Bed, hostile, witness};

const STAGES: [Stage; 5] =
    [Stage::Connect, Stage::Sender, Stage::Recipients, Stage::Message, Stage::Route];

/// `dry-run`: asked, told of, not applied; a fault is no fault of the mail.
#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let silent = Bed::with([]).await;
    for stage in STAGES {
        let script = json!({"verdict": "550 no", "hops": [["*", "a.example", 25]]});
        let mut plugin = witness("w", json!({"answers": {stage.name(): script}}));
        plugin.mode = Mode::DryRun;
        let mut bed = Bed::with([plugin]).await;
        let answer = bed.ask(stage, "mx").await.unwrap();
        assert_eq!(answer, silent.ask(stage, "mx").await.unwrap(), "{stage}");
        let told = bed.decisions();
        assert_eq!((told.len(), told[0].mode), (1, "dry-run"));
        assert!(
            told[0].verdict.contains("550") || told[0].edits[0].contains("a.example"),
            "{told:?}"
        );
        let mut plugin = hostile("w", "trap");
        plugin.mode = Mode::DryRun;
        let mut bed = Bed::with([plugin]).await;
        bed.ask(stage, "bad").await.unwrap();
        assert!(bed.decisions()[0].verdict.starts_with("failed (Trap)"));
    }
}

/// The plugin knows.
#[tokio::test]
async fn a_dry_run_is_told_so() {
    let mut plugin = witness("w", json!({}));
    plugin.mode = Mode::DryRun;
    let mut bed = Bed::with([plugin]).await;
    bed.connect(&facts("mx")).await.unwrap();
    assert!(bed.reasons()[0].ends_with("dry-run true"));
}

/// `shadow`: as a dry run, and nobody waits for it.
#[tokio::test]
async fn a_shadow_keeps_nobody_waiting() {
    let mut plugin = hostile("w", "dns-slow");
    plugin.grants.dns = Some(1);
    plugin.mode = Mode::Shadow(1.0);
    let budget =
        waypost_plugin::Budget { cpu: Duration::from_millis(5), wall: Duration::from_millis(300) };
    plugin.budgets.insert(Stage::Recipients, budget);
    let mut bed = Bed::with([plugin]).await;
    let answer =
        tokio::time::timeout(Duration::from_millis(250), bed.ask(Stage::Recipients, "bad"));
    answer.await.expect("nobody waits").unwrap();
    assert_eq!(bed.decisions().len(), 0);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let told = bed.decisions();
    assert_eq!((told.len(), told[0].mode), (1, "shadow"));
    assert!(told[0].verdict.starts_with("failed (Wall)"), "{told:?}");
}

#[tokio::test]
async fn a_shadow_of_a_share() {
    let mut plugin = witness("w", json!({}));
    plugin.mode = Mode::Shadow(0.25);
    let mut bed = Bed::with([plugin]).await;
    for _ in 0..400 {
        bed.connect(&facts("mx")).await.unwrap();
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let asked = bed.decisions().len();
    assert!((40..=180).contains(&asked), "{asked}");
}

/// `when`: who does not fit is not asked, and of recipients only those that fit are shown.
#[tokio::test]
async fn conditions_choose() {
    let when = |filter: Filter| {
        let mut plugin = witness("w", json!({}));
        plugin.when = filter;
        plugin
    };
    let listener = Filter { listeners: vec!["submission".to_owned()], ..Filter::default() };
    let mut bed = Bed::with([when(listener)]).await;
    for stage in STAGES {
        bed.ask(stage, "mx").await.unwrap();
        assert_eq!(bed.decisions().len(), 0, "{stage}");
        bed.ask(stage, "submission").await.unwrap();
        assert_eq!(bed.decisions().len(), 1, "{stage}");
    }
    let domain =
        Filter { recipient_domains: vec!["example.net".parse().unwrap()], ..Filter::default() };
    let mut bed = Bed::with([when(domain)]).await;
    bed.connect(&facts("mx")).await.unwrap();
    assert_eq!(bed.decisions().len(), 0, "recipients are not known yet");
    let to = ["a@example.org", "b@example.net"];
    bed.recipients(&facts("mx"), &to).await.unwrap();
    assert_eq!(bed.reasons()[2..], ["saw: recipient 1 b@example.net meta "]);
    let header = Filter { headers: vec!["x-a".to_owned()], ..Filter::default() };
    let mut bed = Bed::with([when(header)]).await;
    bed.ask(Stage::Message, "mx").await.unwrap();
    assert_eq!(bed.decisions().len(), 1);
    // Tags that a plugin before it has set.
    let tagged = Filter { tags: vec![("a/k".to_owned(), "v".to_owned())], ..Filter::default() };
    let first = witness("a", json!({"answers": {"message": {"meta": [["k", "v"]]}}}));
    let mut bed = Bed::with([first, when(tagged.clone())]).await;
    bed.ask(Stage::Message, "mx").await.unwrap();
    assert_eq!(bed.decisions().len(), 2);
    let mut bed = Bed::with([when(tagged)]).await;
    bed.ask(Stage::Message, "mx").await.unwrap();
    assert_eq!(bed.decisions().len(), 0);
}
