use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::timeout;
use waypost_mail::Why;

use super::*;
use crate::house::{SlowSpool, all, delivered, house, house_by, house_on, ids, seconds, why};
use crate::samples::{LIFETIME, START, entry, prepared, recipient, route};
use crate::{Config, Settled, Settlement};

#[tokio::test(start_paused = true)]
async fn operators_hold_release_retry_and_delete() {
    let house = house(Config::default()).await;
    let id = MessageId(1);
    assert!(matches!(house.queue.hold(id, "?".into()).await, Err(AdminError::Unknown(_))));
    house.commit(entry(1, "a.example", 2)).await;
    let held = house.queue.hold(id, "suspicious".into()).await.unwrap();
    assert_eq!(held, Touched { changed: 2, in_flight: 0 });
    assert_eq!(house.standing(), (0, 2, 0));
    house.quiet().await;
    assert_eq!(house.queue.retry(id).await.unwrap().changed, 0, "held mail stays held");
    house.queue.release(id).await.unwrap();
    let ticket = house.next().await;
    for change in [
        house.queue.hold(id, "late".into()).await,
        house.queue.retry(id).await,
        house.queue.delete(id).await,
        house.queue.lease(id).await.map(|_| Touched::default()),
    ] {
        assert!(matches!(change, Err(AdminError::InFlight(_, 2))), "{change:?}");
    }
    house.queue.rest("a.example", "down".into());
    let at = START.after(seconds(3000));
    house.settle_all(ticket, Settled::Again { at, why: why() }).await.unwrap();
    house.quiet().await;
    assert_eq!(house.queue.retry(id).await.unwrap().changed, 2);
    let ticket = house.next().await;
    assert!(
        matches!(&ticket.recipients[0].state, RecipientState::Waiting { tries: 1, last: Some(w), .. } if *w == why()),
        "{ticket:?}"
    );
    let states = vec![(0, Settled::Again { at, why: why() })];
    house.queue.settle(ticket, Settlement { states, ..Settlement::default() }).await.unwrap();
    assert_eq!(house.queue.delete(id).await.unwrap().changed, 2);
    assert_eq!(house.standing(), (0, 0, 0));
    assert!(matches!(house.queue.delete(id).await, Err(AdminError::Unknown(_))));
}

/// Found by the simulation (seed 203): held and released, it was delivered.
#[tokio::test(start_paused = true)]
async fn what_policy_refused_is_not_held_and_so_not_released() {
    let house = house(Config::default()).await;
    let mut message = entry(1, "a.example", 2);
    let refused = Why::Policy(waypost_smtp::Reply::REFUSED_BY_POLICY);
    message.recipients[0].state =
        RecipientState::Waiting { due: START, tries: 0, last: Some(refused.clone()) };
    house.commit(message).await;
    assert_eq!(house.queue.hold(MessageId(1), "?".into()).await.unwrap().changed, 1);
    house.queue.release(MessageId(1)).await.unwrap();
    let ticket = house.next().await;
    assert!(
        matches!(&ticket.recipients[0].state, RecipientState::Waiting { last: Some(why), .. } if *why == refused)
    );
}

#[tokio::test(start_paused = true)]
async fn an_operator_leases_everything_that_is_not_done() {
    let house = house(Config { per_destination: 1, ..Config::default() }).await;
    let mut message = entry(1, "a.example", 2);
    message.routes.push(route("b.example"));
    message.recipients.push(recipient(2, "b.example", 1));
    message.recipients[1].state = RecipientState::Held { tries: 0, reason: "quarantine".into() };
    house.commit(entry(7, "a.example", 1)).await;
    let busy = house.next().await;
    house.commit(message).await;
    let (mut tickets, _) = house.queue.lease(MessageId(1)).await.unwrap();
    assert_eq!(house.standing(), (0, 0, 4));
    house.quiet().await;
    let second = tickets.pop().unwrap();
    let first = tickets.pop().unwrap();
    assert_eq!((ids(&first.recipients), ids(&second.recipients)), (vec![0, 1], vec![2]));
    let bounced = Settled::Done(Outcome::Bounced(Why::Operator("no".into())));
    let notice = Some(prepared(entry(2, "example.com", 1)));
    let settlement = Settlement { states: all(&second, bounced), notice, ..Settlement::default() };
    house.queue.settle(second, settlement).await.unwrap();
    drop(first);
    assert_eq!(house.standing(), (2, 1, 1), "the held one is held again");
    assert_eq!(house.next().await.id, MessageId(2));
    house.settle_all(busy, delivered()).await.unwrap();
    assert_eq!(ids(&house.next_after(seconds(2)).await.recipients), [0]);
}

#[tokio::test(start_paused = true)]
async fn held_at_arrival_is_legal() {
    let house = house(Config::default()).await;
    let mut message = entry(1, "a.example", 2);
    for recipient in &mut message.recipients {
        recipient.state = RecipientState::Held { tries: 0, reason: "quarantine".into() };
    }
    house.commit(message).await;
    assert_eq!(house.standing(), (0, 2, 0));
    house.quiet().await;
    house.queue.release(MessageId(1)).await.unwrap();
    assert_eq!(house.next().await.recipients.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn damaged_messages_are_left_alone_and_can_be_deleted() {
    let spool = Arc::new(SlowSpool::default());
    {
        let house = house_on(spool.clone(), Config::default()).await;
        house.commit(entry(1, "a.example", 1)).await;
        house.commit(entry(2, "a.example", 1)).await;
        house.commit(entry(3, "a.example", 1)).await;
    }
    spool.damaged.lock().unwrap().push(MessageId(1));
    let house = house_on(spool.clone(), Config::default()).await;
    spool.damaged.lock().unwrap().push(MessageId(2));
    assert_eq!(house.next().await.id, MessageId(3));
    house.quiet().await;
    assert_eq!(house.queue.status().damaged, 2, "one found at the start, one later");
    let loads = spool.loads.load(Ordering::SeqCst);
    assert!(timeout(seconds(10_000), house.queue.next()).await.is_ok(), "the dropped one");
    assert!(spool.loads.load(Ordering::SeqCst) < loads + 5, "nobody spins");
    house.queue.delete(MessageId(1)).await.unwrap();
    assert_eq!(house.queue.status().damaged, 1);
    assert_eq!(spool.seen.lock().unwrap().last().unwrap(), "remove");
}

#[tokio::test(start_paused = true)]
async fn more_time_lasts_over_a_restart() {
    let house = house(Config { delay_notices: Vec::new(), ..Config::default() }).await;
    house.commit(entry(1, "a.example", 2)).await;
    house.commit(entry(2, "b.example", 1)).await;
    let at = START.after(3 * LIFETIME);
    let busy = house.next().await;
    let one = Selected { id: MessageId(1), recipients: Some(vec![0]) };
    let extended = house.queue.extend(one, LIFETIME).await.unwrap();
    assert_eq!(extended, Touched { changed: 1, in_flight: 0 }, "also while it is attempted");
    house.settle_all(busy, Settled::Again { at, why: why() }).await.unwrap();
    house.settle_all(house.next().await, Settled::Again { at, why: why() }).await.unwrap();
    assert_eq!(house.queue.show(MessageId(1)).unwrap().expires, START.after(2 * LIFETIME));
    let listed = house.queue.list(&Selector::everything(), None, 9).unwrap().messages;
    assert_eq!(listed[0].expires, START.after(2 * LIFETIME));
    let over = house.next_after(LIFETIME + seconds(1)).await;
    assert_eq!((over.id, over.expired), (MessageId(2), true));
    house.settle_all(over, delivered()).await.unwrap();
    house.quiet().await;
    let clock = house.clock.clone();
    drop(house.queue);
    let house = house_by(clock, house.spool.clone(), Config::default()).await;
    assert_eq!(house.queue.show(MessageId(1)).unwrap().expires, START.after(2 * LIFETIME));
    assert!(matches!(
        house.queue.extend(MessageId(2), LIFETIME).await,
        Err(AdminError::Unknown(_))
    ));
    // What is over already has its time from now on.
    let late = loop {
        let ticket = house.next_after(LIFETIME).await;
        if ticket.expired {
            break ticket;
        }
    };
    house.queue.extend(MessageId(1), seconds(7200)).await.unwrap();
    drop(late);
    assert!(!house.next_after(seconds(3 * 86_400)).await.expired);
}

#[tokio::test(start_paused = true)]
async fn a_preview_counts_what_would_be_touched() {
    let house = house(Config::default()).await;
    house.commit(entry(1, "a.example", 2)).await;
    let busy = house.next().await;
    let mut refused = entry(2, "b.example", 3);
    let why = Some(Why::Policy(waypost_smtp::Reply::REFUSED_BY_POLICY));
    refused.recipients[0].state = RecipientState::Waiting { due: START, tries: 0, last: why };
    refused.recipients[1].state = RecipientState::Held { tries: 0, reason: "q".into() };
    house.commit(refused).await;
    let preview = |verb| {
        let Preview { messages, recipients, in_flight } =
            house.queue.preview(&Selector::everything(), verb);
        (messages, recipients, in_flight)
    };
    assert_eq!(preview(Verb::Hold), (1, 1, 2), "neither who is held nor who is refused");
    assert_eq!(preview(Verb::Retry), (1, 2, 2));
    assert_eq!(preview(Verb::Release), (1, 1, 0));
    assert_eq!(preview(Verb::Delete), (1, 3, 2));
    assert_eq!(preview(Verb::Extend), (2, 5, 0));
    assert_eq!(house.queue.hold(MessageId(2), "?".into()).await.unwrap().changed, 1);
    drop(busy);
}
