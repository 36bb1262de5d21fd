//! The laws, as far as they can be looked at from outside.

use super::{STANDINGS, Storm};
use crate::book::{Law, Lawful, demand};
use crate::relay::{IN_FLIGHT, PER_DESTINATION};
use crate::visit::DOMAINS;

impl Storm {
    pub(super) fn check(&mut self) -> Lawful {
        let Some(relay) = &self.relay else { return Ok(()) };
        let (leased, in_hand) = (relay.queue.metrics().leased.get(), self.book.in_hand());
        demand(Law::LeasesReturn, leased == in_hand as i64, || {
            format!("{leased} recipients are leased, {in_hand} are in hand")
        })?;
        let through = || self.passages.iter().map(|passage| passage.destination.as_str());
        let out =
            || self.attempts.iter().map(|attempt| attempt.destination.as_str()).chain(through());
        let count = out().count();
        demand(Law::Limits, count <= IN_FLIGHT, || format!("{count} tickets"))?;
        for domain in DOMAINS {
            let count = out().filter(|destination| *destination == domain).count();
            demand(Law::Limits, count <= PER_DESTINATION, || format!("{count} for {domain}"))?;
        }
        let version = self.ground.place.version();
        if version == self.checked || relay.spool.failure().is_some() {
            return Ok(());
        }
        self.checked = version;
        self.ground.disk.observe(|| self.book.check(&*relay.spool))?;
        self.ground.disk.observe(|| self.facts.check(&relay.spool, false))?;
        if self.book.hurt {
            return Ok(());
        }
        let truth = self.ground.disk.observe(|| self.book.standings(&*relay.spool));
        let told = self.selectors.iter().map(|selector| relay.queue.count(selector).recipients);
        let told: Vec<usize> = told.collect();
        demand(Law::ListsTell, told == truth, || {
            format!("{STANDINGS:?} are {truth:?}, lists say {told:?}")
        })
    }

    /// All is over, here and after another start.
    pub(super) async fn look_again(&mut self) -> Lawful {
        self.book.check_over()?;
        let Some(relay) = &self.relay else { return Ok(()) };
        let metrics = relay.queue.metrics();
        let counts = [metrics.waiting.get(), metrics.held.get(), metrics.leased.get()];
        demand(Law::LeasesReturn, counts == [0, 0, 0], || format!("counted: {counts:?}"))?;
        self.restart(true).await?;
        demand(Law::EverythingEnds, self.is_over(), || "mail came back".to_owned())
    }
}
