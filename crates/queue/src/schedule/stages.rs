//! How a flow gets from one stage to the next.

use waypost_mail::Timestamp;

use super::flow::{Flow, Stage};
use super::{Schedule, ShareId, Taken, Timer};
use crate::classes::ClassId;

impl Schedule {
    /// Decides anew what a flow that waits for nothing else waits for.
    pub(super) fn review(&mut self, at: usize) {
        let Some(flow) = self.flows.get_mut(at).and_then(Option::as_mut) else { return };
        if let Some(timer) = flow.timer.take() {
            self.timers.remove(&(timer, Timer::Flow(at)));
        }
        let only_over = self.places[flow.place].as_ref().is_some_and(|p| p.is_resting(self.now));
        match flow.stage {
            Stage::Idle => {}
            // What is over does not wait for its class.
            Stage::HeldBack if flow.is_over(self.now) => {}
            Stage::HeldBack => {
                self.set_timer(at, self.flows[at].as_ref().and_then(|flow| flow.next(true)));
                return;
            }
            Stage::Queued | Stage::Offered { .. } | Stage::Parked => return,
        }
        let (moment, missing) = (flow.next(only_over), flow.next_missing(only_over));
        if moment.is_some_and(|moment| moment <= self.now) {
            self.queue_up(at);
            return;
        }
        self.search.starved |= missing.is_some_and(|missing| missing <= self.now);
        let later = missing.filter(|missing| *missing > self.now);
        self.set_timer(at, moment.into_iter().chain(later).min());
        self.forget_flow_if_idle(at);
    }

    /// The flow asks its destination for a slot.
    pub(super) fn queue_up(&mut self, at: usize) {
        let Some(flow) = &mut self.flows[at] else { return };
        flow.stage = Stage::Queued;
        let to = flow.place;
        if let Some(place) = &mut self.places[to] {
            flow.pass = flow.pass.max(place.pass);
            place.line.insert((flow.pass, at));
        }
        self.grant(to);
    }

    /// Offers the free slots of a destination to the flows that asked for one: each in turn, and more
    /// often the more it weighs.
    pub(super) fn grant(&mut self, to: usize) {
        let (now, per_destination) = (self.now, self.limits.per_destination);
        loop {
            let Some(place) = &mut self.places[to] else { return };
            if !place.has_slot(now, per_destination) {
                return;
            }
            let Some((pass, at)) = place.line.pop_first() else { return };
            let only_over = place.is_resting(now);
            let Some(flow) = &mut self.flows[at] else { continue };
            flow.stage = Stage::Idle;
            if flow.pick(now, only_over).is_none() {
                self.review(at);
                continue;
            }
            let share = flow.share;
            let over = flow.is_over(now);
            let admitted = !over && self.shares.admit(share, now);
            if !over && !admitted {
                self.hold_back(at, share);
                continue;
            }
            flow.stage = Stage::Offered { admitted };
            flow.pass = pass + flow.stride;
            place.pass = pass;
            place.offered += 1;
            self.shares.offer(share, at);
        }
    }

    /// The flow's class may not go on now.
    fn hold_back(&mut self, at: usize, share: ShareId) {
        if let Some(flow) = &mut self.flows[at] {
            flow.stage = Stage::HeldBack;
        }
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
        self.shares.park(share, at);
        self.grant(to);
    }

    /// Gives back what was promised to a flow with an offer, but for the offer itself.
    fn withdraw(&mut self, share: ShareId, at: usize) -> usize {
        let Some(flow) = &mut self.flows[at] else { return usize::MAX };
        let stage = std::mem::replace(&mut flow.stage, Stage::Idle);
        let to = flow.place;
        if let Some(place) = &mut self.places[to] {
            place.offered = place.offered.saturating_sub(1);
        }
        if stage == (Stage::Offered { admitted: true }) {
            self.shares.refund(share);
            self.look_again_if_held_back(share);
        }
        to
    }

    pub(super) fn take_from(&mut self, share: ShareId, at: usize) -> Option<Taken> {
        let now = self.now;
        let flow = self.flows[at].as_mut()?;
        let to = flow.place;
        let place = self.places[to].as_mut()?;
        let admitted = flow.stage == (Stage::Offered { admitted: true });
        let resting = place.is_resting(now);
        let Some(job) = flow.pick(now, resting || !admitted) else {
            self.withdraw(share, at);
            self.review(at);
            self.grant(to);
            return None;
        };
        // The slot was offered a while ago: rate and windows are asked when the attempt begins.
        if admitted && !self.shares.enter(share, now) {
            flow.stage = Stage::Idle;
            place.offered = place.offered.saturating_sub(1);
            self.hold_back(at, share);
            self.grant(to);
            return None;
        }
        flow.stage = Stage::Idle;
        place.offered = place.offered.saturating_sub(1);
        place.in_flight += 1;
        let destination = place.name.clone();
        let rests = place.rest.as_ref().filter(|_| resting).map(|rest| rest.until);
        let not_before = match admitted && !resting {
            true => None,
            false => rests.max(self.shares.out_of_turn(share, now)).max(Some(now)),
        };
        self.in_flight += 1;
        self.shares.begin(share);
        self.look_again_if_held_back(share);
        let expires = self.remove(job).map_or(Timestamp(u64::MAX), |slot| slot.expires);
        self.review(at);
        self.grant(to);
        Some(Taken { job, destination, share, expires, not_before })
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
        self.grant(to);
        self.forget_if_idle(to);
    }

    fn set_timer(&mut self, at: usize, time: Option<Timestamp>) {
        if let (Some(flow), Some(time)) = (&mut self.flows[at], time) {
            flow.timer = Some(time);
            self.timers.insert((time, Timer::Flow(at)));
        }
    }
}
