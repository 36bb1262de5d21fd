//! One try at one ticket: the hosts of its route in order, until every recipient has its fate.

mod convert;
mod copy;
mod findings;
mod logbook;
mod meaning;
mod pacing;
mod prepare;
mod protection;
mod trust;
mod ways;

use std::ops::ControlFlow;
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use tracing::debug;
use waypost_dns::Host;
use waypost_intake::patience;
use waypost_mail::{NextHop, Outcome, RecipientState, Route, Rulebook, Security, Timestamp, Why};
use waypost_mutant::planted;
use waypost_queue::{Content, Ticket};
use waypost_smtp::Phase;
use waypost_smtp::client::{Credentials, Letter, Obstacle, RecipientResult};

use self::convert::Lacking;
use self::trust::Found;
use crate::connection::{Connection, Failure, Promise, Transfer, Wish};
use crate::converted::Converted;
use crate::demand::Demand;
use crate::pool::Key;
use crate::restraint::Way;
use crate::source::{NoSource, choose};
use crate::{Allowance, Delivery, SourceAddress};

pub(crate) use self::logbook::{Logbook, LookedUp, Step, Visited};

/// Sources of a pool that are tried at one host in one attempt.
const MAX_SOURCES: usize = 3;
/// Octets that are kept of the reply by which a message was taken.
const KEPT_TEXT: usize = 512;

/// What is to become of a recipient, before policy has had its say.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It was tried, or failed in trying.
    Tried(Outcome),
    /// It bounces without having been tried this time.
    Doomed(Why),
    /// It was not tried: later.
    Postponed(Timestamp),
    /// It was not tried: others at the same site came first. As soon as there is room.
    InLine,
    /// It was not tried: an operator is to decide.
    Held(String),
    /// It was not tried: it has another way from now on, or one at last.
    Routed(Route, Timestamp),
}

/// What an attempt came to.
#[derive(Debug)]
pub(crate) struct Tried {
    /// One for each of the ticket's recipients, in order.
    pub(crate) fates: Vec<Fate>,
    /// What the host promised that took a recipient; as long as `fates`.
    pub(crate) promises: Vec<Option<Promise>>,
    /// The last next hop spoken to.
    pub(crate) hop: Option<String>,
    /// How the connection to it was protected, if there was one.
    pub(crate) security: Option<Security>,
    /// Until when the way rests on which we send too much.
    pub(crate) rest: Option<Timestamp>,
    /// What was done.
    pub(crate) log: Logbook,
}

impl Tried {
    /// For recipients that were not tried, at this moment.
    pub(crate) fn untried(fates: Vec<Fate>, now: Timestamp) -> Tried {
        let (promises, log) = (vec![None; fates.len()], Logbook::blank(now));
        Tried { promises, fates, hop: None, security: None, rest: None, log }
    }

    /// What an attempt came to that took too long.
    pub(crate) fn cut_off(ticket: &Ticket, now: Timestamp) -> Tried {
        let hop = ticket.destination.clone();
        let why = Why::TimedOut { hop, phase: Phase::Body };
        let fate = |_| Fate::Tried(Outcome::Deferred(why.clone()));
        Tried::untried(ticket.recipients.iter().map(fate).collect(), now)
    }
}

/// What a route has to show, where it has something.
struct Means<'a> {
    source: Option<&'a SourceAddress>,
    login: Option<Credentials>,
    identity: Option<Arc<CertifiedKey>>,
}

/// An attempt under way.
struct Attempt<'a> {
    delivery: &'a Delivery,
    ticket: &'a Ticket,
    fates: Vec<Option<Fate>>,
    promises: Vec<Option<Promise>>,
    hop: Option<String>,
    security: Option<Security>,
    /// The rules that read replies.
    rulebook: Arc<Rulebook>,
    /// Until when the way rests on which we send too much, if it does.
    rest: Option<Timestamp>,
    log: Logbook,
    /// Some host spoke SMTP with us.
    answered: bool,
    /// A host of the present hop is ready for mail.
    ready: bool,
    /// The source that was used last is of no use for this destination.
    spurned: bool,
    /// The configuration lacks what the route names: the destination is not to blame.
    unprepared: bool,
    /// The present hop is the exchanger of some domain, where nobody here has an account.
    foreign: bool,
    /// Why the site bears no more, as far as the last host said.
    trouble: Option<String>,
    /// What the present site is called, and what it allows.
    site: Option<String>,
    allowance: Allowance,
    /// Read when the first host is ready to take it.
    content: Option<Arc<dyn Content>>,
    /// Hosts that could take a copy.
    lacking: Vec<Lacking>,
    /// They are asked with one.
    converting: bool,
    /// The copies that were made.
    copies: Vec<Arc<Converted>>,
}

/// Tries to deliver a ticket's recipients, each at most once.
pub(crate) async fn attempt(delivery: &Delivery, ticket: &Ticket) -> Tried {
    let mut attempt = Attempt::new(delivery, ticket);
    attempt.pass_over_the_doomed();
    let open = attempt.open(0..ticket.recipients.len());
    match &ticket.route {
        _ if open.is_empty() => {}
        undecided if undecided.hops.is_empty() => attempt.find_ways(&open).await,
        route => {
            let open = attempt.decide_anew(open).await;
            match route.is_discard() {
                true => attempt.all(&open, || Outcome::Deleted),
                false => {
                    let route = protection::wanted(route, &ticket.entry.terms);
                    attempt.travel(&route, &open).await;
                }
            }
        }
    }
    attempt.report();
    attempt.finish()
}

impl<'a> Attempt<'a> {
    fn new(delivery: &'a Delivery, ticket: &'a Ticket) -> Attempt<'a> {
        let fates = ticket.recipients.iter().map(|_| None).collect();
        Attempt {
            delivery,
            ticket,
            fates,
            promises: vec![None; ticket.recipients.len()],
            hop: None,
            security: None,
            rulebook: delivery.rulebook(),
            rest: None,
            log: Logbook::begin(delivery.parts.events.pen(), delivery.parts.clock.now()),
            answered: false,
            ready: false,
            spurned: false,
            unprepared: false,
            foreign: false,
            trouble: None,
            site: None,
            allowance: delivery.config.allowance,
            content: None,
            lacking: Vec::new(),
            converting: false,
            copies: Vec::new(),
        }
    }

    /// Recipients whose time is over or has not come, or for whom policy left nothing to try.
    fn pass_over_the_doomed(&mut self) {
        let now = self.delivery.parts.clock.now();
        // Not by a clock that may have been set since: the queue alone knows when its time is over.
        let over = self.ticket.expired;
        for (fate, recipient) in self.fates.iter_mut().zip(&self.ticket.recipients) {
            let (due, tries, last) = match &recipient.state {
                RecipientState::Waiting { due, tries, last } => (*due, *tries, last.as_ref()),
                _ => (now, 0, None),
            };
            *fate = match last {
                Some(why) if tries == 0 && why.is_permanent() => Some(Fate::Doomed(why.clone())),
                last if over => Some(Fate::Doomed(Why::Expired(last.cloned().map(Box::new)))),
                // Here only so that the sender is told.
                _ if due > now || self.ticket.out_of_turn => Some(Fate::Postponed(due)),
                _ => None,
            };
        }
    }

    /// When policy is asked again that could not answer.
    fn later(&self) -> Timestamp {
        let now = self.delivery.parts.clock.now();
        now.after(patience(self.ticket.entry.received, now))
    }

    /// Recipients without a fate among `members`.
    fn open(&self, members: impl IntoIterator<Item = usize>) -> Vec<usize> {
        members.into_iter().filter(|index| self.fates[*index].is_none()).collect()
    }

    /// Goes along a route until nobody is left or there is no further host: first with the message as it
    /// is, then with a copy for hosts that cannot take it so.
    async fn travel(&mut self, route: &Route, members: &[usize]) {
        if members.is_empty() {
            return;
        }
        let mut trouble = self.round(route, members, None).await;
        if self.may_convert(route, members) {
            trouble = self.round(route, members, trouble).await;
        }
        let nowhere = || Why::NoAddress(self.ticket.destination.clone());
        let why = trouble.unwrap_or_else(nowhere).bounded();
        let resting = self.rest.filter(|_| matches!(why, Why::BackedOff(_)));
        for index in self.open(members.iter().copied()) {
            self.fates[index] = Some(match resting {
                Some(until) => Fate::Postponed(until),
                None => Fate::Tried(why.clone().into_outcome()),
            });
        }
    }

    /// Asks the hosts of a route one after the other; why those that are left should bounce or wait, of
    /// this and of what was known.
    async fn round(
        &mut self,
        route: &Route,
        members: &[usize],
        mut trouble: Option<Why>,
    ) -> Option<Why> {
        let mut left = self.delivery.config.hosts_per_attempt.max(1);
        let delivery = self.delivery;
        let ill = |hop: &NextHop, why: &Why| {
            // That a message asks for more than a hop has is no failure of the hop.
            if route.hops.len() > 1 && !matches!(why, Why::RequireTls { .. } | Why::BackedOff(_)) {
                delivery.health.failed(hop, why);
            }
        };
        for hop in delivery.health.in_turn(&route.hops) {
            if !self.is_asked(hop, None) {
                continue;
            }
            let found = match self.hosts(route, hop).await {
                Ok(found) => found,
                Err(why) => {
                    ill(hop, &why);
                    trouble = Some(worth_keeping(trouble, why));
                    continue;
                }
            };
            if !self.enters(route, hop, &found, members) {
                return trouble;
            }
            self.ready = false;
            let mut unready = None;
            let hosts = found.hosts.iter().filter(|host| self.is_asked(hop, Some(host.address)));
            let hosts: Vec<&Host> = hosts.take(left).collect();
            for host in hosts {
                left -= 1;
                let tried = match self.demand(route, hop, &found, host).await {
                    Ok(demand) => {
                        self.try_sources(route, hop, &found, host, &demand, members).await
                    }
                    Err(why) => {
                        self.log.turned_away(&label(host), &why);
                        Err(why)
                    }
                };
                if let Err(why) = tried {
                    let why = protection::judged(why, &self.ticket.entry.terms);
                    debug!(message = %self.ticket.id, hop = self.hop, %why, "next host");
                    unready = Some(why.clone()).filter(|_| !self.ready && !self.unprepared);
                    trouble = Some(worth_keeping(trouble, why));
                }
                if self.open(members.iter().copied()).is_empty() {
                    return trouble;
                }
            }
            if let Some(why) = unready {
                ill(hop, &why);
            }
        }
        trouble
    }

    /// The hosts of a hop; among equals those first to which a connection waits.
    async fn hosts(&mut self, route: &Route, hop: &NextHop) -> Result<Found, Why> {
        let since = self.log.elapsed();
        let found = self.find(route, hop).await;
        self.log.looked_up(hop, since, &found);
        let mut found = found?;
        if !found.is_trusted() && self.ticket.entry.terms.require_tls {
            return Err(protection::untrusted(hop));
        }
        let hosts = &mut found.hosts;
        if hosts.len() > 1 {
            let waits = |host: &Host| {
                let source = source(self.delivery, self.ticket, route, host).unwrap_or_default();
                self.delivery.pool.has(&key(route, hop, host, source))
            };
            hosts.sort_by_cached_key(|host| (host.preference, !waits(host)));
        }
        Ok(found)
    }

    /// Tries one host; from another source of the pool when one is of no use there.
    async fn try_sources(
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
        loop {
            if waiting.is_none() {
                match self.line_up(&key, demand, &left).await {
                    ControlFlow::Continue(idle) => waiting = idle,
                    ControlFlow::Break(()) => return Ok(()),
                }
            }
            let reused = waiting.is_some();
            let mut connection = match waiting.take() {
                Some(connection) => connection,
                None => self.dial(found, &wish, &way).await?,
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
            let letter = Letter { lmtp: key.lmtp, ..self.letter(route, copy, batch) };
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
                Ok(transfer) => {
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

    fn all(&mut self, members: &[usize], outcome: impl Fn() -> Outcome) {
        for index in members {
            self.fates[*index] = Some(Fate::Tried(outcome()));
        }
    }

    /// Gives each recipient the fate that the transfer says. After 421, after a connection lost before
    /// the final dot, and from another address when ours is not wanted, the rest should be tried
    /// elsewhere. Answers those for whom there was no room
    /// beside others, who were taken: they go at once.
    fn answers(
        &mut self,
        transfer: Transfer,
        members: &[usize],
        host: &Host,
        way: &Way,
    ) -> Result<Vec<usize>, Why> {
        let hop = label(host);
        let taken = |answer: &RecipientResult| answer.phase == Phase::Eod;
        let some_taken = transfer.answers.iter().flatten().any(taken);
        self.trouble = None;
        let (mut elsewhere, mut crowded, mut unanswered) = (None, Vec::new(), Vec::new());
        let mut answers = transfer.answers;
        if planted!("answers are taken for those of others") {
            answers.reverse();
        }
        for (index, answer) in members.iter().zip(answers) {
            match answer {
                Some(answer) if is_farewell(&answer) => {
                    let why = refused(answer, &hop);
                    self.trouble = Some(why.to_string());
                    elsewhere = Some(self.diagnosed(why, host, way));
                }
                Some(answer) if some_taken && self.is_crowded_out(&answer, host) => {
                    crowded.push(*index);
                }
                Some(answer) => {
                    let phase = answer.phase;
                    let outcome = self.outcome(answer, &hop, host, way);
                    match outcome.why() {
                        Some(why) if self.spurns(why, phase, way.source) => {
                            elsewhere = Some(why.clone());
                        }
                        _ => self.fates[*index] = Some(Fate::Tried(outcome)),
                    }
                }
                None => unanswered.push(*index),
            }
        }
        let Some(failure) = transfer.failure else { return elsewhere.map_or(Ok(crowded), Err) };
        let (ours, troubled) = (matches!(failure, Failure::Unreadable(_)), failure.is_trouble());
        let why = failure.why(&hop, &Demand::Opportunistic).bounded();
        self.trouble = troubled.then(|| why.to_string());
        if ours {
            self.all(&unanswered, || Outcome::Deferred(why.clone()));
        } else if transfer.phase == Phase::Eod
            && planted!("no reply to the final dot counts as yes")
        {
            let reply = waypost_smtp::Reply::OK;
            let (hop, security) = (hop.to_owned(), Security::CLEAR);
            let outcome = Outcome::Delivered { hop, reply, security };
            self.all(&unanswered, || outcome.clone());
        } else if transfer.phase == Phase::Eod {
            // Who was refused before is in no doubt.
            self.all(&unanswered, || Outcome::Unknown(why.clone()));
        } else {
            return Err(why);
        }
        elsewhere.map_or(Ok(crowded), Err)
    }

    fn outcome(&mut self, answer: RecipientResult, hop: &str, host: &Host, way: &Way) -> Outcome {
        if !answer.reply.is_positive() {
            return self.diagnosed(refused(answer, hop), host, way).into_outcome();
        }
        self.delivery.restraints.delivered(way, self.delivery.parts.clock.now());
        delivered(answer, hop, self.security.unwrap_or(Security::CLEAR))
    }

    fn finish(self) -> Tried {
        let later = self.later();
        let fates = self.fates.into_iter().map(|fate| fate.unwrap_or(Fate::Postponed(later)));
        let fates = fates.collect();
        Tried {
            fates,
            promises: self.promises,
            hop: self.hop,
            security: self.security,
            rest: self.rest,
            log: self.log.end(),
        }
    }
}

/// The address that the route's pool has for this mail.
fn source<'a>(
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

/// Of two reasons the one that leaves hope: a recipient bounces only when every way is closed.
fn worth_keeping(known: Option<Why>, new: Why) -> Why {
    match known {
        Some(known) if !known.is_permanent() && new.is_permanent() => known,
        // A way that was not even tried tells less than one that was.
        Some(known) if matches!(new, Why::BackedOff(_)) && !known.is_permanent() => known,
        _ => new,
    }
}

/// What a connection for this route to this host is filed under.
fn key(route: &Route, hop: &NextHop, host: &Host, source: Option<&SourceAddress>) -> Key {
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

/// `name[address]:port`, or `[address]:port` for a host that has no other name.
pub(crate) fn label(host: &Host) -> String {
    let (ip, port) = (host.address.ip(), host.address.port());
    let has_name = !host.name.starts_with('[') && host.name.parse::<std::net::IpAddr>().is_err();
    if has_name { format!("{}[{ip}]:{port}", host.name) } else { format!("[{ip}]:{port}") }
}

fn obstacle_why(obstacle: Obstacle, hop: &str) -> Why {
    match obstacle {
        Obstacle::EightBit => Why::NeedsEightBit(hop.to_owned()),
        Obstacle::Smtputf8 => Why::NeedsSmtputf8(hop.to_owned()),
        Obstacle::TooBig { .. } => Why::TooBig(hop.to_owned()),
        Obstacle::Binary => Why::NeedsBinaryMime(hop.to_owned()),
        Obstacle::DeliverBy => Why::NeedsDeliverBy(hop.to_owned()),
        Obstacle::RequireTls => {
            let error = "it does not offer REQUIRETLS".to_owned();
            Why::RequireTls { hop: hop.to_owned(), error }
        }
    }
}

fn delivered(answer: RecipientResult, hop: &str, security: Security) -> Outcome {
    let mut reply = answer.reply;
    if reply.text.len() > KEPT_TEXT {
        let end = reply.text.floor_char_boundary(KEPT_TEXT);
        reply.text.to_mut().truncate(end);
    }
    Outcome::Delivered { hop: hop.to_owned(), reply, security }
}

fn refused(answer: RecipientResult, hop: &str) -> Why {
    let RecipientResult { phase, reply } = answer;
    Why::Refused { hop: hop.to_owned(), phase, reply }.bounded()
}

/// 421 before the final dot: this host takes nothing more now, another one may.
fn is_farewell(answer: &RecipientResult) -> bool {
    answer.reply.code.get() == 421 && answer.phase < Phase::Eod
}

/// A connection that ended before MAIL was answered.
fn is_stale(transfer: &Transfer) -> bool {
    let farewell = |answer: &Option<RecipientResult>| {
        answer.as_ref().is_none_or(|answer| is_farewell(answer) && answer.phase == Phase::Mail)
    };
    transfer.phase == Phase::Mail && !transfer.reusable && transfer.answers.iter().all(farewell)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, address: &str) -> Host {
        Host { name: name.to_owned(), address: address.parse().unwrap(), preference: 0 }
    }

    #[test]
    fn hops_are_named_by_name_and_address() {
        assert_eq!(label(&host("mx.example", "192.0.2.1:25")), "mx.example[192.0.2.1]:25");
        assert_eq!(label(&host("mx.example", "[2001:db8::1]:25")), "mx.example[2001:db8::1]:25");
        assert_eq!(label(&host("192.0.2.1", "192.0.2.1:587")), "[192.0.2.1]:587");
        assert_eq!(label(&host("[IPv6:2001:db8::1]", "[2001:db8::1]:25")), "[2001:db8::1]:25");
    }

    #[test]
    fn hope_is_worth_more_than_certainty() {
        let (lasting, passing) = (Why::NullMx("a".into()), Why::DnsFailed("b".into()));
        let kept = |known: &Why, new: &Why| worth_keeping(Some(known.clone()), new.clone());
        assert_eq!(worth_keeping(None, lasting.clone()), lasting);
        assert_eq!(kept(&passing, &lasting), passing);
        assert_eq!(kept(&lasting, &passing), passing);
        assert_eq!(kept(&passing, &Why::NoAddress("c".into())), Why::NoAddress("c".into()));
    }

    #[test]
    fn long_replies_are_cut_where_they_are_kept() {
        let reply = waypost_smtp::Reply::OK.with_text("ü".repeat(1000));
        let answer = RecipientResult { phase: Phase::Eod, reply };
        let kept = delivered(answer, "mx", Security::CLEAR);
        let Outcome::Delivered { reply, .. } = kept else { panic!("not delivered: {kept:?}") };
        assert_eq!(reply.text.len(), KEPT_TEXT);
    }
}
