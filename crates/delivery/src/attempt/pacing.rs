//! What an attempt keeps to because of others that go to the same site: slots, connections, recipients.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};
use waypost_mail::{NextHop, Outcome, Route, Timestamp, Why};
use waypost_queue::{Rate, Site};

use super::trust::Found;
use super::{Attempt, Fate};
use crate::connection::Connection;
use crate::demand::Demand;
use crate::dials::{self, LONGEST_WAIT};
use crate::pool::Key;
use crate::seats::Seat;
use crate::sites::Known;

/// Between two looks at a rate.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
/// A shorter wait for a connection is not told of.
const WORTH_TELLING: Duration = Duration::from_millis(100);
/// How long the answer to QUIT is waited for when the connection makes room for another.
const LONGEST_FAREWELL: Duration = Duration::from_secs(2);

/// A connection may be used.
pub(super) struct Leave {
    /// This one, or else a new one.
    pub(super) idle: Option<Connection>,
    /// By which its provider counts a new one, if it has one.
    pub(super) seat: Option<Seat>,
}

impl Attempt<'_> {
    /// Tells the queue what stands behind the destination. False when there is no room left there: all
    /// `members` wait then.
    pub(super) async fn enters(
        &mut self,
        route: &Route,
        hop: &NextHop,
        found: &Found,
        members: &[usize],
    ) -> bool {
        let delivery = self.delivery;
        let config = &delivery.config;
        let (site, known) = config.providers.site(hop, &found.exchangers);
        self.allowance = known.map_or(config.allowance, Known::allowance);
        self.seats = known.map(|known| known.seats.clone());
        self.site = site.as_ref().map(|site| site.name.clone());
        let Some(site) = site else { return true };
        // A lane has mail for many, and the queue counts an attempt for the first host of its route.
        let elsewhere = route.lane.is_some() || route.hops.first() != Some(hop);
        let waits = match elsewhere {
            true if known.is_none() => None,
            true => self.charged(&site).await.err().map(Some),
            false if delivery.parts.queue.belongs(self.ticket, &site) => None,
            false => Some(None),
        };
        let Some(until) = waits else { return true };
        self.tell_of(&site, until);
        self.wait_for_room(members, || until.map_or(Fate::InLine, Fate::Postponed));
        false
    }

    /// There is no room at a site, or not before a moment.
    fn tell_of(&mut self, site: &Site, until: Option<Timestamp>) {
        let name = &site.name;
        let limit = if until.is_some() { "site-rate" } else { "site" };
        self.log.waits(limit, name, Duration::ZERO, || match until {
            Some(until) => format!("the rate of {name}, which gives leave at {until}"),
            None => {
                format!("the limits of {name}, whose hosts these turned out to be: back into line")
            }
        });
    }

    fn wait_for_room(&mut self, members: &[usize], fate: impl Fn() -> Fate) {
        for index in self.open(members.iter().copied()) {
            self.fates[index] = Some(fate());
        }
    }

    /// Counts the attempt for the rate of a provider to which its destination does not belong, as soon as
    /// there is leave; or says when there is, if that takes long.
    async fn charged(&mut self, site: &Site) -> Result<(), Timestamp> {
        let delivery = self.delivery;
        let (queue, clock) = (&delivery.parts.queue, &delivery.parts.clock);
        let began = Instant::now();
        loop {
            let Err(until) = queue.charge(site) else { return Ok(()) };
            let wait = until.since(clock.now());
            if began.elapsed() + wait > LONGEST_WAIT {
                return Err(until);
            }
            let name = &site.name;
            self.log.waits("site-rate", name, wait, || format!("the rate of {name}"));
            sleep(wait.max(SHORTEST_WAIT)).await;
        }
    }

    /// Waits until there may be one more connection; answers with leave for it, or with one that became
    /// idle meanwhile. Breaks when that takes too long: all `members` are tried later then.
    pub(super) async fn line_up(
        &mut self,
        key: &Key,
        demand: &Demand,
        members: &[usize],
    ) -> ControlFlow<(), Leave> {
        let since = self.log.elapsed();
        let seat = self.seat().await;
        self.tell_of_seat(since);
        let Ok(seat) = seat else {
            let at = self.delivery.parts.clock.now().after(LONGEST_WAIT);
            self.wait_for_room(members, || Fate::Postponed(at));
            return ControlFlow::Break(());
        };
        let Some(rate) = self.allowance.connection_rate else {
            return ControlFlow::Continue(Leave { idle: None, seat });
        };
        let site = self.site.as_deref().unwrap_or(&self.ticket.destination);
        match self.delivery.dials.ask(site, rate, Instant::now()) {
            dials::Leave::In(wait) if wait.is_zero() => {
                ControlFlow::Continue(Leave { idle: None, seat })
            }
            dials::Leave::In(wait) => {
                self.log.waits("connection-rate", site, wait, || words(site, rate));
                sleep(wait).await;
                let idle = self.delivery.pool.take(key, demand).await;
                ControlFlow::Continue(Leave { idle, seat })
            }
            dials::Leave::NotBefore(wait) => {
                let at = self.delivery.parts.clock.now().after(wait);
                self.log.waits("connection-rate", site, Duration::ZERO, || {
                    format!("{}, which gives leave at {at}", words(site, rate))
                });
                self.wait_for_room(members, || Fate::Postponed(at));
                ControlFlow::Break(())
            }
        }
    }

    /// The attempt has waited since then for leave to connect.
    fn tell_of_seat(&mut self, since: Duration) {
        let site = self.site.as_deref().unwrap_or(&self.ticket.destination);
        let took = self.log.elapsed().saturating_sub(since);
        if took >= WORTH_TELLING {
            self.log.waited("connections", site, took, || {
                format!("the limit of connections to {site}, those included that were idle")
            });
        }
    }

    /// Leave for a connection where there may be so many: an idle one makes room, or one that ends.
    async fn seat(&self) -> Result<Option<Seat>, Elapsed> {
        let Some(seats) = &self.seats else { return Ok(None) };
        if let Some(seat) = seats.take() {
            return Ok(Some(seat));
        }
        let claim = seats.claim();
        while let Some(idle) = self.delivery.pool.make_room(seats) {
            // It is gone in either case.
            let _ = timeout(LONGEST_FAREWELL, idle.quit()).await;
            if let Some(seat) = seats.take() {
                return Ok(Some(seat));
            }
        }
        timeout(LONGEST_WAIT, claim.wait()).await
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

fn words(site: &str, Rate { count, per }: Rate) -> String {
    format!("the rate of new connections to {site} ({count} in {per:?})")
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
