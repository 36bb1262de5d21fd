//! A policy on trial.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use waypost_hooks::{Hooks as _, Verdict};
use waypost_mail::MessageId;
use waypost_plugin::{Change, PolicyConfig};

use crate::testbed::mail::{facts, number, recipients_of};
use crate::testbed::{Bed, hostile, policy, witness};

fn trial(percent: u8, seconds: u64) -> Change {
    Change { canary: Some((percent, Duration::from_secs(seconds))), ..Change::by("operator") }
}

fn good() -> PolicyConfig {
    policy([witness("w", json!({}))])
}

fn refuses() -> PolicyConfig {
    policy([witness("w", json!({"answers": {"recipients": {"verdict": "550 no"}}}))])
}

/// One transaction; true when it was refused.
async fn refused(bed: &Bed, listener: &str) -> bool {
    let pinned = bed.answers.pin(MessageId(number())).unwrap();
    let facts = facts(listener);
    match recipients_of(&*pinned, &facts, &["a@example.org"]).await {
        Ok(answers) => answers[0].verdict != Verdict::Proceed,
        Err(_) => true,
    }
}

async fn until(bed: &Bed, what: &str) -> serde_json::Value {
    let began = std::time::Instant::now();
    loop {
        let last = bed.audit().pop().unwrap();
        if last["what"] == what {
            return last;
        }
        assert!(began.elapsed() < Duration::from_secs(15), "{last}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Each transaction has one policy, and about so many have the new one as was said.
#[tokio::test]
async fn a_share_of_the_transactions() {
    let bed = Bed::of(good()).await;
    bed.reload(&refuses(), trial(20, 3600)).await.unwrap();
    let mut share = 0;
    let facts = facts("mx");
    for _ in 0..100 {
        let transaction = MessageId(number());
        let pinned = bed.answers.pin(transaction).unwrap();
        let mut verdicts = Vec::new();
        for _ in 0..2 {
            verdicts.push(recipients_of(&*pinned, &facts, &["a@example.org"]).await.unwrap());
        }
        assert_eq!(verdicts[0], verdicts[1]);
        // The same transaction, asked without its pin, has the same policy.
        let again = bed.answers.pin(transaction).unwrap();
        assert_eq!(recipients_of(&*again, &facts, &["a@example.org"]).await.unwrap(), verdicts[0]);
        share += usize::from(verdicts[0][0].verdict != Verdict::Proceed);
    }
    assert!((5..=40).contains(&share), "{share} of 100");
    let infos = bed.policy.generations();
    assert!(infos[0].state.starts_with("canary at 20 % until"), "{infos:?}");
    assert_eq!(infos[0].who, "operator");
    assert_eq!((infos[1].id, infos[1].state.as_str()), (1, "current"));
    // By hand it ends at once.
    assert_eq!(bed.policy.rollback(None, "operator").await.unwrap().id, 1);
    for _ in 0..50 {
        assert!(!refused(&bed, "mx").await);
    }
}

/// 49: a policy that refuses everything is rolled back by itself, and its component stays out.
#[tokio::test]
async fn who_refuses_everything_is_rolled_back() {
    let bed = Bed::of(policy([hostile("w", "refuse")])).await;
    // The same component with another configuration is not to blame: another component then.
    bed.reload(&refuses(), trial(50, 3600)).await.unwrap();
    for _ in 0..600 {
        refused(&bed, "good").await;
    }
    let last = until(&bed, "rolled back").await;
    assert_eq!(last["who"], "canary");
    assert!(last["detail"].as_str().unwrap().contains("refused: 100.0 %"), "{last}");
    for _ in 0..20 {
        assert!(!refused(&bed, "good").await);
    }
    assert_eq!(bed.counted("waypost_policy_reloads_total{result=\"rolled-back\"}"), 1.0);
    let errors = bed.reload(&refuses(), Change::by("file watch")).await.unwrap_err();
    let said = waypost_plugin::lines(&errors);
    assert!(said.contains("was rolled back because of its faults"), "{said}");
    let insist = Change { insist: true, ..Change::by("operator") };
    bed.reload(&refuses(), insist).await.unwrap();
    assert!(refused(&bed, "good").await);
}

/// A policy that fails is rolled back within a second.
#[tokio::test]
async fn who_fails_is_rolled_back() {
    let bed = Bed::of(good()).await;
    bed.reload(&policy([hostile("w", "trap")]), trial(50, 3600)).await.unwrap();
    for _ in 0..40 {
        refused(&bed, "bad").await;
    }
    let last = until(&bed, "rolled back").await;
    assert!(last["detail"].as_str().unwrap().contains("calls failed"), "{last}");
    assert!(!refused(&bed, "bad").await);
}

/// Who does well until the time is over is put in force.
#[tokio::test]
async fn who_does_well_is_promoted() {
    let bed = Bed::of(good()).await;
    bed.reload(&good(), trial(50, 60)).await.unwrap();
    for _ in 0..50 {
        assert!(!refused(&bed, "mx").await);
    }
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(bed.policy.generations()[0].id, 2);
    assert!(bed.policy.generations()[0].state.starts_with("canary"));
    bed.advance(Duration::from_secs(60));
    until(&bed, "promoted").await;
    let infos = bed.policy.generations();
    assert_eq!((infos[0].id, infos[0].state.as_str()), (2, "current"));
}

/// Another reload ends a trial.
#[tokio::test]
async fn another_policy_ends_the_trial() {
    let bed = Arc::new(Bed::of(good()).await);
    bed.reload(&refuses(), trial(100, 3600)).await.unwrap();
    assert!(refused(&bed, "mx").await);
    bed.reload(&good(), Change::by("operator")).await.unwrap();
    assert!(!refused(&bed, "mx").await);
    assert!(bed.policy.generations().iter().all(|info| !info.state.starts_with("canary")));
}
