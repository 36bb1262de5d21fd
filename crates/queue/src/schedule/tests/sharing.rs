//! Among classes, tenants and the urgent, nobody's backlog stands before another's mail.

use super::*;
use crate::classes::Window;
use crate::{Class, Rate};

/// A schedule with these classes beside the default one, numbered from 1.
fn with_classes(classes: Vec<Class>) -> Schedule {
    let resting = RestCurve { first: seconds(60), factor: 2.0, max: seconds(200) };
    let limits = Limits { site: site_limits(20), in_flight: 200, jobs: 200_000, resting };
    let config = Config { classes, ..Config::default() };
    Schedule::new(limits, Arc::new(Classes::new(&config)))
}

fn class(name: &str) -> Class {
    Class::usual(name, &Config::default())
}

#[test]
fn a_backlog_for_the_same_destination_does_not_delay_another_tenant() {
    let mut s = schedule(1, 200_000);
    for id in 0..100_000 {
        add_for(&mut s, id, "big.example", ClassId::default(), "crowd");
    }
    assert_eq!(one_by_one(&mut s, 3, at(0)), [0, 1, 2]);
    for id in 0..3 {
        add_for(&mut s, 500_000 + id, "big.example", ClassId::default(), "small");
    }
    let order = one_by_one(&mut s, 8, at(0));
    let small: Vec<usize> =
        (0..3).filter_map(|n| order.iter().position(|id| *id == 500_000 + n)).collect();
    assert!(small.len() == 3 && small[2] <= 6, "every other turn is the small one's: {order:?}");
}

#[test]
fn a_backlog_for_many_destinations_does_not_delay_another_tenant() {
    let mut s = schedule(20, 200_000);
    for id in 0..50_000 {
        add_for(&mut s, id, &format!("d{}.example", id % 5000), ClassId::default(), "crowd");
    }
    assert_eq!(one_by_one(&mut s, 10, at(0)).len(), 10);
    add_for(&mut s, 900_000, "friend.example", ClassId::default(), "small");
    let order = one_by_one(&mut s, 3, at(0));
    assert!(order.contains(&900_000), "{order:?}");
}

/// Many messages wait for one domain that does not answer; each attempt hangs. `examples/fairness.rs`
/// measures the same with a million.
#[test]
fn a_dead_domain_s_backlog_does_not_delay_mail_for_another() {
    let mut s = schedule(20, 50_000);
    for id in 0..200_000 {
        add(&mut s, id, "dead.example", at(0));
    }
    assert_eq!(take_all(&mut s, at(0)).len(), 20, "they hang");
    for id in 0..100 {
        add(&mut s, 2_000_000 + id, "alive.example", at(1));
    }
    let order = one_by_one(&mut s, 100, at(1));
    assert_eq!(order, (2_000_000..2_000_100).collect::<Vec<_>>(), "nobody else comes between");
    s.rest("dead.example", "down".into(), at(30));
    (0..20).for_each(|_| done(&mut s, "dead.example", at(30)));
    add(&mut s, 3_000_000, "alive.example", at(31));
    assert_eq!(one_by_one(&mut s, 10, at(31)), [3_000_000]);
    let probe = take_all(&mut s, at(90));
    assert_eq!(probe.len(), 1, "one finds out");
    add(&mut s, 3_000_001, "alive.example", at(90));
    assert_eq!(one_by_one(&mut s, 10, at(90)), [3_000_001]);
}

#[test]
fn classes_share_by_their_weights_however_many_tenants_each_has() {
    let (mut fast, mut slow) = (class("fast"), class("slow"));
    (fast.weight, slow.weight) = (30, 10);
    let mut s = with_classes(vec![fast, slow]);
    for id in 0..4000 {
        let tenant = format!("t{}", id % 7);
        add_for(&mut s, id, &format!("d{}", id % 3), ClassId(1), "one");
        add_for(&mut s, 10_000 + id, &format!("d{}", id % 3), ClassId(2), &tenant);
    }
    let order = one_by_one(&mut s, 400, at(0));
    let fast = order.iter().filter(|id| **id < 10_000).count();
    assert!((290..=310).contains(&fast), "{fast} of 400");
}

#[test]
fn a_rate_holds_its_class_back_and_nobody_else() {
    let mut limited = class("limited");
    limited.rate = Some(Rate { count: 5, per: seconds(10) });
    let mut s = with_classes(vec![limited]);
    for id in 0..20 {
        add_for(&mut s, id, "a", ClassId(1), "t");
        add_for(&mut s, 100 + id, "a", ClassId::default(), "t");
    }
    let mut order = one_by_one(&mut s, 100, at(0));
    order.sort_unstable();
    assert_eq!(order, [0, 1, 2, 3, 4].into_iter().chain(100..120).collect::<Vec<_>>());
    let wake = s.wake().unwrap();
    assert!(wake > at(1) && wake <= at(3), "a token takes two seconds: {wake}");
    assert_eq!(one_by_one(&mut s, 100, at(3)), [5]);
    assert_eq!(one_by_one(&mut s, 100, at(13)).len(), 5);
    assert_eq!(one_by_one(&mut s, 100, at(1000)).len(), 5, "never more than the rate at once");
}

#[test]
fn a_window_opens_and_closes_for_its_class() {
    let mut nightly = class("nightly");
    // Two minutes from ten minutes past midnight on, every day.
    nightly.windows = vec![Window { days: [true; 7], from: 20, until: 22, offset: 0 }];
    let mut s = with_classes(vec![nightly]);
    for id in 0..30 {
        add_for(&mut s, id, "a", ClassId(1), "t");
    }
    add_for(&mut s, 100, "a", ClassId::default(), "t");
    add_until(&mut s, 200, "b", at(0), at(0));
    let early = one_by_one(&mut s, 100, at(0));
    assert_eq!(early, [100, 200]);
    let opens = Timestamp(20 * 60_000);
    assert_eq!(s.wake(), Some(opens));
    let taken: Vec<_> = (0..10).filter_map(|_| s.take(opens)).collect();
    assert_eq!(taken.len(), 10);
    let closed = Timestamp(22 * 60_000);
    taken.iter().for_each(|taken| s.done("a", taken.share, opens));
    assert!(one_by_one(&mut s, 5, Timestamp(21 * 60_000)).len() == 5);
    let late = one_by_one(&mut s, 100, closed);
    assert_eq!(late, [], "nor the one that had a slot already");
    let tomorrow = Timestamp(opens.0 + 86_400_000);
    assert_eq!(s.wake(), Some(tomorrow));
    assert_eq!(one_by_one(&mut s, 100, tomorrow).len(), 15);
}

#[test]
fn leave_that_could_not_be_used_is_not_saved_up() {
    let mut limited = class("limited");
    limited.rate = Some(Rate { count: 5, per: seconds(10) });
    let mut s = with_classes(vec![limited]);
    s.limits.in_flight = 1;
    add(&mut s, 1000, "slow", at(0));
    let slow = s.take(at(0)).unwrap();
    // Nothing may begin for a long time, while destination after destination has a slot free.
    for second in 0..100 {
        s.advance(at(second));
        add_for(&mut s, second, &format!("d{second}"), ClassId(1), "t");
    }
    s.limits.in_flight = 200;
    s.done("slow", slow.share, at(100));
    assert_eq!(take_all(&mut s, at(100)).len(), 5, "no more than the rate");
    assert_eq!(s.wake().map(|at| at.0.div_ceil(1000)), Some(at(102).0 / 1000 + 1));
    assert_eq!(take_all(&mut s, at(103)).len(), 1);
    assert_eq!(take_all(&mut s, at(1000)).len(), 5);
}

#[test]
fn a_slot_that_was_offered_in_the_window_is_not_used_behind_it() {
    let mut nightly = class("nightly");
    nightly.windows = vec![Window { days: [true; 7], from: 20, until: 22, offset: 0 }];
    let mut s = with_classes(vec![nightly]);
    s.limits.in_flight = 1;
    let (opens, closed) = (Timestamp(20 * 60_000), Timestamp(22 * 60_000));
    s.advance(opens);
    add(&mut s, 1000, "slow", at(0));
    let slow = s.take(opens).unwrap();
    (0..3).for_each(|id| add_for(&mut s, id, &format!("d{id}"), ClassId(1), "t"));
    s.limits.in_flight = 200;
    s.done("slow", slow.share, closed);
    assert_eq!(take_all(&mut s, closed), []);
    assert_eq!(take_all(&mut s, Timestamp(opens.0 + 86_400_000)).len(), 3, "the next night");
}

#[test]
fn what_comes_out_of_turn_is_told_until_when_it_waits() {
    let mut limited = class("limited");
    limited.rate = Some(Rate { count: 1, per: seconds(10) });
    let mut s = with_classes(vec![limited]);
    let lane = Lane { class: ClassId(1), tenant: "t", ..lane("a") };
    s.count("a", 2);
    let job = |id| Job { id: MessageId(id), route: 0 };
    s.add(job(1), lane, at(0), NEVER, at(0));
    assert_eq!(s.take(at(0)).map(|taken| taken.not_before), Some(None));
    s.add(job(2), lane, at(0), at(3), at(0));
    assert!(s.take(at(2)).is_none());
    let late = s.take(at(3)).unwrap();
    assert!(late.not_before.is_some_and(|until| until > at(9)), "{late:?}");
}

#[test]
fn what_is_over_does_not_wait_for_its_class() {
    let mut never = class("never");
    never.windows = vec![Window { days: [true; 7], from: 1000, until: 1001, offset: 0 }];
    let mut s = with_classes(vec![never]);
    s.count("a", 1);
    let job = Job { id: MessageId(1), route: 0 };
    let lane = Lane { class: ClassId(1), tenant: "t", ..lane("a") };
    s.add(job, lane, at(0), at(30), at(0));
    assert_eq!((take_all(&mut s, at(29)), s.wake()), (vec![], Some(at(30))));
    assert_eq!(take_all(&mut s, at(30)), [1]);
}

#[test]
fn what_is_held_back_keeps_no_slot_from_others() {
    let mut closed = class("closed");
    closed.windows = vec![Window { days: [true; 7], from: 1000, until: 1001, offset: 0 }];
    let mut s = with_classes(vec![closed]);
    s.limits.site = site_limits(1);
    for id in 0..100 {
        add_for(&mut s, id, "a", ClassId(1), &format!("t{id}"));
    }
    add_for(&mut s, 500, "a", ClassId::default(), "t");
    assert_eq!(take_all(&mut s, at(0)), [500]);
}

#[test]
fn tenants_names_are_forgotten() {
    let mut s = schedule(20, 1000);
    for id in 0..500 {
        add_for(&mut s, id, "a", ClassId::default(), &format!("t{id}"));
    }
    assert_eq!(one_by_one(&mut s, 500, at(0)).len(), 500);
    assert_eq!((s.shares.len(), s.places.iter().flatten().count()), (0, 0));
    assert_eq!(s.flows.iter().flatten().count(), 0);
}

#[test]
fn the_urgent_have_more_turns_and_the_others_are_not_forgotten() {
    let mut s = schedule(20, 10_000);
    for id in 0..1000 {
        for (band, first) in [(Band::Low, 0), (Band::Normal, 10_000), (Band::High, 20_000)] {
            s.count("a", 1);
            let job = Job { id: MessageId(first + id), route: 0 };
            s.add(job, Lane { band, ..lane("a") }, at(0), NEVER, at(0));
        }
    }
    let order = one_by_one(&mut s, 420, at(0));
    let of = |first| order.iter().filter(|id| (first..first + 10_000).contains(*id)).count();
    let (low, normal, high) = (of(0), of(10_000), of(20_000));
    assert!((18..=22).contains(&low) && (78..=82).contains(&normal), "{low} {normal} {high}");
}

#[test]
fn at_a_busy_destination_weights_count_too() {
    let (mut fast, mut slow) = (class("fast"), class("slow"));
    (fast.weight, slow.weight) = (30, 10);
    let mut s = with_classes(vec![fast, slow]);
    s.limits.site = site_limits(1);
    for id in 0..1000 {
        add_for(&mut s, id, "a", ClassId(1), "t");
        add_for(&mut s, 10_000 + id, "a", ClassId(2), "t");
    }
    let order = one_by_one(&mut s, 400, at(0));
    let fast = order.iter().filter(|id| **id < 10_000).count();
    assert!((298..=302).contains(&fast), "{fast} of 400");
}
