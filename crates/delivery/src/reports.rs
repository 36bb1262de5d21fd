//! Reports about TLS: what was found out with each domain's hosts is counted, and told once a day to who
//! asks for it (RFC 8460).

mod tally;
mod text;

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::time::sleep;
use tracing::{info, warn};
use waypost_dns::Resolver;
use waypost_dns::tlsrpt::{ReportTo, report_to};
use waypost_intake::{Intake, OwnMail};
use waypost_mail::{
    Allow, AllowRule, Clock, Fetch, FetchRequest, Ledger, LedgerError, Origin, SignRequest,
    Timestamp,
};
use waypost_smtp::Mailbox;

use self::tally::Tally;
use self::text::About;

pub(crate) use self::tally::{Applied, Failure as Finding, FailureKind, Session};

/// Where days of domains are in the ledger.
const PREFIX: &str = "delivery/tls-report/";
/// Days of domains that are counted at a time; what goes beyond is not.
const MAX_TALLIES: usize = 10_000;
/// Days of domains that are remembered to want no report; more are asked again.
const MAX_UNWANTED: usize = 50_000;
/// Domains whose reports are looked after at a time.
const AT_ONCE: usize = 16;
/// How often counts are kept, and it is looked what is to be sent. What a crash can lose.
const LOOK: Duration = Duration::from_secs(300);
/// Reports leave within so long after midnight, each domain's at a moment of its own (RFC 8460 §4.1).
const SPREAD: Duration = Duration::from_secs(4 * 3600);
/// A report that nobody takes is dropped so long after it was due (RFC 8460 §3).
const GIVEN_UP: Duration = Duration::from_secs(86_400);
/// For one report by HTTPS.
const PATIENCE: Duration = Duration::from_secs(60);
/// Largest report, compressed.
const MAX_REPORT: usize = 256 * 1024;

/// How reports are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportsConfig {
    /// Who we are, for people.
    pub organization: String,
    /// Whom reports by mail come from.
    pub from: Mailbox,
    /// Where to ask about them: an address or a URL.
    pub contact: String,
    /// This relay's name.
    pub submitter: String,
    /// How reports by mail are signed (RFC 8460 §3 asks for it); without it they are sent unsigned.
    pub sign: Option<SignRequest>,
}

/// What reports stand on.
#[derive(Debug, Clone)]
pub struct ReportsParts {
    /// Where domains say who wants reports.
    pub resolver: Arc<dyn Resolver>,
    /// The way out for reports by HTTPS.
    pub fetch: Arc<dyn Fetch>,
    /// The way out for reports by mail.
    pub intake: Arc<Intake>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
}

/// Counts, and tells. One for the whole program.
pub struct Reports {
    config: ReportsConfig,
    parts: ReportsParts,
    ledger: Arc<dyn Ledger>,
    state: Mutex<State>,
    sent: Family<Labels, Counter>,
}

#[derive(Debug, Default)]
struct State {
    tallies: HashMap<About, Tally>,
    /// Those that are not kept as they stand.
    dirty: HashSet<About>,
    /// Those that nobody wants.
    unwanted: HashSet<About>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    way: &'static str,
    result: &'static str,
}

impl State {
    fn drop_unwanted(&mut self, about: &About) {
        self.tallies.remove(about);
        if self.unwanted.len() < MAX_UNWANTED {
            self.unwanted.insert(about.clone());
        }
    }
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reports").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Reports {
    /// Goes on with what `ledger` keeps.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn open(
        config: ReportsConfig,
        parts: ReportsParts,
        ledger: Arc<dyn Ledger>,
    ) -> Result<Reports, LedgerError> {
        let kept = ledger.list(PREFIX, MAX_TALLIES, parts.clock.now()).await?;
        let entry = |(key, value): (String, Bytes)| Some((about(&key)?, Tally::read(&value)?));
        let tallies = kept.into_iter().filter_map(entry).collect();
        let state = Mutex::new(State { tallies, ..State::default() });
        Ok(Reports { config, parts, ledger, state, sent: Family::default() })
    }

    /// Adds `tls_reports` (labels `way`: mail, web; `result`: sent, failed).
    pub fn register(&self, registry: &mut Registry) {
        registry.register("tls_reports", "Reports about TLS to domains", self.sent.clone());
    }

    /// Counts a session with a host of `domain`.
    pub(crate) fn count(&self, domain: &str, session: Session) {
        let domain = domain.to_ascii_lowercase();
        let about = About { day: About::day_of(self.parts.clock.now()), domain };
        let mut state = self.state();
        let full = state.tallies.len() >= MAX_TALLIES && !state.tallies.contains_key(&about);
        if full || state.unwanted.contains(&about) {
            return;
        }
        state.tallies.entry(about.clone()).or_default().add(session);
        state.dirty.insert(about);
    }

    /// Keeps and sends, for ever.
    pub async fn tend(&self) -> Infallible {
        loop {
            sleep(LOOK).await;
            self.keep().await;
            self.send_due().await;
        }
    }

    /// Keeps what was counted since the last time, of domains that want reports.
    pub async fn keep(&self) {
        let dirty = self.take_dirty();
        for some in dirty.chunks(AT_ONCE) {
            join_all(some.iter().map(|about| self.keep_wanted(about))).await;
        }
        let today = About::day_of(self.parts.clock.now());
        self.state().unwanted.retain(|about| about.day >= today);
    }

    /// Keeps what was counted since the last time, whoever wants it: where there is no time to ask.
    pub async fn store(&self) {
        for about in self.take_dirty() {
            self.write(&about).await;
        }
    }

    fn take_dirty(&self) -> Vec<About> {
        self.state().dirty.drain().collect()
    }

    async fn keep_wanted(&self, about: &About) {
        let wanted = self.places(&about.domain).await;
        if wanted.as_ref().is_some_and(Vec::is_empty) {
            self.state().drop_unwanted(about);
        } else {
            self.write(about).await;
        }
    }

    /// Sends the reports of days that are over.
    pub async fn send_due(&self) {
        let now = self.parts.clock.now();
        let due: Vec<(About, Tally)> = {
            let state = self.state();
            let due = state.tallies.iter().filter(|(about, _)| now >= due(about));
            due.map(|(about, tally)| (about.clone(), tally.clone())).collect()
        };
        let mut due = due.into_iter();
        loop {
            // One that is slow to answer keeps few waiting.
            let some: Vec<_> = due
                .by_ref()
                .take(AT_ONCE)
                .map(|(about, tally)| self.send(about, tally, now))
                .collect();
            if some.is_empty() {
                return;
            }
            join_all(some).await;
        }
    }

    async fn send(&self, about: About, mut tally: Tally, now: Timestamp) {
        let overdue = now.since(due(&about)) >= GIVEN_UP;
        // DNS that does not answer says nothing about what is wanted.
        let places = self.places(&about.domain).await;
        let mut left = places.is_none();
        match text::compressed(&self.config, &about, &tally) {
            Ok(report) if report.len() <= MAX_REPORT => {
                for place in places.unwrap_or_default() {
                    let name = name(&place);
                    if tally.sent.contains(&name) {
                        continue;
                    }
                    if self.send_to(&place, &about, &report, now).await {
                        tally.sent.push(name);
                    } else {
                        left = true;
                    }
                }
            }
            _ => warn!(domain = about.domain, "a report about TLS cannot be made, dropped"),
        }
        if left && !overdue {
            self.state().tallies.insert(about.clone(), tally);
            self.write(&about).await;
            return;
        }
        if left {
            warn!(domain = about.domain, "nobody takes the report about TLS, given up");
        }
        self.state().tallies.remove(&about);
        if let Err(error) = self.ledger.remove(&key(&about)).await {
            warn!(domain = about.domain, %error, "a report about TLS may be sent once more");
        }
    }

    async fn send_to(
        &self,
        place: &ReportTo,
        about: &About,
        report: &[u8],
        now: Timestamp,
    ) -> bool {
        let (way, sent) = match place {
            ReportTo::Mail(to) => ("mail", self.mail(to, about, report, now).await),
            ReportTo::Web(url) => ("web", self.post(url, report).await),
        };
        let domain = about.domain.as_str();
        match &sent {
            Ok(()) => info!(domain, to = name(place), "report about TLS sent"),
            Err(error) => warn!(domain, to = name(place), error, "report about TLS not sent"),
        }
        let result = if sent.is_ok() { "sent" } else { "failed" };
        self.sent.get_or_create(&Labels { way, result }).inc();
        sent.is_ok()
    }

    async fn mail(
        &self,
        to: &Mailbox,
        about: &About,
        report: &[u8],
        now: Timestamp,
    ) -> Result<(), String> {
        let (header, body) = text::mail(&self.config, about, to, report, now);
        let mail = OwnMail {
            to: to.clone(),
            header: Bytes::from(header),
            body: Bytes::from(body),
            sign: self.config.sign.iter().cloned().collect(),
            // RFC 8460 §3: a report about broken TLS must get through it.
            tls_optional: true,
        };
        self.parts.intake.post(mail).await.map(|_| ()).map_err(|reply| reply.to_string())
    }

    /// RFC 8460 §5.4
    async fn post(&self, url: &str, report: &[u8]) -> Result<(), String> {
        let origin = origin(url).ok_or("it is no URL that can be asked")?;
        let request = FetchRequest {
            method: "POST".to_owned(),
            url: url.to_owned(),
            headers: vec![("Content-Type".to_owned(), "application/tlsrpt+gzip".to_owned())],
            body: Bytes::copy_from_slice(report),
            timeout: PATIENCE,
        };
        let methods = vec!["POST".to_owned()];
        let rule = AllowRule { origin, methods, path_prefix: "/".to_owned() };
        let allow = Allow {
            rules: vec![rule],
            max_response: 4096,
            max_request: MAX_REPORT,
            max_timeout: PATIENCE,
            private: false,
            redirects: true,
        };
        let answer = self.parts.fetch.fetch(request, &allow).await.map_err(|e| e.to_string())?;
        match answer.status {
            200..=299 => Ok(()),
            status => Err(format!("it answers {status}")),
        }
    }

    /// Where the domain wants reports; absent when DNS does not answer.
    async fn places(&self, domain: &str) -> Option<Vec<ReportTo>> {
        let records = self.parts.resolver.txt(&format!("_smtp._tls.{domain}")).await;
        records.ok().map(|records| report_to(&records))
    }

    async fn write(&self, about: &About) {
        let Some(text) = self.state().tallies.get(about).map(Tally::write) else { return };
        let ends = due(about).after(GIVEN_UP * 2);
        let kept = self.ledger.put(&key(about), Bytes::from(text), Some(ends)).await;
        if let Err(error) = kept {
            warn!(domain = about.domain, %error, "counts for a report about TLS are not kept");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a day's report leaves.
fn due(about: &About) -> Timestamp {
    let mut hasher = DefaultHasher::new();
    about.domain.hash(&mut hasher);
    let seconds = hasher.finish() % SPREAD.as_secs();
    about.over().after(Duration::from_secs(seconds))
}

fn key(about: &About) -> String {
    format!("{PREFIX}{}/{}", about.day, about.domain)
}

fn about(key: &str) -> Option<About> {
    let (day, domain) = key.strip_prefix(PREFIX)?.split_once('/')?;
    Some(About { day: day.parse().ok()?, domain: domain.to_owned() })
}

fn name(place: &ReportTo) -> String {
    match place {
        ReportTo::Mail(mailbox) => mailbox.to_string(),
        ReportTo::Web(url) => url.clone(),
    }
}

fn origin(url: &str) -> Option<Origin> {
    let authority = url.split_once("://")?.1;
    let end = authority.find(['/', '?', '#']).unwrap_or(authority.len());
    format!("https://{}", &authority[..end]).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_found_again_by_their_keys() {
        let one = About { day: 20_000, domain: "there.example".into() };
        assert_eq!(about(&key(&one)), Some(one.clone()));
        let late = due(&one).since(one.over());
        assert!(late < SPREAD, "{late:?}");
        for bad in ["delivery/tls-report/x/y", "delivery/tls-report/1", "other/1/x"] {
            assert_eq!(about(bad), None);
        }
    }

    #[test]
    fn what_nobody_wants_is_remembered_only_so_far() {
        let mut state = State::default();
        for number in 0..MAX_UNWANTED + 10 {
            let about = About { day: 20_000, domain: format!("d{number}.example") };
            state.tallies.insert(about.clone(), Tally::default());
            state.drop_unwanted(&about);
        }
        assert_eq!((state.tallies.len(), state.unwanted.len()), (0, MAX_UNWANTED));
    }

    #[test]
    fn reports_go_to_the_origin_of_their_url() {
        let shown = |url| origin(url).map(|origin| origin.to_string());
        assert_eq!(shown("https://r.example/v1?x").as_deref(), Some("https://r.example"));
        assert_eq!(shown("HTTPS://r.example:8443").as_deref(), Some("https://r.example:8443"));
        assert_eq!(shown("https://u@r.example/"), None);
    }
}
