//! What held flows back, kept for as long as something of them is due: a few spans for each, without a name
//! in them. Names are looked up when a job is handed out that waited.

use std::time::Duration;

use waypost_mail::Timestamp;

use super::{Schedule, ShareId};
use crate::held::{Held, Limit};

/// Spans remembered of one flow; of more the oldest are forgotten.
const MAX_SPANS: usize = 8;
/// Who waited for less was not held back.
const SHORTEST: Duration = Duration::from_millis(100);

/// Why a flow gets nothing handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its destination rests.
    Rest,
    /// What stands behind that does.
    SiteRest,
    /// It stands in line; what for is known when it leaves it.
    Line,
    /// Policy's limit of its destination.
    Slots,
    /// Its destination is tried once at a time.
    Probe,
    /// The slots of its site.
    SiteSlots,
    /// The rate of its site.
    SiteRate,
    /// Its class.
    Class,
    /// Its tenant has more than its part.
    Tenant,
    /// All attempts.
    Turn,
}

/// What held a flow back, and what does so now.
#[derive(Debug, Default)]
pub(super) struct Diary {
    now: Option<(Cause, Timestamp)>,
    past: Vec<Span>,
}

/// From when until when something held a flow back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    cause: Cause,
    since: Timestamp,
    until: Timestamp,
}

impl Diary {
    /// From now on this holds the flow back, or nothing does.
    pub(super) fn turn(&mut self, cause: Option<Cause>, now: Timestamp) {
        if self.now.map(|(known, _)| known) == cause {
            return;
        }
        let before = std::mem::replace(&mut self.now, cause.map(|cause| (cause, now)));
        let Some((cause, since)) = before.filter(|(_, since)| *since < now) else { return };
        match self.past.last_mut() {
            Some(last) if last.cause == cause && last.until == since => last.until = now,
            _ => {
                if self.past.len() >= MAX_SPANS {
                    self.past.remove(0);
                }
                self.past.push(Span { cause, since, until: now });
            }
        }
    }

    /// It stands in line no more, where this kept it.
    pub(super) fn leave_line(&mut self, cause: Cause) {
        if let Some((known @ Cause::Line, _)) = &mut self.now {
            *known = cause;
        }
    }

    /// Forgets what was over before this moment: nothing here has waited for so long.
    fn forget_before(&mut self, moment: Option<Timestamp>) {
        match moment {
            Some(moment) => self.past.retain(|span| span.until > moment),
            None => self.past.clear(),
        }
    }

    /// What held back something that is due since `due`.
    fn since(&self, due: Timestamp) -> impl Iterator<Item = Span> + '_ {
        let spans = self.past.iter().map(move |span| Span { since: span.since.max(due), ..*span });
        spans.filter(|span| span.until.since(span.since) >= SHORTEST)
    }
}

impl Schedule {
    /// From now on this holds a flow back, or nothing does.
    pub(super) fn hold(&mut self, at: usize, cause: Option<Cause>) {
        let now = self.now;
        if let Some(flow) = self.flows.get_mut(at).and_then(Option::as_mut) {
            flow.diary.turn(cause, now);
        }
    }

    /// A flow has left the line of its destination: what kept it there is known now.
    pub(super) fn leave_line(&mut self, at: usize, to: usize) {
        let Some(place) = self.places.get_mut(to).and_then(Option::as_mut) else { return };
        let site = self.sites.get(place.site).and_then(Option::as_ref);
        let cause = place.full.take().or(site.map(|site| site.full)).unwrap_or(Cause::SiteSlots);
        if let Some(flow) = self.flows.get_mut(at).and_then(Option::as_mut) {
            flow.diary.leave_line(cause);
        }
    }

    /// What held back a job of this flow that was due at `due` and is handed out now.
    pub(super) fn held(&mut self, at: usize, due: Timestamp) -> Vec<Held> {
        let Some(flow) = self.flows.get(at).and_then(Option::as_ref) else { return Vec::new() };
        let (to, share) = (flow.place, flow.share);
        let spans: Vec<Span> = flow.diary.since(due).collect();
        let held = spans.into_iter().filter_map(|span| {
            let by = self.limit_of(span.cause, to, share)?;
            Some(Held { by, since: span.since, until: span.until })
        });
        let held = held.collect();
        if let Some(flow) = self.flows.get_mut(at).and_then(Option::as_mut) {
            let earliest = flow.next(false);
            flow.diary.forget_before(earliest);
        }
        held
    }

    fn limit_of(&self, cause: Cause, to: usize, share: ShareId) -> Option<Limit> {
        let place = self.places.get(to)?.as_ref()?;
        let site = self.sites.get(place.site)?.as_ref()?;
        Some(match cause {
            Cause::Rest => Limit::Rest(place.name.clone()),
            Cause::SiteRest => Limit::SiteRest(site.name.clone()),
            Cause::Slots => Limit::Slots(place.name.clone()),
            Cause::Probe => Limit::Probe(place.name.clone()),
            Cause::Line | Cause::SiteSlots => Limit::SiteSlots(site.name.clone()),
            Cause::SiteRate => Limit::SiteRate(site.name.clone()),
            Cause::Class => Limit::Class(self.shares.class_name(share).to_owned()),
            Cause::Tenant => Limit::Tenant(self.shares.tenant(share)?),
            Cause::Turn => Limit::Turn,
        })
    }
}

#[cfg(test)]
mod tests;
