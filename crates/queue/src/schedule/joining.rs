//! A destination turns out to belong to a site that others share.

use std::sync::Arc;

use waypost_mail::Timestamp;

use super::Schedule;
use super::directory::Before;
use crate::Site;

impl Schedule {
    /// An attempt for the destination found out what stands behind it. From now on it shares the slots, the
    /// rate and the rests of that site. False when the attempt would be one too many there: nobody knew
    /// when it began.
    pub(crate) fn join(&mut self, destination: &str, site: &Arc<Site>, now: Timestamp) -> bool {
        self.advance(now);
        let before = self.directory.learn(destination, site);
        let Some((at, place)) = self.known(destination) else { return true };
        let from = place.site;
        let to = self.shared_site(site);
        if from == to {
            return true;
        }
        self.move_to(at, from, to);
        let Some(site) = self.sites.get_mut(to).and_then(Option::as_mut) else { return true };
        // Who belonged elsewhere before goes on: what is found out anew at each attempt must not keep it
        // from ever being made.
        let crowded =
            site.is_resting(now) || site.in_flight > site.slots() || site.opens(now) > now;
        if before == Before::Nothing && crowded {
            return false;
        }
        site.spend(now);
        true
    }

    /// Moves a destination with its flows and slots from one site to another.
    fn move_to(&mut self, at: usize, from: usize, to: usize) {
        let Some(place) = self.places.get_mut(at).and_then(Option::as_mut) else { return };
        let (in_flight, offered) = (place.in_flight, place.offered);
        let enrolled = place.enrolled.take();
        place.site = to;
        let mut passes = (0, 0);
        if let Some(site) = self.sites.get_mut(from).and_then(Option::as_mut) {
            if let Some(pass) = enrolled {
                site.line.remove(&(pass, at));
            }
            place.flows.values().for_each(|flow| {
                site.over.remove(flow);
            });
            site.members.remove(&at);
            site.in_flight = site.in_flight.saturating_sub(in_flight);
            site.offered = site.offered.saturating_sub(offered);
            passes.0 = site.pass;
        }
        if let Some(site) = self.sites.get_mut(to).and_then(Option::as_mut) {
            site.members.insert(at);
            site.in_flight += in_flight;
            site.offered += offered;
            passes.1 = site.pass;
        }
        // It stands in the new line as far behind its head as it stood in the old one.
        let stands = |pass: u64| passes.1.saturating_add(pass.saturating_sub(passes.0));
        place.line = place.line.iter().map(|(pass, flow)| (stands(*pass), *flow)).collect();
        for flow in place.flows.values() {
            if let Some(flow) = self.flows.get_mut(*flow).and_then(Option::as_mut) {
                flow.pass = stands(flow.pass);
            }
        }
        self.forget_site_if_idle(from);
        self.review_place(at);
    }
}

#[cfg(test)]
mod tests;
