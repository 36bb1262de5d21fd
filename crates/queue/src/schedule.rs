//! What is due when and for whom: now in, decisions out. Knows neither tasks nor storage.
//!
//! A [`Job`] stands for the recipients of one message that share a route. It is a hint to look at
//! them at a certain time: looking too early costs a read and does no harm, so jobs are never taken
//! back, only overtaken.
//!
//! Jobs of one tenant and class for one destination are a [`Flow`], ordered by time. A flow with
//! something due stands in line for a slot of its destination ([`Place`]) and of what stands behind that,
//! which others may share ([`SiteState`]); then asks its class for leave (rate and windows); then it waits
//! for its turn among classes and tenants ([`Shares`]). So nobody's backlog stands before another's mail:
//! not at the destination, not at its provider, not in all.

mod bucket;
mod directory;
mod flow;
mod held;
mod joining;
mod keeping;
mod place;
mod share;
mod site;
mod stages;
mod through;
mod wait;
mod width;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use waypost_mail::{MessageId, Timestamp};
use waypost_mutant::planted;

use crate::classes::{Band, ClassId, Classes};
use crate::held::Held;
use crate::{RestCurve, SiteLimits};
use directory::Directory;
use flow::Flow;
pub(crate) use place::View;
use place::{Limit, Place, Rest};
pub(crate) use share::ShareId;
use share::{Shares, Turn};
use site::SiteState;
use width::Trouble;

/// Timers handled before somebody gets a turn.
const TIMERS_AT_ONCE: usize = 256;
/// A clock that falls by less is not worth a new look at every destination.
const SMALL_FALL: Duration = Duration::from_secs(1);
/// Between two searches for jobs that memory had no room for.
const SEARCH_PAUSE: Duration = Duration::from_secs(10);
/// Destinations that policy may have paused, or limited, which are remembered even when nothing waits for them.
const MAX_RESTING: usize = 100_000;

/// Recipients of one message that share a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Job {
    pub(crate) id: MessageId,
    pub(crate) route: u16,
}

/// Where a job goes, of which class it is, how urgent within it, and on whose account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lane<'a> {
    pub(crate) destination: &'a str,
    pub(crate) class: ClassId,
    pub(crate) band: Band,
    pub(crate) tenant: &'a str,
}

/// A job whose turn it is. It occupies a slot of its destination until [`Schedule::done`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) job: Job,
    pub(crate) destination: Arc<str>,
    /// Whose attempt it is.
    pub(crate) share: ShareId,
    pub(crate) expires: Timestamp,
    /// Its destination rests or its class has not let it go on: it is handed out because something of it
    /// is over or late, and nothing is to be tried before this moment.
    pub(crate) not_before: Option<Timestamp>,
    /// What kept it from being handed out when it was due.
    pub(crate) held: Vec<Held>,
}

/// How much at once.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// At a site about which nothing else is said.
    pub(crate) site: SiteLimits,
    pub(crate) in_flight: usize,
    pub(crate) jobs: usize,
    pub(crate) resting: RestCurve,
}

#[derive(Debug)]
pub(crate) struct Schedule {
    limits: Limits,
    now: Timestamp,
    names: HashMap<Arc<str>, usize>,
    places: Vec<Option<Place>>,
    vacant_places: Vec<usize>,
    directory: Directory,
    /// Those that destinations share.
    site_names: HashMap<Arc<str>, usize>,
    sites: Vec<Option<SiteState>>,
    vacant_sites: Vec<usize>,
    flows: Vec<Option<Flow>>,
    vacant_flows: Vec<usize>,
    shares: Shares,
    jobs: HashMap<Job, Slot>,
    timers: BTreeSet<(Timestamp, Timer)>,
    in_flight: usize,
    resting: usize,
    limited: usize,
    search: Search,
}

/// Where a job is kept.
#[derive(Debug, Clone, Copy)]
struct Slot {
    flow: usize,
    due: Timestamp,
    expiry: Timestamp,
    expires: Timestamp,
}

/// What is looked at when its time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Place(usize),
    Site(usize),
    Flow(usize),
    Class(ClassId),
}

/// The search for jobs that memory had no room for.
#[derive(Debug, Default)]
struct Search {
    /// Flows some of whose jobs are not here.
    incomplete: usize,
    /// A flow waits for a job that is not here.
    starved: bool,
    running: bool,
    ended: Option<Timestamp>,
}

impl Schedule {
    pub(crate) fn new(limits: Limits, classes: Arc<Classes>) -> Schedule {
        Schedule {
            limits,
            now: Timestamp(0),
            names: HashMap::new(),
            places: Vec::new(),
            vacant_places: Vec::new(),
            directory: Directory::default(),
            site_names: HashMap::new(),
            sites: Vec::new(),
            vacant_sites: Vec::new(),
            flows: Vec::new(),
            vacant_flows: Vec::new(),
            shares: Shares::new(classes),
            jobs: HashMap::new(),
            timers: BTreeSet::new(),
            in_flight: 0,
            resting: 0,
            limited: 0,
            search: Search::default(),
        }
    }

    /// Enters a job, or moves it forward when it is there and later.
    pub(crate) fn add(
        &mut self,
        job: Job,
        lane: Lane<'_>,
        due: Timestamp,
        expires: Timestamp,
        now: Timestamp,
    ) {
        self.advance(now);
        // What is over already keeps the time it is given, so that it cannot come back at once.
        let alive = expires > now;
        let due = if alive { due.min(expires) } else { due };
        let expiry = if alive { expires } else { due };
        if self.jobs.get(&job).is_some_and(|known| known.due <= due) {
            return;
        }
        let slot = Slot { flow: self.flow(lane), due, expiry, expires };
        if self.is_full_for(&slot) && !self.jobs.contains_key(&job) {
            self.leave_out(slot);
            self.review(slot.flow);
            return;
        }
        let moved = self.remove(job);
        if let Some(flow) = &mut self.flows[slot.flow] {
            flow.due.insert((slot.due, job));
            flow.expiry.insert((slot.expiry, job));
        }
        self.jobs.insert(job, slot);
        self.review(slot.flow);
        if let Some(moved) = moved.filter(|moved| moved.flow != slot.flow) {
            self.review(moved.flow);
        }
        if self.jobs.len() > self.limits.jobs + self.slack() {
            self.shed();
        }
    }

    /// The next job whose turn it is.
    pub(crate) fn take(&mut self, now: Timestamp) -> Option<Taken> {
        self.advance(now);
        let one_more = usize::from(planted!("an attempt too many in all"));
        if self.in_flight >= self.limits.in_flight + one_more {
            return None;
        }
        loop {
            let more = self.fire_timers();
            while let Some(turn) = self.shares.turn(self.free() + one_more) {
                match turn {
                    Turn::Park(share, flow) => self.park(share, flow),
                    Turn::Take(share, flow) => {
                        if let Some(taken) = self.take_from(share, flow) {
                            return Some(taken);
                        }
                    }
                }
            }
            if !more {
                return None;
            }
        }
    }

    /// After [`Schedule::take`] had nothing: when it may have something, if nothing else happens.
    pub(crate) fn wake(&self) -> Option<Timestamp> {
        if self.in_flight >= self.limits.in_flight {
            return None;
        }
        if !self.shares.is_quiet() {
            return Some(self.now);
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        let ended = self.search.ended.filter(|_| self.search.starved);
        let search = ended.map(|ended| ended.after(SEARCH_PAUSE));
        timer.into_iter().chain(search).min()
    }

    /// Gives the slot of a taken job back.
    pub(crate) fn done(&mut self, destination: &str, share: ShareId, now: Timestamp) {
        self.advance(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.shares.end(share);
        for flow in self.shares.unpark(self.free()) {
            self.queue_up(flow);
        }
        if let Some((at, place)) = self.known(destination) {
            place.in_flight = place.in_flight.saturating_sub(1);
            let site = place.site;
            if let Some(site) = &mut self.sites[site] {
                site.in_flight = site.in_flight.saturating_sub(1);
            }
            self.serve(at);
            self.forget_if_idle(at);
        }
    }

    /// So many recipients more or less wait for this destination.
    pub(crate) fn count(&mut self, destination: &str, more: i64) {
        let at = self.place(destination);
        if let Some(place) = &mut self.places[at] {
            place.waiting += more;
        }
        self.forget_if_idle(at);
    }

    /// What stands behind the destination could not be reached: it rests, each time longer, and with it all
    /// that share it. While it rests, further failures of attempts begun before do not count.
    pub(crate) fn rest(&mut self, destination: &str, why: String, now: Timestamp) {
        self.advance(now);
        let curve = self.limits.resting;
        let Some((at, _)) = self.known(destination) else { return };
        let at = self.site_of(at);
        let Some(site) = self.sites.get_mut(at).and_then(Option::as_mut) else { return };
        if site.is_resting(now) {
            return;
        }
        site.failures = site.failures.saturating_add(1);
        let until = now.after(curve.rest(site.failures));
        let rested = site.rest.replace(Rest { since: now, until, why, advised: false }).is_some();
        self.resting += usize::from(!rested);
        self.review_site(at);
    }

    /// The destination could not be tried, which says nothing about what stands behind it: it rests alone.
    pub(crate) fn rest_alone(&mut self, destination: &str, why: String, now: Timestamp) {
        self.advance(now);
        let curve = self.limits.resting;
        let Some((at, place)) = self.known(destination) else { return };
        if place.is_resting(now) {
            return;
        }
        place.failures = place.failures.saturating_add(1);
        let until = now.after(curve.rest(place.failures));
        let rested = place.rest.replace(Rest { since: now, until, why, advised: false }).is_some();
        self.resting += usize::from(!rested);
        self.review_place(at);
    }

    /// An attempt was more than what stands behind the destination would bear: fewer at once from now on,
    /// and a rest when one at a time is too much. True when there are fewer.
    pub(crate) fn troubled(&mut self, destination: &str, why: String, now: Timestamp) -> bool {
        let Some((at, _)) = self.known(destination) else { return false };
        let at = self.site_of(at);
        let Some(site) = self.sites.get_mut(at).and_then(Option::as_mut) else { return false };
        if site.is_resting(now) {
            return false;
        }
        match site.trouble() {
            _ if site.failures > 0 => self.rest(destination, why, now),
            Trouble::TooMuch => self.rest(destination, why, now),
            Trouble::Narrowed => return true,
            Trouble::Known => {}
        }
        false
    }

    /// Nothing more for the destination for so long, or for the rest it takes if that is longer.
    pub(crate) fn pause(
        &mut self,
        destination: &str,
        pause: Duration,
        why: String,
        now: Timestamp,
    ) {
        self.advance(now);
        if self.resting >= MAX_RESTING {
            return;
        }
        let Some((at, place)) = self.known(destination) else { return };
        let until = now.after(pause);
        if place.is_resting(now) && place.rest.as_ref().is_some_and(|rest| rest.until >= until) {
            return;
        }
        let rested = place.rest.replace(Rest { since: now, until, why, advised: true }).is_some();
        self.resting += usize::from(!rested);
        self.review_place(at);
    }

    /// Nothing more for all that share what stands behind the destination, for so long, or for the rest it
    /// takes if that is longer.
    pub(crate) fn pause_site(
        &mut self,
        destination: &str,
        pause: Duration,
        why: String,
        now: Timestamp,
    ) {
        self.advance(now);
        let Some((to, _)) = self.known(destination) else { return };
        let at = self.site_of(to);
        let Some(site) = self.sites.get_mut(at).and_then(Option::as_mut) else { return };
        let until = now.after(pause);
        if site.is_resting(now) && site.rest.as_ref().is_some_and(|rest| rest.until >= until) {
            return;
        }
        let rested = site.rest.replace(Rest { since: now, until, why, advised: true }).is_some();
        self.resting += usize::from(!rested);
        self.review_site(at);
    }

    /// At most so many jobs of the destination at once, for so long.
    pub(crate) fn limit(
        &mut self,
        destination: &str,
        most: usize,
        valid: Duration,
        now: Timestamp,
    ) {
        self.advance(now);
        if self.limited >= MAX_RESTING {
            return;
        }
        let Some((at, place)) = self.known(destination) else { return };
        let limit =
            place.limit.replace(Limit { most: most.max(1), since: now, until: now.after(valid) });
        self.limited += usize::from(limit.is_none());
        self.review_place(at);
    }

    /// The destination answered: it is well.
    pub(crate) fn answered(&mut self, destination: &str, now: Timestamp) {
        self.end_rest(destination, now, true);
    }

    /// The destination is tried again before its rest is over, one job at a time until it answers.
    pub(crate) fn rouse(&mut self, destination: &str, now: Timestamp) {
        self.end_rest(destination, now, false);
    }

    /// How many destinations rest.
    pub(crate) fn resting(&self) -> usize {
        self.resting
    }

    /// True when the index should be searched for jobs that memory had no room for.
    pub(crate) fn wants_search(&self, now: Timestamp) -> bool {
        let search = &self.search;
        let rested = |ended| now.since(ended) >= SEARCH_PAUSE || now < ended;
        search.incomplete > 0
            && !search.running
            && (self.jobs.len() <= self.limits.jobs / 2
                || (search.starved && search.ended.is_none_or(rested)))
    }

    /// A search begins: every job that is not here will be entered again.
    pub(crate) fn begin_search(&mut self) {
        self.search = Search { running: true, ..Search::default() };
        for at in 0..self.flows.len() {
            if let Some(flow) = &mut self.flows[at]
                && flow.missing.take().is_some()
            {
                self.forget_flow_if_idle(at);
            }
        }
    }

    /// The search is over.
    pub(crate) fn end_search(&mut self, now: Timestamp) {
        self.search.running = false;
        self.search.ended = Some(now);
    }

    /// At most `limit` destinations from position `from` on, and where to go on.
    pub(crate) fn views(&self, from: usize, limit: usize) -> (Vec<View>, Option<usize>) {
        let end = self.places.len().min(from.saturating_add(limit));
        let part = self.places.get(from..end).unwrap_or_default();
        let next_due = |place: &Place| {
            let flows = place.flows.values().filter_map(|flow| self.flows[*flow].as_ref());
            flows.filter_map(|flow| flow.next(false)).min()
        };
        let view = |place: &Place| {
            let site = self.sites.get(place.site)?.as_ref()?;
            Some(place.view(site, self.now, next_due(place)))
        };
        let views = part.iter().flatten().filter_map(view);
        (views.collect(), (end < self.places.len()).then_some(end))
    }

    /// Sites that are known to be behind destinations of which something waits.
    pub(crate) fn shared_sites(&self) -> usize {
        self.site_names.len()
    }

    fn end_rest(&mut self, destination: &str, now: Timestamp, well: bool) {
        let Some((to, place)) = self.known(destination) else { return };
        let at = place.site;
        let rested = place.rest.take_if(|rest| !(well && rest.advised)).is_some();
        let alone = well && std::mem::take(&mut place.failures) > 0;
        let Some(site) = self.sites.get_mut(at).and_then(Option::as_mut) else { return };
        let awake = site.rest.take_if(|rest| !(well && rest.advised)).is_some();
        let wider = well && site.recover();
        self.resting -= usize::from(rested) + usize::from(awake);
        if rested || alone || awake || wider {
            self.advance(now);
        }
        if rested {
            self.review_place(to);
        } else if alone || wider {
            self.serve(to);
        }
        if awake {
            self.review_site(at);
        }
    }

    fn free(&self) -> usize {
        self.limits.in_flight.saturating_sub(self.in_flight)
    }

    /// Takes note of the time. When the clock fell, every timer may be too late.
    fn advance(&mut self, now: Timestamp) {
        let fell = now.after(SMALL_FALL) < self.now;
        self.now = now;
        if fell {
            for at in 0..self.places.len() {
                self.review_place(at);
            }
            for at in 0..self.sites.len() {
                self.review_site(at);
            }
            for class in self.shares.classes() {
                self.go_on(class);
            }
        }
    }

    /// Looks at what has its time come; true when there is more of it.
    fn fire_timers(&mut self) -> bool {
        for _ in 0..TIMERS_AT_ONCE {
            match self.timers.first().copied() {
                Some((time, timer)) if time <= self.now => {
                    self.timers.pop_first();
                    match timer {
                        Timer::Place(at) => self.review_place(at),
                        Timer::Site(at) => self.wake_site(at),
                        Timer::Flow(at) => self.review(at),
                        Timer::Class(class) => self.go_on(class),
                    }
                }
                _ => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
