//! What goes wrong while a plugin runs.

use std::time::{Duration, Instant};

use waypost_hooks::FaultKind;
use waypost_plugin::{Budget, Stage};

use crate::testbed::mail::{facts, letter, text};
use crate::testbed::{Bed, NOON, hostile, hostile_with};

/// 1: an endless loop ends when its budget does.
#[tokio::test(flavor = "multi_thread")]
async fn a_loop_ends_with_its_budget() {
    let mut bed = Bed::with([hostile("p", "loop")]).await;
    let began = Instant::now();
    bed.fails(Stage::Recipients, FaultKind::Cpu).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// 1: others on the same worker go on meanwhile.
#[tokio::test]
async fn a_loop_gives_way_to_others_on_the_same_thread() {
    let mut looping = hostile("p", "loop");
    let budget = Budget { cpu: Duration::from_millis(300), wall: Duration::from_secs(10) };
    looping.budgets.insert(Stage::Recipients, budget);
    let bed = Bed::with([looping]).await;
    let others = async {
        let mut turns = 0;
        loop {
            tokio::task::yield_now().await;
            turns += 1;
            if turns == 50 {
                return turns;
            }
        }
    };
    let fault = bed.ask(Stage::Recipients, "bad");
    tokio::pin!(fault);
    tokio::select! {
        biased;
        answer = &mut fault => panic!("the loop came first: {answer:?}"),
        turns = others => assert_eq!(turns, 50),
    }
    assert_eq!(fault.await.unwrap_err().kind, FaultKind::Cpu);
}

/// 1 at every stage where somebody waits for an answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_loop_ends_at_every_stage() {
    let mut plugin = hostile("p", "loop");
    plugin.grants.auth = true;
    let budget = Budget { cpu: Duration::from_millis(5), wall: Duration::from_secs(10) };
    let stages = [
        Stage::Connect,
        Stage::Helo,
        Stage::Auth,
        Stage::Sender,
        Stage::Message,
        Stage::Route,
        Stage::Prepare,
        Stage::Attempt,
    ];
    plugin.budgets.extend(stages.map(|stage| (stage, budget)));
    let mut bed = Bed::with([plugin]).await;
    for stage in stages {
        bed.fails(stage, FaultKind::Cpu).await;
    }
}

#[tokio::test]
async fn a_trap_is_a_trap() {
    let mut bed = Bed::with([hostile("p", "trap")]).await;
    let fault = bed.fails(Stage::Message, FaultKind::Trap).await;
    assert!(fault.text.contains("unreachable"), "{fault}");
}

/// 4: who wants all memory gets none, and is told to have wanted too much.
#[tokio::test]
async fn memory_has_an_end() {
    let mut plugin = hostile("p", "memory");
    plugin.budgets.insert(
        Stage::Recipients,
        Budget { cpu: Duration::from_secs(5), wall: Duration::from_secs(10) },
    );
    plugin.memory = 16 << 20;
    let mut bed = Bed::with([plugin]).await;
    bed.fails(Stage::Recipients, FaultKind::Memory).await;
}

/// 4: who took all memory and answers all the same is answered for, and its instance is worn out.
#[tokio::test]
async fn memory_that_was_taken_is_given_back() {
    let mut plugin = hostile("p", "memory-to-the-limit");
    plugin.budgets.insert(
        Stage::Recipients,
        Budget { cpu: Duration::from_secs(5), wall: Duration::from_secs(10) },
    );
    let mut bed = Bed::with([plugin]).await;
    bed.good(Stage::Recipients).await;
    bed.ask(Stage::Recipients, "bad").await.unwrap();
    bed.good(Stage::Recipients).await;
    assert_eq!(bed.reasons(), ["call: 1", "call: 2", "call: 1"]);
}

/// A refusal of memory that a plugin coped with in an earlier call is not why it traps now.
#[tokio::test]
async fn a_trap_after_memory_was_refused_is_a_trap() {
    let mut plugin = hostile("p", "memory-refused");
    plugin.slots = 1;
    let bed = Bed::with([plugin]).await;
    bed.ask(Stage::Recipients, "bad").await.unwrap();
    bed.ask(Stage::Recipients, "bad").await.unwrap();
    let fault = bed.ask(Stage::Recipients, "bad").await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Trap, "{fault}");
}

/// 8, 9: the host's stack is its own.
#[tokio::test]
async fn recursion_ends_before_the_stack_does() {
    for deed in ["recursion", "recursion-with-host-calls"] {
        let mut plugin = hostile("p", deed);
        let budget = Budget { cpu: Duration::from_secs(5), wall: Duration::from_secs(10) };
        plugin.budgets.insert(Stage::Recipients, budget);
        let mut bed = Bed::with([plugin]).await;
        let fault = bed.fails(Stage::Recipients, FaultKind::Trap).await;
        assert!(fault.text.contains("stack"), "{fault}");
    }
}

/// 23: past 1000 host calls there is a word for it, past 10 000 no patience.
#[tokio::test]
async fn host_calls_are_counted() {
    let mut bed = Bed::with([hostile("p", "host-calls")]).await;
    let fault = bed.fails(Stage::Message, FaultKind::Quota).await;
    assert!(fault.text.contains("10000 host calls"), "{fault}");
}

/// 27: a lookup that never ends is ended, and its instance with it.
#[tokio::test]
async fn waiting_has_an_end() {
    let mut plugin = hostile("p", "dns-slow");
    plugin.grants.dns = Some(10);
    let budget = Budget { cpu: Duration::from_millis(5), wall: Duration::from_millis(50) };
    plugin.budgets.insert(Stage::Recipients, budget);
    let mut bed = Bed::with([plugin]).await;
    let began = Instant::now();
    let fault = bed.fails(Stage::Recipients, FaultKind::Wall).await;
    assert!(fault.text.contains("50ms"), "{fault}");
    assert!(began.elapsed() < Duration::from_secs(2));
}

/// A bug in a host function fails one call, not the relay.
#[tokio::test]
async fn a_panic_of_the_host_is_the_hosts_fault() {
    let mut plugin = hostile("p", "dns-panic");
    plugin.grants.dns = Some(10);
    let mut bed = Bed::with([plugin]).await;
    bed.fails(Stage::Recipients, FaultKind::Host).await;
}

/// 29: who works a thousand times and then does not has been replaced by then, or fails like any other.
#[tokio::test]
async fn a_time_bomb_fails_one_call_at_a_time() {
    let mut plugin = hostile_with("p", r#"{"do": "time-bomb", "number": 20}"#);
    plugin.slots = 1;
    let mut bed = Bed::with([plugin]).await;
    let mut faults = 0;
    for _ in 0..63 {
        match bed.ask(Stage::Recipients, "bad").await {
            Ok(_) => {}
            Err(fault) => {
                assert_eq!(fault.kind, FaultKind::Trap);
                faults += 1;
            }
        }
    }
    assert_eq!(faults, 3, "every 21st call");
    drop(bed.decisions());
    bed.good(Stage::Recipients).await;
}

/// 29: nobody lives longer than about a thousand calls.
#[tokio::test]
async fn an_instance_is_replaced_after_a_thousand_calls() {
    let mut plugin = hostile_with("p", r#"{"do": "time-bomb", "number": 1200}"#);
    plugin.slots = 1;
    let mut bed = Bed::with([plugin]).await;
    let mut longest = 0;
    for _ in 0..1300 {
        bed.ask(Stage::Recipients, "bad").await.unwrap();
        let calls: u32 = bed.reasons()[0].trim_start_matches("call: ").parse().unwrap();
        longest = longest.max(calls);
    }
    assert!((900..=1100).contains(&longest), "{longest}");
}

/// 30: a bomb that waits for a date. Canaries and breakers have tests of their own.
#[tokio::test]
async fn a_bomb_with_a_date_goes_off_then() {
    let date = NOON.0 + 60_000;
    let config = format!(r#"{{"do": "date-bomb", "number": {date}}}"#);
    let mut bed = Bed::with([hostile_with("p", &config)]).await;
    bed.ask(Stage::Recipients, "bad").await.unwrap();
    bed.advance(Duration::from_secs(60));
    bed.fails(Stage::Recipients, FaultKind::Trap).await;
}

/// 31: state that hides in an instance has nowhere to hide when each call has its own.
#[tokio::test]
async fn isolated_calls_know_nothing_of_each_other() {
    let mut plugin = hostile("p", "alternate");
    plugin.isolated = true;
    let bed = Bed::with([plugin.clone()]).await;
    let (facts, to) = (facts("bad"), ["a@example.org"]);
    let first = bed.recipients(&facts, &to).await.unwrap();
    for _ in 0..5 {
        assert_eq!(bed.recipients(&facts, &to).await.unwrap(), first);
    }
    plugin.isolated = false;
    let bed = Bed::with([plugin]).await;
    bed.recipients(&facts, &to).await.unwrap();
    assert_ne!(bed.recipients(&facts, &to).await.unwrap(), first, "pooled ones do");
}

/// 32: another message's text cannot be found in an isolated instance; in a pooled one it can, which is
/// documented.
#[tokio::test]
async fn isolated_calls_do_not_see_each_others_mail() {
    for (isolated, left) in [(true, ""), (false, "a secret")] {
        let mut plugin = hostile("p", "peek");
        (plugin.isolated, plugin.slots) = (isolated, 1);
        let mut bed = Bed::with([plugin]).await;
        let facts = facts("bad");
        bed.message(&facts, &text("Subject: x\r\n", "a secret\r\n")).await.unwrap();
        bed.decisions();
        bed.message(&facts, &letter()).await.unwrap();
        assert_eq!(bed.reasons(), [format!("left: {left}")]);
    }
}

/// 42: an error text of 2 MB is cut and cleaned; one of 100 MB is no text.
#[tokio::test]
async fn error_texts_have_an_end() {
    let mut plugin = hostile("p", "report-long");
    let budget = Budget { cpu: Duration::from_secs(5), wall: Duration::from_secs(10) };
    plugin.budgets.insert(Stage::Message, budget);
    let mut bed = Bed::with([plugin.clone()]).await;
    let fault = bed.fails(Stage::Message, FaultKind::Reported).await;
    assert!(fault.text.len() <= 1024 && !fault.text.contains(char::is_control), "{:?}", fault.text);
    plugin.config = r#"{"do": "report-huge"}"#.to_owned();
    let mut bed = Bed::with([plugin]).await;
    bed.fails(Stage::Message, FaultKind::BadAnswer).await;
}

/// The plugin's own word that it cannot decide leaves its instance alone.
#[tokio::test]
async fn a_report_leaves_the_instance_alone() {
    let mut bed = Bed::with([hostile("p", "report")]).await;
    let fault = bed.fails(Stage::Recipients, FaultKind::Reported).await;
    assert_eq!(fault.text, "it cannot decide");
    assert_eq!(bed.reasons(), ["call: 3"]);
}

/// 46: a timer that never ends is ended.
#[tokio::test]
async fn a_timer_has_a_budget_too() {
    let config = r#"{"do": "dns-slow", "timers": [["bad", 1]]}"#;
    let mut plugin = hostile_with("p", config);
    plugin.grants.dns = Some(1);
    let budget = Budget { cpu: Duration::from_millis(50), wall: Duration::from_millis(50) };
    plugin.budgets.insert(Stage::Timer, budget);
    let mut bed = Bed::with([plugin]).await;
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let told = bed.decisions();
    assert!(told[0].verdict.starts_with("failed (Wall)"), "{told:?}");
}
