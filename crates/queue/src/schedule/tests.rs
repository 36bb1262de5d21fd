mod sharing;

use super::*;
use crate::Config;

pub(super) const NOW: Timestamp = Timestamp(1_000_000);
pub(super) const NEVER: Timestamp = Timestamp(u64::MAX);

pub(super) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(super) fn at(second: u64) -> Timestamp {
    NOW.after(seconds(second))
}

pub(super) fn schedule(per_destination: usize, jobs: usize) -> Schedule {
    let resting = RestCurve { first: seconds(60), factor: 2.0, max: seconds(200) };
    let limits = Limits { site: site_limits(per_destination), in_flight: 200, jobs, resting };
    Schedule::new(limits, Arc::new(Classes::new(&Config::default())))
}

/// So many at once, from the beginning.
pub(super) fn site_limits(at_once: usize) -> SiteLimits {
    SiteLimits { at_once, first: at_once, rate: None }
}

pub(super) fn lane(destination: &str) -> Lane<'_> {
    Lane { destination, class: ClassId::default(), band: Band::Normal, tenant: "" }
}

/// An attempt has ended.
pub(super) fn done(schedule: &mut Schedule, destination: &str, now: Timestamp) {
    let share = schedule.shares.known(lane("")).unwrap();
    schedule.done(destination, share, now);
}

pub(super) fn add(schedule: &mut Schedule, id: u64, destination: &str, due: Timestamp) {
    add_until(schedule, id, destination, due, NEVER);
}

pub(super) fn add_until(
    schedule: &mut Schedule,
    id: u64,
    name: &str,
    due: Timestamp,
    expires: Timestamp,
) {
    let now = schedule.now.max(NOW);
    schedule.count(name, 1);
    schedule.add(Job { id: MessageId(id), route: 0 }, lane(name), due, expires, now);
}

fn add_for(s: &mut Schedule, id: u64, destination: &str, class: ClassId, tenant: &str) {
    s.count(destination, 1);
    let (job, now) = (Job { id: MessageId(id), route: 0 }, s.now.max(NOW));
    s.add(job, Lane { destination, class, band: Band::Normal, tenant }, at(0), NEVER, now);
}

/// Takes whatever there is; slots stay occupied.
pub(super) fn take_all(schedule: &mut Schedule, now: Timestamp) -> Vec<u64> {
    std::iter::from_fn(|| schedule.take(now)).map(|taken| taken.job.id.0).collect()
}

/// What happens to a job that is settled for good.
pub(super) fn finish(schedule: &mut Schedule, destination: &str, now: Timestamp) {
    schedule.count(destination, -1);
    done(schedule, destination, now);
}

#[test]
fn destinations_take_turns_and_each_keeps_its_order() {
    let mut s = schedule(10, 100);
    for id in 0..6 {
        add(&mut s, id, "big", at(0));
    }
    add(&mut s, 10, "small", at(0));
    add(&mut s, 20, "tiny", at(0));
    assert_eq!(take_all(&mut s, at(0)), [0, 10, 20, 1, 2, 3, 4, 5]);
}

#[test]
fn a_destination_gets_no_more_than_its_slots() {
    let mut s = schedule(2, 100);
    for id in 0..4 {
        add(&mut s, id, "a", at(0));
    }
    add(&mut s, 9, "b", at(0));
    assert_eq!(take_all(&mut s, at(0)), [0, 9, 1]);
    assert_eq!(s.wake(), None, "only an event helps");
    finish(&mut s, "a", at(1));
    assert_eq!(take_all(&mut s, at(1)), [2]);
}

#[test]
fn no_more_than_the_limit_are_in_flight() {
    let mut s = schedule(500, 1000);
    for id in 0..300 {
        add_for(&mut s, id, "a", ClassId::default(), &format!("t{}", id % 30));
    }
    assert_eq!(take_all(&mut s, at(0)).len(), 200);
    assert_eq!(s.wake(), None);
    s.done("a", s.shares.known(Lane { tenant: "t7", ..lane("") }).unwrap(), at(0));
    assert_eq!(take_all(&mut s, at(0)).len(), 1);
}

#[test]
fn one_tenant_alone_leaves_a_quarter_for_others() {
    let mut s = schedule(500, 1000);
    for id in 0..300 {
        add(&mut s, id, "a", at(0));
    }
    assert_eq!(take_all(&mut s, at(0)).len(), 150);
    assert_eq!(s.wake(), None, "only an event helps");
    add_for(&mut s, 1000, "a", ClassId::default(), "other");
    assert_eq!(take_all(&mut s, at(0)), [1000]);
    done(&mut s, "a", at(0));
    assert_eq!(take_all(&mut s, at(0)), [150]);
}

#[test]
fn nothing_comes_before_its_time() {
    let mut s = schedule(10, 100);
    add(&mut s, 1, "a", at(30));
    add(&mut s, 2, "a", at(10));
    add(&mut s, 3, "b", at(20));
    assert_eq!(take_all(&mut s, at(9)), []);
    assert_eq!(s.wake(), Some(at(10)));
    assert_eq!(take_all(&mut s, at(10)), [2]);
    assert_eq!(s.wake(), Some(at(20)));
    assert_eq!(take_all(&mut s, at(30)), [3, 1]);
    assert_eq!(s.wake(), None);
}

#[test]
fn a_job_is_moved_forward_but_never_back() {
    let mut s = schedule(10, 100);
    add(&mut s, 1, "a", at(30));
    add(&mut s, 1, "a", at(10));
    add(&mut s, 1, "a", at(50));
    assert_eq!(s.wake(), Some(at(10)));
    assert_eq!(take_all(&mut s, at(60)), [1]);
}

#[test]
fn rests_grow_and_one_job_at_a_time_finds_out() {
    let mut s = schedule(10, 100);
    for id in 0..5 {
        add(&mut s, id, "a", at(0));
    }
    assert_eq!(s.take(at(0)).map(|t| t.job.id.0), Some(0));
    s.rest("a", "down".into(), at(0));
    s.rest("a", "down".into(), at(1));
    done(&mut s, "a", at(1));
    assert_eq!(s.resting(), 1);
    assert_eq!((take_all(&mut s, at(59)), s.wake()), (vec![], Some(at(60))));
    assert_eq!(take_all(&mut s, at(60)), [1], "one probe; two failures at once grew the rest once");
    assert_eq!(s.resting(), 0);
    s.rest("a", "down".into(), at(60));
    done(&mut s, "a", at(60));
    assert_eq!((take_all(&mut s, at(179)), s.wake()), (vec![], Some(at(180))));
    assert_eq!(take_all(&mut s, at(180)), [2]);
    s.answered("a", at(180));
    assert_eq!(take_all(&mut s, at(180)), [3, 4], "slots are open again");
    s.rest("a", "down".into(), at(200));
    let (views, _) = s.views(0, 10);
    assert_eq!(views[0].resting_until, Some(at(260)), "the count began anew");
    assert_eq!(views[0].why.as_deref(), Some("down"));
}

#[test]
fn rests_have_a_longest() {
    let mut s = schedule(10, 100);
    add(&mut s, 1, "a", at(0));
    let mut now = at(0);
    for longest in [60, 120, 200, 200] {
        s.rest("a", String::new(), now);
        assert_eq!(s.take(now), None);
        now = now.after(seconds(longest));
        assert_eq!(s.wake(), Some(now));
        s.take(now).unwrap();
        done(&mut s, "a", now);
        add(&mut s, 1, "a", now);
    }
}

#[test]
fn a_roused_destination_is_tried_by_one_job() {
    let mut s = schedule(10, 100);
    add(&mut s, 1, "a", at(0));
    add(&mut s, 2, "a", at(0));
    s.rest("a", String::new(), at(0));
    assert_eq!(take_all(&mut s, at(1)), []);
    s.rouse("a", at(1));
    assert_eq!(take_all(&mut s, at(1)), [1]);
}

#[test]
fn what_is_over_comes_even_from_a_resting_destination() {
    let mut s = schedule(10, 100);
    add_until(&mut s, 1, "a", at(0), NEVER);
    add_until(&mut s, 2, "a", at(500), at(30));
    s.rest("a", String::new(), at(0));
    assert_eq!(take_all(&mut s, at(29)), []);
    assert_eq!(s.wake(), Some(at(30)));
    assert_eq!(take_all(&mut s, at(30)), [2]);
    done(&mut s, "a", at(30));
    add_until(&mut s, 2, "a", at(40), at(30));
    assert_eq!(take_all(&mut s, at(39)), [], "it keeps the time it was given");
    assert_eq!(take_all(&mut s, at(40)), [2]);
}

#[test]
fn expiry_comes_before_a_later_attempt() {
    let mut s = schedule(10, 100);
    add_until(&mut s, 1, "a", at(500), at(30));
    assert_eq!(s.wake(), Some(at(30)));
    assert_eq!(take_all(&mut s, at(30)), [1]);
}

#[test]
fn a_clock_that_jumps_does_no_lasting_harm() {
    let mut s = schedule(10, 100);
    add(&mut s, 1, "a", at(100));
    add(&mut s, 2, "b", at(0));
    assert_eq!(take_all(&mut s, at(0)), [2]);
    s.rest("b", String::new(), at(0));
    finish(&mut s, "b", at(0));
    add(&mut s, 3, "b", at(0));
    let day = Timestamp(NOW.0 - 900_000);
    assert_eq!(take_all(&mut s, day), [], "what is due is due by the clock");
    assert_eq!(s.resting(), 0, "a rest from the future is none");
    assert_eq!(s.wake(), Some(at(0)));
    assert_eq!(take_all(&mut s, at(1000)), [3, 1], "forward again: all is due");
}

#[test]
fn a_small_fall_of_the_clock_does_not_lose_anybody() {
    let mut s = schedule(10, 100);
    add(&mut s, 1, "a", at(10));
    add(&mut s, 2, "b", at(11));
    assert_eq!(take_all(&mut s, Timestamp(at(10).0 - 1)), []);
    assert_eq!(take_all(&mut s, at(10)), [1]);
    assert_eq!(take_all(&mut s, Timestamp(at(10).0 - 500)), []);
    assert_eq!(s.wake(), Some(at(11)));
    assert_eq!(take_all(&mut s, at(11)), [2]);
}

#[test]
fn memory_keeps_what_is_due_next_and_every_destination() {
    let mut s = schedule(100, 64);
    for id in 0..200 {
        add(&mut s, id, "big", at(id));
    }
    add(&mut s, 1000, "small", at(500));
    assert!(s.jobs.len() <= 65);
    assert!(s.search.incomplete == 1 && !s.wants_search(at(0)), "memory is full");
    assert!(s.jobs.contains_key(&Job { id: MessageId(1000), route: 0 }));
    s.limits.in_flight = 10_000;
    let first = take_all(&mut s, at(30));
    assert_eq!(first, (0..=30).collect::<Vec<_>>());
    let second = take_all(&mut s, at(40));
    assert_eq!(second, (31..=40).collect::<Vec<_>>());
    assert!(s.wants_search(at(40)), "half of the room is free");
    s.begin_search();
    assert!(!s.wants_search(at(40)), "one search at a time");
    for id in 41..200 {
        s.add(Job { id: MessageId(id), route: 0 }, lane("big"), at(id), NEVER, at(40));
    }
    s.end_search(at(40));
    assert!((60..=65).contains(&s.jobs.len()));
    assert_eq!(take_all(&mut s, at(60)), (41..=60).collect::<Vec<_>>());
}

#[test]
fn a_destination_whose_jobs_are_only_in_the_spool_asks_for_a_search() {
    let mut s = schedule(100, 4);
    for id in 0..5 {
        add(&mut s, id, &format!("d{id}"), at(100 + id));
    }
    assert_eq!(s.search.incomplete, 1);
    s.begin_search();
    s.end_search(at(0));
    for id in 0..5 {
        s.add(
            Job { id: MessageId(id), route: 0 },
            lane(&format!("d{id}")),
            at(100 + id),
            NEVER,
            at(0),
        );
    }
    s.rest("d1", String::new(), at(100));
    let gone: Vec<_> =
        (0..5).filter(|id| !s.jobs.contains_key(&Job { id: MessageId(*id), route: 0 })).collect();
    let [missing] = gone[..] else { panic!("one is only in the spool: {gone:?}") };
    assert!(!s.wants_search(at(99)));
    let due = at(100 + missing);
    let _ = take_all(&mut s, at(105));
    assert!(s.search.starved && s.wants_search(at(105)), "{due} has passed");
    s.begin_search();
    s.end_search(at(105));
    assert!(!s.search.starved);
}

#[test]
fn searches_keep_a_distance() {
    let mut s = schedule(100, 4);
    for id in 0..5 {
        add(&mut s, id, &format!("d{id}"), at(0));
    }
    for id in 0..5 {
        s.rest(&format!("d{id}"), String::new(), at(0));
    }
    s.search.starved = true;
    assert_eq!(take_all(&mut s, at(0)), []);
    assert!(s.wants_search(at(0)));
    s.search.ended = Some(at(0));
    assert!(!s.wants_search(at(9)));
    assert_eq!(s.wake(), Some(at(10)));
    assert!(s.wants_search(at(10)));
    assert!(s.wants_search(Timestamp(0)), "the clock fell");
}

#[test]
fn destinations_are_forgotten_when_nothing_is_left_of_them() {
    let mut s = schedule(10, 100);
    for id in 0..100 {
        let name = format!("d{id}");
        add(&mut s, id, &name, at(0));
        s.take(at(0)).unwrap();
        s.rest(&name, String::new(), at(0));
        finish(&mut s, &name, at(0));
    }
    assert!(s.names.is_empty() && s.timers.is_empty() && s.shares.is_quiet());
    assert_eq!((s.flows.iter().flatten().count(), s.shares.len()), (0, 0));
    assert_eq!((s.resting(), s.in_flight, s.places.len(), s.sites.len()), (0, 0, 1, 1));
    assert_eq!(s.sites.iter().flatten().count(), 0);
    s.rest("stranger", String::new(), at(0));
    s.answered("stranger", at(0));
    assert!(s.names.is_empty());
}

#[test]
fn a_thousand_timers_at_once_are_all_served() {
    let mut s = schedule(10, 5000);
    s.limits.in_flight = 50_000;
    for id in 0..1000 {
        add(&mut s, id, &format!("d{id}"), at(10));
    }
    assert_eq!(take_all(&mut s, at(10)).len(), 1000);
}

#[test]
fn views_come_in_parts() {
    let mut s = schedule(10, 100);
    for id in 0..5 {
        add(&mut s, id, &format!("d{id}"), at(id));
    }
    let (first, next) = s.views(0, 3);
    let (second, end) = s.views(next.unwrap(), 3);
    let names: Vec<_> = first.iter().chain(&second).map(|view| view.name.to_string()).collect();
    assert_eq!((names.len(), end), (5, None));
    assert_eq!(first[1].next_due, Some(at(1)));
}

#[test]
fn a_limit_that_policy_asked_for_stands_and_ends_by_itself() {
    let mut s = schedule(10, 100);
    for id in 0..6 {
        add(&mut s, id, "a", at(0));
    }
    add(&mut s, 9, "b", at(0));
    s.limit("a", 2, seconds(30), at(0));
    s.limit("nobody waits", 1, seconds(30), at(0));
    assert_eq!(take_all(&mut s, at(0)), [0, 9, 1]);
    finish(&mut s, "a", at(1));
    assert_eq!(take_all(&mut s, at(1)), [2]);
    let limit = |s: &Schedule| s.views(0, 1).0[0].limit.map(|limit| (limit.most, limit.until));
    assert_eq!(limit(&s), Some((2, at(30))));
    assert_eq!((take_all(&mut s, at(29)), s.wake()), (vec![], Some(at(30))));
    assert_eq!(take_all(&mut s, at(30)), [3, 4, 5], "nobody was done, time alone freed them");
    assert_eq!(limit(&s), None);
}

#[test]
fn a_limit_may_be_changed_and_never_stops_everything() {
    let mut s = schedule(3, 100);
    for id in 0..6 {
        add(&mut s, id, "a", at(0));
    }
    s.limit("a", 0, seconds(30), at(0));
    assert_eq!(take_all(&mut s, at(0)), [0]);
    s.limit("a", 2, seconds(30), at(1));
    assert_eq!(take_all(&mut s, at(1)), [1]);
    s.limit("a", 100, seconds(30), at(2));
    assert_eq!(take_all(&mut s, at(2)), [2], "the configured limit stays");
}

#[test]
fn a_limited_destination_is_remembered_until_the_limit_ends() {
    let mut s = schedule(10, 100);
    add(&mut s, 0, "a", at(0));
    assert_eq!(take_all(&mut s, at(0)), [0]);
    s.limit("a", 1, seconds(30), at(0));
    finish(&mut s, "a", at(1));
    add(&mut s, 1, "a", at(2));
    add(&mut s, 2, "a", at(2));
    assert_eq!(take_all(&mut s, at(2)), [1]);
    finish(&mut s, "a", at(3));
    assert_eq!(take_all(&mut s, at(3)), [2]);
    finish(&mut s, "a", at(4));
    assert_eq!((s.views(0, 9).0.len(), s.wake()), (1, Some(at(30))));
    assert_eq!(take_all(&mut s, at(30)), []);
    assert_eq!((s.views(0, 9).0.len(), s.limited), (0, 0));
}

/// Takes one after the other, each done at once.
pub(super) fn one_by_one(s: &mut Schedule, count: usize, now: Timestamp) -> Vec<u64> {
    let mut order = Vec::new();
    while order.len() < count {
        let Some(taken) = s.take(now) else { break };
        s.count(&taken.destination, -1);
        s.done(&taken.destination, taken.share, now);
        order.push(taken.job.id.0);
    }
    order
}

#[test]
fn a_backlog_does_not_fall_all_at_once_on_a_destination_that_is_well_again() {
    let mut s = schedule(20, 100);
    for id in 0..60 {
        add(&mut s, id, "a", at(0));
    }
    assert_eq!(s.take(at(0)).map(|taken| taken.job.id.0), Some(0));
    s.rest("a", "down".into(), at(0));
    finish(&mut s, "a", at(1));
    assert_eq!(take_all(&mut s, at(60)), [1], "one finds out");
    finish(&mut s, "a", at(60));
    let mut opened = Vec::new();
    for _ in 0..5 {
        s.answered("a", at(60));
        opened.push(take_all(&mut s, at(60)).len());
    }
    assert_eq!(opened, [2, 1, 1, 1, 1], "two, and one more with every answer");
}
