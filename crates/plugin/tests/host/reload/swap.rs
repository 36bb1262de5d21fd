//! One swap, or none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;
use waypost_hooks::{Hooks as _, Verdict};
use waypost_mail::MessageId;
use waypost_plugin::{Change, Digest, Stage};

use crate::testbed::forge::{by_hand, write};
use crate::testbed::mail::{facts, letter, message_of, number, recipients_of};
use crate::testbed::{Bed, guest, hostile, hostile_with, policy, witness};

fn refuses(text: &str) -> waypost_plugin::PolicyConfig {
    policy([witness("w", json!({"answers": {"recipients": {"verdict": format!("550 {text}")}}}))])
}

async fn said(bed: &Bed) -> String {
    match &bed.recipients(&facts("mx"), &["a@example.org"]).await.unwrap()[0].verdict {
        Verdict::Refuse(refusal) => refusal.reply().text.to_string(),
        verdict => format!("{verdict:?}"),
    }
}

/// What is wrong is refused, says why, and what runs stays.
#[tokio::test]
async fn a_bad_policy_changes_nothing() {
    let mut bed = Bed::of(refuses("one")).await;
    let bad = [
        policy([hostile_with("w", r#"{"init": "loop"}"#)]),
        policy([hostile_with("w", r#"{"complaints": ["no"]}"#)]),
        policy([waypost_plugin::PluginConfig::new("w", "/nowhere/p.wasm")]),
        policy([witness("w", json!({"unknown": 1}))]),
    ];
    for config in bad {
        let errors = bed.reload(&config, Change::by("operator")).await.unwrap_err();
        assert!(waypost_plugin::lines(&errors).contains("plugin w"), "{errors:?}");
        assert_eq!(said(&bed).await, "one");
        assert_eq!(bed.decisions()[0].generation, 1);
    }
    assert_eq!(bed.counted("waypost_policy_reloads_total{result=\"refused\"}"), 4.0);
    assert_eq!(bed.counted("waypost_policy_generation"), 1.0);
    let audit = bed.audit();
    assert_eq!(
        (audit[0]["what"].as_str(), audit[0]["who"].as_str()),
        (Some("loaded"), Some("start"))
    );
    for line in &audit[1..] {
        assert_eq!((&line["what"], &line["who"]), (&json!("refused"), &json!("operator")));
        assert!(line["detail"].as_str().unwrap().contains("plugin w"), "{line}");
    }
    let info = &bed.policy.generations()[0];
    assert_eq!((info.id, info.state.as_str(), info.who.as_str()), (1, "current", "start"));
}

/// A transaction keeps the policy it began with; what begins later has the new one.
#[tokio::test]
async fn a_transaction_keeps_its_policy() {
    let bed = Bed::of(refuses("one")).await;
    let pinned = bed.answers.pin(MessageId(number())).unwrap();
    let facts = facts("mx");
    bed.reload(&refuses("two"), Change::by("operator")).await.unwrap();
    for _ in 0..2 {
        let answers = recipients_of(&*pinned, &facts, &["a@example.org"]).await.unwrap();
        assert!(format!("{answers:?}").contains("one"), "{answers:?}");
        assert_eq!(said(&bed).await, "two");
    }
    assert!(message_of(&*pinned, &facts, &letter()).await.is_ok());
    assert!(pinned.pin(MessageId(number())).is_none());
    // Even when the old one is not kept any more.
    for text in ["3", "4", "5", "6", "7", "8"] {
        bed.reload(&refuses(text), Change::by("operator")).await.unwrap();
    }
    let answers = recipients_of(&*pinned, &facts, &["a@example.org"]).await.unwrap();
    assert!(format!("{answers:?}").contains("one"), "{answers:?}");
    assert_eq!(bed.policy.generations().len(), 5);
}

/// Calls under way when the policy changes end as they would have.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_lost_while_policies_change() {
    let bed = Arc::new(Bed::of(refuses("text")).await);
    let ended = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (bed, ended, calls) = (bed.clone(), ended.clone(), calls.clone());
            tokio::spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    assert_eq!(said(&bed).await, "text");
                    calls.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let mut reloads = 0;
    while reloads < 10 || calls.load(Ordering::Relaxed) < 100 {
        bed.reload(&refuses("text"), Change::by("operator")).await.unwrap();
        reloads += 1;
    }
    ended.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
}

/// 47: reloads that come all at once are made one after the other, and the last one asked for is in
/// force.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_reloads() {
    let bed = Arc::new(Bed::of(refuses("0")).await);
    let reloads: Vec<_> = (1..=20)
        .map(|index| {
            let bed = bed.clone();
            async move {
                bed.reload(&refuses(&index.to_string()), Change::by("file watch")).await.unwrap().id
            }
        })
        .collect();
    let ids = futures_util::future::join_all(reloads).await;
    assert_eq!(ids, (2..=21).collect::<Vec<u64>>());
    assert_eq!(said(&bed).await, "20");
    assert_eq!(bed.policy.generations().len(), 5);
}

/// 48: a file that is written while it is read is refused, or it is read whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_being_written() {
    let directory = tempfile::tempdir().unwrap();
    let whole = std::fs::read(guest("hostile")).unwrap();
    let path = write(directory.path(), "p.wasm", &whole);
    let mut plugin = hostile("p", "");
    plugin.file = path.clone();
    let bed = Bed::with([plugin.clone()]).await;
    let ended = Arc::new(AtomicBool::new(false));
    let (writes, octets) = (ended.clone(), whole.clone());
    let writer = std::thread::spawn(move || {
        let mut length = 0;
        while !writes.load(Ordering::Relaxed) {
            length = (length + 40_000) % octets.len();
            std::fs::write(&path, &octets[..length]).unwrap();
            std::fs::write(&path, &octets).unwrap();
        }
    });
    for _ in 0..10 {
        match bed.reload(&policy([plugin.clone()]), Change::by("file watch")).await {
            Ok(info) => assert_eq!(info.plugins[0].1, Digest::of(&whole).to_string()),
            Err(errors) => {
                let said = waypost_plugin::lines(&errors);
                assert!(
                    said.contains("cannot compile") || said.contains("no WebAssembly"),
                    "{said}"
                );
            }
        }
        bed.good(Stage::Recipients).await;
    }
    ended.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    // Who names a digest gets that or nothing.
    plugin.digest = Some(Digest::of(b"something else"));
    let errors = bed.reload(&policy([plugin]), Change::by("operator")).await.unwrap_err();
    assert!(waypost_plugin::lines(&errors).contains("not the one in the configuration"));
}

/// Back to the one before, or to any that is kept.
#[tokio::test]
async fn back_to_an_earlier_policy() {
    let bed = Bed::of(refuses("1")).await;
    let nothing = bed.policy.rollback(None, "operator").await.unwrap_err();
    assert!(nothing.contains("no earlier generation"), "{nothing}");
    for text in ["2", "3"] {
        bed.reload(&refuses(text), Change::by("operator")).await.unwrap();
    }
    assert_eq!(bed.policy.rollback(None, "operator").await.unwrap().id, 2);
    assert_eq!(said(&bed).await, "2");
    assert_eq!(bed.policy.rollback(Some(1), "operator").await.unwrap().id, 1);
    assert_eq!(said(&bed).await, "1");
    let unknown = bed.policy.rollback(Some(77), "operator").await.unwrap_err();
    assert!(unknown.contains("kept are"), "{unknown}");
    let ids: Vec<u64> = bed.policy.generations().iter().map(|info| info.id).collect();
    assert_eq!(ids[0], 1);
    let last = bed.audit().pop().unwrap();
    assert_eq!((&last["what"], &last["generation"]), (&json!("rolled back"), &json!(1)));
    assert_eq!(last["plugins"][0][0], "w");
}

/// What was compiled for policies that are gone is gone, too.
#[tokio::test]
async fn compiled_code_that_nobody_needs_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let bed = crate::testbed::Ground::bare()
        .open(policy([by_hand(directory.path(), "", "(i32.const 0)")]))
        .await
        .unwrap();
    let codes = || {
        let entries = std::fs::read_dir(bed.directory.path()).unwrap().flatten();
        entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "code")).count()
    };
    for offset in 1..=6 {
        let body = format!("(i32.const {})", 4 * offset);
        let config = policy([by_hand(directory.path(), "", &body)]);
        bed.reload(&config, Change::by("operator")).await.unwrap();
    }
    assert_eq!(codes(), 5, "as many as generations are kept");
}

/// A generation that is not in force holds no instances: those at work go when they are done.
#[tokio::test]
async fn a_retired_policy_holds_no_instances() {
    let mut bed = Bed::with([hostile("p", "")]).await;
    let pinned = bed.answers.pin(MessageId(number())).unwrap();
    bed.reload(&policy([hostile("p", "")]), Change::by("operator")).await.unwrap();
    let facts = facts("good");
    for _ in 0..3 {
        recipients_of(&*pinned, &facts, &["a@example.org"]).await.unwrap();
    }
    assert_eq!(bed.reasons(), ["call: 1"; 3]);
    bed.policy.rollback(None, "operator").await.unwrap();
    for _ in 0..2 {
        bed.recipients(&facts, &["a@example.org"]).await.unwrap();
    }
    assert_eq!(bed.reasons(), ["call: 1", "call: 2"], "in force again, they are kept again");
}

/// What is only tried out runs beside, and is gone.
#[tokio::test]
async fn trying_out_touches_nothing() {
    let bed = Bed::of(refuses("one")).await;
    let ground = crate::testbed::Ground::new();
    let host = waypost_plugin::HostConfig {
        directory: ground.directory.path().to_owned(),
        compiler: waypost_plugin::Compiler::Here,
        keep: 1,
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let try_out = async |config| {
        waypost_plugin::try_out(elsewhere.path(), &host, &config, ground.services()).await
    };
    try_out(refuses("two")).await.unwrap();
    try_out(policy([hostile_with("w", r#"{"init": "trap"}"#)])).await.unwrap_err();
    assert_eq!(said(&bed).await, "one");
}
