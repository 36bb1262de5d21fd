//! One destination: its slots, its rest, and the flows that lead to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use waypost_mail::Timestamp;
use waypost_mutant::planted;

use super::share::ShareId;

/// One destination.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) name: Arc<str>,
    /// Its flows by share.
    pub(super) flows: BTreeMap<ShareId, usize>,
    /// Flows that want a slot, by their place in line.
    pub(super) line: BTreeSet<(u64, usize)>,
    /// The place of whoever had the last slot: who comes new stands there.
    pub(super) pass: u64,
    /// Recipients, jobs that are only in the spool included.
    pub(super) waiting: i64,
    pub(super) in_flight: usize,
    /// Slots promised to flows that wait for their turn.
    pub(super) offered: usize,
    pub(super) failures: u32,
    /// Slots since it became well again: two more than were in use then, twice as many with every answer.
    pub(super) ramp: usize,
    pub(super) rest: Option<Rest>,
    pub(super) limit: Option<Limit>,
    pub(super) timer: Option<Timestamp>,
}

#[derive(Debug)]
pub(super) struct Rest {
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
    pub(super) why: String,
    /// Policy asked for it: an answer of the destination does not end it.
    pub(super) advised: bool,
}

/// Policy asked for fewer attempts at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) most: usize,
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
}

/// A destination as seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) name: Arc<str>,
    pub(crate) waiting: usize,
    pub(crate) in_flight: usize,
    pub(crate) resting_until: Option<Timestamp>,
    pub(crate) why: Option<String>,
    pub(crate) limit: Option<Limit>,
    pub(crate) next_due: Option<Timestamp>,
}

impl Place {
    pub(super) fn new(name: Arc<str>) -> Place {
        Place {
            name,
            flows: BTreeMap::new(),
            line: BTreeSet::new(),
            pass: 0,
            waiting: 0,
            in_flight: 0,
            offered: 0,
            failures: 0,
            ramp: usize::MAX,
            rest: None,
            limit: None,
            timer: None,
        }
    }

    /// A rest that begins in the future was begun before the clock fell: it is over.
    pub(super) fn is_resting(&self, now: Timestamp) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.since <= now && now < rest.until)
    }

    /// The limit, while it stands. One from the future does not, as with rests.
    pub(super) fn limit(&self, now: Timestamp) -> Option<Limit> {
        self.limit.filter(|limit| limit.since <= now && now < limit.until)
    }

    /// After a failure one job at a time finds out whether the destination is well again; then slots
    /// open little by little, so that a backlog does not fall on it all at once.
    pub(super) fn has_slot(&self, now: Timestamp, per_destination: usize) -> bool {
        let most = self.most(now, per_destination);
        let most = most + usize::from(planted!("an attempt too many for a destination"));
        self.in_flight + self.offered < most
    }

    /// How many slots it has now.
    pub(super) fn most(&self, now: Timestamp, per_destination: usize) -> usize {
        let most = self.limit(now).map_or(per_destination, |limit| limit.most.min(per_destination));
        if self.failures > 0 { 1 } else { most.min(self.ramp) }
    }

    /// The destination answered; true when that changes what it gets.
    pub(super) fn recover(&mut self, per_destination: usize) -> bool {
        if std::mem::take(&mut self.failures) > 0 {
            self.ramp = self.in_flight + 2;
            return true;
        }
        let ramping = self.ramp < per_destination;
        self.ramp = if ramping { self.ramp * 2 } else { usize::MAX };
        ramping
    }

    pub(super) fn is_idle(&self) -> bool {
        let advised = self.rest.as_ref().is_some_and(|rest| rest.advised);
        self.flows.is_empty()
            && self.in_flight == 0
            && self.waiting == 0
            && !advised
            && self.limit.is_none()
    }

    pub(super) fn view(&self, now: Timestamp, next_due: Option<Timestamp>) -> View {
        let rest = self.rest.as_ref().filter(|_| self.is_resting(now));
        View {
            name: self.name.clone(),
            waiting: usize::try_from(self.waiting).unwrap_or_default(),
            in_flight: self.in_flight,
            resting_until: rest.map(|rest| rest.until),
            why: rest.map(|rest| rest.why.clone()),
            limit: self.limit(now),
            next_due,
        }
    }
}
