//! The policy in force, and how another one takes its place while mail flows.
//!
//! A generation is made off to the side and put in force by one swap. A transaction keeps the generation
//! it began with ([`waypost_hooks::Hooks::pin`]); what asks without one is answered by the current one.
//! A canary answers for a share of the transactions until it has proved itself or is rolled back.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::broadcast;
use tokio::task::AbortHandle;
use tracing::{error, info, warn};
use waypost_history::Pen;
use waypost_mail::Timestamp;

use crate::audit::{Audit, Line, moment};
use crate::bucket::Buckets;
use crate::canary::breach;
use crate::compile::Workshop;
use crate::decision::Journal;
use crate::engine::Ticker;
use crate::generation::{Generation, Maker};
use crate::kv::Store;
use crate::metrics::Series;
use crate::services::{Services, Shared};
use crate::tally::Counts;
use crate::turn::Turn;
use crate::{CompileError, Decision, Digest, HostConfig, LoadError, PolicyConfig};

/// How often a canary is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The policy in force. One for the whole program.
#[derive(Debug)]
pub struct Policy {
    live: ArcSwap<Live>,
    maker: Maker,
    services: Services,
    kv: Arc<Store>,
    buckets: Arc<Buckets>,
    journal: Arc<Journal>,
    calls: AtomicU64,
    audit: Audit,
    keep: usize,
    /// Held while a generation is made and put in force: one at a time.
    changing: tokio::sync::Mutex<()>,
    book: Mutex<Book>,
    writer: AbortHandle,
}

/// What answers now.
#[derive(Debug)]
struct Live {
    current: Arc<Generation>,
    canary: Option<Canary>,
}

/// A generation on trial.
#[derive(Debug)]
struct Canary {
    generation: Arc<Generation>,
    percent: u8,
    since: Timestamp,
    until: Timestamp,
    who: String,
    /// The counts of the current generation when the trial began.
    before: Counts,
}

/// What is remembered of generations.
#[derive(Debug, Default)]
struct Book {
    last_id: u64,
    /// The current one last.
    kept: Vec<Kept>,
    /// Components that were rolled back by themselves.
    bad: HashSet<Digest>,
}

#[derive(Debug, Clone)]
struct Kept {
    generation: Arc<Generation>,
    since: Timestamp,
    who: String,
}

/// Why the room cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory of compiled plugins does not work.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The audit log cannot be opened.
    #[error("cannot open the audit log of policy {path}: {error}")]
    Audit {
        /// The file.
        path: std::path::PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// What plugins keep cannot be read.
    #[error("what plugins keep (kv) cannot be read: {0}")]
    Ledger(#[from] waypost_mail::LedgerError),
    /// No thread can be started.
    #[error("no thread can be started: {0}")]
    Thread(std::io::Error),
    /// The first generation cannot be made.
    #[error("{}", lines(.0))]
    Load(Vec<LoadError>),
}

/// How a generation is to come into force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Who asks, for the audit log.
    pub who: String,
    /// On trial first, for this percentage of the transactions and this long.
    pub canary: Option<(u8, Duration)>,
    /// Also components that were rolled back because of their faults.
    pub insist: bool,
}

impl Change {
    /// At once, for everybody.
    pub fn by(who: impl Into<String>) -> Change {
        Change { who: who.into(), canary: None, insist: false }
    }
}

/// One generation, for operators.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GenerationInfo {
    /// Its number.
    pub id: u64,
    /// `current`, `canary at N %` or `kept`.
    pub state: String,
    /// Since when.
    pub since: Timestamp,
    /// Who asked for it.
    pub who: String,
    /// Name and digest of its plugins.
    pub plugins: Vec<(String, String)>,
}

/// Errors, one a line.
pub fn lines(errors: &[LoadError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Policy {
    /// Opens the room and puts a first generation in force.
    ///
    /// # Errors
    /// When anything is wrong with it: a relay does not start without the policy it was told to have.
    pub async fn open(
        host: &HostConfig,
        config: &PolicyConfig,
        services: Services,
    ) -> Result<Arc<Policy>, OpenError> {
        let workshop = Workshop::open(host.compiler.clone(), &host.directory)?;
        let ticker = Ticker::start().map_err(OpenError::Thread)?;
        let maker = Maker { workshop, ticker, series: Arc::default() };
        let kv = Arc::new(Store::load(&*services.ledger, services.clock.clone()).await?);
        let buckets = Arc::new(Buckets::default());
        let path = host.directory.join("audit.log");
        let audit = Audit::open(&path).map_err(|error| OpenError::Audit { path, error })?;
        let shared = shared(&services, &kv, &buckets);
        let first = maker.make(1, config, shared).await.map_err(OpenError::Load)?;
        let writer = write_behind(&kv, &services);
        let first = Arc::new(first);
        let now = services.clock.now();
        let kept = Kept { generation: first.clone(), since: now, who: "start".to_owned() };
        let policy = Arc::new(Policy {
            live: ArcSwap::from_pointee(Live { current: first.clone(), canary: None }),
            maker,
            services,
            kv,
            buckets,
            journal: Arc::default(),
            calls: AtomicU64::new(1),
            audit,
            keep: host.keep.max(1),
            changing: tokio::sync::Mutex::default(),
            book: Mutex::new(Book { last_id: 1, kept: vec![kept], bad: HashSet::new() }),
            writer,
        });
        policy.wind_timers(&first);
        policy.note("start", "loaded", &first, "");
        policy.maker.series.set("policy_generation", &[], 1);
        Ok(policy)
    }

    /// What is counted, for the registry.
    pub fn metrics(&self) -> Arc<Series> {
        self.maker.series.clone()
    }

    /// Writes decisions into a history from now on.
    pub fn keep_history(&self, pen: Pen) {
        self.journal.keep(pen);
    }

    /// Decisions from now on; who lags far behind misses some.
    pub fn watch(&self) -> broadcast::Receiver<Decision> {
        self.journal.watch()
    }

    /// Makes a generation of `config` and puts it in force, or on trial.
    ///
    /// # Errors
    /// Everything that is wrong; what is in force stays.
    pub async fn reload(
        self: &Arc<Self>,
        config: &PolicyConfig,
        change: Change,
    ) -> Result<GenerationInfo, Vec<LoadError>> {
        let _changing = self.changing.lock().await;
        let id = {
            let mut book = self.book();
            book.last_id += 1;
            book.last_id
        };
        let shared = shared(&self.services, &self.kv, &self.buckets);
        let made = self.maker.make(id, config, shared).await;
        let made = made.and_then(|made| match self.bad(&made, &change) {
            errors if errors.is_empty() => Ok(made),
            errors => Err(errors),
        });
        let made = match made {
            Ok(made) => {
                let current = self.current();
                made.warm(&current).await.map(|()| made)
            }
            Err(errors) => Err(errors),
        };
        let generation = match made {
            Ok(made) => Arc::new(made),
            Err(errors) => {
                let nobody = Generation::of(id, Vec::new());
                self.note(&change.who, "refused", &nobody, &lines(&errors));
                self.maker.series.add("policy_reloads", &[("result", "refused")], 1);
                return Err(errors);
            }
        };
        self.maker.series.add("policy_reloads", &[("result", "loaded")], 1);
        match change.canary {
            None => {
                self.put_in_force(generation.clone(), &change.who, "loaded");
                self.buckets.keep_only(&config.limits);
            }
            Some((percent, how_long)) => {
                self.put_on_trial(generation.clone(), percent.min(100), how_long, &change.who);
            }
        }
        let book = self.book();
        let wanted: Vec<Digest> = book
            .kept
            .iter()
            .flat_map(|kept| kept.generation.digests())
            .chain(generation.digests())
            .collect();
        drop(book);
        self.maker.workshop.clean(&wanted);
        Ok(self.info(&generation))
    }

    fn bad(&self, made: &Generation, change: &Change) -> Vec<LoadError> {
        if change.insist {
            return Vec::new();
        }
        let book = self.book();
        let bad = made.plugins.iter().filter(|plugin| book.bad.contains(&plugin.digest));
        bad.map(|plugin| LoadError::Bad { plugin: plugin.name().to_owned(), digest: plugin.digest })
            .collect()
    }

    /// Puts a kept generation in force again: the one before the current one, or the one of this number.
    ///
    /// # Errors
    /// When there is none.
    pub async fn rollback(
        self: &Arc<Self>,
        id: Option<u64>,
        who: &str,
    ) -> Result<GenerationInfo, String> {
        let _changing = self.changing.lock().await;
        if id.is_none() && self.live.load().canary.is_some() {
            self.end_trial("rolled back", who, "by hand", false);
            return Ok(self.info(&self.live.load().current));
        }
        let current = self.live.load().current.id;
        let known: Vec<u64> = self.book().kept.iter().map(|kept| kept.generation.id).collect();
        let generation = {
            let book = self.book();
            let wanted = |kept: &&Kept| match id {
                Some(id) => kept.generation.id == id,
                None => kept.generation.id != current,
            };
            book.kept.iter().rev().find(wanted).map(|kept| kept.generation.clone())
        };
        match generation {
            Some(generation) => {
                self.put_in_force(generation.clone(), who, "rolled back");
                Ok(self.info(&generation))
            }
            None if known.len() == 1 => {
                Err("there is no earlier generation to go back to".to_owned())
            }
            None => {
                let known: Vec<String> = known.iter().map(ToString::to_string).collect();
                Err(format!("there is no such generation; kept are {}", known.join(", ")))
            }
        }
    }

    fn put_in_force(self: &Arc<Self>, generation: Arc<Generation>, who: &str, what: &str) {
        generation.enlist();
        let before = self.live.swap(Arc::new(Live { current: generation.clone(), canary: None }));
        if before.current.id != generation.id {
            before.current.retire();
        }
        if let Some(canary) = before.canary.as_ref().filter(|c| c.generation.id != generation.id) {
            canary.generation.retire();
        }
        self.wind_timers(&generation);
        let kept = Kept {
            generation: generation.clone(),
            since: self.services.clock.now(),
            who: who.to_owned(),
        };
        let mut book = self.book();
        book.kept.retain(|known| known.generation.id != generation.id);
        book.kept.push(kept);
        let over = book.kept.len().saturating_sub(self.keep);
        book.kept.drain(..over);
        drop(book);
        self.maker.series.set("policy_generation", &[], i64::try_from(generation.id).unwrap_or(0));
        info!(generation = generation.id, who, "policy {what}");
        self.note(who, what, &generation, "");
    }

    fn put_on_trial(
        self: &Arc<Self>,
        generation: Arc<Generation>,
        percent: u8,
        how_long: Duration,
        who: &str,
    ) {
        let live = self.live.load();
        let since = self.services.clock.now();
        let until = since.after(how_long);
        let canary = Canary {
            generation: generation.clone(),
            percent,
            since,
            until,
            who: who.to_owned(),
            before: counts(&live.current),
        };
        let old =
            self.live.swap(Arc::new(Live { current: live.current.clone(), canary: Some(canary) }));
        if let Some(replaced) = &old.canary {
            replaced.generation.retire();
        }
        info!(generation = generation.id, percent, %until, who, "policy on trial");
        self.note(who, "canary", &generation, &format!("{percent} % until {until}"));
        let (policy, id) = (Arc::downgrade(self), generation.id);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let Some(policy) = policy.upgrade() else { return };
                if policy.look_at_trial(id).await {
                    return;
                }
            }
        });
    }

    /// Ends the trial of a generation when there is a reason to. True when it is over.
    async fn look_at_trial(self: &Arc<Self>, id: u64) -> bool {
        let _changing = self.changing.lock().await;
        let live = self.live.load_full();
        let Some(canary) = live.canary.as_ref().filter(|canary| canary.generation.id == id) else {
            return true;
        };
        let old = counts(&live.current).since(&canary.before);
        let new = counts(&canary.generation);
        if let Some(why) = breach(&old, &new) {
            self.end_trial("rolled back", "canary", &why, true);
            return true;
        }
        if self.services.clock.now() >= canary.until {
            let generation = canary.generation.clone();
            self.put_in_force(generation, "canary", "promoted");
            return true;
        }
        false
    }

    fn end_trial(&self, what: &str, who: &str, why: &str, bad: bool) {
        let live = self.live.load_full();
        let Some(canary) = &live.canary else { return };
        self.live.store(Arc::new(Live { current: live.current.clone(), canary: None }));
        canary.generation.retire();
        if bad {
            let running: HashSet<Digest> = live.current.digests().collect();
            let new = canary.generation.digests().filter(|digest| !running.contains(digest));
            self.book().bad.extend(new);
            error!(
                generation = canary.generation.id,
                why, "the new policy was rolled back by itself"
            );
        } else {
            warn!(generation = canary.generation.id, why, "the new policy was rolled back");
        }
        self.maker.series.add("policy_reloads", &[("result", "rolled-back")], 1);
        self.note(who, what, &canary.generation, why);
    }

    /// The generations that are kept, the current one first, and the one on trial.
    pub fn generations(&self) -> Vec<GenerationInfo> {
        let live = self.live.load();
        let trial = live.canary.as_ref().map(|canary| self.info(&canary.generation));
        let book = self.book();
        let kept: Vec<Arc<Generation>> =
            book.kept.iter().rev().map(|kept| kept.generation.clone()).collect();
        drop(book);
        trial.into_iter().chain(kept.iter().map(|generation| self.info(generation))).collect()
    }

    fn info(&self, generation: &Generation) -> GenerationInfo {
        let live = self.live.load();
        let trial = live.canary.as_ref().filter(|canary| canary.generation.id == generation.id);
        let state = match trial {
            _ if live.current.id == generation.id => "current".to_owned(),
            Some(canary) => format!("canary at {} % until {}", canary.percent, canary.until),
            None => "kept".to_owned(),
        };
        let book = self.book();
        let kept = book.kept.iter().find(|kept| kept.generation.id == generation.id);
        let kept = kept.map(|kept| (kept.since, kept.who.clone()));
        let trial = trial.map(|canary| (canary.since, canary.who.clone()));
        let begun = trial.or(kept);
        let (since, who) = begun.unwrap_or_else(|| (self.services.clock.now(), String::new()));
        GenerationInfo { id: generation.id, state, since, who, plugins: names(generation) }
    }

    pub(crate) fn current(&self) -> Arc<Generation> {
        self.live.load().current.clone()
    }

    /// Who answers for this transaction or session: all of it is answered by one generation.
    pub(crate) fn chosen(&self, key: u64) -> Arc<Generation> {
        let live = self.live.load();
        match &live.canary {
            Some(canary) if share(key) < canary.percent => canary.generation.clone(),
            _ => live.current.clone(),
        }
    }

    pub(crate) fn turn<'a>(&'a self, generation: &'a Arc<Generation>) -> Turn<'a> {
        Turn { generation, journal: &self.journal, calls: &self.calls }
    }

    /// Starts the timers of a generation; they end when it is retired.
    fn wind_timers(self: &Arc<Self>, generation: &Arc<Generation>) {
        let mut handles = Vec::new();
        for plugin in generation.at(crate::Stage::Timer) {
            let timers = plugin.info.as_ref().map_or(&[][..], |info| &info.interest.timers);
            let Some(timers) = (!timers.is_empty()).then(|| timers.to_vec()) else { continue };
            let turn = tokio::sync::Mutex::new(());
            let turn = Arc::new(turn);
            for (name, period) in timers {
                let (policy, turn) = (Arc::downgrade(self), turn.clone());
                let (generation, plugin) = (Arc::downgrade(generation), Arc::downgrade(plugin));
                let task = tokio::spawn(async move {
                    let period = Duration::from_secs(period.into());
                    loop {
                        tokio::time::sleep(period).await;
                        let (Some(policy), Some(generation), Some(plugin)) =
                            (policy.upgrade(), generation.upgrade(), plugin.upgrade())
                        else {
                            return;
                        };
                        let _turn = turn.lock().await;
                        policy.turn(&generation).timer(&plugin, &name).await;
                    }
                });
                handles.push(task.abort_handle());
            }
        }
        let mut timers = generation.timers.lock().unwrap_or_else(PoisonError::into_inner);
        timers.drain(..).for_each(|timer| timer.abort());
        *timers = handles;
    }

    fn note(&self, who: &str, what: &str, generation: &Generation, detail: &str) {
        self.audit.add(&Line {
            at: moment(self.services.clock.now()),
            who,
            what,
            generation: generation.id,
            plugins: names(generation),
            detail,
        });
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what plugins keep to disk now; before the program ends.
    ///
    /// # Errors
    /// When storage fails.
    pub async fn flush(&self) -> Result<(), waypost_mail::LedgerError> {
        self.kv.write(&*self.services.ledger).await
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

fn shared(services: &Services, kv: &Arc<Store>, buckets: &Arc<Buckets>) -> Shared {
    Shared {
        services: services.clone(),
        kv: kv.clone(),
        buckets: buckets.clone(),
        tables: Arc::default(),
        limits: Arc::default(),
        secrets: Arc::default(),
    }
}

fn write_behind(kv: &Arc<Store>, services: &Services) -> AbortHandle {
    let (kv, ledger) = (kv.clone(), services.ledger.clone());
    tokio::spawn(async move { kv.write_behind(&*ledger).await }).abort_handle()
}

fn names(generation: &Generation) -> Vec<(String, String)> {
    let plugins = generation.plugins.iter();
    plugins.map(|plugin| (plugin.name().to_owned(), plugin.digest.to_string())).collect()
}

fn counts(generation: &Generation) -> Counts {
    let plugins = generation.plugins.iter().flat_map(|plugin| &plugin.tallies);
    plugins.fold(Counts::default(), |sum, tally| sum.and(&tally.counts()))
}

/// A number below 100 that is the same for the same key and even over all keys.
fn share(key: u64) -> u8 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    (hasher.finish() % 100) as u8
}

/// Validates a configuration without a running policy: for `waypost check` and tools.
///
/// # Errors
/// Everything that is wrong.
pub async fn try_out(
    directory: &Path,
    host: &HostConfig,
    config: &PolicyConfig,
    services: Services,
) -> Result<(), OpenError> {
    let host = HostConfig { directory: directory.to_owned(), ..host.clone() };
    Policy::open(&host, config, services).await.map(drop)
}
