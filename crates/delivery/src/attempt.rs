//! One try at one ticket: the hosts of its route in order, until every recipient has its fate.

mod answers;
mod convert;
mod copy;
mod findings;
mod logbook;
mod meaning;
mod pacing;
mod prepare;
mod protection;
mod trust;
mod visit;
mod ways;

use std::sync::Arc;

use tracing::debug;
use waypost_dns::Host;
use waypost_intake::patience;
use waypost_mail::{NextHop, Outcome, RecipientState, Route, Rulebook, Security, Timestamp, Why};
use waypost_queue::{Content, Ticket};
use waypost_smtp::Phase;
use waypost_smtp::client::Obstacle;

use self::convert::Lacking;
use self::trust::Found;
use self::visit::{key, source};
use crate::connection::Promise;
use crate::converted::Converted;
use crate::seats::Seats;
use crate::{Allowance, Delivery};

pub(crate) use self::logbook::{Logbook, LookedUp, Step, Visited, Waited};

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

    /// What an attempt came to that took too long, and did this until then.
    pub(crate) fn cut_off(ticket: &Ticket, now: Timestamp) -> Tried {
        let hop = ticket.destination.clone();
        let why = Why::TimedOut { hop, phase: Phase::Body };
        let fate = |_| Fate::Tried(Outcome::Deferred(why.clone()));
        Tried::untried(ticket.recipients.iter().map(fate).collect(), now)
    }
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
    log: &'a mut Logbook,
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
    /// Connections to it, where it is a provider.
    seats: Option<Seats>,
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

/// Tries to deliver a ticket's recipients, each at most once. What is done is written down in `log`, which
/// is whole too when the future is dropped.
pub(crate) async fn attempt(delivery: &Delivery, ticket: &Ticket, log: &mut Logbook) -> Tried {
    let mut attempt = Attempt::new(delivery, ticket, log);
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
    fn new(delivery: &'a Delivery, ticket: &'a Ticket, log: &'a mut Logbook) -> Attempt<'a> {
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
            log,
            answered: false,
            ready: false,
            spurned: false,
            unprepared: false,
            foreign: false,
            trouble: None,
            site: None,
            seats: None,
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
            if !self.enters(route, hop, &found, members).await {
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
                    let terms = &self.ticket.entry.terms;
                    let why = protection::judged(why, terms, found.doubt().as_deref());
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
            // Mail that asks for less may go there.
            self.unprepared |= found.doubt().is_some();
            return Err(protection::untrusted(hop, found.doubt().as_deref()));
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

    fn all(&mut self, members: &[usize], outcome: impl Fn() -> Outcome) {
        for index in members {
            self.fates[*index] = Some(Fate::Tried(outcome()));
        }
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
            log: Logbook::blank(self.log.began),
        }
    }
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
}
