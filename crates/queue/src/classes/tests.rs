use std::time::Duration;

use waypost_mail::{Attr, Entry, MessageId, RecipientState, Why};

use super::*;
use crate::house::{House, house, seconds};
use crate::samples::{START, entry};
use crate::{Settled, Settlement};

const HOUR: u64 = 3600;

/// `bulk` for what shop.example sends, `slow` for whom policy puts in it.
fn config() -> Config {
    let mut config = Config::default();
    let curve = |first| RetryCurve { first: seconds(first), jitter: 0.0, ..config.retry.clone() };
    let bulk = Class {
        matches: Some("sender:*@shop.example or tag:bulk".parse().unwrap()),
        retry: curve(1800),
        lifetime: seconds(2 * HOUR),
        ..Class::usual("bulk", &config)
    };
    let slow =
        Class { retry: curve(2400), lifetime: seconds(30 * HOUR), ..Class::usual("slow", &config) };
    config.classes = vec![bulk, slow];
    config
}

fn from(id: u64, sender: &str) -> Entry {
    let mut message = entry(id, "a.example", 1);
    message.sender = waypost_smtp::ReversePath::Mailbox(sender.parse().unwrap());
    message
}

fn told(mut message: Entry, name: &str, value: &str) -> Entry {
    message.meta.push(Attr { name: name.into(), value: value.into() });
    message
}

fn of_class(house: &House, class: &str) -> Vec<u64> {
    let selector = format!("class:{class}").parse().unwrap();
    let page = house.queue.list(&selector, None, 100).unwrap();
    page.messages.iter().map(|message| message.id.0).collect()
}

#[tokio::test(start_paused = true)]
async fn configuration_or_policy_chooses_the_class() {
    let house = house(config()).await;
    for message in [
        from(1, "a@shop.example"),
        from(2, "a@other.example"),
        told(from(3, "a@other.example"), "router/class", "slow"),
        told(from(4, "a@shop.example"), "router/class", "slow"),
        told(from(5, "a@shop.example"), "router/class", "unheard-of"),
        told(from(6, "a@other.example"), "router/tag", "big bulk"),
    ] {
        house.commit(message).await;
    }
    assert_eq!(of_class(&house, "bulk"), [1, 5, 6]);
    assert_eq!(of_class(&house, "slow"), [3, 4], "policy's word counts more");
    assert_eq!(of_class(&house, DEFAULT_CLASS), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_class_has_its_own_curve_and_lifetime() {
    let house = house(config()).await;
    let lifetimes = [from(1, "a@shop.example"), told(from(2, "a@x.example"), "r/class", "slow")]
        .map(|message| house.queue.lifetime(&message));
    assert_eq!(lifetimes, [seconds(2 * HOUR), seconds(30 * HOUR)]);
    assert_eq!(house.queue.lifetime(&from(3, "a@x.example")), Config::default().lifetime);
    house.commit(from(1, "a@shop.example")).await;
    let ticket = house.next().await;
    assert_eq!(house.queue.retry_at(&ticket, 1), START.after(seconds(1800)));
    let deferred = waypost_mail::Outcome::Deferred(Why::NoAddress("a".into()));
    let states = vec![(0, Settled::Done(deferred))];
    house.queue.settle(ticket, Settlement { states, ..Settlement::default() }).await.unwrap();
    let RecipientState::Waiting { due, .. } = house.state(1, 0) else { panic!() };
    assert_eq!(due, START.after(seconds(1800)));
}

/// START is Monday, 12 January 1970, 13:46:40 UTC.
#[tokio::test(start_paused = true)]
async fn mail_of_a_class_waits_for_its_window() {
    let mut config = config();
    config.classes[0].windows = vec![Window {
        days: [true, false, false, false, false, false, false],
        from: 900,
        until: 960,
        offset: 60,
    }];
    let house = house(config).await;
    house.commit(from(1, "a@shop.example")).await;
    house.commit(from(2, "a@other.example")).await;
    let other = house.next().await;
    assert_eq!(other.id, MessageId(2), "the rest goes");
    house.quiet().await;
    let began = tokio::time::Instant::now();
    let ticket = house.next_after(Duration::from_secs(HOUR)).await;
    let waited = began.elapsed().as_secs();
    assert_eq!(ticket.id, MessageId(1));
    assert!((799..=831).contains(&waited), "until 15:00 there, which is 14:00 UTC: {waited} s");
}

#[tokio::test(start_paused = true)]
async fn senders_are_told_of_delay_when_the_class_says() {
    let mut config = config();
    config.delay_notices = vec![seconds(HOUR)];
    config.classes[0].delay_notices = vec![seconds(600)];
    config.classes[1].delay_notices = vec![];
    let house = house(config).await;
    for message in [
        from(1, "a@shop.example"),
        from(2, "a@other.example"),
        told(from(3, "a@other.example"), "router/class", "slow"),
    ] {
        house.commit(message).await;
        let at = START.after(seconds(5 * HOUR));
        let why = Why::NoAddress("a.example".into());
        house.settle_all(house.next().await, Settled::Again { at, why }).await.unwrap();
    }
    let began = tokio::time::Instant::now();
    for (id, after) in [(1, 600), (2, HOUR)] {
        let ticket = house.next_after(seconds(2 * HOUR)).await;
        assert_eq!((ticket.id, ticket.late.len()), (MessageId(id), 1));
        assert!(ticket.out_of_turn, "it is not to be tried");
        assert!((after..=after + 31).contains(&began.elapsed().as_secs()));
        let at = START.after(seconds(5 * HOUR));
        let states = vec![(0, Settled::Later { at })];
        let told = ticket.late.clone();
        house.queue.settle(ticket, Settlement { states, told, notice: None }).await.unwrap();
    }
    assert!(tokio::time::timeout(seconds(HOUR), house.queue.next()).await.is_err());
}

/// RFC 6710 §5, Appendix B: what lies between two levels counts as the higher one.
#[test]
fn there_are_three_levels_of_urgency() {
    let band = |priority| Band::of(Priority::new(priority).unwrap());
    assert_eq!([-9, -4].map(band), [Band::Low; 2]);
    assert_eq!([-3, -1, 0].map(band), [Band::Normal; 3]);
    assert_eq!([1, 4, 9].map(band), [Band::High; 3]);
    assert_eq!(Band::of(Priority::default()), Band::default());
}
