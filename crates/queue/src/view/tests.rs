use std::sync::Arc;

use waypost_mail::{Outcome, Why};
use waypost_spool::MemorySpool;

use super::*;
use crate::samples::{TestClock, entry, prepared, recipient, route};
use crate::{Config, Settled, Settlement};

/// 1: two recipients at a.example, the first in flight. 2: one at b.example by a lane, held, from
/// nobody. 3: one at a.example deferred and one bounced.
async fn house() -> (Arc<Queue>, crate::Ticket) {
    let config = Config { recipients_per_transaction: 1, per_destination: 9, ..Config::default() };
    let clock = TestClock::new();
    let queue = Queue::open(Arc::new(MemorySpool::new()), config, clock, 1).await.unwrap();
    let mut third = entry(3, "a.example", 2);
    third.routes.push(route("c.example"));
    third.recipients[1] = recipient(1, "c.example", 1);
    queue.commit(prepared(third)).await.unwrap();
    for settled in [
        Settled::Again { at: Timestamp(5_000_000_000), why: Why::NoAddress("a.example".into()) },
        Settled::Done(Outcome::Bounced(Why::NullMx("c.example".into()))),
    ] {
        let ticket = queue.next().await.unwrap();
        let states = vec![(ticket.recipients[0].recipient.id, settled)];
        queue.settle(ticket, Settlement { states, notice: None }).await.unwrap();
    }
    queue.commit(prepared(entry(1, "a.example", 2))).await.unwrap();
    let ticket = queue.next().await.unwrap();
    let mut second = entry(2, "b.example", 1);
    second.sender = ReversePath::Null;
    second.routes[0].lane = Some("bulk".into());
    second.recipients[0].state = RecipientState::Held { tries: 0, reason: "quarantine".into() };
    queue.commit(prepared(second)).await.unwrap();
    (queue, ticket)
}

fn found(queue: &Queue, filter: Filter) -> Vec<u64> {
    queue.list(&filter, 10).unwrap().iter().map(|summary| summary.id.0).collect()
}

#[tokio::test(start_paused = true)]
async fn filters_choose_messages() {
    let (queue, _ticket) = house().await;
    let text = |text: &str| Some(text.to_owned());
    let all = Filter::default();
    assert_eq!(found(&queue, all.clone()), [1, 2, 3]);
    let cases: [(Filter, &[u64]); 13] = [
        (Filter { ids: vec![MessageId(3), MessageId(9), MessageId(1)], ..all.clone() }, &[1, 3]),
        (Filter { sender: text("FROM@example.com"), ..all.clone() }, &[1, 3]),
        (Filter { sender: text("<>"), ..all.clone() }, &[2]),
        (Filter { recipient: text("to1@a.example"), ..all.clone() }, &[1]),
        (Filter { domain: text("A.example"), ..all.clone() }, &[1, 3]),
        (Filter { destination: text("bulk"), ..all.clone() }, &[2]),
        (Filter { destination: text("b.example"), ..all.clone() }, &[]),
        (Filter { state: Some(RecipientStanding::Held), ..all.clone() }, &[2]),
        (Filter { state: Some(RecipientStanding::Waiting), ..all.clone() }, &[1, 3]),
        (Filter { state: Some(RecipientStanding::InFlight), ..all.clone() }, &[1]),
        (Filter { state: Some(RecipientStanding::Done), ..all.clone() }, &[3]),
        (
            Filter {
                domain: text("c.example"),
                state: Some(RecipientStanding::Waiting),
                ..all.clone()
            },
            &[],
        ),
        (Filter { sender: text("<>"), domain: text("a.example"), ..all.clone() }, &[]),
    ];
    for (filter, expected) in cases {
        assert_eq!(found(&queue, filter.clone()), expected, "{filter:?}");
    }
    assert_eq!(queue.list(&all, 2).unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn summaries_say_where_and_why() {
    let (queue, _ticket) = house().await;
    let list = queue.list(&Filter::default(), 10).unwrap();
    let [one, two, three] = &list[..] else { panic!("{list:?}") };
    assert_eq!((one.waiting, one.in_flight, one.held, one.done), (1, 1, 0, 0));
    assert_eq!((two.held, two.why.as_deref(), two.due), (1, Some("quarantine"), None));
    assert_eq!((&*two.destination, &*two.recipient), ("bulk", "to0@b.example"));
    assert_eq!((three.waiting, three.done, three.tries), (1, 1, 1));
    assert_eq!(three.due, Some(Timestamp(5_000_000_000)));
    assert!(three.why.as_deref().is_some_and(|why| why.contains("no mail host of a.example")));
}

#[tokio::test(start_paused = true)]
async fn a_status_shows_the_busiest_destinations() {
    let (queue, _ticket) = house().await;
    for id in 0..300 {
        queue.commit(prepared(entry(10 + id, &format!("d{id:03}.example"), 1))).await.unwrap();
    }
    let status = queue.status();
    assert_eq!((status.waiting, status.held, status.leased), (302, 1, 1));
    assert_eq!(status.destinations.len(), SHOWN_DESTINATIONS);
    let first = &status.destinations[0];
    assert_eq!((&*first.name, first.waiting, first.in_flight), ("a.example", 2, 1));
    assert_eq!(&*status.destinations[1].name, "d000.example");
}
