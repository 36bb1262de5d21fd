//! What the schedule keeps, and for how long.

use std::collections::BinaryHeap;
use std::sync::Arc;

use waypost_mail::Timestamp;

use super::flow::{Flow, Missing};
use super::place::Place;
use super::site::SiteState;
use super::{Job, Lane, Schedule, Slot, Timer};
use crate::{Site, SiteLimits};

impl Schedule {
    pub(super) fn remove(&mut self, job: Job) -> Option<Slot> {
        let slot = self.jobs.remove(&job)?;
        if let Some(flow) = &mut self.flows[slot.flow] {
            flow.due.remove(&(slot.due, job));
            flow.expiry.remove(&(slot.expiry, job));
        }
        Some(slot)
    }

    pub(super) fn known(&mut self, destination: &str) -> Option<(usize, &mut Place)> {
        let at = *self.names.get(destination)?;
        self.places[at].as_mut().map(|place| (at, place))
    }

    /// Where a destination is kept, made when it is new.
    pub(super) fn place(&mut self, destination: &str) -> usize {
        if let Some(at) = self.names.get(destination) {
            return *at;
        }
        let name: Arc<str> = destination.into();
        let site = match self.directory.site(destination) {
            Some(site) => self.shared_site(&site),
            None => self.keep_site(name.clone(), false, self.limits.site),
        };
        let place = Place::new(name.clone(), site);
        let at = keep(&mut self.places, &mut self.vacant_places, place);
        if let Some(site) = &mut self.sites[site] {
            site.members.insert(at);
        }
        self.names.insert(name, at);
        at
    }

    /// Where a site is kept that destinations share, made when it is new.
    pub(super) fn shared_site(&mut self, site: &Site) -> usize {
        if let Some(at) = self.site_names.get(site.name.as_str()) {
            return *at;
        }
        let name: Arc<str> = site.name.as_str().into();
        let at = self.keep_site(name.clone(), true, site.limits.unwrap_or(self.limits.site));
        self.site_names.insert(name, at);
        at
    }

    fn keep_site(&mut self, name: Arc<str>, shared: bool, limits: SiteLimits) -> usize {
        let site = SiteState::new(name, shared, limits);
        keep(&mut self.sites, &mut self.vacant_sites, site)
    }

    /// Where the jobs of a lane are kept, made when it is new.
    pub(super) fn flow(&mut self, lane: Lane<'_>) -> usize {
        let to = self.place(lane.destination);
        let share = self.shares.known(lane);
        let flows = self.places[to].as_ref().map(|place| &place.flows);
        if let Some(at) = share.and_then(|share| flows?.get(&share).copied()) {
            return at;
        }
        let share = self.shares.attach(lane);
        let at = keep(
            &mut self.flows,
            &mut self.vacant_flows,
            Flow::new(to, share, self.shares.weight(share)),
        );
        if let Some(place) = &mut self.places[to] {
            place.flows.insert(share, at);
            if let Some(site) = &mut self.sites[place.site] {
                site.come(share, None);
            }
        }
        at
    }

    pub(super) fn forget_flow_if_idle(&mut self, at: usize) {
        let Some(flow) = self.flows[at].take_if(|flow| flow.is_idle()) else { return };
        if let Some(timer) = flow.timer {
            self.timers.remove(&(timer, Timer::Flow(at)));
        }
        self.vacant_flows.push(at);
        if let Some(place) = &mut self.places[flow.place] {
            place.flows.remove(&flow.share);
            if let Some(site) = &mut self.sites[place.site] {
                site.leave(flow.share);
            }
        }
        self.shares.detach(flow.share);
        self.forget_if_idle(flow.place);
    }

    /// A destination for which nothing waits and nothing is in flight is not remembered, so that
    /// strangers cannot fill memory with names.
    pub(super) fn forget_if_idle(&mut self, at: usize) {
        let Some(place) = self.places[at].take_if(|place| place.is_idle()) else { return };
        if let Some(timer) = place.timer {
            self.timers.remove(&(timer, Timer::Place(at)));
        }
        self.resting -= usize::from(place.rest.is_some());
        self.names.remove(&place.name);
        self.vacant_places.push(at);
        if let Some(site) = self.sites.get_mut(place.site).and_then(Option::as_mut) {
            site.members.remove(&at);
        }
        self.forget_site_if_idle(place.site);
    }

    /// A site to which nothing leads is not remembered, unless its rate would be forgotten with it.
    pub(super) fn forget_site_if_idle(&mut self, at: usize) {
        let now = self.now;
        let Some(site) = self.sites.get_mut(at) else { return };
        let Some(site) = site.take_if(|site| site.is_idle(now)) else {
            return self.time_site(at);
        };
        if let Some(timer) = site.timer {
            self.timers.remove(&(timer, Timer::Site(at)));
        }
        self.resting -= usize::from(site.rest.is_some());
        if site.shared {
            self.site_names.remove(&site.name);
        }
        self.vacant_sites.push(at);
    }

    /// The clock was set to another time: every job is forgotten, to be entered anew by a search.
    pub(crate) fn start_anew(&mut self, now: Timestamp) {
        self.advance(now);
        for at in 0..self.flows.len() {
            let Some(flow) = &mut self.flows[at] else { continue };
            flow.due.clear();
            flow.expiry.clear();
            flow.missing = None;
        }
        self.jobs.clear();
        self.search.incomplete = 1;
        self.search.starved = true;
        self.search.ended = None;
        (0..self.flows.len()).for_each(|at| self.review(at));
    }

    /// Makes room: the longest backlogs lose what is due last. So a backlog cannot push out the
    /// mail of others.
    pub(super) fn shed(&mut self) {
        let sizes = self.flows.iter().enumerate();
        let mut sizes: BinaryHeap<(usize, usize)> =
            sizes.filter_map(|(at, flow)| Some((flow.as_ref()?.due.len(), at))).collect();
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
        let Some(flow) = &mut self.flows[at] else { return };
        let Some((_, job)) = flow.due.last().copied() else { return };
        let Some(slot) = self.remove(job) else { return };
        self.leave_out(slot);
    }

    /// Jobs above the limit that are borne before room is made. Making room looks at every flow, and moves
    /// so many jobs while the queue's lock is held.
    pub(super) fn slack(&self) -> usize {
        (self.flows.len() / 4).max(64).min(self.limits.jobs / 64)
    }

    /// There is no room, and the job would come last in a backlog that is longer than others.
    pub(super) fn is_full_for(&self, slot: &Slot) -> bool {
        let flows = (self.flows.len() - self.vacant_flows.len()).max(1);
        let comes_last = |flow: &Flow| flow.due.last().is_some_and(|(last, _)| slot.due >= *last);
        self.jobs.len() >= self.limits.jobs
            && self.flows[slot.flow]
                .as_ref()
                .is_some_and(|flow| flow.due.len() > self.limits.jobs / flows && comes_last(flow))
    }

    /// Notes that the flow has a job that is not here.
    pub(super) fn leave_out(&mut self, slot: Slot) {
        if let Some(flow) = &mut self.flows[slot.flow] {
            let known = flow.missing;
            self.search.incomplete += usize::from(known.is_none());
            flow.missing = Some(Missing {
                due: known.map_or(slot.due, |known| known.due.min(slot.due)),
                expiry: known.map_or(slot.expiry, |known| known.expiry.min(slot.expiry)),
            });
        }
    }
}

/// Puts something where there is room, and says where that is.
fn keep<T>(all: &mut Vec<Option<T>>, vacant: &mut Vec<usize>, new: T) -> usize {
    if let Some(at) = vacant.pop() {
        all[at] = Some(new);
        return at;
    }
    all.push(Some(new));
    all.len() - 1
}
