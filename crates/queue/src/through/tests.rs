use waypost_mail::{Clock as _, IncomingFile, Outcome, Why};
use waypost_smtp::Reply;
use waypost_spool::Spool as _;

use super::*;
use crate::house::{House, delivered, house, ids, seconds, why};
use crate::samples::{START, entry, prepared, recipient, route};
use crate::{Class, Config, Rate, Settled};

fn pass(house: &House, entry: Entry) -> Ticket {
    house.queue.pass(prepared(entry)).expect("it may be tried at once")
}

fn comes_back(house: &House, entry: Entry, because: &str) {
    let id = entry.id;
    let back = house.queue.pass(prepared(entry)).expect_err(because);
    assert_eq!(back.id(), id, "{because}");
}

async fn settle(
    house: &House,
    ticket: Ticket,
    states: Vec<(u32, Settled)>,
) -> Result<(), SpoolError> {
    house.queue.settle(ticket, Settlement { states, ..Settlement::default() }).await
}

fn written(house: &House) -> Vec<String> {
    house.spool.seen.lock().unwrap().clone()
}

fn refusal() -> Why {
    Why::Policy(Reply::RELAY_DENIED)
}

#[tokio::test(start_paused = true)]
async fn who_is_done_with_at_once_is_never_written() {
    let house = house(Config::default()).await;
    let ticket = pass(&house, entry(1, "a.example", 2));
    assert_eq!((ids(&ticket.recipients), &*ticket.destination), (vec![0, 1], "a.example"));
    assert_eq!(house.standing(), (0, 0, 2));
    assert!(house.queue.show(MessageId(1)).is_err(), "it is in no list");
    let refused = Settled::Done(Outcome::Bounced(refusal()));
    settle(&house, ticket, vec![(0, delivered()), (1, refused)]).await.unwrap();
    assert_eq!(house.standing(), (0, 0, 0));
    assert!(written(&house).is_empty());
    assert_eq!(house.queue.kept(), (0, 0));
    house.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_left_becomes_durable_in_one_record_with_what_came_of_the_others() {
    let house = house(Config::default()).await;
    let ticket = pass(&house, entry(1, "a.example", 6));
    let at = START.after(seconds(300));
    let states = vec![
        (0, delivered()),
        (1, Settled::Doomed(refusal())),
        (2, Settled::Again { at, why: why() }),
        (3, Settled::Later { at }),
        (4, Settled::Held("by policy".into())),
        (5, Settled::Rerouted { route: route("b.example"), at, why: why() }),
    ];
    settle(&house, ticket, states).await.unwrap();
    assert_eq!(written(&house), ["accept"]);
    let stored = house.spool.inner.load(MessageId(1)).unwrap();
    let states: Vec<_> = stored.recipients.iter().map(|r| r.state.clone()).collect();
    assert!(matches!(&states[0], RecipientState::Done(Outcome::Delivered { .. })));
    let doomed = RecipientState::Waiting { due: START, tries: 0, last: Some(refusal()) };
    let again = RecipientState::Waiting { due: at, tries: 1, last: Some(why()) };
    assert_eq!(states[1..4], [doomed, again.clone(), RecipientState::fresh(at)]);
    assert_eq!(states[4], RecipientState::Held { tries: 0, reason: "by policy".into() });
    assert_eq!((&states[5], stored.reroutes), (&again, 1));
    assert_eq!(stored.route_of(&stored.recipients[5]), Some(&route("b.example")));
    assert_eq!(house.standing(), (4, 1, 0));
    let doomed = house.next().await;
    assert_eq!(ids(&doomed.recipients), [1]);
    house.quiet().await;
    drop(doomed);
}

#[tokio::test(start_paused = true)]
async fn a_ticket_that_is_dropped_leaves_nothing_but_a_free_slot() {
    let house = house(Config { per_destination: 1, ..Config::default() }).await;
    let ticket = pass(&house, entry(1, "a.example", 2));
    comes_back(&house, entry(2, "a.example", 1), "the only slot is taken");
    drop(ticket);
    assert_eq!(house.standing(), (0, 0, 0));
    house.quiet().await;
    drop(pass(&house, entry(3, "a.example", 1)));
    assert!(written(&house).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_while_it_is_tried_is_in_hand_like_all_others() {
    let house = house(Config::default()).await;
    let ticket = pass(&house, entry(1, "a.example", 2));
    house.queue.keep(&ticket).await.unwrap();
    house.queue.keep(&ticket).await.unwrap();
    assert_eq!(written(&house), ["accept"]);
    assert_eq!((house.standing(), house.queue.kept().0), ((0, 0, 2), 1));
    house.quiet().await;
    settle(&house, ticket, vec![(0, delivered())]).await.unwrap();
    assert_eq!(written(&house), ["accept", "settle"]);
    assert_eq!(house.standing(), (1, 0, 0));
    let ticket = house.next_after(seconds(61)).await;
    assert_eq!(ids(&ticket.recipients), [1], "who was not spoken of comes again");
    settle(&house, ticket, vec![(1, delivered())]).await.unwrap();
    assert_eq!(house.queue.kept(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_is_kept_and_dropped_comes_again() {
    let house = house(Config::default()).await;
    let ticket = pass(&house, entry(1, "a.example", 1));
    house.queue.keep(&ticket).await.unwrap();
    drop(ticket);
    assert_eq!(house.standing(), (1, 0, 0));
    assert_eq!(house.next_after(seconds(2)).await.id, MessageId(1));
}

/// Whoever made the attempt is gone, and the message is on its way into the spool.
#[tokio::test(start_paused = true)]
async fn what_becomes_durable_after_its_ticket_has_ended_waits_like_new_mail() {
    let spool = crate::house::SlowSpool { pause: seconds(1), ..Default::default() };
    let house = crate::house::house_on(Arc::new(spool), Config::default()).await;
    let ticket = pass(&house, entry(1, "a.example", 1));
    let gone = tokio::time::timeout(seconds(1) / 2, house.queue.keep(&ticket)).await;
    assert!(gone.is_err());
    drop(ticket);
    assert_eq!(house.next_after(seconds(2)).await.id, MessageId(1));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_is_not_there() {
    let house = house(Config::default()).await;
    let ticket = pass(&house, entry(1, "a.example", 2));
    house.spool.inner.fail_next(SpoolError::NoSpace);
    let again = Settled::Again { at: START, why: why() };
    let failed = settle(&house, ticket, vec![(0, delivered()), (1, again)]).await;
    assert!(matches!(failed, Err(SpoolError::NoSpace)));
    let ticket = pass(&house, entry(2, "a.example", 1));
    house.spool.inner.fail_next(SpoolError::NoSpace);
    assert!(matches!(house.queue.keep(&ticket).await, Err(SpoolError::NoSpace)));
    drop(ticket);
    assert_eq!((house.standing(), house.queue.kept()), ((0, 0, 0), (0, 0)));
    house.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn what_may_not_begin_now_comes_back() {
    let house = house(Config { recipients_per_transaction: 2, ..Config::default() }).await;
    let mut other = entry(1, "a.example", 2);
    other.routes.push(route("b.example"));
    other.recipients[1] = recipient(1, "b.example", 1);
    comes_back(&house, other, "there are two ways");
    let mut later = entry(1, "a.example", 1);
    later.recipients[0].state = RecipientState::fresh(START.after(seconds(1)));
    comes_back(&house, later, "it is to wait");
    let mut held = entry(1, "a.example", 2);
    held.recipients[1].state = RecipientState::Held { tries: 0, reason: String::new() };
    comes_back(&house, held, "somebody is held");
    let mut doomed = entry(1, "a.example", 1);
    doomed.recipients[0].state =
        RecipientState::Waiting { due: START, tries: 0, last: Some(refusal()) };
    comes_back(&house, doomed, "it bounces");
    comes_back(&house, entry(1, "a.example", 3), "they are too many");

    let ticket = pass(&house, entry(2, "a.example", 1));
    house.queue.rest("a.example", "nobody answers".into());
    let again = Settled::Again { at: START.after(seconds(3600)), why: why() };
    settle(&house, ticket, vec![(0, again)]).await.unwrap();
    comes_back(&house, entry(3, "a.example", 1), "the destination rests");
    tokio::time::advance(seconds(3000)).await;
    let mut new = entry(3, "a.example", 1);
    new.expires = START.after(seconds(90_000));
    comes_back(&house, new, "nobody knows whether it is well again");
    assert_eq!(house.standing(), (1, 0, 0));

    house.queue.close();
    comes_back(&house, entry(4, "c.example", 1), "the program ends");
}

#[tokio::test(start_paused = true)]
async fn mail_that_waits_goes_first() {
    let house = house(Config { per_destination: 1, ..Config::default() }).await;
    house.commit(entry(1, "a.example", 1)).await;
    house.commit(entry(2, "a.example", 1)).await;
    let first = house.next().await;
    house.quiet().await;
    comes_back(&house, entry(3, "a.example", 1), "another one stands in line");
    settle(&house, first, vec![(0, delivered())]).await.unwrap();
    comes_back(&house, entry(4, "a.example", 1), "whose turn it is");
    assert_eq!(house.next().await.id, MessageId(2));
}

/// Who waits for its class waits longer than who has just come.
#[tokio::test(start_paused = true)]
async fn leave_of_the_class_goes_to_mail_that_waits_for_it() {
    let slow = Config::default();
    let rate = Some(Rate { count: 1, per: seconds(3600) });
    let matches = "sender:*".parse().ok();
    let classes = vec![Class { matches, rate, ..Class::usual("slow", &slow) }];
    let house = house(Config { classes, ..slow }).await;
    house.commit(entry(1, "a.example", 1)).await;
    house.commit(entry(2, "b.example", 1)).await;
    let first = house.next().await;
    house.quiet().await;
    tokio::time::advance(seconds(3600)).await;
    comes_back(&house, entry(3, "c.example", 1), "another one of its class waits");
    let second = house.next().await;
    assert_ne!(first.id, second.id);
    tokio::time::advance(seconds(3600)).await;
    pass(&house, entry(4, "c.example", 1));
}

#[tokio::test(start_paused = true)]
async fn where_nothing_could_be_kept_nothing_is_tried() {
    let house = house(Config::default()).await;
    house.spool.inner.set_full(true);
    comes_back(&house, entry(1, "a.example", 1), "there is no room");
    house.spool.inner.set_full(false);
    pass(&house, entry(1, "a.example", 1));
}

/// The message came by the old clock, and what came of it was thought of by the new one.
#[tokio::test(start_paused = true)]
async fn the_clock_jumps_while_it_is_tried() {
    const YEARS: i64 = 10 * 365 * 86_400;
    for jump in [YEARS, -8 * 3600] {
        let house = house(Config { delay_notices: Vec::new(), ..Config::default() }).await;
        let ticket = pass(&house, entry(1, "a.example", 3));
        house.clock.jump(jump);
        house.quiet().await;
        let now = house.clock.now();
        let again = Settled::Again { at: now.after(seconds(300)), why: why() };
        let states = vec![(0, delivered()), (1, again), (2, Settled::Doomed(refusal()))];
        settle(&house, ticket, states).await.unwrap();
        let doomed = house.next().await;
        assert_eq!(ids(&doomed.recipients), [2], "{jump}");
        let again = house.next_after(seconds(301)).await;
        assert_eq!((ids(&again.recipients), again.expired), (vec![1], false), "{jump}");
        let left = again.entry.expires.since(house.clock.now());
        let whole = entry(1, "a.example", 1);
        let whole = whole.expires.since(whole.received);
        assert!(left > whole - seconds(600) && left <= whole, "{jump}: {left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn octets_are_read_from_memory_and_from_files_before_and_after() {
    let house = house(Config::default()).await;
    let directory = tempfile();
    let path = directory.join("body");
    std::fs::write(&path, "..the body").unwrap();
    let body = Body::File { file: IncomingFile::new(path), offset: 2, len: 8 };
    let header = Bytes::from_static(b"A: b\r\n\r\n");
    let prepared = Prepared::new(entry(1, "a.example", 1), header, body);
    let ticket = house.queue.pass(prepared).unwrap();
    let before = house.queue.content(MessageId(1)).unwrap();
    house.queue.keep(&ticket).await.unwrap();
    let after = house.queue.content(MessageId(1)).unwrap();
    for (when, content) in [("before", before), ("after", after)] {
        let mut read = Vec::new();
        while (read.len() as u64) < content.len() {
            let piece = content.read_at(read.len() as u64, 3).unwrap();
            assert!(!piece.is_empty() && piece.len() <= 3, "{when}");
            read.extend(piece);
        }
        assert_eq!(read, b"A: b\r\n\r\nthe body", "{when}");
        assert!(content.read_at(content.len(), 9).unwrap().is_empty(), "{when}");
    }
    std::fs::remove_dir_all(directory).unwrap();
}

/// A directory of its own.
fn tempfile() -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("waypost-through-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}
