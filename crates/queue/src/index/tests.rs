use waypost_mail::{Attr, Outcome, Why};
use waypost_smtp::ReversePath;

use super::*;
use crate::Config;
use crate::samples::{START, entry};

fn index() -> Index {
    Index::new(Arc::new(Classes::new(&Config::default())))
}

fn ids(index: &Index) -> Vec<u64> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        after = index.scan(after, 7, |seen| ids.push(seen.id().0));
        if after.is_none() {
            return ids;
        }
    }
}

#[test]
fn messages_stand_in_order_whatever_order_they_came_in() {
    let mut index = index();
    let mut expected: Vec<u64> = (0..3000).map(|n| n * 7919 % 3001 + 10).collect();
    for id in &expected {
        index.insert(&entry(*id, "a.example", 1));
    }
    expected.sort_unstable();
    assert_eq!(ids(&index), expected);
    assert!(expected.iter().all(|id| index.get(MessageId(*id)).is_some()));
    for id in expected.iter().filter(|id| **id % 3 != 0) {
        index.remove(MessageId(*id));
    }
    expected.retain(|id| id % 3 == 0);
    assert_eq!((ids(&index), index.len()), (expected, 1000.max(index.len())));
    assert!(index.get(MessageId(11)).is_none());
}

#[test]
fn nothing_stays_of_what_is_gone() {
    let mut index = index();
    for id in 0..1000 {
        let mut message = entry(id, &format!("d{id}.example"), 2);
        message.sender = ReversePath::Mailbox(format!("s{id}@example.com").parse().unwrap());
        index.insert(&message);
        index.insert(&message);
    }
    assert_eq!(index.len(), 1000);
    for id in 0..1000 {
        let done = RecipientState::Done(Outcome::Deleted);
        index.set(MessageId(id), marks(&[(0, done.clone())]));
        assert!(index.get(MessageId(id)).is_some(), "one is left");
        index.set(MessageId(id), marks(&[(1, done)]));
    }
    assert_eq!((index.len(), index.names.len(), index.chunks.len()), (0, 0, 0));
    index.remove(MessageId(5));
}

#[test]
fn a_recipient_is_seen_as_it_stands_now() {
    let mut index = index();
    let mut message = entry(1, "a.example", 2);
    message.facts.identity = Some("alice@corp.example".into());
    message.meta.push(Attr { name: "route/tag".into(), value: "a,b c".into() });
    message.facts.meta.push(Attr { name: "tenant".into(), value: "corp".into() });
    index.insert(&message);
    let due = START.after(std::time::Duration::from_millis(1500));
    let last = Some(Why::NoAddress("a.example".into()));
    index.set(MessageId(1), marks(&[(1, RecipientState::Waiting { due, tries: 2, last })]));
    let seen = index.get(MessageId(1)).unwrap();
    let (first, second) = (seen.recipients().next().unwrap(), seen.recipients().nth(1).unwrap());
    let sight = second.sight(START, false);
    assert_eq!((sight.user, sight.tenant, sight.tags), ("alice@corp.example", "corp", "a b c"));
    assert_eq!(
        (sight.tries, sight.reply.to_string(), sight.recipient.0),
        (2, "no-address".into(), "to1")
    );
    assert_eq!(second.due(), Timestamp(START.0 + 2000), "never before it is due");
    assert_eq!(first.sight(START, true).standing, RecipientStanding::InFlight);
    index.set_due(MessageId(1), 1, Timestamp(u64::MAX));
    let second = index.get(MessageId(1)).unwrap().recipients().nth(1).unwrap();
    assert_eq!(second.due(), Timestamp(u64::MAX));
}

/// Octets that the index takes, allocations rounded up to 16 octets and tables as they are laid out.
fn octets(index: &Index) -> usize {
    let boxed = |text: &str| text.len().next_multiple_of(16);
    let rows: usize = index.chunks.values().map(|chunk| chunk.capacity() * size_of::<Row>()).sum();
    let slots = index.chunks.values().flatten().flat_map(|row| row.recipients.as_slice());
    let senders = index.chunks.values().flatten().map(|row| boxed(&row.sender));
    let texts = slots.map(|slot| boxed(&slot.local)).chain(senders).sum::<usize>();
    rows + texts + index.names.octets()
}

#[test]
fn a_message_takes_150_octets_at_most() {
    for (senders, most) in [(1000, 125), (100_000, 125)] {
        let mut index = index();
        for id in 0..100_000 {
            let mut message = entry(id, &format!("d{}.example", id % 5000), 1);
            let sender = format!("bounce-{:08}@news.shop.example", id % senders);
            message.sender = ReversePath::Mailbox(sender.parse().unwrap());
            message.recipients[0].recipient.mailbox =
                format!("some.body.{id}@d{}.example", id % 5000).parse().unwrap();
            index.insert(&message);
        }
        let each = octets(&index) / 100_000;
        assert!(each <= most, "{each} octets a message with {senders} senders");
    }
}

#[test]
fn chunks_are_full_when_ids_rise_and_give_room_back() {
    let mut index = index();
    for id in 0..10_000 {
        index.insert(&entry(id, "a.example", 1));
    }
    let room: usize = index.chunks.values().map(Vec::capacity).sum();
    assert!(room <= 10_000 + 2 * CHUNK, "{room}");
    for id in (0..10_000).filter(|id| id % 16 != 0) {
        index.remove(MessageId(id));
    }
    let room: usize = index.chunks.values().map(Vec::capacity).sum();
    assert!(room <= 2 * 4 * 625, "{room}");
    assert_eq!(index.names.len(), 2, "the domain, which is the destination too, and the sender's");
}
