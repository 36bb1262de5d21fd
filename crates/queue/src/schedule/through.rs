//! Attempts that begin without having waited: of mail that is to go through at once or not at all.

use waypost_mail::Timestamp;
use waypost_mutant::planted;

use super::{Lane, Schedule, ShareId};

impl Schedule {
    /// A slot of a destination for an attempt that begins now, as [`Schedule::take`] gives it: to be given
    /// back by [`Schedule::done`]. None where others wait for one, or for leave of the class, or it rests, or
    /// has just been in trouble, or a limit is reached: of the destination, what stands behind it, the
    /// class, the tenant, or all attempts.
    pub(crate) fn go_through(&mut self, lane: Lane<'_>, now: Timestamp) -> Option<ShareId> {
        self.advance(now);
        let to = self.place(lane.destination);
        let share = self.shares.attach(lane);
        // Leave goes to who has waited for it, whatever destination that is for.
        let waits = self.shares.count_held_back(self.shares.class_of(share)) > 0;
        let begun = !waits
            && self.is_free(to)
            && self.shares.has_room(share, self.free())
            && self.has_leave(share, now);
        if begun {
            self.in_flight += 1;
            self.shares.begin(share);
            self.begin_at(to);
        }
        // Nothing of it waits here.
        self.shares.detach(share);
        self.forget_if_idle(to);
        begun.then_some(share)
    }

    fn has_leave(&mut self, share: ShareId, now: Timestamp) -> bool {
        planted!("what goes through needs no leave")
            || (self.shares.admit(share, now) && self.shares.enter(share, now))
    }

    fn begin_at(&mut self, to: usize) {
        let (now, at) = (self.now, self.site_of(to));
        if let Some(place) = self.places.get_mut(to).and_then(Option::as_mut) {
            place.in_flight += 1;
        }
        if let Some(site) = self.sites.get_mut(at).and_then(Option::as_mut) {
            site.in_flight += 1;
            site.spend(now);
        }
    }

    /// The destination and its site are well, and nobody stands in line for them.
    fn is_free(&mut self, to: usize) -> bool {
        let (now, at, free) = (self.now, self.site_of(to), self.free());
        if free == 0 || self.rests(to) {
            return false;
        }
        let place = self.places.get(to).and_then(Option::as_ref);
        let site = self.sites.get_mut(at).and_then(Option::as_mut);
        let Some((place, site)) = place.zip(site) else { return false };
        let well = place.failures == 0 && site.failures == 0;
        let alone = place.line.is_empty() && site.line.is_empty();
        well && alone && place.has_slot(now) && site.has_slot() && site.opens(now) <= now
    }
}
