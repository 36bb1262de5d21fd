//! What the simulation found, at every operation where it can happen.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;
use waypost_intake::{Door, Rules};
use waypost_mail::{Body, Clock, Envelope, Facts, Message, MessageId, Recipient};
use waypost_simulation::disk::End;
use waypost_simulation::relay::{Ground, Relay};
use waypost_smtp::{Reply, ReversePath};
use waypost_spool::Spool;

type Accepting = Pin<Box<dyn Future<Output = Result<Reply, Reply>>>>;

fn ground() -> Ground {
    Ground::new(7)
}

/// A message of so many octets on its way into the queue.
fn send(relay: &Relay, ground: &Ground, octets: usize) -> (MessageId, Accepting) {
    let id = relay.intake.ids().message();
    let facts = Facts::internal(relay.intake.ids().session());
    let recipient = Recipient::new(0, "r@a.example".parse().unwrap());
    let envelope = Envelope::new(id, ReversePath::Null, vec![recipient]).unwrap();
    let body = Body::Memory(Bytes::from(format!("A: b\r\n\r\n{}\r\n", "x".repeat(octets))));
    let message = Message { envelope, facts, body, received: ground.clock.now() };
    let intake = relay.intake.clone();
    let accepting = Box::pin(async move {
        let rules = Rules {
            pinned: None,
            may_send_to: &|_| true,
            promise: None,
            check_header: &|_| Ok(()),
            groups: &[vec![0]],
            origin: None,
            tunnelled: None,
        };
        let replies = intake.accept(message, Door::Relay, rules).await;
        let reply = replies.into_iter().next().unwrap();
        if reply.is_positive() { Ok(reply) } else { Err(reply) }
    });
    (id, accepting)
}

fn poll(accepting: &mut Accepting) -> Poll<Result<Reply, Reply>> {
    accepting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Sends messages, one after another, and says which were acknowledged.
fn send_all(relay: &mut Relay, ground: &Ground, count: usize) -> Vec<MessageId> {
    let mut acknowledged = Vec::new();
    for _ in 0..count {
        let (id, mut accepting) = send(relay, ground, 900);
        let mut answer = poll(&mut accepting);
        if answer.is_pending() {
            relay.driver.step();
            answer = poll(&mut accepting);
        }
        if matches!(answer, Poll::Ready(Ok(_))) {
            acknowledged.push(id);
        }
    }
    acknowledged
}

fn in_runtime(story: impl AsyncFn()) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(tokio::task::unconstrained(story()));
}

/// A program that was killed leaves names and octets that are seen and not durable: a segment that was
/// just begun, a record that was not synced. The next one builds on them, and then the power goes.
#[test]
fn after_a_kill_at_any_operation_nothing_acknowledged_later_is_lost() {
    in_runtime(async || {
        for operation in 0..90 {
            for seed in 0..8 {
                let ground = ground();
                let (mut relay, _) = Relay::start(&ground, 1).await.unwrap();
                ground.disk.end_after(End::OfProgram, operation, seed % 2 == 0);
                let mut acknowledged = send_all(&mut relay, &ground, 8);
                drop(relay);
                ground.disk.outlive_program();
                ground.place.crash(&mut StdRng::seed_from_u64(seed));
                let (mut relay, _) = Relay::start(&ground, 1).await.unwrap();
                acknowledged.extend(send_all(&mut relay, &ground, 1));
                drop(relay);
                let mut random = StdRng::seed_from_u64(seed);
                ground.disk.lose_power(&mut random);
                ground.place.crash(&mut random);
                let (relay, report) = Relay::start(&ground, 1).await.unwrap();
                assert_eq!((report.damaged, report.quarantined), (0, 0), "{operation} {seed}");
                for id in acknowledged {
                    let found = relay.spool.load(id).map(drop);
                    assert!(found.is_ok(), "operation {operation}, seed {seed}: {found:?}");
                }
            }
        }
    });
}

/// A group that does not fit is taken back from the log: its messages are refused with 452, and must not
/// come back when the power goes before anything else is synced.
#[test]
fn what_did_not_fit_does_not_come_back() {
    let refused = AtomicUsize::new(0);
    in_runtime(async || {
        for room in (3000..9000).step_by(150) {
            for seed in 0..12 {
                let ground = ground();
                let (mut relay, _) = Relay::start(&ground, 1).await.unwrap();
                let mut sent: Vec<_> = (0..5).map(|_| send(&relay, &ground, 900)).collect();
                for (_, accepting) in &mut sent {
                    assert!(poll(accepting).is_pending());
                }
                ground.disk.set_capacity(Some(ground.disk.used() + room - 3000));
                relay.driver.step();
                let answers: Vec<_> = sent.iter_mut().map(|(id, a)| (*id, poll(a))).collect();
                drop((relay, sent));
                ground.disk.set_capacity(None);
                let mut random = StdRng::seed_from_u64(seed * 10_000 + room);
                ground.disk.lose_power(&mut random);
                ground.place.crash(&mut random);
                let (relay, _) = Relay::start(&ground, 1).await.unwrap();
                for (id, answer) in answers {
                    let Poll::Ready(answer) = answer else { panic!("{id} has no answer") };
                    let kept = relay.spool.load(id).is_ok();
                    refused.fetch_add(usize::from(answer.is_err()), Ordering::Relaxed);
                    assert_eq!(kept, answer.is_ok(), "room {room}, seed {seed}: {answer:?}");
                }
            }
        }
    });
    assert!(refused.into_inner() > 100);
}
