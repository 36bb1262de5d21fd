//! What is due when and for whom: now in, decisions out. Knows neither tasks nor storage.
//!
//! A [`Job`] stands for the recipients of one message that share a route. It is a hint to look at
//! them at a certain time: looking too early costs a read and does no harm, so jobs are never taken
//! back, only overtaken. Jobs of one destination are ordered by time; destinations with something
//! due, a free slot and no reason to rest take turns.

mod place;

use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use waypost_mail::{MessageId, Timestamp};

use crate::RestCurve;
use waypost_mutant::planted;

pub(crate) use place::View;
use place::{Limit, Missing, Place, Rest};

/// Timers handled before somebody gets a turn.
const TIMERS_AT_ONCE: usize = 256;
/// A clock that falls by less is not worth a new look at every destination.
const SMALL_FALL: Duration = Duration::from_secs(1);
/// Between two searches of the spool for jobs that memory had no room for.
const SEARCH_PAUSE: Duration = Duration::from_secs(10);

/// Destinations that policy may have paused, or limited, which are remembered even when nothing waits for them.
const MAX_RESTING: usize = 100_000;

/// Recipients of one message that share a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Job {
    pub(crate) id: MessageId,
    pub(crate) route: u16,
}

/// A job whose turn it is. It occupies a slot of its destination until [`Schedule::done`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) job: Job,
    pub(crate) destination: Arc<str>,
    pub(crate) expires: Timestamp,
}

/// How much at once.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) per_destination: usize,
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
    vacant: Vec<usize>,
    jobs: HashMap<Job, Slot>,
    /// Places that probably have something to hand out, next one first.
    rotation: VecDeque<usize>,
    /// When to look at places that have nothing to hand out now.
    timers: BTreeSet<(Timestamp, usize)>,
    in_flight: usize,
    resting: usize,
    limited: usize,
    search: Search,
}

/// Where a job is kept.
#[derive(Debug, Clone, Copy)]
struct Slot {
    place: usize,
    due: Timestamp,
    expiry: Timestamp,
    expires: Timestamp,
}

/// The search of the spool for jobs that memory had no room for.
#[derive(Debug, Default)]
struct Search {
    /// Places some of whose jobs are only in the spool.
    incomplete: usize,
    /// A place waits for a job that is only in the spool.
    starved: bool,
    running: bool,
    ended: Option<Timestamp>,
}

impl Schedule {
    pub(crate) fn new(limits: Limits) -> Schedule {
        Schedule {
            limits,
            now: Timestamp(0),
            names: HashMap::new(),
            places: Vec::new(),
            vacant: Vec::new(),
            jobs: HashMap::new(),
            rotation: VecDeque::new(),
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
        destination: &str,
        due: Timestamp,
        expires: Timestamp,
        now: Timestamp,
    ) {
        self.advance(now);
        // What is over already keeps the time it is given, so that it cannot come back at once.
        let alive = expires > now;
        let slot = Slot {
            place: self.place(destination),
            due: if alive { due.min(expires) } else { due },
            expiry: if alive { expires } else { due },
            expires,
        };
        if self.jobs.get(&job).is_some_and(|known| known.due <= slot.due) {
            return;
        }
        self.remove(job);
        if let Some(place) = &mut self.places[slot.place] {
            place.due.insert((slot.due, job));
            place.expiry.insert((slot.expiry, job));
        }
        self.jobs.insert(job, slot);
        self.review(slot.place);
        if self.jobs.len() > self.limits.jobs + self.limits.jobs / 64 {
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
            while let Some(at) = self.rotation.pop_front() {
                if let Some(taken) = self.take_from(at) {
                    return Some(taken);
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
        if !self.rotation.is_empty() {
            return Some(self.now);
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        let ended = self.search.ended.filter(|_| self.search.starved);
        let search = ended.map(|ended| ended.after(SEARCH_PAUSE));
        timer.into_iter().chain(search).min()
    }

    /// Gives the slot of a taken job back.
    pub(crate) fn done(&mut self, destination: &str, now: Timestamp) {
        self.advance(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some((at, place)) = self.known(destination) {
            place.in_flight = place.in_flight.saturating_sub(1);
            self.review(at);
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

    /// The destination could not be reached: it rests, each time longer. While it rests, further
    /// failures of attempts begun before do not count.
    pub(crate) fn rest(&mut self, destination: &str, why: String, now: Timestamp) {
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
        self.review(at);
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
        self.review(at);
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
        self.review(at);
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

    /// True when the spool should be searched for jobs that memory had no room for.
    pub(crate) fn wants_search(&self, now: Timestamp) -> bool {
        let search = &self.search;
        let rested = |ended| now.since(ended) >= SEARCH_PAUSE || now < ended;
        search.incomplete > 0
            && !search.running
            && (self.jobs.len() <= self.limits.jobs / 2
                || (search.starved && search.ended.is_none_or(rested)))
    }

    /// A search begins: every job that only the spool has will be entered again.
    pub(crate) fn begin_search(&mut self) {
        self.search = Search { running: true, ..Search::default() };
        for place in self.places.iter_mut().flatten() {
            place.missing = None;
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
        let views = part.iter().flatten().map(|place| place.view(self.now)).collect();
        (views, (end < self.places.len()).then_some(end))
    }

    fn end_rest(&mut self, destination: &str, now: Timestamp, well: bool) {
        let Some((at, place)) = self.known(destination) else { return };
        let rested = place.rest.take_if(|rest| !(well && rest.advised)).is_some();
        let recovered = well && std::mem::take(&mut place.failures) > 0;
        self.resting -= usize::from(rested);
        if rested || recovered {
            self.advance(now);
            self.review(at);
        }
    }

    /// Takes note of the time. When the clock fell, every timer may be too late.
    fn advance(&mut self, now: Timestamp) {
        let fell = now.after(SMALL_FALL) < self.now;
        self.now = now;
        if fell {
            for at in 0..self.places.len() {
                self.review(at);
            }
        }
    }

    /// Looks at places whose time has come; true when there are more of them.
    fn fire_timers(&mut self) -> bool {
        for _ in 0..TIMERS_AT_ONCE {
            match self.timers.first() {
                Some((time, at)) if *time <= self.now => {
                    let at = *at;
                    self.review(at);
                }
                _ => return false,
            }
        }
        true
    }

    fn take_from(&mut self, at: usize) -> Option<Taken> {
        let place = self.places[at].as_mut()?;
        place.enrolled = false;
        let job = place.pick(self.now, self.limits.per_destination);
        let taken = job.map(|job| {
            place.in_flight += 1;
            (job, place.name.clone())
        });
        let taken = taken.map(|(job, destination)| {
            self.in_flight += 1;
            let expires = self.remove(job).map_or(Timestamp(u64::MAX), |slot| slot.expires);
            Taken { job, destination, expires }
        });
        self.review(at);
        taken
    }

    fn remove(&mut self, job: Job) -> Option<Slot> {
        let slot = self.jobs.remove(&job)?;
        if let Some(place) = &mut self.places[slot.place] {
            place.due.remove(&(slot.due, job));
            place.expiry.remove(&(slot.expiry, job));
        }
        Some(slot)
    }

    /// Decides anew whether a place takes its turn, waits for a time or an event, or can go.
    fn review(&mut self, at: usize) {
        let now = self.now;
        let Some(place) = &mut self.places[at] else { return };
        if place.rest.is_some() && !place.is_resting(now) {
            place.rest = None;
            self.resting -= 1;
        }
        if place.limit.is_some() && place.limit(now).is_none() {
            place.limit = None;
            self.limited -= 1;
        }
        if let Some(timer) = place.timer.take() {
            self.timers.remove(&(timer, at));
        }
        let moment = place.next(now, self.limits.per_destination);
        let missing = place.next_missing(now);
        if missing.is_some_and(|missing| missing <= now) && moment.is_none_or(|m| m > now) {
            self.search.starved = true;
        }
        let later = missing.filter(|missing| *missing > now);
        let limit = place.limit.map(|limit| limit.until);
        match moment.into_iter().chain(later).chain(limit).min() {
            Some(time) if time > now => {
                place.timer = Some(time);
                self.timers.insert((time, at));
            }
            Some(_) if !place.enrolled => {
                place.enrolled = true;
                self.rotation.push_back(at);
            }
            _ => {}
        }
        self.forget_if_idle(at);
    }

    fn known(&mut self, destination: &str) -> Option<(usize, &mut Place)> {
        let at = *self.names.get(destination)?;
        self.places[at].as_mut().map(|place| (at, place))
    }

    /// Where a destination is kept, made when it is new.
    fn place(&mut self, destination: &str) -> usize {
        if let Some(at) = self.names.get(destination) {
            return *at;
        }
        let name: Arc<str> = destination.into();
        let place = Some(Place::new(name.clone()));
        let at = match self.vacant.pop() {
            Some(at) => {
                self.places[at] = place;
                at
            }
            None => {
                self.places.push(place);
                self.places.len() - 1
            }
        };
        self.names.insert(name, at);
        at
    }

    /// A destination for which nothing waits and nothing is in flight is not remembered, so that
    /// strangers cannot fill memory with names.
    fn forget_if_idle(&mut self, at: usize) {
        if !self.places[at].as_ref().is_some_and(Place::is_idle) {
            return;
        }
        let Some(place) = self.places[at].take() else { return };
        if let Some(timer) = place.timer {
            self.timers.remove(&(timer, at));
        }
        self.resting -= usize::from(place.rest.is_some());
        self.search.incomplete -= usize::from(place.missing.is_some());
        self.names.remove(&place.name);
        self.vacant.push(at);
    }

    /// Makes room: the longest backlogs lose what is due last. So a backlog cannot push out the
    /// mail of others.
    fn shed(&mut self) {
        let sizes = self.places.iter().enumerate();
        let mut sizes: BinaryHeap<(usize, usize)> =
            sizes.filter_map(|(at, place)| Some((place.as_ref()?.due.len(), at))).collect();
        while self.jobs.len() > self.limits.jobs {
            let Some((size, at)) = sizes.pop() else { return };
            let next = sizes.peek().map_or(0, |(size, _)| *size);
            let excess = self.jobs.len() - self.limits.jobs;
            let surplus = (size - next.min(size)).clamp(1, excess);
            for _ in 0..surplus {
                self.shed_last(at);
            }
            sizes.push((size.saturating_sub(surplus), at));
            self.review(at);
        }
    }

    fn shed_last(&mut self, at: usize) {
        let Some(place) = &mut self.places[at] else { return };
        let Some((_, job)) = place.due.last().copied() else { return };
        let Some(slot) = self.remove(job) else { return };
        if let Some(place) = &mut self.places[at] {
            let known = place.missing;
            self.search.incomplete += usize::from(known.is_none());
            place.missing = Some(Missing {
                due: known.map_or(slot.due, |known| known.due.min(slot.due)),
                expiry: known.map_or(slot.expiry, |known| known.expiry.min(slot.expiry)),
            });
        }
    }
}

#[cfg(test)]
mod tests;
