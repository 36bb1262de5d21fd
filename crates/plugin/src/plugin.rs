//! One plugin of one generation: asked, bounded, watched.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::{debug, error, info, warn};
use wasmtime::component::InstancePre;
use waypost_hooks::{Fault, FaultKind};
use waypost_mail::{Text, Timestamp};

use crate::bindings::exports::waypost::policy::lifecycle::PluginInfo;
use crate::breaker::{Breaker, Leave, Weight};
use crate::context::{Context, Rights, now};
use crate::engine::{Hand, Ticker};
use crate::instance::{Failure, Instance, Pool, Slot};
use crate::question::{Hooks, Question};
use crate::tally::Tally;
use crate::{Digest, PluginConfig, Stage};

/// One plugin.
pub(crate) struct Plugin {
    pub(crate) config: PluginConfig,
    pub(crate) digest: Digest,
    /// Number of its generation.
    pub(crate) generation: u64,
    pub(crate) stages: Vec<Stage>,
    /// What `init` said; absent when the component has none.
    pub(crate) info: Option<PluginInfo>,
    pub(crate) rights: Arc<Rights>,
    pub(crate) pool: Pool,
    pub(crate) pre: InstancePre<Context>,
    pub(crate) hooks: Hooks,
    pub(crate) breakers: [Mutex<Breaker>; crate::STAGES.len()],
    /// Counts of this generation.
    pub(crate) tallies: [Tally; crate::STAGES.len()],
    /// Counts since the program began.
    pub(crate) lasting: [Arc<Tally>; crate::STAGES.len()],
    pub(crate) last_fault: Mutex<Option<(Timestamp, Stage, String)>>,
    pub(crate) ticker: Arc<Ticker>,
    /// Keeps the epochs of its engine moving.
    #[expect(dead_code, reason = "held, not looked at")]
    pub(crate) hand: Arc<Hand>,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.config.name)
            .field("digest", &self.digest.short())
            .finish_non_exhaustive()
    }
}

/// What came of asking, and how long it took.
pub(crate) type Asked<T> = (Result<T, Fault>, Duration);

impl Plugin {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// True when it answers at this stage, and may.
    pub(crate) fn answers(&self, stage: Stage) -> bool {
        self.stages.contains(&stage) && (stage != Stage::Auth || self.config.grants.auth)
    }

    /// Names of header fields it wants to be told without asking.
    pub(crate) fn wanted_headers(&self) -> &[String] {
        self.info.as_ref().map_or(&[], |info| &info.interest.headers)
    }

    /// True when it wants to be told of events of this kind.
    pub(crate) fn wants(&self, kind: &str) -> bool {
        let events = self.info.as_ref().map_or(&[][..], |info| &info.interest.events);
        events.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(prefix) => kind.starts_with(prefix),
            None => wanted == kind,
        })
    }

    /// Asks, and makes of the answer what `read` makes of it. An answer that `read` refuses is a fault
    /// like any other: nothing of it counts.
    pub(crate) async fn ask<Q: Question, T: Send>(
        &self,
        question: &Q,
        text: Option<Text>,
        read: impl FnOnce(Q::Answer) -> Result<T, String> + Send,
    ) -> Asked<T> {
        let began = now();
        let stage = Q::STAGE;
        let moment = question.moment();
        let leave = self.breaker(stage).ask(moment);
        let result = match leave {
            Leave::Open(since) => {
                let text =
                    format!("it is not asked at {stage} since {since}, because it kept failing");
                Err(self.fault(Failure::new(FaultKind::Busy, text)))
            }
            Leave::Ask | Leave::Probe => {
                let waits = leave == Leave::Probe;
                let mut probe = Probe { plugin: self, stage, waits };
                let answer = self.put(question, text, read).await;
                probe.waits = false;
                self.learn(stage, &answer, moment);
                answer.map_err(|failure| self.fault(failure))
            }
        };
        let took = now().saturating_duration_since(began);
        self.count(stage, &result, took);
        (result, took)
    }

    async fn put<Q: Question, T: Send>(
        &self,
        question: &Q,
        text: Option<Text>,
        read: impl FnOnce(Q::Answer) -> Result<T, String> + Send,
    ) -> Result<T, Failure> {
        // Calls that end at once would otherwise keep a task that makes many from ever giving way.
        tokio::task::coop::consume_budget().await;
        // What is rare is boxed: it would make every call's future as large as its own.
        let slot = match self.pool.free_slot() {
            Some(slot) => slot,
            None => Box::pin(self.pool.slot()).await?,
        };
        let _running = self.ticker.running();
        let mut instance = match self.pool.take(&slot) {
            Some(instance) if !self.config.isolated => instance,
            _ => Box::pin(self.begin(&slot)).await?,
        };
        let answer = instance.put(question, self.config.budget(Q::STAGE), text).await;
        match answer.map(read) {
            Ok(Ok(answer)) => {
                self.keep(instance);
                Ok(answer)
            }
            Ok(Err(problem)) => Err(Failure::new(FaultKind::BadAnswer, problem)),
            Err(failure) if failure.kind == FaultKind::Reported => {
                self.keep(instance);
                Err(failure)
            }
            // Whatever state it is in, nobody meets it again.
            Err(failure) => Err(failure),
        }
    }

    fn keep(&self, instance: Box<Instance>) {
        if !self.config.isolated {
            self.pool.give_back(instance);
        }
    }

    /// A new instance. What it says of itself must be what the first one said.
    async fn begin(&self, _slot: &Slot<'_>) -> Result<Box<Instance>, Failure> {
        self.rights.series.add("policy_instances", &[("plugin", self.name())], 1);
        let config = &self.config;
        let born =
            Instance::begin(&self.pre, &self.hooks, &self.rights, config.memory, &config.config)
                .await;
        let (instance, info) = born.map_err(|failure| {
            Failure::new(FaultKind::Init, format!("{:?}: {}", failure.kind, failure.text))
        })?;
        if !same(info.as_ref(), self.info.as_ref()) {
            let text = "init said something else than when the plugin was loaded";
            return Err(Failure::new(FaultKind::Init, text));
        }
        Ok(instance)
    }

    /// Begins so many instances as are missing, as far as there are slots.
    pub(crate) async fn warm(&self, wanted: usize) -> Result<(), Failure> {
        if self.config.isolated {
            return Ok(());
        }
        for _ in self.pool.free()..wanted.min(self.config.slots) {
            let slot = self.pool.slot().await?;
            let _running = self.ticker.running();
            let instance = self.begin(&slot).await?;
            self.keep(instance);
        }
        Ok(())
    }

    fn learn<T>(&self, stage: Stage, answer: &Result<T, Failure>, asked: Timestamp) {
        let mut breaker = self.breaker(stage);
        let Err(failure) = answer else {
            let was_open = breaker.open_since().is_some();
            breaker.went_well(asked);
            if was_open {
                info!(plugin = self.name(), %stage, "the plugin answers again");
                self.show_breaker(stage, 0);
            }
            return;
        };
        let now = self.clock_now();
        let weight = match failure.kind {
            FaultKind::Reported | FaultKind::Busy => Weight::Half,
            _ => Weight::Whole,
        };
        if breaker.failed(weight, now) {
            error!(
                plugin = self.name(), generation = self.generation, %stage, last = failure.text,
                "a plugin keeps failing and is not asked for a while; mail fares as its on-error says"
            );
            self.show_breaker(stage, 1);
        }
        drop(breaker);
        warn!(
            plugin = self.name(), generation = self.generation, digest = %self.digest.short(),
            %stage, kind = ?failure.kind, error = failure.text, "a plugin failed"
        );
        let mut last = self.last_fault.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((now, stage, format!("{:?}: {}", failure.kind, failure.text)));
    }

    fn show_breaker(&self, stage: Stage, open: i64) {
        let labels = [("plugin", self.name()), ("stage", stage.name())];
        self.rights.series.set("policy_breaker_open", &labels, open);
    }

    fn count<T>(&self, stage: Stage, result: &Result<T, Fault>, took: Duration) {
        self.tallies[stage.index()].count(result.is_ok(), took);
        self.lasting[stage.index()].count(result.is_ok(), took);
        if let Err(fault) = result {
            let series = &self.rights.series;
            let kind = format!("{:?}", fault.kind).to_ascii_lowercase();
            let labels = [("plugin", self.name()), ("stage", stage.name()), ("kind", &kind)];
            series.add("policy_faults", &labels, 1);
        }
        debug!(plugin = self.name(), %stage, ?took, ok = result.is_ok(), "plugin asked");
    }

    fn fault(&self, failure: Failure) -> Fault {
        Fault { who: self.config.name.clone(), kind: failure.kind, text: failure.text }
    }

    pub(crate) fn breaker(&self, stage: Stage) -> std::sync::MutexGuard<'_, Breaker> {
        self.breakers[stage.index()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clock_now(&self) -> Timestamp {
        self.rights.services.services.clock.now()
    }
}

/// A call on its way. When its future is dropped (the peer is gone) the breaker must not wait for a
/// word that never comes.
struct Probe<'a> {
    plugin: &'a Plugin,
    stage: Stage,
    /// The breaker waits for what comes of this call.
    waits: bool,
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if self.waits {
            self.plugin.breaker(self.stage).left(self.plugin.clock_now());
        }
    }
}

/// Generated types cannot be compared.
fn same(one: Option<&PluginInfo>, other: Option<&PluginInfo>) -> bool {
    let parts = |info: &PluginInfo| {
        let interest = &info.interest;
        (
            (info.name.clone(), info.version.clone()),
            (interest.headers.clone(), interest.events.clone(), interest.timers.clone()),
        )
    };
    one.map(parts) == other.map(parts)
}
