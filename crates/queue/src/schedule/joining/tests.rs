use std::time::Duration;

use waypost_mail::MessageId;

use super::*;
use crate::schedule::tests::*;
use crate::schedule::{Band, Job, Lane, Taken};
use crate::{Rate, SiteLimits};

fn site(name: &str, limits: Option<SiteLimits>) -> Arc<Site> {
    Arc::new(Site { name: name.to_owned(), limits })
}

fn limits(at_once: usize, first: usize, rate: Option<(u32, u64)>) -> Option<SiteLimits> {
    let rate = rate.map(|(count, per)| Rate { count, per: Duration::from_secs(per) });
    Some(SiteLimits { at_once, first, rate })
}

/// A schedule in which so many domains each have a message.
fn crowd(domains: u64) -> Schedule {
    let mut s = schedule(20, 10_000);
    s.limits.in_flight = 5000;
    (0..domains).for_each(|id| add(&mut s, id, &format!("d{id}"), at(0)));
    s
}

/// Begins all attempts that can begin, each of which finds out that it leads to `site`; those go on
/// that may, and the others are given back. Answers who goes on.
fn attempt_all(s: &mut Schedule, site: &Arc<Site>, now: Timestamp) -> Vec<Taken> {
    let (mut on, mut back) = (Vec::new(), Vec::new());
    while let Some(taken) = s.take(now) {
        let goes_on = s.join(&taken.destination, site, now);
        if goes_on { on.push(taken) } else { back.push(taken) }
    }
    for taken in back {
        s.done(&taken.destination, taken.share, now);
        s.add(taken.job, lane(&taken.destination), now, NEVER, now);
    }
    on
}

/// All of them go well.
fn succeed(s: &mut Schedule, taken: Vec<Taken>, now: Timestamp) {
    for taken in taken {
        s.answered(&taken.destination, now);
        s.count(&taken.destination, -1);
        s.done(&taken.destination, taken.share, now);
    }
}

#[test]
fn a_thousand_domains_share_the_slots_of_their_site() {
    let (mut s, provider) = (crowd(1000), site("provider", limits(8, 3, None)));
    let (mut delivered, mut rounds) = (0, Vec::new());
    while delivered < 1000 {
        let on = attempt_all(&mut s, &provider, at(0));
        assert!(!on.is_empty(), "{delivered} and no more");
        assert!(s.sites.iter().flatten().all(|site| site.in_flight <= 8));
        delivered += on.len();
        rounds.push(on.len());
        succeed(&mut s, on, at(0));
    }
    assert_eq!(rounds[..4], [3, 6, 8, 8], "opened with care, up to the limit");
    assert!(s.names.is_empty() && s.site_names.is_empty() && s.timers.is_empty());
    assert_eq!(s.sites.iter().flatten().count(), 0);
}

#[test]
fn a_known_destination_waits_for_its_site_from_the_beginning() {
    let (mut s, provider) = (crowd(4), site("provider", limits(2, 2, None)));
    assert_eq!(attempt_all(&mut s, &provider, at(0)).len(), 2);
    add(&mut s, 100, "other", at(0));
    add(&mut s, 101, "d0", at(0));
    assert_eq!(take_all(&mut s, at(0)), [100], "nobody but who is not known to be of the site");
}

#[test]
fn a_site_that_is_down_rests_for_all_its_destinations() {
    let (mut s, provider) = (crowd(50), site("provider", limits(8, 3, None)));
    let on = attempt_all(&mut s, &provider, at(0));
    s.rest(&on[0].destination, "down".into(), at(0));
    on.iter().for_each(|taken| s.done(&taken.destination, taken.share, at(0)));
    assert_eq!(take_all(&mut s, at(59)), []);
    assert_eq!((s.resting(), s.wake()), (1, Some(at(60))));
    let views = s.views(0, 100).0;
    assert!(views.iter().all(|view| view.resting_until == Some(at(60))), "{views:?}");
    // A domain of which nobody knows it yet is not tried either, once that is found out.
    add(&mut s, 200, "stranger", at(59));
    assert_eq!(attempt_all(&mut s, &provider, at(59)).len(), 0);
    let probe = attempt_all(&mut s, &provider, at(60));
    assert_eq!(probe.len(), 1, "one of all finds out");
    succeed(&mut s, probe, at(60));
    let more = attempt_all(&mut s, &provider, at(60));
    assert_eq!(more.len(), 3);
}

#[test]
fn what_is_wrong_with_one_destination_does_not_stop_its_neighbours() {
    let (mut s, provider) = (crowd(3), site("provider", limits(8, 8, None)));
    let on = attempt_all(&mut s, &provider, at(0));
    s.rest_alone("d0", "no policy".into(), at(0));
    on.iter().for_each(|taken| s.done(&taken.destination, taken.share, at(0)));
    (0..3).for_each(|id| add(&mut s, 10 + id, &format!("d{id}"), at(1)));
    let mut taken = take_all(&mut s, at(1));
    taken.sort_unstable();
    assert_eq!(taken, [11, 12], "d0 rests");
    assert_eq!(s.wake(), Some(at(60)));
    assert_eq!(take_all(&mut s, at(60)), [10]);
}

#[test]
fn trouble_narrows_a_site_and_at_last_it_rests() {
    let (mut s, provider) = (crowd(100), site("provider", limits(20, 8, None)));
    let mut widths = Vec::new();
    for _ in 0..5 {
        let on = attempt_all(&mut s, &provider, at(0));
        widths.push(on.len());
        for taken in &on {
            s.troubled(&taken.destination, "421".into(), at(0));
        }
        on.iter().for_each(|taken| s.done(&taken.destination, taken.share, at(0)));
    }
    assert_eq!(widths, [8, 4, 2, 1, 0]);
    assert_eq!((s.resting(), s.wake()), (1, Some(at(60))));
    let probe = attempt_all(&mut s, &provider, at(60));
    assert_eq!(probe.len(), 1);
    s.troubled(&probe[0].destination, "421".into(), at(60));
    s.done(&probe[0].destination, probe[0].share, at(60));
    assert_eq!((take_all(&mut s, at(179)), s.wake()), (vec![], Some(at(180))), "longer each time");
}

#[test]
fn a_rate_counts_for_all_destinations_of_a_site_and_outlives_them() {
    let (mut s, provider) = (crowd(30), site("provider", limits(20, 20, Some((5, 10)))));
    let on = attempt_all(&mut s, &provider, at(0));
    assert_eq!(on.len(), 5);
    succeed(&mut s, on, at(0));
    assert_eq!(attempt_all(&mut s, &provider, at(1)).len(), 0);
    let wake = s.wake().unwrap();
    assert!(wake > at(1) && wake <= at(3), "a token takes two seconds: {wake}");
    let on = attempt_all(&mut s, &provider, at(3));
    assert_eq!(on.len(), 1);
    succeed(&mut s, on, at(3));
    let on = attempt_all(&mut s, &provider, at(1000));
    assert_eq!(on.len(), 5, "never more than the rate at once");
    succeed(&mut s, on, at(1000));

    // Nothing waits for it any more, and its rate still counts.
    let mut s = crowd(5);
    let on = attempt_all(&mut s, &provider, at(0));
    succeed(&mut s, on, at(0));
    assert!(s.names.is_empty() && s.site_names.len() == 1);
    add(&mut s, 90, "d0", at(1));
    assert_eq!(attempt_all(&mut s, &provider, at(1)).len(), 0);
    let on = attempt_all(&mut s, &provider, at(3));
    succeed(&mut s, on, at(3));
    assert_eq!(s.take(at(30)), None);
    assert!(s.site_names.is_empty() && s.timers.is_empty(), "until it gives all it can");
}

#[test]
fn a_rate_counts_for_attempts_of_others_too() {
    let (mut s, provider) = (crowd(30), site("provider", limits(20, 20, Some((5, 10)))));
    assert_eq!((0..3).filter(|_| s.charge(&provider, at(0)).is_ok()).count(), 3);
    let on = attempt_all(&mut s, &provider, at(0));
    assert_eq!(on.len(), 2, "three of the five are a lane's");
    succeed(&mut s, on, at(0));
    let opens = s.charge(&provider, at(0)).unwrap_err();
    assert!(opens > at(1) && opens <= at(3), "a token takes two seconds: {opens}");

    // Nothing else leads there, and it is remembered as long as its rate counts.
    let mut s = schedule(20, 100);
    assert!(s.charge(&provider, at(0)).is_ok() && s.site_names.len() == 1);
    assert_eq!((s.take(at(20)), s.site_names.len(), s.timers.len()), (None, 0, 0));
    assert!(s.charge(&site("free", limits(1, 1, None)), at(0)).is_ok() && s.site_names.is_empty());
}

#[test]
fn what_is_over_does_not_wait_for_the_rate_of_its_site() {
    let (mut s, provider) = (crowd(1), site("provider", limits(20, 20, Some((1, 1000)))));
    let on = attempt_all(&mut s, &provider, at(0));
    succeed(&mut s, on, at(0));
    for id in 0..5 {
        add_until(&mut s, 10 + id, "d0", at(1), at(30 + id));
    }
    assert_eq!((take_all(&mut s, at(29)), s.wake()), (vec![], Some(at(30))));
    let over = s.take(at(30)).unwrap();
    assert_eq!((over.job.id.0, over.not_before), (10, Some(at(30))), "it is not to be tried");
    assert_eq!(s.take(at(30)), None);
    assert_eq!(take_all(&mut s, at(33)), [11, 12, 13]);
}

#[test]
fn urgent_mail_has_more_turns_at_a_site_whatever_domain_it_is_for() {
    let (mut s, provider) = (schedule(20, 10_000), site("provider", limits(1, 1, None)));
    for domain in 0..10 {
        s.directory.learn(&format!("d{domain}"), &provider);
    }
    for id in 0..2000 {
        let (name, band) = match id % 2 {
            0 => (format!("d{}", 1 + id % 9), Band::Normal),
            _ => ("d0".to_owned(), Band::High),
        };
        s.count(&name, 1);
        let job = Job { id: MessageId(id), route: 0 };
        s.add(job, Lane { band, ..lane(&name) }, at(0), NEVER, at(0));
    }
    let order = one_by_one(&mut s, 260, at(0));
    let urgent = order.iter().filter(|id| **id % 2 == 1).count();
    // However many domains the others have mail for.
    assert!((206..=210).contains(&urgent), "{urgent} of 260");
}

#[test]
fn who_has_mail_for_a_thousand_domains_of_a_site_does_not_delay_who_has_it_for_one() {
    let (mut s, provider) = (schedule(20, 10_000), site("provider", limits(1, 1, None)));
    let add_for = |s: &mut Schedule, id, name: &str, tenant| {
        s.directory.learn(name, &provider);
        s.count(name, 1);
        let job = Job { id: MessageId(id), route: 0 };
        s.add(job, Lane { tenant, ..lane(name) }, at(0), NEVER, at(0));
    };
    for id in 0..2000 {
        add_for(&mut s, id, &format!("d{}", id % 1000), "crowd");
    }
    assert_eq!(one_by_one(&mut s, 3, at(0)), [0, 1, 2]);
    for id in 0..10 {
        add_for(&mut s, 5000 + id, "d7", "small");
    }
    let order = one_by_one(&mut s, 24, at(0));
    let small = order.iter().filter(|id| **id >= 5000).count();
    assert_eq!(small, 10, "every other turn is the small one's: {order:?}");
    let domains: std::collections::BTreeSet<u64> =
        order.iter().filter(|id| **id < 5000).map(|id| id % 1000).collect();
    assert_eq!(domains.len(), 14, "and the domains of the crowd take turns");
    let rest = one_by_one(&mut s, 5000, at(0));
    assert_eq!((rest.len(), s.sites.iter().flatten().count()), (1983, 0), "nobody is forgotten");
}

#[test]
fn a_rest_of_a_site_leaves_its_destinations_in_line() {
    let (mut s, provider) = (crowd(500), site("provider", limits(4, 4, None)));
    while s.site_names.is_empty() || s.sites.iter().flatten().any(|site| !site.shared) {
        attempt_all(&mut s, &provider, at(0)).into_iter().for_each(|taken| {
            s.rest(&taken.destination, "down".into(), at(0));
            s.done(&taken.destination, taken.share, at(0));
            s.add(taken.job, lane(&taken.destination), at(1), NEVER, at(0));
        });
    }
    let state = |s: &Schedule| {
        let site = s.sites.iter().flatten().next().unwrap();
        (site.members.len(), site.line.len())
    };
    assert_eq!(take_all(&mut s, at(30)), []);
    assert_eq!(state(&s), (500, 500), "due, and in line");
    add_until(&mut s, 9000, "d3", at(31), at(32));
    assert_eq!(take_all(&mut s, at(40)), [9000], "what is over does not wait");
    done(&mut s, "d3", at(40));
    let woken = s.wake().unwrap();
    assert!(woken > at(40) && woken <= at(60), "{woken}");
    let probe = attempt_all(&mut s, &provider, at(60));
    assert_eq!((probe.len(), state(&s)), (1, (500, 499)));
    succeed(&mut s, probe, at(60));
    assert_eq!(attempt_all(&mut s, &provider, at(60)).len(), 3);
}

#[test]
fn a_destination_whose_exchangers_change_moves_with_what_it_has_under_way() {
    let (mut s, old, new) =
        (crowd(1), site("old", limits(2, 2, None)), site("new", limits(1, 1, None)));
    (1..4).for_each(|id| add(&mut s, id, "d0", at(0)));
    let first = s.take(at(0)).unwrap();
    assert!(s.join("d0", &old, at(0)));
    let second = s.take(at(0)).unwrap();
    assert!(s.join("d0", &new, at(0)), "who was known goes on, though the new site has one slot");
    assert_eq!((s.site_names.len(), take_all(&mut s, at(0))), (1, vec![]));
    for taken in [first, second] {
        s.done("d0", taken.share, at(0));
    }
    assert_eq!(take_all(&mut s, at(0)).len(), 1);
    let views = s.views(0, 9).0;
    assert_eq!((views[0].site.as_deref(), views[0].slots), (Some("new"), 1));
}
