//! Takes what is due, finds a way, speaks to the next hop, settles each recipient.
//!
//! [`Delivery::run`] takes tickets from the queue. For each there is an attempt: the hosts of
//! its route are tried in order over pooled or new connections, one transaction carries all its
//! recipients, each gets an outcome, policy has its say, and the queue keeps what came of it
//! together with the notice it causes.
//!
//! What a refusal means is read by rules ([`waypost_mail::Rulebook`]), and what follows depends on that and
//! not on its first digit alone: a bounce, another try by the curve or sooner, or a rest for a way on which
//! we send too much.
//!
//! Mail is delivered at least once. Where a connection is lost after the final dot the message is
//! sent again, because the other choice is to lose it (RFC 1047), unless its class says otherwise.

#![forbid(unsafe_code)]

mod account;
mod attempt;
mod channel;
mod connection;
mod converted;
mod demand;
mod dialer;
mod dials;
mod health;
mod lapses;
mod metrics;
mod notice;
mod pool;
mod proxy;
mod reaction;
mod remedy;
mod reports;
mod restraint;
mod rests;
mod seats;
mod settle;
mod sites;
mod source;
mod stored;
mod story;
mod tape;
mod through;
mod timeouts;
mod tls;

pub use demand::demanded;
pub use dialer::{Dialer, Stream, TcpDialer};
pub use metrics::{
    AttemptLabels, ConversionLabels, Metrics, PhaseLabels, ProtectionLabels, RecipientLabels,
    ReplyLabels, ThroughLabels, TlsLabels,
};
pub use pool::ConnectionLimits;
pub use proxy::{Proxy, ProxyProtocol, SocksLogin};
pub use reaction::consequence;
pub use reports::{Reports, ReportsConfig, ReportsParts};
pub use sites::{Allowance, Provider, Providers};
pub use source::{SourceAddress, Sources};
pub use timeouts::Timeouts;
pub use tls::{CertificateUnusable, ClientTls, TlsSetupError, certificate};

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::sign::CertifiedKey;
use tokio::task::JoinSet;
use tracing::{Instrument, debug_span, error};
use waypost_dns::sts::Policies;
use waypost_dns::{Dnssec, OwnAddresses, Resolver};
use waypost_hooks::Hooks;
use waypost_intake::{Events, Intake};
use waypost_mail::{Clock, Entry, RecipientEntry, RecipientState, Route, Rulebook, Why};
use waypost_queue::{AdminError, Content, Queue, Selected, SpoolError, Ticket, Touched};
use waypost_smtp::Domain;
use waypost_smtp::client::Credentials;

use crate::account::Account;
use crate::attempt::{Fate, Logbook, Tried};
use crate::connection::Opener;
use crate::dials::Dials;
use crate::health::Health;
use crate::lapses::Lapses;
use crate::pool::Pool;
use crate::remedy::Turns;
use crate::restraint::Restraints;
use crate::rests::Rests;
use crate::source::Resting;
use crate::through::Passages;

/// An attempt that is kept going line by line is cut off after this time, and one second more for
/// [`SLOWEST`] octets of the message: a hostile host must not hold a place for days.
const LONGEST: Duration = Duration::from_secs(2 * 3600);
const SLOWEST: u64 = 4096;
/// Messages above this size are opened off the executor's threads: their checksum takes a while.
const LARGE: u64 = 256 * 1024;

/// How mail leaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who we say we are in EHLO and in notices.
    pub ehlo_name: Domain,
    /// TCP port of mail exchangers, 25 on the Internet.
    pub mx_port: u16,
    /// Where our own listeners answer: mail is not sent there.
    pub own_addresses: OwnAddresses,
    /// TLS settings.
    pub tls: ClientTls,
    /// The longest waits.
    pub timeouts: Timeouts,
    /// Use of connections.
    pub connections: ConnectionLimits,
    /// What may be asked of connections, where no provider says otherwise.
    pub allowance: Allowance,
    /// Who is behind many domains.
    pub providers: Providers,
    /// Logins by the name that routes use.
    pub credentials: HashMap<String, Credentials>,
    /// Certificates that we show to hosts which ask, by the name that routes use.
    pub certificates: Certificates,
    /// Hosts tried for one route in one attempt.
    pub hosts_per_attempt: usize,
    /// Pools of source addresses by the name that routes use.
    pub sources: Sources,
    /// Hosts that do not know MT-PRIORITY are told by a field of the message (RFC 6758).
    pub priority_field: bool,
    /// Octets of the largest message that a notice of its failure returns whole.
    pub max_returned: u64,
    /// TLSA records of mail exchangers count, where a route does not say otherwise (RFC 7672).
    pub dane: bool,
    /// Policies of recipients' domains count, where a route does not say otherwise (RFC 8461).
    pub mta_sts: bool,
    /// How long the submitter of a message is kept waiting while it is tried before it is durable.
    pub patience: Duration,
    /// Rules that read replies. Without any, their numbers are read.
    pub rulebook: Arc<Rulebook>,
}

impl Config {
    /// The usual settings of a relay that is called `ehlo_name`.
    pub fn new(ehlo_name: Domain, tls: ClientTls) -> Config {
        Config {
            ehlo_name,
            mx_port: 25,
            own_addresses: OwnAddresses::default(),
            tls,
            timeouts: Timeouts::default(),
            connections: ConnectionLimits::default(),
            allowance: Allowance::default(),
            providers: Providers::default(),
            credentials: HashMap::new(),
            certificates: Certificates::new(),
            hosts_per_attempt: 5,
            sources: Sources::new(),
            priority_field: true,
            max_returned: waypost_mail::dsn::MAX_RETURNED,
            dane: true,
            mta_sts: true,
            patience: Duration::from_secs(60),
            rulebook: Arc::default(),
        }
    }
}

/// Our own certificates with their keys, by the name that routes use.
pub type Certificates = HashMap<String, Arc<CertifiedKey>>;

/// What delivery stands on.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where tickets come from and outcomes go.
    pub queue: Arc<Queue>,
    /// The door for notices.
    pub intake: Arc<Intake>,
    /// Who knows about names.
    pub resolver: Arc<dyn Resolver>,
    /// What is proven about names.
    pub dnssec: Arc<dyn Dnssec>,
    /// What domains ask for by MTA-STS; absent, nobody is asked.
    pub policies: Option<Arc<Policies>>,
    /// Where it is counted how TLS went; absent, it is not.
    pub reports: Option<Arc<Reports>>,
    /// Policy.
    pub hooks: Arc<dyn Hooks>,
    /// The network.
    pub dialer: Arc<dyn Dialer>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Where what happened is told.
    pub events: Events,
}

/// Everything that leaves goes through here. One for the whole program.
#[derive(Debug)]
pub struct Delivery {
    parts: Parts,
    config: Config,
    credentials: RwLock<HashMap<String, Credentials>>,
    certificates: RwLock<Certificates>,
    rulebook: RwLock<Arc<Rulebook>>,
    restraints: Restraints,
    rests: Rests,
    pool: Pool,
    broken_starttls: Lapses,
    broken_chunking: Lapses,
    health: Health,
    resting: Resting,
    rerouting: Turns,
    dials: Dials,
    passages: Passages,
    metrics: Metrics,
}

impl Delivery {
    /// Delivery that does nothing until it is [run](Delivery::run).
    pub fn new(parts: Parts, config: Config) -> Arc<Delivery> {
        let pool = Pool::new(config.connections.clone());
        let credentials = RwLock::new(config.credentials.clone());
        let certificates = RwLock::new(config.certificates.clone());
        Arc::new(Delivery {
            parts,
            credentials,
            certificates,
            rulebook: RwLock::new(config.rulebook.clone()),
            restraints: Restraints::default(),
            rests: Rests::default(),
            config,
            pool,
            broken_starttls: Lapses::default(),
            broken_chunking: Lapses::default(),
            health: Health::default(),
            resting: Resting::default(),
            rerouting: Turns::default(),
            dials: Dials::default(),
            passages: Passages::default(),
            metrics: Metrics::default(),
        })
    }

    /// Puts other logins in place; connections made from now on use them.
    pub fn set_credentials(&self, credentials: HashMap<String, Credentials>) {
        *self.credentials.write().unwrap_or_else(PoisonError::into_inner) = credentials;
    }

    /// Puts other certificates in place; connections made from now on show them.
    pub fn set_certificates(&self, certificates: Certificates) {
        *self.certificates.write().unwrap_or_else(PoisonError::into_inner) = certificates;
    }

    /// Puts other rules in place; replies from now on are read by them.
    pub fn set_rulebook(&self, rulebook: Arc<Rulebook>) {
        *self.rulebook.write().unwrap_or_else(PoisonError::into_inner) = rulebook;
    }

    /// The rules that read replies.
    pub(crate) fn rulebook(&self) -> Arc<Rulebook> {
        self.rulebook.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Delivers until the queue is closed, then ends what is under way. When the future is dropped
    /// before that, attempts stop where they are and their recipients go back to the queue; the same goes
    /// for those at messages that are not durable, of which nothing is left then.
    pub async fn run(self: &Arc<Self>) {
        let _stop = self.passages.stop();
        let mut attempts = JoinSet::new();
        let tend = self.pool.tend();
        tokio::pin!(tend);
        loop {
            let ticket = tokio::select! {
                ticket = self.parts.queue.next() => ticket,
                never = &mut tend => match never {},
            };
            while let Some(ended) = attempts.try_join_next() {
                report(ended);
            }
            let Some(ticket) = ticket else { break };
            let delivery = self.clone();
            // Boxed here and below: a task is moved several times before it runs.
            attempts.spawn(Box::pin(async move { delivery.deliver(ticket).await }));
        }
        while let Some(ended) = attempts.join_next().await {
            report(ended);
        }
        self.passages.end().await;
        self.rests.end().await;
        self.pool.close().await;
    }

    /// The program is about to end: submitters that wait for their next hop wait no longer. Their messages
    /// become durable at once, and the attempts go on.
    pub fn hurry(&self) {
        self.passages.hurry();
    }

    /// Attempts that somebody waits for stop where they are, as when the program is killed: of messages that
    /// are not durable nothing is left, and nobody was promised anything.
    pub fn abandon(&self) {
        self.passages.abandon();
    }

    /// Bounces what is left of a message, for an operator who says why.
    ///
    /// # Errors
    /// When there is no such message, it is being delivered right now, or storage failed.
    pub async fn bounce(
        &self,
        whom: impl Into<Selected>,
        reason: &str,
    ) -> Result<Touched, AdminError> {
        let why = Why::Operator(reason.to_owned()).bounded();
        self.give_up(whom.into(), |_| why.clone()).await
    }

    /// Gives up recipients as if the message's time were over, and tells its sender so.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn expire(&self, whom: impl Into<Selected>) -> Result<Touched, AdminError> {
        let why = |recipient: &RecipientEntry| {
            let last = match &recipient.state {
                RecipientState::Waiting { last, .. } => last.clone(),
                _ => None,
            };
            Why::Expired(last.map(Box::new))
        };
        self.give_up(whom.into(), why).await
    }

    async fn give_up(
        &self,
        whom: Selected,
        why: impl Fn(&RecipientEntry) -> Why,
    ) -> Result<Touched, AdminError> {
        let (tickets, in_flight) = self.parts.queue.lease(whom).await?;
        let mut given_up = Touched { changed: 0, in_flight };
        for ticket in tickets {
            given_up.changed += ticket.recipients.len();
            let now = self.parts.clock.now();
            let fates = ticket.recipients.iter().map(|r| Fate::Doomed(why(r))).collect();
            let settled = settle::settle(self, ticket, Tried::untried(fates, now)).await;
            settled.map_err(AdminError::Spool)?;
        }
        Ok(given_up)
    }

    /// Makes one attempt at a ticket and settles it: what [`Delivery::run`] does with each. When the
    /// future is dropped before that, the ticket goes back to the queue.
    pub async fn deliver(&self, ticket: Ticket) {
        let _under_way = UnderWay::new(&self.metrics);
        let span = debug_span!("attempt", message = %ticket.id, destination = ticket.destination);
        async {
            let tried = self.try_once(&ticket).await;
            // A failure is in the log, and the queue has the recipients back.
            let _ = settle::settle(self, ticket, tried).await;
        }
        .instrument(span)
        .await;
    }

    /// One attempt, cut off when it takes much too long.
    async fn try_once(&self, ticket: &Ticket) -> Tried {
        let limit = LONGEST + Duration::from_secs(ticket.entry.size / SLOWEST);
        let mut account = Account::open(self, ticket);
        let attempt = Box::pin(attempt::attempt(self, ticket, account.log()));
        let tried = tokio::time::timeout(limit, attempt).await;
        let tried = tried.unwrap_or_else(|_| Tried::cut_off(ticket, self.parts.clock.now()));
        Tried { log: account.close(), ..tried }
    }

    /// One for an attempt that begins.
    fn logbook(&self) -> Logbook {
        Logbook::begin(self.parts.events.pen(), self.parts.clock.now())
    }

    /// The stored bytes of a message.
    async fn content(&self, entry: &Entry) -> Result<Arc<dyn Content>, SpoolError> {
        let (queue, id) = (self.parts.queue.clone(), entry.id);
        if entry.size <= LARGE {
            return queue.content(id).map(Arc::from);
        }
        let opened = tokio::task::spawn_blocking(move || queue.content(id)).await;
        opened
            .unwrap_or_else(|error| Err(SpoolError::Failed(error.to_string().into())))
            .map(Arc::from)
    }

    /// What to log in with along this route, if it says so.
    fn login(&self, route: &Route, hop: &str) -> Result<Option<Credentials>, Why> {
        let Some(name) = &route.credentials else { return Ok(None) };
        let known = self.credentials.read().unwrap_or_else(PoisonError::into_inner);
        known.get(name).cloned().map(Some).ok_or_else(|| Why::AuthFailed {
            hop: hop.to_owned(),
            error: format!("the configuration has no credentials named {name:?}"),
        })
    }

    /// What to show along this route to hosts that ask who we are, if it says so.
    fn identity(&self, route: &Route, hop: &str) -> Result<Option<Arc<CertifiedKey>>, Why> {
        let Some(name) = &route.certificate else { return Ok(None) };
        let known = self.certificates.read().unwrap_or_else(PoisonError::into_inner);
        known.get(name).cloned().map(Some).ok_or_else(|| Why::AuthFailed {
            hop: hop.to_owned(),
            error: format!("no route of the configuration has the client certificate {name:?}"),
        })
    }

    fn opener(&self) -> Opener<'_> {
        Opener {
            dialer: &*self.parts.dialer,
            config: &self.config,
            metrics: &self.metrics,
            broken_starttls: &self.broken_starttls,
        }
    }
}

/// Counts an attempt for as long as it lives.
struct UnderWay<'a>(&'a Metrics);

impl UnderWay<'_> {
    fn new(metrics: &Metrics) -> UnderWay<'_> {
        metrics.in_flight.inc();
        UnderWay(metrics)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

/// A panic ends one attempt, whose ticket went back to the queue, and nothing else.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!(%error, "an attempt failed by a bug; its recipients are tried again");
    }
}
