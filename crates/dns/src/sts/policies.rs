//! Fetches policies, keeps them over restarts, and says which one is in force.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::time::timeout;
use tracing::{debug, info, warn};
use waypost_mail::ledger::MAX_VALUE;
use waypost_mail::{
    Allow, AllowRule, Clock, Fetch, FetchError, FetchRequest, FetchResponse, Ledger, LedgerError,
    Origin, Scheme, Timestamp,
};
use waypost_smtp::Domain;

use super::known::{Announced, Known, Step, in_force, is_left_alone, step};
use super::{MAX_POLICY, Policy, announced};
use crate::resolver::Resolver;

/// Where policies are in the ledger.
const PREFIX: &str = "dns/sts/";
/// Domains whose policies are kept; of more, those that mail asked for longest ago make room.
const MAX_DOMAINS: usize = 10_000;
/// How long a policy host may take (RFC 8461 §3.3 asks for a limit, of a minute or so).
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked which policies have to be fetched again.
const LOOK: Duration = Duration::from_secs(3600);
/// Policy hosts asked at a time.
const AT_ONCE: usize = 8;
/// The one path of a policy (RFC 8461 §3.3).
const PATH: &str = "/.well-known/mta-sts.txt";

/// What counts for mail to a domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advice {
    /// The policy in force, if there is one.
    pub policy: Option<Policy>,
    /// Why a policy that is announced could not be had the last time.
    pub trouble: Option<Trouble>,
    /// It could not be found out whether the domain announces one.
    pub unknown: bool,
}

/// Why an announced policy cannot be had, as reports tell it apart (RFC 8460 §4.3.2.2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The policy host is not reached, or has no policy.
    #[error("its policy cannot be fetched: {0}")]
    Unreachable(String),
    /// The policy host does not prove its name.
    #[error("its policy host cannot be trusted: {0}")]
    Untrusted(String),
    /// What it serves is no policy.
    #[error("its policy cannot be read: {0}")]
    Invalid(String),
}

/// Everything that is known of domains' policies. One for the whole program.
pub struct Policies {
    resolver: Arc<dyn Resolver>,
    fetch: Arc<dyn Fetch>,
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    domains: Mutex<HashMap<String, Entry>>,
    /// Some policy should be fetched again.
    look: Notify,
    fetched: Family<Labels, Counter>,
}

#[derive(Debug, Default, Clone)]
struct Entry {
    known: Option<Known>,
    failed: Option<(Timestamp, Trouble)>,
    /// Held by who fetches it.
    turn: Arc<AsyncMutex<()>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    result: &'static str,
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policies").field("domains", &self.domains).finish_non_exhaustive()
    }
}

impl Policies {
    /// Those that `ledger` keeps, and more as mail asks for them.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn open(
        resolver: Arc<dyn Resolver>,
        fetch: Arc<dyn Fetch>,
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
    ) -> Result<Policies, LedgerError> {
        let kept = ledger.list(PREFIX, MAX_DOMAINS, clock.now()).await?;
        let entry = |(key, value): (String, Bytes)| {
            let (domain, known) = (key.strip_prefix(PREFIX)?.to_owned(), Known::read(&value)?);
            Some((domain, Entry { known: Some(known), ..Entry::default() }))
        };
        let domains = Mutex::new(kept.into_iter().filter_map(entry).collect());
        let (look, fetched) = (Notify::new(), Family::default());
        Ok(Policies { resolver, fetch, ledger, clock, domains, look, fetched })
    }

    /// Adds `mta_sts_fetches` (label `result`: fetched, unreachable, untrusted, invalid).
    pub fn register(&self, registry: &mut Registry) {
        let help = "MTA-STS policies fetched or not";
        registry.register("mta_sts_fetches", help, self.fetched.clone());
    }

    /// What counts for mail to `domain`, a name in A-labels. May wait for the domain's policy host, once.
    pub async fn advice(&self, domain: &str) -> Advice {
        let domain = domain.to_ascii_lowercase();
        let announced = self.announced(&domain).await;
        self.note_use(&domain);
        match self.step(&domain, &announced) {
            Step::None if matches!(announced, Announced::Nothing) => return Advice::default(),
            Step::None | Step::Use => {}
            Step::UseAndRefresh => self.look.notify_one(),
            Step::Fetch => self.fetch_once(&domain, &announced).await,
        }
        let unknown = matches!(announced, Announced::Unknown);
        Advice { unknown, ..self.in_force(&domain) }
    }

    /// What is known without asking anybody: the policy, when it was fetched and when it ends.
    pub fn kept(&self, domain: &str) -> Option<(Policy, Timestamp, Timestamp)> {
        let domains = self.domains();
        let known = domains.get(&domain.to_ascii_lowercase())?.known.as_ref()?;
        Some((known.policy.clone(), known.fetched, known.expires()))
    }

    /// Fetches policies again ahead of their end, for ever.
    pub async fn tend(&self) -> Infallible {
        loop {
            self.refresh_stale().await;
            let _ = timeout(LOOK, self.look.notified()).await;
        }
    }

    /// Fetches those again that are due, a few at a time.
    pub(super) async fn refresh_stale(&self) {
        let now = self.clock.now();
        let stale = |entry: &Entry| {
            entry
                .known
                .as_ref()
                .is_some_and(|known| known.is_stale(now) && !known.is_forgotten(now))
        };
        let due: Vec<String> = {
            let domains = self.domains();
            let due = domains.iter().filter(|(_, entry)| stale(entry));
            due.map(|(domain, _)| domain.clone()).collect()
        };
        for some in due.chunks(AT_ONCE) {
            join_all(some.iter().map(|domain| self.refresh(domain))).await;
        }
        self.forget(now);
    }

    /// Ahead of its end it is fetched also while its record is away: it goes by the old id.
    async fn refresh(&self, domain: &str) {
        let announced = match self.announced(domain).await {
            Announced::Id(id) => Announced::Id(id),
            _ => self.old_id(domain),
        };
        self.fetch_once(domain, &announced).await;
    }

    fn old_id(&self, domain: &str) -> Announced {
        let domains = self.domains();
        let known = domains.get(domain).and_then(|entry| entry.known.as_ref());
        known.map_or(Announced::Unknown, |known| Announced::Id(known.id.clone()))
    }

    async fn announced(&self, domain: &str) -> Announced {
        match self.resolver.txt(&format!("_mta-sts.{domain}")).await {
            Ok(records) => announced(&records).map_or(Announced::Nothing, Announced::Id),
            Err(error) => {
                debug!(domain, %error, "it is not known whether the domain has an MTA-STS policy");
                Announced::Unknown
            }
        }
    }

    fn note_use(&self, domain: &str) {
        let now = self.clock.now();
        let mut domains = self.domains();
        if let Some(known) = domains.get_mut(domain).and_then(|entry| entry.known.as_mut()) {
            known.used = now;
        }
    }

    fn step(&self, domain: &str, announced: &Announced) -> Step {
        let now = self.clock.now();
        let domains = self.domains();
        let entry = domains.get(domain);
        let failed = entry.and_then(|entry| entry.failed.as_ref()).map(|(at, _)| *at);
        step(entry.and_then(|entry| entry.known.as_ref()), announced, failed, now)
    }

    fn in_force(&self, domain: &str) -> Advice {
        let now = self.clock.now();
        let domains = self.domains();
        let Some(entry) = domains.get(domain) else { return Advice::default() };
        let good = entry.known.as_ref().filter(|known| known.is_good(now));
        Advice {
            policy: good.and_then(in_force).cloned(),
            trouble: entry.failed.as_ref().map(|(_, trouble)| trouble.clone()),
            unknown: false,
        }
    }

    /// Fetches a policy unless somebody else just did.
    async fn fetch_once(&self, domain: &str, announced: &Announced) {
        let turn = self.entry(domain);
        let _turn = turn.lock().await;
        let Announced::Id(id) = announced else { return };
        if matches!(self.step(domain, announced), Step::Use | Step::None) {
            return;
        }
        match self.ask(domain).await {
            Ok(policy) => {
                self.count("fetched");
                self.keep(domain, id.clone(), policy).await;
            }
            Err(trouble) => {
                self.count(match trouble {
                    Trouble::Unreachable(_) => "unreachable",
                    Trouble::Untrusted(_) => "untrusted",
                    Trouble::Invalid(_) => "invalid",
                });
                info!(domain, %trouble, "no new MTA-STS policy; an older one stays in force to its end");
                let failed = Some((self.clock.now(), trouble));
                self.change(domain, |entry| entry.failed = failed);
            }
        }
    }

    async fn keep(&self, domain: &str, id: String, policy: Policy) {
        let now = self.clock.now();
        let known = self.change(domain, |entry| {
            let used = entry.known.take().map_or(now, |old| old.used);
            entry.failed = None;
            entry.known.insert(Known { id, policy, fetched: now, used }).clone()
        });
        let text = known.write();
        if text.len() > MAX_VALUE {
            warn!(domain, "a policy is too long to be kept: it is fetched again after a restart");
            return;
        }
        let key = format!("{PREFIX}{domain}");
        let kept = self.ledger.put(&key, Bytes::from(text), Some(known.expires())).await;
        if let Err(error) = kept {
            warn!(domain, %error, "a policy is not kept: it is fetched again after a restart");
        }
    }

    /// RFC 8461 §3.3
    async fn ask(&self, domain: &str) -> Result<Policy, Trouble> {
        let host = Domain::parse(&format!("mta-sts.{domain}"));
        let host = host.map_err(|error| Trouble::Unreachable(error.to_string()))?;
        let origin = Origin { scheme: Scheme::Https, host, port: 443 };
        let request = FetchRequest {
            method: "GET".to_owned(),
            url: format!("{origin}{PATH}"),
            headers: Vec::new(),
            body: Bytes::new(),
            timeout: PATIENCE,
        };
        let rule = AllowRule { origin, methods: Vec::new(), path_prefix: PATH.to_owned() };
        let allow = Allow {
            rules: vec![rule],
            max_response: MAX_POLICY,
            max_request: 0,
            max_timeout: PATIENCE,
            private: false,
            // RFC 8461 §3.3
            redirects: false,
        };
        let response = self.fetch.fetch(request, &allow).await.map_err(trouble)?;
        read(&response)
    }

    /// The place of a domain, made when it is new.
    fn entry(&self, domain: &str) -> Arc<AsyncMutex<()>> {
        let mut domains = self.domains();
        if domains.len() >= MAX_DOMAINS && !domains.contains_key(domain) {
            let used = |entry: &Entry| entry.known.as_ref().map(|known| known.used);
            let oldest = domains.iter().min_by_key(|(_, entry)| used(entry));
            if let Some(oldest) = oldest.map(|(domain, _)| domain.clone()) {
                domains.remove(&oldest);
            }
        }
        domains.entry(domain.to_owned()).or_default().turn.clone()
    }

    fn change<T>(&self, domain: &str, change: impl FnOnce(&mut Entry) -> T) -> T {
        change(self.domains().entry(domain.to_owned()).or_default())
    }

    /// Lets go of what has ended; the ledger does so by itself. Hosts that failed stay known for as long
    /// as they are left alone.
    fn forget(&self, now: Timestamp) {
        self.domains().retain(|_, entry| {
            let good = entry.known.as_ref().is_some_and(|known| known.is_good(now));
            let failed = entry.failed.as_ref().is_some_and(|(at, _)| is_left_alone(*at, now));
            good || failed || Arc::strong_count(&entry.turn) > 1
        });
    }

    fn count(&self, result: &'static str) {
        self.fetched.get_or_create(&Labels { result }).inc();
    }

    fn domains(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.domains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn trouble(error: FetchError) -> Trouble {
    match error {
        FetchError::Tls(text) => Trouble::Untrusted(text),
        other => Trouble::Unreachable(other.to_string()),
    }
}

fn read(response: &FetchResponse) -> Result<Policy, Trouble> {
    if response.status != 200 {
        return Err(Trouble::Unreachable(format!("the policy host answers {}", response.status)));
    }
    // RFC 8461 §3.2: else who may put pages on a web server could make policies.
    let media = response.headers.iter().find(|(name, _)| name == "content-type");
    let media = media.and_then(|(_, value)| value.split(';').next()).unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("text/plain") {
        return Err(Trouble::Invalid(format!("it is {media:?} and not text/plain")));
    }
    if response.truncated {
        return Err(Trouble::Invalid(format!("it is longer than {MAX_POLICY} octets")));
    }
    Policy::parse(&response.body).map_err(|error| Trouble::Invalid(error.to_string()))
}

#[cfg(test)]
mod tests;
