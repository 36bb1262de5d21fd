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
        queue.settle(ticket, Settlement { states, ..Settlement::default() }).await.unwrap();
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

fn found(queue: &Queue, selector: &str) -> Vec<u64> {
    let page = queue.list(&selector.parse().unwrap(), None, 10).unwrap();
    page.messages.iter().map(|summary| summary.id.0).collect()
}

#[tokio::test(start_paused = true)]
async fn selectors_choose_messages() {
    let (queue, _ticket) = house().await;
    let ids = [3, 9, 1].map(|id| MessageId(id).to_string()).join(",");
    let cases: [(&str, &[u64]); 20] = [
        ("", &[1, 2, 3]),
        (&ids, &[1, 3]),
        ("sender:FROM@example.com", &[1, 3]),
        ("sender:<>", &[2]),
        ("recipient:to1@a.example", &[1]),
        ("domain:A.example", &[1, 3]),
        ("destination:bulk", &[2]),
        ("destination:b.example", &[]),
        ("state:held", &[2]),
        ("state:waiting", &[1, 3]),
        ("state:in-flight", &[1]),
        ("state:done", &[3]),
        ("domain:c.example state:waiting", &[]),
        ("sender:<> domain:a.example", &[]),
        ("attempts>0", &[3]),
        ("reply:no-address", &[3]),
        ("reply:none", &[1, 2, 3]),
        ("listener:internal tenant:internal class:default", &[1, 2, 3]),
        ("not domain:a.example", &[2, 3]),
        ("size>19 or age>1h", &[]),
    ];
    for (selector, expected) in cases {
        assert_eq!(found(&queue, selector), expected, "{selector}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_comes_in_pages() {
    let (queue, _ticket) = house().await;
    let page = |after, limit| {
        let page = queue.list(&Selector::everything(), after, limit).unwrap();
        (page.messages.iter().map(|m| m.id.0).collect::<Vec<_>>(), page.next)
    };
    assert_eq!(page(None, 2), (vec![1, 2], Some(MessageId(2))));
    assert_eq!(page(Some(MessageId(2)), 2), (vec![3], None));
    assert_eq!(page(None, 3), (vec![1, 2, 3], None));
}

#[tokio::test(start_paused = true)]
async fn summaries_say_where_and_why() {
    let (queue, _ticket) = house().await;
    let list = queue.list(&Selector::everything(), None, 10).unwrap().messages;
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
