//! What plugins ask of the host: too much, and without a grant.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;
use waypost_plugin::{Access, Budget, Stage};

use crate::testbed::{Bed, hostile, hostile_with, witness};

fn patient(mut plugin: waypost_plugin::PluginConfig) -> waypost_plugin::PluginConfig {
    let budget = Budget { cpu: Duration::from_secs(2), wall: Duration::from_secs(10) };
    plugin.budgets.insert(Stage::Recipients, budget);
    plugin
}

/// 23: past 1000 calls functions say so; the guest counts them and traps when it is not 500 of 1500.
#[tokio::test]
async fn past_a_thousand_calls_functions_say_so() {
    for granted in [true, false] {
        let mut plugin = patient(hostile("p", "over-quota"));
        if granted {
            plugin.grants.kv.insert("ns".to_owned(), Access::Write);
        }
        let bed = Bed::with([plugin]).await;
        bed.ask(Stage::Recipients, "bad").await.unwrap();
        bed.good(Stage::Recipients).await;
    }
}

/// 24: a line of 10 MB is more than one transfer takes.
#[tokio::test]
async fn a_huge_line_is_a_quota() {
    let mut bed = Bed::with([patient(hostile("p", "log-huge"))]).await;
    let fault = bed.fails(Stage::Recipients, waypost_hooks::FaultKind::Quota).await;
    assert!(fault.text.contains("too much data"), "{fault}");
}

/// 24: a flood is dammed, and counted.
#[tokio::test]
async fn a_flood_of_lines_is_dammed() {
    let log = Log::default();
    let bed = Bed::with([patient(hostile("p", "log-flood"))]).await;
    let guard = log.listen();
    for _ in 0..3 {
        bed.ask(Stage::Recipients, "bad").await.unwrap();
    }
    drop(guard);
    let lines = log.text().lines().filter(|line| line.contains("again and again")).count();
    assert_eq!(lines, 1000);
    assert_eq!(bed.counted("waypost_policy_log_lines_dropped_total{plugin=\"p\"}"), 1700.0);
    // A second later there is room, and it is said what was left out.
    bed.advance(Duration::from_secs(1));
    let guard = log.listen();
    bed.ask(Stage::Recipients, "bad").await.unwrap();
    drop(guard);
    assert!(log.text().contains("dropped=1700"), "{}", log.text());
}

/// 24: what a terminal would obey is written as what it is.
#[tokio::test]
async fn escapes_are_escaped() {
    let log = Log::default();
    let bed = Bed::with([hostile("p", "log-escapes")]).await;
    let guard = log.listen();
    bed.ask(Stage::Recipients, "bad").await.unwrap();
    drop(guard);
    let text = log.text();
    assert!(text.contains(r"first\r\nsecond \u{1b}[2J"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

/// 25: labels without end are one series `other`.
#[tokio::test]
async fn labels_without_end_are_others() {
    let mut bed = Bed::with([patient(hostile("p", "metric-labels"))]).await;
    bed.ask(Stage::Recipients, "bad").await.unwrap();
    let rows = bed.metrics().lines().filter(|line| line.starts_with("waypost_plugin_")).count();
    assert_eq!(rows, 201);
    assert_eq!(bed.counted("waypost_plugin_other_total{plugin=\"p\"}"), 700.0);
    drop(bed.decisions());
}

/// 26: a namespace has an end, and is its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_values_fills_one_namespace() {
    let mut others = witness(
        "other",
        json!({"calls": {"recipients": [["kv.set", "own", "key", "value"], ["kv.get", "own", "key"]]}}),
    );
    others.grants.kv.insert("own".to_owned(), Access::Write);
    let mut floods = Vec::new();
    for number in 0..6 {
        let config = format!(r#"{{"do": "kv-flood", "number": {number}}}"#);
        let mut plugin = patient(hostile_with(&format!("p{number}"), &config));
        plugin.grants.kv.insert("ns".to_owned(), Access::Write);
        floods.push(plugin);
    }
    floods.push(others);
    let mut bed = Bed::with(floods).await;
    bed.ask(Stage::Recipients, "bad").await.unwrap();
    let reasons = bed.reasons();
    assert!(reasons.contains(&"kv.get: value".to_owned()), "{reasons:?}");
    // The flooded one is full for everybody who shares it.
    let mut late = witness(
        "late",
        json!({"calls": {"recipients": [["kv.fill", "ns", "late", 4000], ["kv.get", "ns", "0-0"]]}}),
    );
    late.grants.kv.insert("ns".to_owned(), Access::Write);
    bed.reload(&crate::testbed::policy([late]), waypost_plugin::Change::by("test")).await.unwrap();
    bed.ask(Stage::Recipients, "good").await.unwrap();
    assert_eq!(bed.reasons().iter().filter(|r| r.ends_with("over-quota")).count(), 1);
}

/// The log as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let subscriber = tracing_subscriber::fmt()
            .with_writer(self.clone())
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}
