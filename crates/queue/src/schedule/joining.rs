//! A destination turns out to belong to a site that others share.

use std::sync::Arc;

use waypost_mail::Timestamp;

use super::directory::Before;
use super::flow::Stage;
use super::{Schedule, ShareId};
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

    /// An attempt begins at a site to which its destination does not belong: it counts for the rate there. The
    /// error says when to ask again, there being no leave now.
    pub(crate) fn charge(&mut self, site: &Site, now: Timestamp) -> Result<(), Timestamp> {
        if site.limits.unwrap_or(self.limits.site).rate.is_none() {
            return Ok(());
        }
        self.advance(now);
        let at = self.shared_site(site);
        let Some(site) = self.sites.get_mut(at).and_then(Option::as_mut) else { return Ok(()) };
        let opens = site.opens(now);
        if opens <= now {
            site.spend(now);
        }
        self.forget_site_if_idle(at);
        if opens > now { Err(opens) } else { Ok(()) }
    }

    /// Moves a destination with its flows and slots from one site to another.
    fn move_to(&mut self, at: usize, from: usize, to: usize) {
        let Some(place) = self.places.get_mut(at).and_then(Option::as_mut) else { return };
        let (in_flight, offered) = (place.in_flight, place.offered);
        let enrolled = place.enrolled.take();
        place.site = to;
        let mut passes = (0, 0);
        let flows: Vec<usize> = place.flows.values().copied().collect();
        let shares: Vec<ShareId> = place.flows.keys().copied().collect();
        if let Some(site) = self.sites.get_mut(from).and_then(Option::as_mut) {
            if let Some(pass) = enrolled {
                site.line.remove(&(pass, at));
            }
            flows.iter().for_each(|flow| {
                site.over.remove(flow);
            });
            shares.iter().for_each(|share| site.leave(*share));
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
        for flow in flows {
            let Some(flow) = self.flows.get_mut(flow).and_then(Option::as_mut) else { continue };
            flow.pass = stands(flow.pass);
            if let Some(site) = self.sites.get_mut(to).and_then(Option::as_mut) {
                let behind = (flow.stage == Stage::Queued).then(|| flow.pass + flow.stride);
                site.come(flow.share, behind);
            }
        }
        self.forget_site_if_idle(from);
        self.review_place(at);
    }
}

#[cfg(test)]
mod tests;
