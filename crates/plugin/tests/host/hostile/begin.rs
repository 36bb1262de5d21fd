//! Plugins that begin badly: the policy is refused; later, the call fails.

use std::time::Duration;

use waypost_hooks::FaultKind;
use waypost_plugin::Stage;

use crate::testbed::{Bed, NOON, hostile_with, policy};

/// 2: an endless `init` refuses the policy.
#[tokio::test]
async fn an_endless_init_is_refused() {
    let said = Bed::refused([hostile_with("p", r#"{"init": "loop"}"#)]).await;
    assert!(said.contains("plugin p does not begin: it computes without end"), "{said}");
    let said = Bed::refused([hostile_with("p", r#"{"init": "trap"}"#)]).await;
    assert!(said.contains("unreachable"), "{said}");
    let said = Bed::refused([hostile_with("p", r#"{"init": "memory"}"#)]).await;
    assert!(said.contains("wants more memory than it may have"), "{said}");
}

#[tokio::test]
async fn what_init_says_is_told() {
    let said = Bed::refused([hostile_with("p", r#"{"init": "refuse"}"#)]).await;
    assert!(said.ends_with("it does not like its configuration"), "{said}");
    let said = Bed::refused([hostile_with("p", r#"{"unknown": 1}"#)]).await;
    assert!(said.contains("unknown"), "{said}");
    let said = Bed::refused([hostile_with("p", "no JSON")]).await;
    assert!(said.contains("plugin p does not begin"), "{said}");
}

/// `init` sees tables, clock, random and log, and nothing else.
#[tokio::test]
async fn init_may_not_ask_for_what_hooks_may() {
    let mut plugin = hostile_with("p", r#"{"init": "ask"}"#);
    plugin.grants.dns = Some(5);
    plugin.grants.kv.insert("ns".to_owned(), waypost_plugin::Access::Write);
    plugin.grants.tables = vec!["t".to_owned()];
    plugin.grants.secrets = vec!["s".to_owned()];
    plugin.grants.limits = vec!["b".to_owned()];
    let table = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(table.path(), "key value\n").unwrap();
    let mut config = policy([plugin]);
    config.tables.insert("t".to_owned(), table.path().to_owned());
    config.secrets.insert("s".to_owned(), waypost_plugin::Secret::new(&b"x"[..]));
    let bucket = waypost_plugin::Bucket { tokens: 1, per: Duration::from_secs(1), burst: 1 };
    config.limits.insert("b".to_owned(), bucket);
    let bed = Bed::of(config).await;
    bed.good(Stage::Recipients).await;
}

#[tokio::test]
async fn complaints_refuse_the_policy() {
    let config = r#"{"complaints": ["one thing", "another"]}"#;
    let said = Bed::refused([hostile_with("p", config)]).await;
    assert!(said.ends_with("plugin p fails its own test: one thing; another"), "{said}");
}

/// Everything that is wrong is said at once.
#[tokio::test]
async fn all_complaints_come_together() {
    let bad = hostile_with("one", r#"{"init": "refuse"}"#);
    let worse = hostile_with("two", r#"{"init": "trap"}"#);
    let said = Bed::refused([bad, worse]).await;
    assert!(said.contains("plugin one") && said.contains("plugin two"), "{said}");
}

/// 21: the first instance begins, the second does not.
#[tokio::test]
async fn a_second_instance_that_does_not_begin_fails_the_call() {
    let date = NOON.0 + 1000;
    let config = format!(r#"{{"init": "trap-later", "number": {date}, "do": "trap"}}"#);
    let bed = Bed::with([hostile_with("p", &config)]).await;
    bed.good(Stage::Recipients).await;
    bed.advance(Duration::from_secs(1));
    // The first one traps, and nobody can take its place.
    assert_eq!(bed.ask(Stage::Recipients, "bad").await.unwrap_err().kind, FaultKind::Trap);
    for _ in 0..4 {
        let fault = bed.ask(Stage::Recipients, "good").await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Init, "{fault}");
    }
    let fault = bed.ask(Stage::Recipients, "good").await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Busy, "the breaker is open: {fault}");
    assert_eq!(bed.counted("waypost_policy_breaker_open{plugin=\"p\",stage=\"recipients\"}"), 1.0);
}

/// 22: `init` says each time something else.
#[tokio::test]
async fn a_second_instance_that_wants_something_else_fails_the_call() {
    let bed = Bed::with([hostile_with("p", r#"{"init": "change", "do": "trap"}"#)]).await;
    bed.good(Stage::Recipients).await;
    bed.advance(Duration::from_secs(5));
    assert_eq!(bed.ask(Stage::Recipients, "bad").await.unwrap_err().kind, FaultKind::Trap);
    let fault = bed.ask(Stage::Recipients, "good").await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Init);
    assert!(fault.text.contains("something else"), "{fault}");
}
