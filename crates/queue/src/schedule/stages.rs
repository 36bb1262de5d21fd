//! How a flow gets from one stage to the next.

use waypost_mail::Timestamp;

use super::flow::{Flow, Stage};
use super::held::Cause;
use super::{Schedule, ShareId, Taken, Timer};
use crate::classes::ClassId;

impl Schedule {
    /// Decides anew what a flow that waits for nothing else waits for.
    pub(super) fn review(&mut self, at: usize) {
        let Some(flow) = self.flows.get_mut(at).and_then(Option::as_mut) else { return };
        if let Some(timer) = flow.timer.take() {
            self.timers.remove(&(timer, Timer::Flow(at)));
        }
        let (stage, to) = (flow.stage, flow.place);
        // While its site rests it stands in line there, so that the end of the rest is one step, however many
        // destinations there are.
        let only_over = self.rests_alone(to);
        let Some(flow) = self.flows.get(at).and_then(Option::as_ref) else { return };
        match stage {
            Stage::Idle => {}
            // What is over does not wait for its class.
            Stage::HeldBack if flow.is_over(self.now) => {}
            Stage::HeldBack => {
                self.set_timer(at, flow.next(true));
                return;
            }
            Stage::Queued => {
                self.look_for_what_is_over(at, to);
                return;
            }
            Stage::Offered { .. } | Stage::Parked => return,
        }
        let (moment, missing) = (flow.next(only_over), flow.next_missing(only_over));
        if moment.is_some_and(|moment| moment <= self.now) {
            self.queue_up(at);
            return;
        }
        self.hold(at, only_over.then_some(Cause::Rest));
        let missing = missing.map(|missing| missing.max(self.site_rests_until(to)));
        self.search.starved |= missing.is_some_and(|missing| missing <= self.now);
        let later = missing.filter(|missing| *missing > self.now);
        self.set_timer(at, moment.into_iter().chain(later).min());
        self.forget_flow_if_idle(at);
    }

    /// What is over does not wait for the rate of its site, nor for the end of its rest.
    fn look_for_what_is_over(&mut self, at: usize, to: usize) {
        let (now, site_at) = (self.now, self.site_of(to));
        let Some(site) = self.sites.get_mut(site_at).and_then(Option::as_mut) else { return };
        let Some(flow) = self.flows.get(at).and_then(Option::as_ref) else { return };
        if flow.stage != Stage::Queued {
            return;
        }
        if !flow.is_over(now) {
            self.set_timer(at, flow.next(true));
        } else if site.over.insert(at) {
            self.grant(site_at);
        }
    }

    /// The flow asks its destination, and what stands behind it, for a slot.
    pub(super) fn queue_up(&mut self, at: usize) {
        let Some(flow) = &mut self.flows[at] else { return };
        flow.stage = Stage::Queued;
        flow.diary.turn(Some(Cause::Line), self.now);
        let to = flow.place;
        let Some(place) = &mut self.places[to] else { return };
        let Some(site) = &mut self.sites[place.site] else { return };
        flow.pass = site.stand(flow.share, flow.stride);
        place.line.insert((flow.pass, at));
        self.serve(to);
        self.look_for_what_is_over(at, to);
    }

    /// Something about this destination is new: it may have a slot for one of its flows.
    pub(super) fn serve(&mut self, to: usize) {
        self.enrol(to);
        self.grant(self.site_of(to));
    }

    /// Gives the destination its place in the line of its site: that of its first flow, while it has a slot
    /// for that one.
    pub(super) fn enrol(&mut self, to: usize) {
        let Some(place) = self.places.get_mut(to).and_then(Option::as_mut) else { return };
        let Some(site) = self.sites.get_mut(place.site).and_then(Option::as_mut) else { return };
        let first = place.line.first().filter(|_| place.has_slot(self.now));
        if first.is_none() && !place.line.is_empty() {
            place.full = Some(if place.failures > 0 { Cause::Probe } else { Cause::Slots });
        }
        let first = first.map(|(pass, _)| *pass);
        if place.enrolled == first {
            return;
        }
        if let Some(pass) = place.enrolled {
            site.line.remove(&(pass, to));
        }
        if let Some(pass) = first {
            site.line.insert((pass, to));
        }
        place.enrolled = first;
    }

    /// Offers the free slots of a site to the flows that asked for one: each in turn, and more often the
    /// more it weighs, whatever destination of the site it is for.
    pub(super) fn grant(&mut self, site: usize) {
        while let Some((to, at, pass)) = self.next_in_line(site) {
            let now = self.now;
            if let Some(place) = &mut self.places[to] {
                place.line.remove(&(pass, at));
            }
            if let Some(site) = &mut self.sites[site] {
                site.over.remove(&at);
            }
            self.leave_line(at, to);
            let only_over = self.rests(to);
            let Some(flow) = &mut self.flows[at] else { continue };
            flow.stage = Stage::Idle;
            let (share, stride) = (flow.share, flow.stride);
            let over = flow.is_over(now);
            let wants = flow.pick(now, only_over).is_some();
            let admitted = wants && !over && self.shares.admit(share, now);
            if !wants || !over && !admitted {
                if let Some(site) = &mut self.sites[site] {
                    site.step_aside(share, pass, stride);
                }
                self.enrol(to);
                if wants {
                    self.hold_back(at, share)
                } else {
                    self.review(at)
                }
                continue;
            }
            flow.stage = Stage::Offered { admitted };
            flow.diary.turn(Some(Cause::Turn), now);
            self.occupy(to, 1);
            self.shares.offer(share, at);
        }
        self.time_site(site);
    }

    /// The flow that gets the next slot of a site, its destination and its place in line; nothing while
    /// there is none. While the site rests, or its rate gives no leave, only what is over has its turn.
    fn next_in_line(&mut self, site: usize) -> Option<(usize, usize, u64)> {
        let now = self.now;
        let site = self.sites.get_mut(site)?.as_mut()?;
        if !site.has_slot() {
            site.full = Cause::SiteSlots;
            return None;
        }
        if site.is_resting(now) || site.opens(now) > now {
            site.full = if site.is_resting(now) { Cause::SiteRest } else { Cause::SiteRate };
            let over = site.over.iter().find_map(|at| {
                let flow = self.flows.get(*at)?.as_ref()?;
                let place = self.places.get(flow.place)?.as_ref()?;
                place.has_slot(now).then_some((flow.place, *at, flow.pass))
            });
            return over;
        }
        let (pass, to) = *site.line.first()?;
        site.pass = pass;
        let (pass, at) = *self.places.get(to)?.as_ref()?.line.first()?;
        Some((to, at, pass))
    }

    /// So many slots more, or fewer, are promised.
    fn occupy(&mut self, to: usize, more: isize) {
        let Some(place) = self.places.get_mut(to).and_then(Option::as_mut) else { return };
        place.offered = place.offered.saturating_add_signed(more);
        if let Some(site) = self.sites.get_mut(place.site).and_then(Option::as_mut) {
            site.offered = site.offered.saturating_add_signed(more);
        }
        self.enrol(to);
    }

    /// The flow's class may not go on now.
    fn hold_back(&mut self, at: usize, share: ShareId) {
        if let Some(flow) = &mut self.flows[at] {
            flow.stage = Stage::HeldBack;
        }
        self.hold(at, Some(Cause::Class));
        let class = self.shares.hold_back(share, at);
        self.look_again(class);
        self.review(at);
    }

    /// A class may go on: its flows ask for slots again, as many as it has leave for.
    pub(super) fn go_on(&mut self, class: ClassId) {
        for _ in 0..self.shares.count_held_back(class) {
            if self.shares.opens(class, self.now) > self.now {
                self.look_again(class);
                return;
            }
            let Some(at) = self.shares.held_back(class) else { return };
            let waits = |flow: &&Flow| flow.stage == Stage::HeldBack;
            if self.flows[at].as_ref().filter(waits).is_some() {
                self.queue_up(at);
            }
        }
    }

    /// Sets the timer of a class to the moment at which it may go on.
    fn look_again(&mut self, class: ClassId) {
        let opens = self.shares.opens(class, self.now);
        if let Some(timer) = self.shares.set_timer(class, opens) {
            self.timers.remove(&(timer, Timer::Class(class)));
        }
        self.timers.insert((opens, Timer::Class(class)));
    }

    /// The flow's share has more than its part of the attempts.
    pub(super) fn park(&mut self, share: ShareId, at: usize) {
        let to = self.withdraw(share, at);
        if let Some(flow) = &mut self.flows[at] {
            flow.stage = Stage::Parked;
        }
        self.hold(at, Some(Cause::Tenant));
        self.shares.park(share, at);
        self.serve(to);
    }

    /// Gives back what was promised to a flow with an offer, but for the offer itself.
    fn withdraw(&mut self, share: ShareId, at: usize) -> usize {
        let Some(flow) = &mut self.flows[at] else { return usize::MAX };
        let stage = std::mem::replace(&mut flow.stage, Stage::Idle);
        let to = flow.place;
        self.occupy(to, -1);
        if stage == (Stage::Offered { admitted: true }) {
            self.shares.refund(share);
            self.look_again_if_held_back(share);
        }
        to
    }

    pub(super) fn take_from(&mut self, share: ShareId, at: usize) -> Option<Taken> {
        let now = self.now;
        let flow = self.flows[at].as_ref()?;
        let to = flow.place;
        let admitted = flow.stage == (Stage::Offered { admitted: true });
        let resting = self.rests(to);
        let Some(job) = flow.pick(now, resting || !admitted) else {
            self.withdraw(share, at);
            self.review(at);
            self.serve(to);
            return None;
        };
        // The slot was offered a while ago: rate and windows are asked when the attempt begins.
        if admitted && !self.shares.enter(share, now) {
            self.occupy(to, -1);
            self.hold_back(at, share);
            self.serve(to);
            return None;
        }
        if let Some(flow) = &mut self.flows[at] {
            flow.stage = Stage::Idle;
        }
        self.occupy(to, -1);
        let rests = self.rest_until(to);
        let place = self.places[to].as_mut()?;
        place.in_flight += 1;
        let destination = place.name.clone();
        if let Some(site) = self.sites.get_mut(place.site).and_then(Option::as_mut) {
            site.in_flight += 1;
            if admitted && !resting {
                site.spend(now);
            }
        }
        let not_before = match admitted && !resting {
            true => None,
            false => rests.max(self.shares.out_of_turn(share, now)).max(Some(now)),
        };
        self.in_flight += 1;
        self.shares.begin(share);
        self.look_again_if_held_back(share);
        self.hold(at, None);
        let slot = self.remove(job);
        let held = slot.map_or_else(Vec::new, |slot| self.held(at, slot.due));
        let expires = slot.map_or(Timestamp(u64::MAX), |slot| slot.expires);
        self.review(at);
        self.serve(to);
        Some(Taken { job, destination, share, expires, not_before, held })
    }

    fn look_again_if_held_back(&mut self, share: ShareId) {
        let class = self.shares.class_of(share);
        if self.shares.count_held_back(class) > 0 {
            self.look_again(class);
        }
    }

    /// Decides anew whether a destination rests, for all its flows.
    pub(super) fn review_place(&mut self, to: usize) {
        let now = self.now;
        let Some(place) = self.places.get_mut(to).and_then(Option::as_mut) else { return };
        if place.rest.is_some() && !place.is_resting(now) {
            place.rest = None;
            self.resting -= 1;
        }
        if place.limit.is_some() && place.limit(now).is_none() {
            place.limit = None;
            self.limited -= 1;
        }
        if let Some(timer) = place.timer.take() {
            self.timers.remove(&(timer, Timer::Place(to)));
        }
        let rest = place.rest.as_ref().map(|rest| rest.until);
        let limit = place.limit.map(|limit| limit.until);
        if let Some(time) = rest.into_iter().chain(limit).min() {
            place.timer = Some(time);
            self.timers.insert((time, Timer::Place(to)));
        }
        let flows: Vec<usize> = place.flows.values().copied().collect();
        flows.into_iter().for_each(|at| self.review(at));
        self.serve(to);
        self.forget_if_idle(to);
    }

    /// Decides anew whether a site rests. Its destinations stand in line meanwhile, and are looked at one by one
    /// only where mail of theirs is not in memory.
    pub(super) fn review_site(&mut self, at: usize) {
        let now = self.now;
        let Some(site) = self.sites.get_mut(at).and_then(Option::as_mut) else { return };
        if site.rest.is_some() && !site.is_resting(now) {
            site.rest = None;
            self.resting -= 1;
        }
        if self.search.incomplete > 0 {
            let members: Vec<usize> = site.members.iter().copied().collect();
            members.into_iter().for_each(|to| self.review_place(to));
        }
        self.grant(at);
        self.forget_site_if_idle(at);
    }

    /// The moment of a site has come: its rest ends, or its rate gives leave.
    pub(super) fn wake_site(&mut self, at: usize) {
        let now = self.now;
        let Some(site) = self.sites.get_mut(at).and_then(Option::as_mut) else { return };
        site.timer = None;
        if site.rest.is_some() && !site.is_resting(now) {
            self.review_site(at);
        } else {
            self.grant(at);
            self.forget_site_if_idle(at);
        }
    }

    /// Sets the timer of a site to the moment at which it must be looked at.
    pub(super) fn time_site(&mut self, at: usize) {
        let now = self.now;
        let Some(site) = self.sites.get_mut(at).and_then(Option::as_mut) else { return };
        let next = site.next(now);
        if next == site.timer {
            return;
        }
        if let Some(timer) = std::mem::replace(&mut site.timer, next) {
            self.timers.remove(&(timer, Timer::Site(at)));
        }
        self.timers.extend(next.map(|time| (time, Timer::Site(at))));
    }

    /// What stands behind a destination.
    pub(super) fn site_of(&self, to: usize) -> usize {
        self.places.get(to).and_then(Option::as_ref).map_or(usize::MAX, |place| place.site)
    }

    /// The destination rests, or what stands behind it does.
    pub(super) fn rests(&self, to: usize) -> bool {
        self.rest_until(to).is_some()
    }

    /// The destination rests, whatever stands behind it does.
    fn rests_alone(&self, to: usize) -> bool {
        let place = self.places.get(to).and_then(Option::as_ref);
        place.is_some_and(|place| place.is_resting(self.now))
    }

    /// Until when what stands behind the destination rests; a moment that is over if it does not.
    fn site_rests_until(&self, to: usize) -> Timestamp {
        let site = self.sites.get(self.site_of(to)).and_then(Option::as_ref);
        let rest = site.filter(|site| site.is_resting(self.now)).and_then(|s| s.rest.as_ref());
        rest.map_or(Timestamp(0), |rest| rest.until)
    }

    fn rest_until(&self, to: usize) -> Option<Timestamp> {
        let place = self.places.get(to)?.as_ref()?;
        let own = place.rest.as_ref().filter(|_| place.is_resting(self.now));
        let site = self.sites.get(place.site).and_then(Option::as_ref);
        let site = site.filter(|site| site.is_resting(self.now));
        let shared = site.and_then(|site| site.rest.as_ref());
        own.into_iter().chain(shared).map(|rest| rest.until).max()
    }

    fn set_timer(&mut self, at: usize, time: Option<Timestamp>) {
        let time = time.filter(|time| *time < Timestamp(u64::MAX));
        if let (Some(flow), Some(time)) = (&mut self.flows[at], time) {
            if let Some(timer) = flow.timer.replace(time) {
                self.timers.remove(&(timer, Timer::Flow(at)));
            }
            self.timers.insert((time, Timer::Flow(at)));
        }
    }
}
