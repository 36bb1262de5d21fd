//! What an attempt keeps to because of others that go to the same site: slots, connections, recipients.

use std::ops::ControlFlow;

use tokio::time::{Instant, sleep};
use waypost_mail::{NextHop, Outcome, Route, Why};

use super::trust::Found;
use super::{Attempt, Fate};
use crate::connection::Connection;
use crate::demand::Demand;
use crate::dials::Leave;
use crate::pool::Key;

impl Attempt<'_> {
    /// Tells the queue what stands behind the destination. False when there is no room left there, which
    /// nobody knew before: all `members` wait in line then.
    pub(super) fn enters(
        &mut self,
        route: &Route,
        hop: &NextHop,
        found: &Found,
        members: &[usize],
    ) -> bool {
        let config = &self.delivery.config;
        let (site, allowance) = config.providers.site(route, hop, &found.exchangers);
        self.allowance = allowance.unwrap_or(config.allowance);
        let site = site.filter(|_| route.hops.first() == Some(hop));
        self.site = site.as_ref().map(|site| site.name.clone());
        let queue = &self.delivery.parts.queue;
        if site.is_none_or(|site| queue.belongs(self.ticket, &site)) {
            return true;
        }
        for index in self.open(members.iter().copied()) {
            self.fates[index] = Some(Fate::InLine);
        }
        false
    }

    /// Waits until the site may get one more connection; answers with one that became idle meanwhile.
    /// Breaks when that takes too long: all `members` are tried later then.
    pub(super) async fn line_up(
        &mut self,
        key: &Key,
        demand: &Demand,
        members: &[usize],
    ) -> ControlFlow<(), Option<Connection>> {
        let Some(rate) = self.allowance.connection_rate else {
            return ControlFlow::Continue(None);
        };
        let site = self.site.as_deref().unwrap_or(&self.ticket.destination);
        match self.delivery.dials.ask(site, rate, Instant::now()) {
            Leave::In(wait) if wait.is_zero() => ControlFlow::Continue(None),
            Leave::In(wait) => {
                sleep(wait).await;
                ControlFlow::Continue(self.delivery.pool.take(key, demand).await)
            }
            Leave::NotBefore(wait) => {
                let at = self.delivery.parts.clock.now().after(wait);
                for index in self.open(members.iter().copied()) {
                    self.fates[index] = Some(Fate::Postponed(at));
                }
                ControlFlow::Break(())
            }
        }
    }

    /// Tells the schedule how the destination and its site fare; that something was delivered it sees
    /// itself.
    pub(super) fn report(&self) {
        let (queue, destination) = (&self.delivery.parts.queue, &self.ticket.destination);
        self.report_rest();
        let mut outcomes = self.fates.iter().flatten().filter_map(|fate| match fate {
            Fate::Tried(outcome) => Some(outcome),
            _ => None,
        });
        if outcomes.clone().any(|outcome| matches!(outcome, Outcome::Delivered { .. })) {
            return;
        }
        let unreached = outcomes.find_map(|outcome| match outcome {
            Outcome::Deferred(why) => Some(why),
            _ => None,
        });
        match (&self.trouble, unreached) {
            (Some(trouble), _) => queue.troubled(destination, trouble.clone()),
            _ if self.answered => queue.answered(destination),
            // A lane has mail for many: that one next hop is away says nothing about the others.
            _ if self.ticket.route.lane.is_some() || self.unprepared => {}
            (None, Some(why)) if is_about_hosts(why) => queue.rest(destination, why.to_string()),
            (None, Some(why)) => queue.rest_alone(destination, why.to_string()),
            (None, None) => {}
        }
    }

    /// Where one way is the only one, everything that shares it waits until it has rested. With other
    /// addresses of ours, other smart hosts, or in a lane that has mail for many, other mail may go on.
    fn report_rest(&self) {
        let Some(until) = self.rest else { return };
        let route = &self.ticket.route;
        if route.lane.is_none() && route.source.is_none() && route.hops.len() == 1 {
            let left = until.since(self.delivery.parts.clock.now());
            let why = "too much mail from here".to_owned();
            self.delivery.parts.queue.pause_site(&self.ticket.destination, left, why);
        }
    }
}

/// Nobody could speak to the hosts, whatever domain the mail is for.
fn is_about_hosts(why: &Why) -> bool {
    if let Why::Diagnosed { why, .. } = why {
        return is_about_hosts(why);
    }
    matches!(
        why,
        Why::Unreachable { .. }
            | Why::TimedOut { .. }
            | Why::ConnectionLost { .. }
            | Why::ProtocolError { .. }
            | Why::Refused { .. }
    )
}
