//! One destination: the flows that lead to it, and what keeps it alone from being tried. What keeps all that
//! share its hosts is kept with their [site](super::site).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use waypost_mail::Timestamp;

use super::held::Cause;
use super::share::ShareId;
use super::site::SiteState;

/// One destination.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) name: Arc<str>,
    /// What stands behind it.
    pub(super) site: usize,
    /// Its flows by share.
    pub(super) flows: BTreeMap<ShareId, usize>,
    /// Flows that want a slot, by their place in line.
    pub(super) line: BTreeSet<(u64, usize)>,
    /// Its own place in the line of its site.
    pub(super) enrolled: Option<u64>,
    /// Recipients, jobs that are only in the spool included.
    pub(super) waiting: i64,
    pub(super) in_flight: usize,
    /// Slots promised to flows that wait for their turn.
    pub(super) offered: usize,
    /// Failures in a row that were no fault of its hosts.
    pub(super) failures: u32,
    pub(super) rest: Option<Rest>,
    pub(super) limit: Option<Limit>,
    pub(super) timer: Option<Timestamp>,
    /// It had no slot of its own for a flow in line, for this reason, since one had the last.
    pub(super) full: Option<Cause>,
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
    /// Attempts at once, for all destinations of its site together.
    pub(crate) slots: usize,
    /// Its site, if that is known.
    pub(crate) site: Option<Arc<str>>,
    pub(crate) resting_until: Option<Timestamp>,
    pub(crate) why: Option<String>,
    pub(crate) limit: Option<Limit>,
    pub(crate) next_due: Option<Timestamp>,
}

impl Place {
    pub(super) fn new(name: Arc<str>, site: usize) -> Place {
        Place {
            name,
            site,
            flows: BTreeMap::new(),
            line: BTreeSet::new(),
            enrolled: None,
            waiting: 0,
            in_flight: 0,
            offered: 0,
            failures: 0,
            rest: None,
            limit: None,
            timer: None,
            full: None,
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

    /// After a failure one job at a time finds out whether the destination is well again.
    pub(super) fn has_slot(&self, now: Timestamp) -> bool {
        self.in_flight + self.offered < self.most(now)
    }

    /// How many slots it may have of those of its site.
    pub(super) fn most(&self, now: Timestamp) -> usize {
        let most = self.limit(now).map_or(usize::MAX, |limit| limit.most);
        if self.failures > 0 { 1 } else { most }
    }

    pub(super) fn is_idle(&self) -> bool {
        let advised = self.rest.as_ref().is_some_and(|rest| rest.advised);
        self.flows.is_empty()
            && self.in_flight == 0
            && self.waiting == 0
            && !advised
            && self.limit.is_none()
    }

    pub(super) fn view(
        &self,
        site: &SiteState,
        now: Timestamp,
        next_due: Option<Timestamp>,
    ) -> View {
        let own = self.rest.as_ref().filter(|_| self.is_resting(now));
        let shared = site.rest.as_ref().filter(|_| site.is_resting(now));
        let rest = own.into_iter().chain(shared).max_by_key(|rest| rest.until);
        View {
            name: self.name.clone(),
            waiting: usize::try_from(self.waiting).unwrap_or_default(),
            in_flight: self.in_flight,
            slots: site.slots(),
            site: site.shared.then(|| site.name.clone()),
            resting_until: rest.map(|rest| rest.until),
            why: rest.map(|rest| rest.why.clone()),
            limit: self.limit(now),
            next_due,
        }
    }
}
