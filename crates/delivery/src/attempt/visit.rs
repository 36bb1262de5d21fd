//! A visit to one host: from one of our addresses, over a connection that waits or a new one, until it has
//! answered for everybody.

use std::ops::ControlFlow;
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use tracing::info;
use waypost_dns::Host;
use waypost_mail::{NextHop, Route, Why};
use waypost_queue::Ticket;
use waypost_smtp::client::{Credentials, Letter};

use super::answers::is_stale;
use super::pacing::Leave;
use super::trust::Found;
use super::{Attempt, label};
use crate::connection::{Connection, Failure, Wish};
use crate::demand::Demand;
use crate::pool::Key;
use crate::restraint::Way;
use crate::source::{NoSource, choose};
use crate::{Delivery, SourceAddress};

/// Sources of a pool that are tried at one host in one attempt.
const MAX_SOURCES: usize = 3;

/// What a route has to show, where it has something.
struct Means<'a> {
    source: Option<&'a SourceAddress>,
    login: Option<Credentials>,
    identity: Option<Arc<CertifiedKey>>,
}

impl<'a> Attempt<'a> {
    /// Tries one host; from another source of the pool when one is of no use there.
    pub(super) async fn try_sources(
        &mut self,
        route: &Route,
        hop: &NextHop,
        found: &Found,
        host: &Host,
        demand: &Demand,
        members: &[usize],
    ) -> Result<(), Why> {
        let mut spurned = Vec::new();
        loop {
            let from = source(self.delivery, self.ticket, route, host).ok().flatten();
            self.spurned = false;
            let tried = self.try_host(route, hop, found, host, demand, members).await;
            self.log.leave(tried.as_ref().err());
            match tried {
                Err(why) if self.spurned => {
                    spurned.extend(from.map(|from| from.address));
                    let next = source(self.delivery, self.ticket, route, host).ok().flatten();
                    let fresh = next.filter(|next| !spurned.contains(&next.address));
                    if fresh.is_none() || spurned.len() >= MAX_SOURCES {
                        return Err(why);
                    }
                }
                ended => return ended,
            }
        }
    }

    /// Sends the message to one host. Recipients that are answered for get their fate; the error
    /// says why the others should be tried at the next host.
    async fn try_host(
        &mut self,
        route: &Route,
        hop: &NextHop,
        found: &Found,
        host: &Host,
        demand: &Demand,
        members: &[usize],
    ) -> Result<(), Why> {
        let label = label(host);
        self.hop = Some(label.clone());
        self.security = None;
        let tape = self.log.visit(&label, demand.words());
        self.foreign = matches!(hop, NextHop::Mx(_)) && route.credentials.is_none();
        let Means { source, login, identity } =
            self.means(route, host, &label).inspect_err(|_| self.unprepared = true)?;
        self.log.from(source.map(|source| source.address));
        let way = self.way(hop, host, source);
        self.go_easy(&way)?;
        let key = key(route, hop, host, source);
        let credentials = login.as_ref();
        let wish = Wish {
            host,
            hop: &label,
            demand,
            observe: found.is_tested() && self.delivery.parts.reports.is_some(),
            implicit_tls: key.implicit_tls,
            identity: identity.as_ref(),
            lmtp: key.lmtp,
            credentials,
            source,
            tape: &tape,
        };
        let members = self.addressable(host.address, self.open(members.iter().copied()));
        if members.is_empty() {
            return Err(Why::NeedsSmtputf8(label));
        }
        let mut left = members.clone();
        let mut waiting = self.delivery.pool.take(&key, demand).await;
        let (mut copy, mut warned) = (None, false);
        let mut in_lines =
            !self.allowance.chunking || self.delivery.broken_chunking.contains(host.address);
        loop {
            let leave = match waiting.take() {
                Some(connection) => Leave { idle: Some(connection), seat: None },
                None => match self.line_up(&key, demand, &left).await {
                    ControlFlow::Continue(leave) => leave,
                    ControlFlow::Break(()) => return Ok(()),
                },
            };
            let reused = leave.idle.is_some();
            let mut connection = match leave.idle {
                Some(connection) => connection,
                None => self.dial(found, &wish, &way).await?.seated(leave.seat),
            };
            connection.record(tape.clone());
            self.log.connected(connection.security, reused.then_some(connection.messages));
            self.answered = true;
            self.security = Some(connection.security);
            self.is_ready(hop);
            if copy.is_none() {
                let made = match self.unable(&connection, hop, host.address, &label) {
                    Some(why) => Err(why),
                    None => self.copy(route, connection.extensions(), &label, &members).await,
                };
                copy = match made {
                    Ok(Some(made)) => Some(made),
                    other => {
                        self.delivery.pool.park(key, demand, connection);
                        return other.map(|_| ());
                    }
                };
            }
            let Some(copy) = &copy else { return Ok(()) };
            let room = if copy.verp { 1 } else { self.room(&connection, &left) };
            let (batch, rest) = left.split_at(room.min(left.len()));
            let counted =
                !in_lines && connection.extensions().chunking && copy.is_of_whole_lines().await;
            let letter = Letter { lmtp: key.lmtp, counted, ..self.letter(route, copy, batch) };
            match connection.transfer(letter, copy).await {
                // Another host may take it as it is.
                Err(obstacle) => {
                    self.delivery.pool.park(key, demand, connection);
                    return Err(self.lacks(obstacle, hop, host.address, &label));
                }
                // It closed while it was idle, and we only notice now.
                Ok(transfer) if reused && is_stale(&transfer) => continue,
                // After STARTTLS was refused it takes no clear text either on this connection.
                Ok(transfer) if connection.starttls_refused && !warned && is_stale(&transfer) => {
                    self.delivery.broken_starttls.remember(host.address);
                    warned = true;
                }
                // The same in lines, over another connection.
                Ok(transfer) if !in_lines && transfer.is_misunderstood() => {
                    self.shun_chunking(host);
                    in_lines = true;
                }
                Ok(transfer) => {
                    if transfer.is_lost_by_chunking() {
                        self.shun_chunking(host);
                    }
                    if reused {
                        self.delivery.metrics.connections_reused.inc();
                    }
                    let promise = connection.promise(key.lmtp);
                    batch.iter().for_each(|index| self.promises[*index] = Some(promise));
                    if transfer.reusable {
                        self.delivery.pool.park(key.clone(), demand, connection);
                    }
                    let crowded = self.answers(transfer, batch, host, &way)?;
                    left = [&crowded, rest].concat();
                    if left.is_empty() {
                        return Ok(());
                    }
                    waiting = self.delivery.pool.take(&key, demand).await;
                }
            }
        }
    }

    fn shun_chunking(&self, host: &Host) {
        let (message, hop) = (self.ticket.id, label(host));
        info!(%message, hop, "BDAT, which it offers, did not work: it gets mail by DATA for a while");
        self.delivery.broken_chunking.remember(host.address);
    }

    /// The error says that we sent too much this way, and not now.
    fn go_easy(&mut self, way: &Way) -> Result<(), Why> {
        let now = self.delivery.parts.clock.now();
        let Some(until) = self.delivery.restraints.until(way, now) else { return Ok(()) };
        self.rest = self.rest.max(Some(until));
        Err(Why::BackedOff(way.to.clone()))
    }

    /// How many of the first of `members` the host takes at once (RFC 9422 §4).
    fn room(&self, connection: &Connection, members: &[usize]) -> usize {
        let domain = |index: &usize| self.ticket.recipients[*index].recipient.mailbox.domain();
        let most = members.len().min(self.allowance.recipients_per_transaction.max(1));
        connection.limits().room(members.iter().map(domain)).min(most)
    }

    /// What the configuration has for this route: where to come from, and what to log in with.
    fn means(&self, route: &Route, host: &Host, hop: &str) -> Result<Means<'a>, Why> {
        let source = source(self.delivery, self.ticket, route, host)?;
        let (login, identity) =
            (self.delivery.login(route, hop)?, self.delivery.identity(route, hop)?);
        Ok(Means { source, login, identity })
    }

    fn is_ready(&mut self, hop: &NextHop) {
        if !std::mem::replace(&mut self.ready, true) {
            self.delivery.health.answered(hop);
        }
    }

    async fn dial(&mut self, found: &Found, wish: &Wish<'_>, way: &Way) -> Result<Connection, Why> {
        let opened = self.delivery.opener().open(wish).await;
        self.count_opened(found, wish, &opened);
        let failure = match opened {
            Ok(connection) => {
                return Ok(connection.for_messages(self.allowance.messages_per_connection));
            }
            Err(failure) => failure,
        };
        self.answered |= failure.is_answer();
        self.unprepared |= matches!(failure, Failure::CannotLeave(_));
        let spurned = wish.source.filter(|_| failure.is_about_source());
        let troubled = failure.is_trouble();
        let why = failure.why(wish.hop, wish.demand);
        self.trouble = troubled.then(|| why.to_string());
        if let Some(source) = spurned {
            self.spurned = true;
            let resting = &self.delivery.resting;
            resting.rest(source.address, &self.ticket.destination, &why.to_string());
        }
        Err(self.diagnosed(why, wish.host, way))
    }
}

/// The address that the route's pool has for this mail.
pub(super) fn source<'a>(
    delivery: &'a Delivery,
    ticket: &Ticket,
    route: &Route,
    host: &Host,
) -> Result<Option<&'a SourceAddress>, Why> {
    let Some(pool) = &route.source else { return Ok(None) };
    let sender = ticket.entry.sender.to_string();
    let (sources, resting) = (&delivery.config.sources, &delivery.resting);
    let chosen = choose(sources, resting, pool, &ticket.destination, &sender, host.address);
    let none = |error: NoSource| Why::Unreachable { hop: label(host), error: error.to_string() };
    chosen.map(Some).map_err(none)
}

/// What a connection for this route to this host is filed under.
pub(super) fn key(
    route: &Route,
    hop: &NextHop,
    host: &Host,
    source: Option<&SourceAddress>,
) -> Key {
    Key {
        address: host.address,
        name: host.name.clone(),
        implicit_tls: matches!(hop, NextHop::Host { implicit_tls: true, .. }),
        lmtp: matches!(hop, NextHop::Lmtp { .. }),
        credentials: route.credentials.clone(),
        certificate: route.certificate.clone(),
        source: source.map(|source| (source.address, source.proxy.as_ref().map(|proxy| proxy.at))),
    }
}
