use std::sync::Arc;

use waypost_mail::MessageId;

use super::*;
use crate::classes::{Class, ClassId, Classes};
use crate::schedule::tests::{NEVER, NOW, add, at, done, finish, lane, schedule, seconds};
use crate::schedule::{Job, Lane, Shares, Taken};
use crate::{Config, Rate, Site, SiteLimits};

/// The next job, by its number, and what held it back.
fn next(schedule: &mut Schedule, now: Timestamp) -> Option<(u64, Vec<Held>)> {
    let Taken { job, held, .. } = schedule.take(now)?;
    Some((job.id.0, held))
}

fn held(by: Limit, since: u64, until: u64) -> Held {
    Held { by, since: at(since), until: at(until) }
}

#[test]
fn who_comes_at_once_was_held_by_nothing() {
    let mut s = schedule(2, 100);
    add(&mut s, 1, "a", at(0));
    add(&mut s, 2, "a", at(5));
    assert_eq!(next(&mut s, at(0)), Some((1, vec![])));
    assert_eq!(next(&mut s, at(5)), Some((2, vec![])), "it was not due before");
}

#[test]
fn slots_of_the_hosts_are_named_with_the_time_they_cost() {
    let mut s = schedule(1, 100);
    for id in 1..4 {
        add(&mut s, id, "a", at(0));
    }
    add(&mut s, 4, "a", at(9));
    let slots = |since, until| held(Limit::SiteSlots("a".into()), since, until);
    assert_eq!(next(&mut s, at(0)), Some((1, vec![])));
    finish(&mut s, "a", at(4));
    assert_eq!(next(&mut s, at(4)), Some((2, vec![slots(0, 4)])));
    finish(&mut s, "a", at(10));
    assert_eq!(next(&mut s, at(10)), Some((3, vec![slots(0, 10)])), "one span, and no gap in it");
    finish(&mut s, "a", at(12));
    assert_eq!(next(&mut s, at(12)), Some((4, vec![slots(9, 12)])), "since it is due");
}

#[test]
fn a_provider_s_rate_is_told_from_its_slots() {
    let mut s = schedule(10, 100);
    let rate = Some(Rate { count: 1, per: seconds(10) });
    let limits = Some(SiteLimits { at_once: 2, first: 2, rate });
    let site = Arc::new(Site { name: "provider".to_owned(), limits });
    add(&mut s, 1, "a", at(0));
    assert_eq!(next(&mut s, at(0)), Some((1, vec![])));
    assert!(s.join("a", &site, at(0)));
    add(&mut s, 2, "a", at(1));
    assert_eq!(next(&mut s, at(1)), None);
    let opens = s.wake().unwrap();
    let (id, held) = next(&mut s, opens).unwrap();
    let by = Limit::SiteRate("provider".into());
    assert_eq!((id, held), (2, vec![Held { by, since: at(1), until: opens }]));
}

#[test]
fn a_rest_holds_what_is_due_in_it() {
    let mut s = schedule(5, 100);
    add(&mut s, 1, "a", at(0));
    assert_eq!(next(&mut s, at(0)), Some((1, vec![])));
    s.rest("a", "it is down".to_owned(), at(1));
    add(&mut s, 2, "a", at(11));
    done(&mut s, "a", at(1));
    assert_eq!(next(&mut s, at(11)), None);
    let by = Limit::SiteRest("a".into());
    assert_eq!(next(&mut s, at(61)), Some((2, vec![held(by, 11, 61)])));
    s.pause("a", seconds(20), "policy".to_owned(), at(61));
    add(&mut s, 3, "a", at(62));
    done(&mut s, "a", at(61));
    assert_eq!(next(&mut s, at(62)), None);
    let by = Limit::Rest("a".into());
    assert_eq!(next(&mut s, at(81)), Some((3, vec![held(by, 62, 81)])));
}

#[test]
fn policy_s_limit_and_the_probe_after_a_failure_have_names_of_their_own() {
    let mut s = schedule(5, 100);
    for id in 1..3 {
        add(&mut s, id, "a", at(0));
    }
    s.limit("a", 1, seconds(600), at(0));
    assert_eq!(next(&mut s, at(0)), Some((1, vec![])));
    assert_eq!(next(&mut s, at(0)), None);
    finish(&mut s, "a", at(3));
    assert_eq!(next(&mut s, at(3)), Some((2, vec![held(Limit::Slots("a".into()), 0, 3)])));
    add(&mut s, 9, "b", at(3));
    assert_eq!(next(&mut s, at(3)), Some((9, vec![])));
    s.rest_alone("b", "no such name".to_owned(), at(4));
    for id in 10..12 {
        add(&mut s, id, "b", at(100));
    }
    finish(&mut s, "b", at(4));
    assert_eq!(next(&mut s, at(100)), Some((10, vec![])));
    assert_eq!(next(&mut s, at(100)), None);
    finish(&mut s, "b", at(105));
    assert_eq!(next(&mut s, at(105)), Some((11, vec![held(Limit::Probe("b".into()), 100, 105)])));
}

#[test]
fn classes_and_tenants_and_all_attempts_are_named() {
    let config = Config::default();
    let rate = Some(Rate { count: 1, per: seconds(10) });
    let slow = Class { rate, ..Class::usual("slow", &config) };
    let classes = Classes::new(&Config { classes: vec![slow], ..config });
    let mut s = schedule(500, 1000);
    s.shares = Shares::new(Arc::new(classes));
    for id in 1..3 {
        let (job, slow) = (Job { id: MessageId(id), route: 0 }, ClassId(1));
        s.add(job, Lane { class: slow, ..lane("a") }, at(0), NEVER, NOW);
    }
    assert_eq!(next(&mut s, at(0)), Some((1, vec![])));
    assert_eq!(next(&mut s, at(0)), None);
    let opens = s.wake().unwrap();
    let by = Limit::Class("slow".to_owned());
    let class = Held { by, since: at(0), until: opens };
    assert_eq!(next(&mut s, opens), Some((2, vec![class])));

    let mut s = schedule(500, 1000);
    for id in 0..151 {
        let job = Job { id: MessageId(id), route: 0 };
        s.add(job, Lane { tenant: "big", ..lane("a") }, at(0), NEVER, NOW);
    }
    while next(&mut s, at(0)).is_some() {}
    let share = s.shares.known(Lane { tenant: "big", ..lane("a") }).unwrap();
    s.done("a", share, at(7));
    let tenant = held(Limit::Tenant("big".into()), 0, 7);
    assert_eq!(next(&mut s, at(7)), Some((150, vec![tenant])));

    let mut s = schedule(500, 1000);
    s.limits.in_flight = 1;
    add(&mut s, 1, "a", at(0));
    add(&mut s, 2, "b", at(0));
    assert_eq!(next(&mut s, at(0)), Some((1, vec![])));
    finish(&mut s, "a", at(2));
    assert_eq!(next(&mut s, at(2)), Some((2, vec![held(Limit::Turn, 0, 2)])));
}

#[test]
fn what_is_remembered_has_an_end() {
    let mut diary = Diary::default();
    for second in 0..100 {
        let cause = if second % 2 == 0 { Cause::Line } else { Cause::Turn };
        diary.leave_line(Cause::SiteRate);
        diary.turn(Some(cause), at(second));
    }
    assert_eq!(diary.past.len(), MAX_SPANS);
    assert!(diary.past.iter().all(|span| span.cause != Cause::Line), "{diary:?}");
    diary.forget_before(Some(at(97)));
    assert_eq!(diary.past.len(), 2, "{diary:?}");
    diary.forget_before(None);
    assert!(diary.past.is_empty());
}
