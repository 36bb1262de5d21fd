//! Hosts that close the connection or fall silent, phase by phase.

use std::time::Duration;

use tokio::time::Instant;
use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::{Route, TlsLevel, Why};
use waypost_queue::SpoolError;
use waypost_smtp::Phase;

use crate::relay::{Plan, Post, by_mx};

const BEFORE_THE_END: [Phase; 6] =
    [Phase::Greeting, Phase::Ehlo, Phase::Mail, Phase::Rcpt, Phase::Data, Phase::Body];

#[tokio::test(start_paused = true)]
async fn a_closed_connection_defers() {
    for phase in BEFORE_THE_END {
        let upstream = Upstream::new().without("CHUNKING").once(phase, Act::Drop);
        let relay = Plan::with(&upstream).0.run().await;
        let id = relay.send().await;
        let why = relay.deferred(id).await;
        // The whole message, being small, was written before its loss could be noticed.
        let noticed = if phase == Phase::Body { Phase::Eod } else { phase };
        let is_lost = matches!(why, Why::ConnectionLost { phase: at, .. } if at == noticed);
        assert!(is_lost, "at {phase}: {why}");
        relay.gone(id).await;
        assert_eq!(upstream.mails().len(), 1, "at {phase}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_is_given_up_when_its_time_is_over() {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let limits = [
        (Phase::Greeting, minutes(5)),
        (Phase::Ehlo, minutes(5)),
        (Phase::Mail, minutes(5)),
        (Phase::Rcpt, minutes(5)),
        (Phase::Data, minutes(2)),
        (Phase::Eod, minutes(10)),
    ];
    for (phase, limit) in limits {
        let upstream = Upstream::new().without("PIPELINING").once(phase, Act::Hang);
        let relay = Plan::with(&upstream).0.run().await;
        let start = Instant::now();
        let id = relay.send().await;
        let why = relay.deferred(id).await;
        assert!(matches!(why, Why::TimedOut { phase: at, .. } if at == phase), "{phase}: {why}");
        let waited = start.elapsed();
        assert!(waited >= limit && waited < limit + Duration::from_secs(5), "{phase}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_take_the_message_is_given_up() {
    let upstream = Upstream::new().once(Phase::Body, Act::Hang);
    let relay = Plan::with(&upstream).0.run().await;
    let start = Instant::now();
    let content = format!("A: b\r\n\r\n{}", "text\r\n".repeat(50_000));
    let id = relay.post(Post { content, ..Post::default() }).await;
    let why = relay.deferred(id).await;
    assert!(matches!(why, Why::TimedOut { phase: Phase::Body, .. }), "{why}");
    assert!(start.elapsed() < Duration::from_secs(185));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_answer_at_all_rests() {
    let (plan, _) = Plan::new();
    let relay = plan.silent(crate::relay::MX).run().await;
    let start = Instant::now();
    let id = relay.send().await;
    let why = relay.deferred(id).await;
    assert!(matches!(why, Why::TimedOut { phase: Phase::Connect, .. }), "{why}");
    assert!(start.elapsed() < Duration::from_secs(31));
    let status = relay.queue.status();
    let there = status.destinations.iter().find(|d| d.name == "there.example").unwrap();
    assert!(there.resting_until.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_lane_does_not_rest_for_one_of_its_hosts() {
    let relay = Plan::new().0.run().await;
    let route = Route { lane: Some("bulk".to_owned()), ..by_mx(TlsLevel::Opportunistic) };
    let id = relay.post(Post { route, ..Post::default() }).await;
    let why = relay.deferred(id).await;
    assert!(matches!(why, Why::Unreachable { .. }), "{why}");
    assert!(relay.queue.status().destinations.iter().all(|d| d.resting_until.is_none()));
}

/// The dot was sent: the host may have the message. It is sent again, and arrives twice here.
#[tokio::test(start_paused = true)]
async fn a_connection_lost_after_the_final_dot_means_at_least_once() {
    let upstream = Upstream::new().once(Phase::Eod, Act::Drop);
    let relay = Plan::with(&upstream).0.run().await;
    let id = relay.send().await;
    let why = relay.deferred(id).await;
    assert!(matches!(why, Why::ConnectionLost { phase: Phase::Eod, .. }), "{why}");
    assert_eq!(upstream.mails().len(), 1);
    relay.gone(id).await;
    assert_eq!(upstream.mails().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_in_the_middle_of_the_message_counts() {
    let upstream = Upstream::new().once(Phase::Body, Act::Say("552 5.3.4 too much".into()));
    let (plan, home) = Plan::with(&upstream);
    let relay = plan.run().await;
    let content = format!("A: b\r\n\r\n{}", "text\r\n".repeat(50_000));
    let id = relay.post(Post { content, ..Post::default() }).await;
    relay.gone(id).await;
    relay.until("the notice", || !home.mails().is_empty()).await;
    assert!(home.mails()[0].content.contains("552 5.3.4 too much"));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_smtp_is_said_so() {
    let upstream = Upstream::new().once(Phase::Body, Act::Say("HTTP/1.1 400 Bad Request".into()));
    let relay = Plan::with(&upstream).0.run().await;
    let content = format!("A: b\r\n\r\n{}", "text\r\n".repeat(50_000));
    let id = relay.post(Post { content, ..Post::default() }).await;
    let why = relay.deferred(id).await;
    assert!(matches!(why, Why::ProtocolError { .. } | Why::ConnectionLost { .. }), "{why}");
}

#[tokio::test(start_paused = true)]
async fn greetings_that_refuse_are_heard() {
    let upstream = Upstream::new().once(Phase::Greeting, Act::Say("421 4.3.2 not now".into()));
    let relay = Plan::with(&upstream).0.run().await;
    let id = relay.send().await;
    let why = relay.deferred(id).await;
    assert!(matches!(why, Why::Refused { phase: Phase::Greeting, .. }), "{why}");
    let status = relay.queue.status();
    assert!(status.destinations.iter().all(|d| d.resting_until.is_none()), "it did answer");
    relay.gone(id).await;
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_cannot_be_stored_means_at_least_once() {
    let upstream = Upstream::new();
    let relay = Plan::with(&upstream).0.run().await;
    let id = relay.send().await;
    relay.spool.fail_next(SpoolError::NoSpace);
    relay.gone(id).await;
    assert_eq!(upstream.mails().len(), 2);
}
