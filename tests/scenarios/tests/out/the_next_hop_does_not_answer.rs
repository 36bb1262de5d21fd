//! A route is for cut-through, and the next hop cannot be reached, breaks off, or takes too long: the
//! message becomes durable before its submitter goes.

use tokio::time::Instant;
use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::Why;
use waypost_scenarios::eventually;
use waypost_smtp::Phase;

use crate::the_next_hop_answers::{peer, through, through_to, went};
use crate::way::{ALICE, BOB, Way, nobody};

const CONTENT: &str = "Subject: Hello\r\n\r\nThe text.\r\n";

#[tokio::test]
async fn who_fails_before_the_final_dot_is_tried_again_by_the_queue() {
    let phases = [Phase::Greeting, Phase::Ehlo, Phase::Mail, Phase::Rcpt, Phase::Data];
    let acts = [Act::Drop, Act::Say("451 4.3.2 not now".into())];
    for (phase, act) in phases.into_iter().flat_map(|phase| acts.clone().map(|act| (phase, act))) {
        // EHLO that is refused once is followed by HELO.
        if (phase, &act) == (Phase::Ehlo, &acts[1]) {
            continue;
        }
        let upstream = Upstream::new().without("PIPELINING").once(phase, act.clone());
        let way = through(&upstream).await;
        let id = way.send().await;
        way.deferred(&id).await;
        assert_eq!(went(&way.relay, "kept").await, 1, "{phase} {act:?}");
        assert!(upstream.mails().is_empty(), "{phase} {act:?}");
        way.retry(&id).await;
        way.settled(&id).await;
        assert_eq!(upstream.mails().len(), 1, "{phase} {act:?}");
        assert!(way.alice.mails().is_empty(), "{phase} {act:?}");
        way.relay.stop().await;
    }
}

#[tokio::test]
async fn a_destination_that_rests_is_not_waited_for() {
    let way = Way::through(through_to(nobody())).await;
    let id = way.send().await;
    let why = way.deferred(&id).await;
    assert!(matches!(why.cause(), Why::Unreachable { .. }), "{why}");
    way.send().await;
    assert_eq!((went(&way.relay, "kept").await, went(&way.relay, "not-tried").await), (1, 1));
    way.relay.stop().await;
}

#[tokio::test]
async fn no_reply_to_the_final_dot_means_that_nobody_knows() {
    let upstream = Upstream::new().once(Phase::Eod, Act::Drop);
    let way = through(&upstream).await;
    let id = way.send().await;
    let why = way.deferred(&id).await;
    assert!(matches!(why.cause(), Why::ConnectionLost { phase: Phase::Eod, .. }), "{why}");
    way.retry(&id).await;
    way.settled(&id).await;
    assert_eq!(upstream.mails().len(), 2, "at least once");
    way.relay.stop().await;
}

#[tokio::test]
async fn who_is_in_doubt_is_told_where_the_class_says_so() {
    let upstream = Upstream::new().once(Phase::Eod, Act::Drop);
    let home = through_to(upstream.listen().await.unwrap()).set("queue", "unknown", "\"bounce\"");
    let way = Way::through(home).await;
    let id = way.send().await;
    way.settled(&id).await;
    let notice = way.notices(1).await.remove(0);
    assert!(notice.content.contains("Action: failed"), "{}", notice.content);
    assert_eq!(upstream.mails().len(), 1);
    way.relay.stop().await;
}

/// Nothing is done about it any more, and nobody is told that it is in a queue.
#[tokio::test]
async fn who_is_in_doubt_is_told_at_once_where_it_counts_as_delivered() {
    let upstream = Upstream::new().once(Phase::Eod, Act::Drop);
    let home = through_to(upstream.listen().await.unwrap()).set("queue", "unknown", "\"deliver\"");
    let way = Way::through(home).await;
    let mut peer = peer(&way).await;
    peer.envelope(ALICE, &[BOB]).await;
    let reply = peer.data(CONTENT).await;
    assert!(reply.starts_with("250 2.0.0 OK ") && !reply.contains("queued"), "{reply}");
    assert!(reply.contains(" sent to [127.0.0.1]:"), "{reply}");
    assert!(reply.ends_with(", which did not answer"), "{reply}");
    assert_eq!((went(&way.relay, "unknown").await, went(&way.relay, "kept").await), (1, 0));
    assert_eq!(way.relay.counter("waypost_queue_committed_total").await, 0);
    assert!(way.relay.queued().is_empty() && way.alice.mails().is_empty());
    way.relay.stop().await;
}

/// The attempt goes on, and is the only one.
#[tokio::test]
async fn who_takes_too_long_is_waited_for_by_the_queue() {
    let upstream = Upstream::new().once(Phase::Data, Act::Hang);
    let home = through_to(upstream.listen().await.unwrap())
        .set("delivery", "cut-through-patience", "\"1s\"")
        .set("delivery", "reply-timeout", "\"4s\"");
    let way = Way::through(home).await;
    let id = way.send().await;
    let queued = way.relay.queued();
    assert_eq!((queued.len(), queued[0].in_flight), (1, 1), "{queued:#?}");
    assert_eq!(went(&way.relay, "late").await, 1);
    let why = way.deferred(&id).await;
    assert!(matches!(why.cause(), Why::TimedOut { phase: Phase::Data, .. }), "{why}");
    assert_eq!(upstream.connections(), 1);
    way.retry(&id).await;
    way.settled(&id).await;
    assert_eq!(upstream.mails().len(), 1);
    way.relay.stop().await;
}

#[tokio::test]
async fn the_fate_of_a_message_does_not_change_when_its_submitter_hangs_up() {
    let upstream = Upstream::new().once(Phase::Data, Act::Hang);
    let home = through_to(upstream.listen().await.unwrap())
        .set("delivery", "cut-through-patience", "\"1s\"")
        .set("delivery", "reply-timeout", "\"2s\"");
    let way = Way::through(home).await;
    let mut peer = peer(&way).await;
    peer.envelope(ALICE, &[BOB]).await;
    peer.expect("DATA", "354").await;
    peer.send(format!("{CONTENT}.\r\n")).await;
    eventually("the next hop is asked", || upstream.heard().contains("DATA\r\n")).await;
    drop(peer);
    eventually("the message is kept", || way.relay.queued().len() == 1).await;
    let id = way.relay.queued()[0].id.to_string();
    way.deferred(&id).await;
    way.retry(&id).await;
    way.settled(&id).await;
    assert_eq!(upstream.mails().len(), 1);
    way.relay.stop().await;
}

#[tokio::test]
async fn nobody_waits_for_the_next_hop_while_the_program_ends() {
    let upstream = Upstream::new().once(Phase::Eod, Act::Hang);
    let home = through_to(upstream.listen().await.unwrap())
        .set("delivery", "cut-through-patience", "\"5m\"")
        .set("delivery", "reply-timeout", "\"3s\"");
    let way = Way::through(home).await;
    let mut peer = peer(&way).await;
    peer.envelope(ALICE, &[BOB]).await;
    peer.expect("DATA", "354").await;
    peer.send(format!("{CONTENT}.\r\n")).await;
    eventually("the next hop has it", || upstream.heard().contains("The text.\r\n")).await;
    let Way { relay, home, .. } = way;
    let began = Instant::now();
    let ending = tokio::spawn(relay.stop());
    peer.hear("250 2.0.0 OK queued as ").await;
    ending.await.unwrap();
    assert!(began.elapsed().as_secs() < 20, "the attempt that was begun was waited for, not more");
    let relay = home.start().await;
    let queued = relay.queued();
    assert_eq!(queued.len(), 1);
    relay.queue().retry(queued[0].id).await.unwrap();
    relay.empty().await;
    assert_eq!(upstream.mails().len(), 1);
    relay.stop().await;
}
