//! What follows when a plugin fails: what the stage does by itself, or what the configuration says.

use std::time::Duration;

use waypost_hooks::{FaultKind, MessageVerdict, Refusal, Verdict};
use waypost_plugin::{OnError, STAGES, Stage};

use crate::testbed::mail::{TO, facts, letter};
use crate::testbed::{Bed, Ground, hostile, policy, remedied};

async fn bed(stage: Stage, remedy: OnError) -> Bed {
    let mut plugin = remedied(hostile("p", "trap"), stage, remedy);
    plugin.grants.auth = true;
    Bed::with([plugin]).await
}

/// By itself a stage hands the fault to the mail path, which knows what to say.
#[tokio::test]
async fn the_usual_remedy_is_the_stages_own() {
    for stage in STAGES.into_iter().filter(|s| !matches!(s, Stage::Events | Stage::Timer)) {
        let bed = bed(stage, OnError::Usual).await;
        let fault = bed.ask(stage, "bad").await.unwrap_err();
        assert_eq!((fault.kind, fault.who.as_str()), (FaultKind::Trap, "p"), "{stage}");
    }
}

/// `open`: as if the plugin had no objection.
#[tokio::test]
async fn open_goes_on() {
    use Stage::{Connect, Helo, Message, Prepare, Recipients, Route, Sender};
    for stage in [Connect, Helo, Sender, Recipients, Message, Route, Prepare] {
        let bed = bed(stage, OnError::Open).await;
        let silent = Bed::with([]).await;
        let (answer, nobody) =
            (bed.ask(stage, "bad").await.unwrap(), silent.ask(stage, "bad").await.unwrap());
        assert_eq!(answer, nobody, "{stage}");
    }
}

#[tokio::test]
async fn closed_refuses_for_good() {
    for stage in [Stage::Connect, Stage::Sender] {
        let bed = bed(stage, OnError::Closed).await;
        let answer = bed.ask(stage, "bad").await.unwrap();
        assert!(answer.contains("Refuse(Reject") && answer.contains("554"), "{stage}: {answer}");
    }
    let bed = bed(Stage::Recipients, OnError::Closed).await;
    for answer in bed.recipients(&facts("bad"), &TO).await.unwrap() {
        let Verdict::Refuse(Refusal::Reject(reply)) = answer.verdict else { panic!("{answer:?}") };
        assert_eq!(reply.reply().code.get(), 554);
    }
}

/// A login that cannot be checked is none; open it never is.
#[tokio::test]
async fn a_closed_login_is_denied() {
    let answer = bed(Stage::Auth, OnError::Closed).await.ask(Stage::Auth, "bad").await.unwrap();
    assert!(answer.contains("Deny(Reject") && answer.contains("535"), "{answer}");
}

#[tokio::test]
async fn disconnect_closes_the_connection() {
    let bed = bed(Stage::Recipients, OnError::Disconnect).await;
    for answer in bed.recipients(&facts("bad"), &TO).await.unwrap() {
        let Verdict::Disconnect(refusal) = answer.verdict else { panic!("{answer:?}") };
        assert_eq!(refusal.reply().code.get(), 421);
    }
}

#[tokio::test]
async fn quarantine_holds_the_message() {
    let bed = bed(Stage::Message, OnError::Quarantine).await;
    let answer = bed.message(&facts("bad"), &letter()).await.unwrap();
    assert!(matches!(answer.verdict, MessageVerdict::Quarantine(why) if why.contains("policy p")));
    assert!(answer.edits.is_empty());
}

/// A remedy that a stage does not have is a mistake of the configuration.
#[tokio::test]
async fn other_remedies_are_refused() {
    for (stage, remedy) in [
        (Stage::Auth, OnError::Open),
        (Stage::Message, OnError::Closed),
        (Stage::Attempt, OnError::Open),
        (Stage::Connect, OnError::Quarantine),
    ] {
        let said = Bed::refused([remedied(hostile("p", ""), stage, remedy)]).await;
        assert!(said.contains(&format!("on-error at {stage} cannot be")), "{said}");
    }
}

/// A plugin that keeps failing is not asked for a while; then one call finds out.
#[tokio::test]
async fn a_breaker_opens_and_closes() {
    let mut bed = Bed::with([hostile("p", "trap")]).await;
    let open = "waypost_policy_breaker_open{plugin=\"p\",stage=\"recipients\"}";
    for _ in 0..5 {
        let fault = bed.ask(Stage::Recipients, "bad").await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Trap);
    }
    assert_eq!(bed.counted(open), 1.0);
    let fault = bed.ask(Stage::Recipients, "good").await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Busy);
    assert!(fault.text.contains("kept failing"), "{fault}");
    bed.good(Stage::Message).await;
    // A probe that fails keeps it open, for longer.
    bed.advance(Duration::from_secs(10));
    assert_eq!(bed.ask(Stage::Recipients, "bad").await.unwrap_err().kind, FaultKind::Trap);
    bed.advance(Duration::from_secs(10));
    assert_eq!(bed.ask(Stage::Recipients, "good").await.unwrap_err().kind, FaultKind::Busy);
    // One that goes well closes it.
    bed.advance(Duration::from_secs(10));
    bed.good(Stage::Recipients).await;
    assert_eq!(bed.counted(open), 0.0);
    bed.decisions();
    bed.good(Stage::Recipients).await;
    assert_eq!(bed.reasons().len(), 1);
}

/// 50: a peer that goes away in the middle of a call takes nothing along: neither the slot nor the
/// breaker's probe.
#[tokio::test]
async fn a_dropped_call_leaves_no_trace() {
    let mut plugin = hostile("p", "dns-slow");
    plugin.grants.dns = Some(10);
    plugin.slots = 1;
    let mut bed = Bed::with([plugin]).await;
    let patience = Duration::from_millis(30);
    for _ in 0..3 {
        let call = bed.ask(Stage::Recipients, "bad");
        assert!(tokio::time::timeout(patience, call).await.is_err(), "it should wait");
        bed.good(Stage::Recipients).await;
        assert_eq!(bed.reasons(), ["call: 1"], "the instance lives on");
    }
    let labels = "{plugin=\"p\",result=\"failed\",stage=\"recipients\"}";
    assert_eq!(bed.counted(&format!("waypost_policy_calls_total{labels}")), 0.0);

    // The same while the breaker waits for a probe.
    let mut plugin = hostile("p", "report");
    plugin.slots = 1;
    let bed = Bed::with([plugin]).await;
    for _ in 0..10 {
        bed.ask(Stage::Recipients, "bad").await.unwrap_err();
    }
    assert_eq!(bed.ask(Stage::Recipients, "good").await.unwrap_err().kind, FaultKind::Busy);
    bed.advance(Duration::from_secs(10));
    bed.good(Stage::Recipients).await;
}

/// All slots are taken: others wait a little, then are told so; many do not even wait.
#[tokio::test(flavor = "multi_thread")]
async fn slots_are_waited_for_a_little() {
    let mut plugin = hostile("p", "dns-slow");
    plugin.grants.dns = Some(10);
    plugin.slots = 1;
    let budget =
        waypost_plugin::Budget { cpu: Duration::from_millis(5), wall: Duration::from_millis(800) };
    plugin.budgets.insert(Stage::Recipients, budget);
    let bed = std::sync::Arc::new(Ground::new().open(policy([plugin])).await.unwrap());
    let call = |listener: &'static str| {
        let bed = bed.clone();
        tokio::spawn(async move { bed.ask(Stage::Recipients, listener).await })
    };
    let slow = call("bad");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let others: Vec<_> = (0..260).map(|_| call("good")).collect();
    let (mut told, mut waited) = (0, 0);
    for other in others {
        let fault = other.await.unwrap().unwrap_err();
        assert_eq!(fault.kind, FaultKind::Busy);
        if fault.text.contains("too many calls wait") {
            told += 1;
        } else {
            assert!(fault.text.contains("no instance was free within"), "{fault}");
            waited += 1;
        }
    }
    assert_eq!((told, waited), (4, 256));
    assert_eq!(slow.await.unwrap().unwrap_err().kind, FaultKind::Wall);
    // So many faults have opened the breaker.
    bed.advance(Duration::from_secs(10));
    bed.good(Stage::Recipients).await;
}
