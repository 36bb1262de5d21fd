use std::collections::HashMap;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::Ordering;

use tokio::time::{Instant, timeout};
use waypost_mail::{Outcome, RecipientState, Why};
use waypost_smtp::Reply;
use waypost_spool::Change;

use super::*;
use crate::house::{SlowSpool, all, delivered, house, house_on, ids, seconds, why};
use crate::samples::{LIFETIME, START, entry, prepared, recipient, route};
use crate::{AdminError, Class, Settled, Touched, Window};

#[tokio::test(start_paused = true)]
async fn fresh_mail_is_delivered_without_a_read() {
    let house = house(Config::default()).await;
    house.commit(entry(1, "a.example", 2)).await;
    let ticket = house.next().await;
    assert_eq!((ticket.id, &*ticket.destination), (MessageId(1), "a.example"));
    assert_eq!((ids(&ticket.recipients), ticket.expired), (vec![0, 1], false));
    assert_eq!(ticket.route, route("a.example"));
    assert_eq!(house.standing(), (0, 0, 2));
    house.settle_all(ticket, delivered()).await.unwrap();
    assert_eq!(house.standing(), (0, 0, 0));
    assert_eq!(house.spool.loads.load(Ordering::SeqCst), 0);
    assert!(house.spool.ids(None, 9).unwrap().is_empty());
    house.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_may_pass_is_tried_again_at_its_time() {
    let house = house(Config::default()).await;
    house.commit(entry(1, "a.example", 1)).await;
    let at = START.after(seconds(300));
    house.settle_all(house.next().await, Settled::Again { at, why: why() }).await.unwrap();
    let state = RecipientState::Waiting { due: at, tries: 1, last: Some(why()) };
    assert_eq!(house.state(1, 0), state);
    let began = Instant::now();
    let ticket = house.queue.next().await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 300);
    assert_eq!(ticket.recipients[0].state, state);
    house.settle_all(ticket, Settled::Done(Outcome::Deferred(why()))).await.unwrap();
    let RecipientState::Waiting { due, tries: 2, .. } = house.state(1, 0) else { panic!() };
    let wait = due.since(house.clock.now()).as_secs();
    assert!((540..=660).contains(&wait), "the curve's second wait, {wait}");
}

#[tokio::test(start_paused = true)]
async fn later_is_not_written_and_counts_no_try() {
    let house = house(Config::default()).await;
    house.commit(entry(1, "a.example", 1)).await;
    let at = START.after(seconds(60));
    house.settle_all(house.next().await, Settled::Later { at }).await.unwrap();
    assert_eq!(*house.spool.seen.lock().unwrap(), ["accept"]);
    house.quiet().await;
    let ticket = house.queue.next().await.unwrap();
    assert_eq!(house.clock.now(), at);
    assert_eq!(ticket.recipients[0].state, RecipientState::fresh(START));
}

#[tokio::test(start_paused = true)]
async fn each_recipient_has_its_own_fate() {
    let house = house(Config::default()).await;
    house.commit(entry(1, "a.example", 4)).await;
    let ticket = house.next().await;
    let at = START.after(seconds(300));
    let notice = Some(prepared(entry(2, "example.com", 1)));
    let states = vec![
        (0, delivered()),
        (1, Settled::Done(Outcome::Bounced(Why::Policy(Reply::RELAY_DENIED)))),
        (2, Settled::Again { at, why: why() }),
        (3, Settled::Held("by policy".into())),
        (3, delivered()),
        (77, delivered()),
    ];
    house
        .queue
        .settle(ticket, Settlement { states, notice, ..Settlement::default() })
        .await
        .unwrap();
    assert_eq!(*house.spool.seen.lock().unwrap(), ["accept", "settle with notice"]);
    assert_eq!(house.standing(), (2, 1, 0));
    assert!(house.state(1, 0).is_done() && house.state(1, 1).is_done());
    assert!(matches!(house.state(1, 3), RecipientState::Held { tries: 0, .. }));
    assert_eq!(house.next().await.id, MessageId(2), "the notice goes out at once");
    let mut registry = prometheus_client::registry::Registry::default();
    house.queue.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "waypost_queue_settled_total{outcome=\"delivered\",cause=\"\"} 1",
        "waypost_queue_settled_total{outcome=\"bounced\",cause=\"policy\"} 1",
        "waypost_queue_settled_total{outcome=\"deferred\",cause=\"no-address\"} 1",
        "waypost_queue_settled_total{outcome=\"held\",cause=\"\"} 1",
        "waypost_queue_committed_total 1",
        "waypost_queue_held 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_recipients_make_several_tickets_at_once() {
    let config = Config { recipients_per_transaction: 100, ..Config::default() };
    let house = house(config).await;
    house.commit(entry(1, "a.example", 250)).await;
    let tickets = [house.next().await, house.next().await, house.next().await];
    let sizes = tickets.each_ref().map(|ticket| ticket.recipients.len());
    assert_eq!(sizes, [100, 100, 50]);
    let mut covered: Vec<u32> = tickets.iter().flat_map(|t| ids(&t.recipients)).collect();
    covered.sort_unstable();
    assert_eq!(covered, (0..250).collect::<Vec<_>>());
    house.quiet().await;
    let [first, second, third] = tickets;
    house.settle_all(second, delivered()).await.unwrap();
    drop(first);
    house.settle_all(third, delivered()).await.unwrap();
    let again = house.queue.next().await.unwrap();
    assert_eq!(ids(&again.recipients), (0..100).collect::<Vec<_>>());
    house.settle_all(again, delivered()).await.unwrap();
    assert!(house.queue.show(MessageId(1)).is_err());
    assert_eq!(house.standing(), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn each_route_has_its_own_ticket() {
    let house = house(Config::default()).await;
    let mut message = entry(1, "a.example", 1);
    message.routes.push(route("b.example"));
    message.recipients.push(recipient(1, "b.example", 1));
    house.commit(message).await;
    let (one, two) = (house.next().await, house.next().await);
    assert_eq!((&*one.destination, &*two.destination), ("a.example", "b.example"));
    house.settle_all(one, delivered()).await.unwrap();
    house.settle_all(two, Settled::Again { at: START, why: why() }).await.unwrap();
    assert_eq!(ids(&house.next().await.recipients), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_ticket_comes_back_after_a_pause() {
    let house = house(Config { per_destination: 1, ..Config::default() }).await;
    house.commit(entry(1, "a.example", 1)).await;
    for _ in 0..3 {
        let began = Instant::now();
        let ticket = house.queue.next().await.unwrap();
        drop(ticket);
        assert_eq!(house.standing(), (1, 0, 0));
        house.quiet().await;
        let ticket = house.queue.next().await.unwrap();
        assert!(began.elapsed() >= seconds(1));
        house.settle_all(ticket, Settled::Again { at: START, why: why() }).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_settlement_gives_the_lease_back_and_stops_nothing_else() {
    let house = house(Config::default()).await;
    house.commit(entry(1, "a.example", 1)).await;
    let ticket = house.next().await;
    house.spool.inner.fail_next(SpoolError::NoSpace);
    let notice = Some(prepared(entry(2, "b.example", 1)));
    let settlement =
        Settlement { states: all(&ticket, delivered()), notice, ..Settlement::default() };
    let result = house.queue.settle(ticket, settlement).await;
    assert!(matches!(result, Err(SpoolError::NoSpace)));
    assert_eq!(house.standing(), (1, 0, 0));
    let began = Instant::now();
    assert_eq!(house.queue.next().await.unwrap().id, MessageId(1), "no notice was made");
    assert_eq!(began.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_failed_spool_stops_deliveries() {
    let house = house(Config::default()).await;
    house.commit(entry(1, "a.example", 1)).await;
    house.spool.inner.fail_next(SpoolError::Failed("I/O error".into()));
    let refused = house.queue.commit(prepared(entry(2, "a.example", 1))).await;
    assert!(matches!(refused, Err(SpoolError::Failed(_))));
    assert!(house.queue.status().failed);
    assert!(timeout(seconds(3600), house.queue.next()).await.is_err());
    house.queue.close();
    assert!(house.queue.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn refused_mail_leaves_no_trace() {
    let house = house(Config::default()).await;
    house.spool.inner.set_full(true);
    assert!(matches!(house.queue.accepting(), Err(SpoolError::NoSpace)));
    assert!(house.queue.commit(prepared(entry(1, "a.example", 1))).await.is_err());
    house.spool.inner.set_full(false);
    let mut nowhere = entry(2, "a.example", 1);
    nowhere.routes.clear();
    let result = house.queue.commit(prepared(nowhere)).await;
    assert!(matches!(result, Err(SpoolError::Damaged(..))));
    house.quiet().await;
    assert_eq!(house.standing(), (0, 0, 0));
    house.commit(entry(1, "a.example", 1)).await;
    house.next().await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_interrupts_nothing() {
    let spool = SlowSpool { pause: seconds(2), ..SlowSpool::default() };
    let house = house_on(Arc::new(spool), Config::default()).await;
    let commit = house.queue.commit(prepared(entry(1, "a.example", 1)));
    assert!(timeout(seconds(1), commit).await.is_err());
    let ticket = house.queue.next().await.unwrap();
    let states = all(&ticket, delivered());
    let settle = house.queue.settle(ticket, Settlement { states, ..Settlement::default() });
    assert!(timeout(seconds(1), settle).await.is_err());
    assert!(timeout(seconds(100), house.queue.next()).await.is_err(), "it was settled");
    assert!(house.queue.show(MessageId(1)).is_err());
    assert_eq!(house.standing(), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_in_is_nobodys_yet() {
    let spool = SlowSpool { pause: seconds(2), ..SlowSpool::default() };
    let house = house_on(Arc::new(spool), Config::default()).await;
    let _ = timeout(seconds(1), house.queue.commit(prepared(entry(1, "a.example", 1)))).await;
    house
        .spool
        .inner
        .commit(Change::Accept(Box::new(prepared(entry(1, "a.example", 1)).into_arrival())))
        .await
        .unwrap();
    assert!(matches!(house.queue.lease(MessageId(1)).await, Err(AdminError::Unknown(_))));
    house.next_after(seconds(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_finds_what_waits_what_is_held_and_what_is_done() {
    let spool = Arc::new(SlowSpool::default());
    let house = house_on(spool.clone(), Config::default()).await;
    house.commit(entry(1, "a.example", 3)).await;
    house.commit(entry(2, "b.example", 1)).await;
    house.commit(entry(3, "c.example", 1)).await;
    let first = house.next().await;
    let at = START.after(seconds(100));
    let states = vec![
        (0, delivered()),
        (1, Settled::Held("look at it".into())),
        (2, Settled::Again { at, why: why() }),
    ];
    house.queue.settle(first, Settlement { states, ..Settlement::default() }).await.unwrap();
    house.settle_all(house.next().await, delivered()).await.unwrap();
    let lost = house.next().await;
    let house = house_on(spool, Config::default()).await;
    assert_eq!(house.standing(), (2, 1, 0));
    let again = house.next().await;
    assert_eq!(again.id, lost.id, "what was in flight is due again");
    let ticket = house.queue.next().await.unwrap();
    assert_eq!((ticket.id, ids(&ticket.recipients)), (MessageId(1), vec![2]));
    assert!(house.clock.now() >= at);
    let released = house.queue.release(MessageId(1)).await.unwrap();
    assert_eq!(released, Touched { changed: 1, in_flight: 0 });
    assert_eq!(ids(&house.next().await.recipients), [1]);
    drop(lost);
}

#[tokio::test(start_paused = true)]
async fn what_is_over_comes_on_time_even_while_its_destination_rests() {
    let house = house(Config {
        resting: crate::RestCurve { first: 10 * LIFETIME, factor: 1.0, max: 10 * LIFETIME },
        delay_notices: Vec::new(),
        ..Config::default()
    })
    .await;
    house.commit(entry(1, "a.example", 1)).await;
    let ticket = house.next().await;
    house.queue.rest("a.example", "connection refused".into());
    let at = START.after(seconds(300));
    house.settle_all(ticket, Settled::Again { at, why: why() }).await.unwrap();
    let status = house.queue.status();
    assert_eq!(status.destinations[0].why.as_deref(), Some("connection refused"));
    assert_eq!(house.queue.metrics().resting.get(), 1);
    let ticket = house.queue.next().await.unwrap();
    assert!(ticket.expired);
    assert_eq!(house.clock.now(), START.after(LIFETIME));
    let over = Outcome::Bounced(Why::Expired(Some(Box::new(why()))));
    house.settle_all(ticket, Settled::Done(over)).await.unwrap();
    assert!(house.queue.status().destinations.is_empty());
    assert_eq!(house.queue.metrics().resting.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_rest_is_over_when_the_destination_answers() {
    let house = house(Config::default()).await;
    for id in 1..=5 {
        house.commit(entry(id, "a.example", 1)).await;
    }
    let (one, two) = (house.next().await, house.next().await);
    house.queue.rest("a.example", "down".into());
    house.quiet().await;
    house.queue.answered("a.example");
    house.next().await;
    house.queue.rest("a.example", "down".into());
    house.quiet().await;
    house.settle_all(one, delivered()).await.unwrap();
    house.next().await;
    house.settle_all(two, delivered()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_ends_tickets_and_idle_waits_for_leases() {
    let house = house(Config::default()).await;
    house.commit(entry(1, "a.example", 1)).await;
    house.commit(entry(2, "a.example", 1)).await;
    let ticket = house.next().await;
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let queue = house.queue.clone();
            tokio::spawn(async move { queue.next().await })
        })
        .collect();
    let mut waiting = waiting.into_iter();
    let second = waiting.next().unwrap().await.unwrap().unwrap();
    house.queue.close();
    for task in waiting {
        assert!(task.await.unwrap().is_none());
    }
    assert!(timeout(seconds(10), house.queue.idle()).await.is_err());
    drop(second);
    let queue = house.queue.clone();
    let idle = tokio::spawn(async move { queue.idle().await });
    house.settle_all(ticket, delivered()).await.unwrap();
    timeout(seconds(1), idle).await.expect("idle").unwrap();
    assert!(house.queue.next().await.is_none());
    house.commit(entry(3, "a.example", 1)).await;
    assert!(house.queue.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn more_mail_than_memory_has_room_for_is_found_in_the_spool() {
    let config = Config { scheduled: 64, ready_cache: 8, ..Config::default() };
    let house = house(config).await;
    for id in 1..=1000 {
        house.commit(entry(id, if id % 100 == 0 { "b.example" } else { "a.example" }, 1)).await;
    }
    let mut seen = HashMap::new();
    for _ in 0..1000 {
        let ticket = house.next_after(seconds(60)).await;
        *seen.entry(ticket.id).or_insert(0) += 1;
        house.settle_all(ticket, delivered()).await.unwrap();
    }
    assert_eq!(seen.len(), 1000);
    assert_eq!(house.standing(), (0, 0, 0));
    assert!(house.queue.status().destinations.is_empty());
    house.quiet().await;
}

/// Attempts by many tasks at once, some of them abandoned, some failing, while an operator
/// interferes: every recipient is delivered exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_deliver_everybody_once() {
    const MESSAGES: u64 = 400;
    let config = Config {
        recipients_per_transaction: 3,
        per_destination: 4,
        ready_cache: 50,
        scheduled: 100,
        ..Config::default()
    };
    let house = Arc::new(house(config).await);
    let seen: Arc<StdMutex<HashMap<(MessageId, u32), usize>>> = Arc::default();
    let worker = |seed: usize| {
        let (house, seen) = (house.clone(), seen.clone());
        tokio::spawn(async move {
            let mut round = seed;
            while let Some(ticket) = house.queue.next().await {
                round += 1;
                tokio::task::yield_now().await;
                match round % 8 {
                    0 => drop(ticket),
                    1 => {
                        let at = house.clock.now();
                        house.settle_all(ticket, Settled::Again { at, why: why() }).await.unwrap();
                    }
                    _ => {
                        for id in ids(&ticket.recipients) {
                            *seen.lock().unwrap().entry((ticket.id, id)).or_insert(0) += 1;
                        }
                        house.settle_all(ticket, delivered()).await.unwrap();
                    }
                }
            }
        })
    };
    let workers: Vec<_> = (0..16).map(worker).collect();
    for id in 1..=MESSAGES {
        house.commit(entry(id, &format!("d{}.example", id % 7), 1 + id as u32 % 8)).await;
        if id % 10 == 0 {
            let _ = house.queue.hold(MessageId(id - 3), "for a moment".into()).await;
            let _ = house.queue.retry(MessageId(id - 5)).await;
            let _ = house.queue.release(MessageId(id - 3)).await;
        }
    }
    while house.standing_now() != (0, 0, 0) {
        for id in house.spool.ids(None, 1000).unwrap() {
            let _ = house.queue.release(id).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    house.queue.close();
    house.queue.idle().await;
    for worker in workers {
        worker.await.unwrap();
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len() as u64, (1..=MESSAGES).map(|id| 1 + id % 8).sum::<u64>());
    assert!(seen.values().all(|count| *count == 1));
    assert!(house.spool.ids(None, 1).unwrap().is_empty());
    assert!(house.queue.status().destinations.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_goes_another_way_is_due_there_at_once() {
    let house = house(Config::default()).await;
    house.commit(entry(1, "a.example", 2)).await;
    let ticket = house.next().await;
    let now = house.clock.now();
    let rerouted = Settled::Rerouted { route: route("b.example"), at: now, why: why() };
    let states =
        vec![(0, rerouted), (1, Settled::Again { at: now.after(seconds(60)), why: why() })];
    house.queue.rest("a.example", "away".into());
    house.queue.settle(ticket, Settlement { states, ..Settlement::default() }).await.unwrap();
    assert_eq!(house.standing(), (2, 0, 0));
    let ticket = house.next().await;
    assert_eq!((ticket.destination.as_str(), ids(&ticket.recipients)), ("b.example", vec![0]));
    assert_eq!((ticket.route.clone(), ticket.entry.reroutes), (route("b.example"), 1));
    assert!(matches!(house.state(1, 0), RecipientState::Waiting { tries: 1, .. }));
    drop(ticket);
    // A new start on the same spool finds it there.
    house.queue.close();
    let again = house_on(house.spool.clone(), Config::default()).await;
    let ticket = again.next_after(seconds(2)).await;
    assert_eq!(ticket.destination, "b.example");
    assert_eq!(again.standing(), (1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn delivery_by_another_way_does_not_end_the_rest_of_the_first() {
    let house = house(Config::default()).await;
    house.commit(entry(1, "a.example", 2)).await;
    let ticket = house.next().await;
    house.queue.rest("a.example", "away".into());
    house.commit(entry(2, "a.example", 1)).await;
    let now = house.clock.now();
    let rerouted = Settled::Rerouted { route: route("b.example"), at: now, why: why() };
    let states = vec![(0, rerouted), (1, Settled::Again { at: now, why: why() })];
    house.queue.settle(ticket, Settlement { states, ..Settlement::default() }).await.unwrap();
    let ticket = house.next().await;
    assert_eq!(ticket.destination, "b.example");
    house.settle_all(ticket, delivered()).await.unwrap();
    house.quiet().await;
    let status = house.queue.status();
    let [first] = &status.destinations[..] else { panic!("{status:?}") };
    assert_eq!((first.name.as_str(), first.waiting), ("a.example", 2));
    assert!(first.resting_until.is_some_and(|until| until > now));
}

#[tokio::test(start_paused = true)]
async fn who_gets_a_way_at_last_has_made_no_attempt() {
    let house = house(Config::default()).await;
    house.commit(entry(1, "undecided", 1)).await;
    let ticket = house.next().await;
    let at = house.clock.now().after(seconds(5));
    let settled = Settled::Routed { route: route("b.example"), at };
    house.settle_all(ticket, settled).await.unwrap();
    house.quiet().await;
    let ticket = house.next_after(seconds(6)).await;
    assert_eq!((ticket.destination.as_str(), ticket.entry.reroutes), ("b.example", 0));
    assert!(matches!(house.state(1, 0), RecipientState::Waiting { tries: 0, last: None, .. }));
    house.settle_all(ticket, delivered()).await.unwrap();
    assert_eq!((house.standing(), house.queue.status().destinations), ((0, 0, 0), vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_notice_of_delay_brings_no_attempt_outside_the_window() {
    let mut config = Config { delay_notices: vec![seconds(3600)], ..Config::default() };
    // START is 13:46 of a day.
    let window = Window { days: [true; 7], from: 20 * 60, until: 21 * 60, offset: 0 };
    config.classes = vec![Class {
        matches: "sender:*".parse().ok(),
        windows: vec![window],
        ..Class::usual("evening", &config)
    }];
    let house = house(config).await;
    house.commit(entry(1, "a.example", 1)).await;
    let told = house.next_after(seconds(3601)).await;
    let now = house.clock.now();
    assert_eq!(told.late, [(0, 1)]);
    let RecipientState::Waiting { due, .. } = told.recipients[0].state else { panic!() };
    assert!(due > now && due == window.next(now), "it is here to be told of, not to be tried");
    let states = vec![(0, Settled::Later { at: due })];
    let settlement = Settlement { states, told: told.late.clone(), ..Settlement::default() };
    house.queue.settle(told, settlement).await.unwrap();
    house.quiet().await;
    let tried = house.next_after(seconds(8 * 3600)).await;
    assert!(house.clock.now() >= due && tried.late.is_empty());
    let RecipientState::Waiting { due, .. } = tried.recipients[0].state else { panic!() };
    assert!(due <= house.clock.now());
}
