use bytes::Bytes;
use waypost_mail::{
    Body, Deadline, Entry, Facts, NextHop, RecipientEntry, Route, SessionId, Terms, Timestamp,
    TlsLevel, Why,
};
use waypost_smtp::{ByMode, Domain, Notify, ReversePath};

use super::*;

fn entry() -> Entry {
    let recipient = |id: u32| RecipientEntry {
        recipient: Recipient::new(id, format!("r{id}@a.example").parse().unwrap()),
        route: 0,
        told: 0,
        state: RecipientState::fresh(Timestamp(1)),
    };
    Entry {
        id: MessageId(1),
        received: Timestamp(1),
        expires: Timestamp(2),
        sender: ReversePath::Null,
        eight_bit: false,
        smtputf8: false,
        size: 2,
        facts: Facts::internal(SessionId(1)),
        meta: Vec::new(),
        sign: Vec::new(),
        terms: Terms::default(),
        reroutes: 0,
        routes: vec![Route::new(
            NextHop::Mx(Domain::parse("a.example").unwrap()),
            TlsLevel::Opportunistic,
        )],
        recipients: (0..2).map(recipient).collect(),
    }
}

fn ready(entry: Entry) -> Ready {
    let body = Body::Memory(Bytes::new());
    let prepared = Prepared::new(entry, Bytes::from_static(b"\r\n"), body);
    Ready { prepared, lowered: None, through: true }
}

fn may(change: impl FnOnce(&mut Entry)) -> bool {
    let mut entry = entry();
    change(&mut entry);
    may_go_through(&ready(entry), &Answers::new(&[vec![0, 1]]))
}

#[test]
fn one_next_hop_may_speak_for_a_plain_message() {
    assert!(may(|_| {}));
    let by_route = Ready { through: false, ..ready(entry()) };
    assert!(!may_go_through(&by_route, &Answers::new(&[vec![0, 1]])));
}

#[test]
fn what_needs_more_than_its_reply_takes_the_queue() {
    let success = Notify::Of { success: true, failure: true, delay: false };
    assert!(!may(|entry| entry.recipients[1].recipient.notify = success));
    assert!(may(|entry| entry.recipients[1].recipient.notify = Notify::Never));
    let by = Deadline { at: Timestamp(9), mode: ByMode::Return, trace: false };
    assert!(!may(|entry| entry.terms.deliver_by = Some(by)));
    let held = RecipientState::Held { tries: 0, reason: "by policy".into() };
    assert!(!may(|entry| entry.recipients[0].state = held));
    let why = Why::Policy(Reply::REFUSED_BY_POLICY);
    let doomed = RecipientState::Waiting { due: Timestamp(1), tries: 0, last: Some(why) };
    assert!(!may(|entry| entry.recipients[0].state = doomed));
    let lowered = Ready { lowered: Some(Priority::default()), ..ready(entry()) };
    assert!(!may_go_through(&lowered, &Answers::new(&[vec![0, 1]])));
}

#[test]
fn each_group_has_somebody_and_everybody_a_group() {
    let may = |groups: &[Vec<u32>]| may_go_through(&ready(entry()), &Answers::new(groups));
    assert!(may(&[vec![0], vec![1]]));
    assert!(!may(&[vec![0]]), "policy added the other");
    assert!(!may(&[vec![0, 1], vec![2]]), "policy took that one out");
    let groups = [vec![2], vec![0, 1]];
    let mut answers = Answers::new(&groups);
    answers.refuse(0..3, |id| (id == 2).then_some(Reply::REFUSED_BY_POLICY)).unwrap();
    assert!(may_go_through(&ready(entry()), &answers), "that one has its answer");
    assert_eq!(answers.open_groups(), [[0, 1]], "and nobody waits for another one");
    let replies = answers.each([Reply::OK].into_iter());
    assert_eq!(replies, [Reply::REFUSED_BY_POLICY, Reply::OK]);
}
