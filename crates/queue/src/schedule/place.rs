//! One destination: its jobs, its slots, its rest.

use std::collections::BTreeSet;
use std::sync::Arc;

use waypost_mail::Timestamp;

use super::Job;
use waypost_mutant::planted;

/// One destination.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) name: Arc<str>,
    pub(super) due: BTreeSet<(Timestamp, Job)>,
    pub(super) expiry: BTreeSet<(Timestamp, Job)>,
    /// Recipients, jobs that are only in the spool included.
    pub(super) waiting: i64,
    pub(super) in_flight: usize,
    pub(super) failures: u32,
    pub(super) rest: Option<Rest>,
    pub(super) limit: Option<Limit>,
    pub(super) timer: Option<Timestamp>,
    pub(super) enrolled: bool,
    pub(super) missing: Option<Missing>,
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

/// The earliest moments among the jobs that are only in the spool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Missing {
    pub(super) due: Timestamp,
    pub(super) expiry: Timestamp,
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
            due: BTreeSet::new(),
            expiry: BTreeSet::new(),
            waiting: 0,
            in_flight: 0,
            failures: 0,
            rest: None,
            limit: None,
            timer: None,
            enrolled: false,
            missing: None,
        }
    }

    /// A rest that begins in the future was begun before the clock fell: it is over.
    pub(super) fn is_resting(&self, now: Timestamp) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.since <= now && now < rest.until)
    }

    /// What policy asked for, while that stands; as with a rest, not after the clock fell.
    pub(super) fn limit(&self, now: Timestamp) -> Option<Limit> {
        self.limit.filter(|limit| limit.since <= now && now < limit.until)
    }

    /// After a failure one job at a time finds out whether the destination is well again.
    pub(super) fn has_slot(&self, now: Timestamp, per_destination: usize) -> bool {
        let most = self.limit(now).map_or(per_destination, |limit| limit.most.min(per_destination));
        let most = most + usize::from(planted!("an attempt too many for a destination"));
        self.in_flight < if self.failures > 0 { 1 } else { most }
    }

    /// What to hand out now. While the destination rests, only what is over.
    pub(super) fn pick(&self, now: Timestamp, per_destination: usize) -> Option<Job> {
        if !self.has_slot(now, per_destination) {
            return None;
        }
        let order = if self.is_resting(now) { &self.expiry } else { &self.due };
        order.first().filter(|(time, _)| *time <= now).map(|(_, job)| *job)
    }

    /// When there may be something to hand out from memory.
    pub(super) fn next(&self, now: Timestamp, per_destination: usize) -> Option<Timestamp> {
        if !self.has_slot(now, per_destination) {
            return None;
        }
        let first = |order: &BTreeSet<(Timestamp, Job)>| order.first().map(|(time, _)| *time);
        match &self.rest {
            Some(rest) if self.is_resting(now) => {
                Some(first(&self.expiry).map_or(rest.until, |expiry| expiry.min(rest.until)))
            }
            _ => first(&self.due),
        }
    }

    /// When something that is only in the spool is due.
    pub(super) fn next_missing(&self, now: Timestamp) -> Option<Timestamp> {
        let resting = self.is_resting(now);
        self.missing.map(|missing| if resting { missing.expiry } else { missing.due })
    }

    pub(super) fn is_idle(&self) -> bool {
        let advised = self.rest.as_ref().is_some_and(|rest| rest.advised);
        self.due.is_empty()
            && self.in_flight == 0
            && self.waiting == 0
            && !self.enrolled
            && !advised
            && self.limit.is_none()
    }

    pub(super) fn view(&self, now: Timestamp) -> View {
        let rest = self.rest.as_ref().filter(|_| self.is_resting(now));
        View {
            name: self.name.clone(),
            waiting: usize::try_from(self.waiting).unwrap_or_default(),
            in_flight: self.in_flight,
            resting_until: rest.map(|rest| rest.until),
            why: rest.map(|rest| rest.why.clone()),
            limit: self.limit(now),
            next_due: self.due.first().map(|(due, _)| *due),
        }
    }
}
