//! What stands behind destinations, seen by the schedule: its slots, its rest, and who stands in line.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use waypost_mail::Timestamp;
use waypost_mutant::planted;

use super::bucket::Bucket;
use super::held::Cause;
use super::place::Rest;
use super::share::ShareId;
use super::width::Width;
use crate::SiteLimits;

/// Where a share stands in the line of a site.
#[derive(Debug, Default)]
struct Standing {
    /// Its flows that lead to the site.
    flows: usize,
    /// Where the next of them stands, unless the line has gone further.
    next: u64,
}

/// The hosts of one destination, or of many that share them.
#[derive(Debug)]
pub(super) struct SiteState {
    pub(super) name: Arc<str>,
    /// Somebody said that destinations belong to it; otherwise it is of one alone, of which nobody knows
    /// more.
    pub(super) shared: bool,
    /// Its destinations.
    pub(super) members: BTreeSet<usize>,
    /// Destinations that have a slot of their own for a flow in line, by the place of that flow.
    pub(super) line: BTreeSet<(u64, usize)>,
    /// Flows in line of which something is over, while attempts are counted by a rate: that does not wait
    /// for leave.
    pub(super) over: BTreeSet<usize>,
    /// The place in line of whoever had the last slot: who comes new stands there.
    pub(super) pass: u64,
    /// Shares with flows that lead here: each stands in line once, so to speak, for however many
    /// destinations it has mail.
    shares: HashMap<ShareId, Standing>,
    pub(super) in_flight: usize,
    /// Slots promised to flows that wait for their turn.
    pub(super) offered: usize,
    /// Failures in a row.
    pub(super) failures: u32,
    pub(super) rest: Option<Rest>,
    pub(super) timer: Option<Timestamp>,
    /// Why nobody in line had a slot the last time that it was so.
    pub(super) full: Cause,
    width: Width,
    at_once: usize,
    pub(super) bucket: Option<Bucket>,
}

impl SiteState {
    pub(super) fn new(name: Arc<str>, shared: bool, limits: SiteLimits) -> SiteState {
        let at_once = limits.at_once.max(1);
        SiteState {
            name,
            shared,
            members: BTreeSet::new(),
            line: BTreeSet::new(),
            over: BTreeSet::new(),
            pass: 0,
            shares: HashMap::new(),
            in_flight: 0,
            offered: 0,
            failures: 0,
            rest: None,
            timer: None,
            full: Cause::SiteSlots,
            width: Width::new(limits.first.min(at_once)),
            at_once,
            bucket: limits.rate.map(Bucket::new),
        }
    }

    /// A flow of the share leads here from now on; one that stands in line already has the next one of its
    /// share stand `behind`.
    pub(super) fn come(&mut self, share: ShareId, behind: Option<u64>) {
        let standing = self.shares.entry(share).or_default();
        standing.flows += 1;
        standing.next = standing.next.max(behind.unwrap_or_default());
    }

    /// A flow of the share leads here no more.
    pub(super) fn leave(&mut self, share: ShareId) {
        let Some(standing) = self.shares.get_mut(&share) else { return };
        standing.flows = standing.flows.saturating_sub(1);
        if standing.flows == 0 {
            self.shares.remove(&share);
        }
    }

    /// Where a flow of the share stands that asks for a slot: behind whoever had the last one, and behind
    /// the other flows of its share.
    pub(super) fn stand(&mut self, share: ShareId, stride: u64) -> u64 {
        let standing = self.shares.entry(share).or_default();
        let pass = standing.next.max(self.pass);
        standing.next = pass.saturating_add(stride);
        pass
    }

    /// The flow that stood there did not want a slot: the next one of its share stands there, if nobody of
    /// it is behind.
    pub(super) fn step_aside(&mut self, share: ShareId, pass: u64, stride: u64) {
        if let Some(standing) = self.shares.get_mut(&share)
            && standing.next == pass.saturating_add(stride)
        {
            standing.next = pass;
        }
    }

    /// A rest that begins in the future was begun before the clock fell: it is over.
    pub(super) fn is_resting(&self, now: Timestamp) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.since <= now && now < rest.until)
    }

    /// Attempts at once. After a failure one at a time finds out whether it is well again.
    pub(super) fn slots(&self) -> usize {
        let most = if self.failures > 0 { 1 } else { self.width.open().min(self.at_once) };
        most + usize::from(planted!("an attempt too many for a destination"))
    }

    pub(super) fn has_slot(&self) -> bool {
        self.in_flight + self.offered < self.slots()
    }

    /// The first moment from `now` on at which an attempt may be given leave to begin.
    pub(super) fn opens(&mut self, now: Timestamp) -> Timestamp {
        let promised = self.offered as f64;
        self.bucket.as_mut().map_or(now, |bucket| bucket.next(now, promised))
    }

    /// An attempt begins.
    pub(super) fn spend(&mut self, now: Timestamp) {
        if let Some(bucket) = &mut self.bucket {
            bucket.spend(1.0, now);
        }
    }

    /// The hosts answered; true when that changes what they get.
    pub(super) fn recover(&mut self) -> bool {
        if std::mem::take(&mut self.failures) > 0 {
            self.width.begin_again(self.in_flight);
            return true;
        }
        self.width.succeeded(self.in_flight + self.offered, self.at_once)
    }

    /// An attempt was too much for it.
    pub(super) fn trouble(&mut self) -> super::width::Trouble {
        self.width.troubled(self.in_flight)
    }

    /// Nothing is left of it that another site of the same name would not have.
    pub(super) fn is_idle(&mut self, now: Timestamp) -> bool {
        self.members.is_empty() && self.bucket.as_mut().is_none_or(|bucket| bucket.full(now) <= now)
    }

    /// When it is to be looked at again, from `now` on.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<Timestamp> {
        let rest = self.rest.as_ref().map(|rest| rest.until);
        let waits = !self.line.is_empty() && self.has_slot() && !self.is_resting(now);
        let opens = waits.then(|| self.opens(now)).filter(|opens| *opens > now);
        let left = self.members.is_empty();
        let forgotten = self.bucket.as_mut().filter(|_| left).map(|bucket| bucket.full(now));
        rest.into_iter().chain(opens).chain(forgotten).min()
    }
}
