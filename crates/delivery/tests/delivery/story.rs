//! What is told of attempts, also of those that come to no end.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::sleep;
use waypost_harness::upstream::{Act, Upstream};
use waypost_history::{Attempt, Config, History, Note, Step, Visit};
use waypost_mail::{ManualClock, MessageId, Timestamp, Why};
use waypost_queue::Rate;
use waypost_smtp::Phase;

use crate::relay::{Plan, Post};

const HOUR: Duration = Duration::from_secs(3600);

/// A history, and where it is kept.
fn kept() -> (Arc<History>, TempDir) {
    let place = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp(1_800_057_600_000)));
    (Arc::new(History::open(Config::beside(place.path()), "1", clock)), place)
}

/// The attempts at a message, once there are so many.
async fn attempts(history: &History, id: MessageId, count: usize) -> Vec<Attempt> {
    for _ in 0..10_000 {
        let notes = history.about(id).unwrap().notes.into_iter();
        let told: Vec<Attempt> = notes
            .filter_map(|told| match told.note {
                Note::Attempt(attempt) => Some(*attempt),
                _ => None,
            })
            .collect();
        if told.len() >= count {
            return told;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("it is not told of {count} attempts")
}

fn visits(attempt: &Attempt) -> Vec<&Visit> {
    let steps = attempt.steps.iter();
    steps
        .filter_map(|step| match step {
            Step::Visit(visit) => Some(&**visit),
            Step::Lookup(_) | Step::Held(_) => None,
        })
        .collect()
}

fn said(visit: &Visit, words: &str) -> bool {
    visit.dialogue.iter().any(|line| line.text.starts_with(words))
}

#[tokio::test(start_paused = true)]
async fn what_took_too_long_is_told_up_to_where_it_was_cut_off() {
    let upstream = Upstream::new().without("PIPELINING").once(Phase::Rcpt, Act::Hang);
    let (history, _place) = kept();
    let plan = Plan::with(&upstream).0.history(&history);
    let relay = plan.config(|config| config.timeouts.rcpt = 24 * HOUR).run().await;
    let id = relay.send().await;
    let why = relay.deferred(id).await;
    assert!(matches!(why, Why::TimedOut { .. }), "{why}");
    let told = attempts(&history, id, 1).await;
    let visit = visits(&told[0])[0];
    assert!(said(visit, "MAIL FROM") && said(visit, "RCPT TO"), "{visit:#?}");
    assert!(visit.took_us >= 2 * HOUR.as_micros() as u64 - 60_000_000, "{visit:#?}");
    assert_eq!(told[0].results[0].outcome, "deferred");
}

#[tokio::test(start_paused = true)]
async fn what_the_end_of_the_program_cuts_off_is_told_up_to_there() {
    let upstream = Upstream::new().without("CHUNKING").on(Phase::Eod, Act::Hang);
    let (history, _place) = kept();
    let relay = Plan::with(&upstream).0.history(&history).run().await;
    let id = relay.send().await;
    relay.until("the message is sent", || upstream.heard().contains("DATA")).await;
    relay.cut_off().await;
    let told = attempts(&history, id, 1).await;
    let [attempt] = &told[..] else { panic!("{told:#?}") };
    let visit = visits(attempt)[0];
    assert!(said(visit, "RCPT TO") && said(visit, "DATA"), "{visit:#?}");
    let fared = &attempt.results[0];
    assert_eq!(fared.outcome, "cut-off");
    assert!(fared.words.contains("nothing that was done is settled"), "{}", fared.words);
}

#[tokio::test(start_paused = true)]
async fn that_new_connections_have_a_rate_is_told_of_who_waited_for_it() {
    let upstream = Upstream::new();
    let (history, _place) = kept();
    let plan = Plan::with(&upstream).0.history(&history).config(|config| {
        config.allowance.connection_rate = Some(Rate { count: 1, per: Duration::from_secs(10) });
        config.allowance.messages_per_connection = 1;
    });
    let relay = plan.run().await;
    let (first, second) = (relay.send().await, relay.send().await);
    relay.gone(first).await;
    relay.gone(second).await;
    let mut held = Vec::new();
    for id in [first, second] {
        for step in &attempts(&history, id, 1).await[0].steps {
            if let Step::Held(step) = step {
                held.push((step.limit.clone(), step.of.clone(), step.took_us / 1_000_000));
            }
        }
    }
    let (limit, of) = ("connection-rate".to_owned(), "mx1.there.example".to_owned());
    assert_eq!(held.len(), 1, "one of the two waited: {held:?}");
    assert_eq!((&held[0].0, &held[0].1), (&limit, &of));
    assert!((9..=10).contains(&held[0].2), "{held:?}");
}

#[tokio::test(start_paused = true)]
async fn that_a_copy_was_converted_is_told_with_what_the_host_lacks() {
    let upstream = Upstream::new().without("8BITMIME").without("SMTPUTF8");
    let (history, _place) = kept();
    let relay = Plan::with(&upstream).0.history(&history).run().await;
    let content = "Subject: gr\u{fc}\u{df}e\r\nFrom: alice@home.example\r\n\r\nGr\u{fc}\u{df}e\r\n";
    let post =
        Post { content: content.to_owned(), eight_bit: true, smtputf8: true, ..Post::default() };
    let id = relay.post(post).await;
    relay.gone(id).await;
    assert!(upstream.mails()[0].content.is_ascii());
    let told = attempts(&history, id, 1).await;
    let words: Vec<_> =
        visits(&told[0]).into_iter().filter_map(|visit| visit.conversion.as_deref()).collect();
    assert_eq!(words, ["it lacks 8BITMIME and SMTPUTF8: a converted copy was made"]);
    let plain = relay.send().await;
    relay.gone(plain).await;
    let told = attempts(&history, plain, 1).await;
    assert!(visits(&told[0]).iter().all(|visit| visit.conversion.is_none()));
}
