//! One generation of policy: made off to the side, checked, and never changed once it is in force.

use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::task::AbortHandle;
use tracing::warn;
use waypost_hooks::FaultKind;

use crate::bindings::exports::waypost::policy::lifecycle::PluginInfo;
use crate::compile::{Binary, CompileError, Workshop, aside, component};
use crate::component::{self, Linked, Misfit};
use crate::context::Rights;
use crate::engine::{Hand, Room, Ticker, hall};
use crate::instance::{Failure, Instance, Pool};
use crate::metrics::Series;
use crate::plugin::Plugin;
use crate::services::Shared;
use crate::table::{TableError, Tables};
use crate::{Digest, PluginConfig, PolicyConfig, Stage};

/// One immutable set of plugins.
pub(crate) struct Generation {
    pub(crate) id: u64,
    /// In the order in which they are asked.
    pub(crate) plugins: Vec<Arc<Plugin>>,
    /// For each stage the places of those that answer there.
    by_stage: [Vec<usize>; crate::STAGES.len()],
    /// Timers that run while it is in force.
    pub(crate) timers: Mutex<Vec<AbortHandle>>,
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation").field("id", &self.id).field("plugins", &self.plugins).finish()
    }
}

/// Why a generation cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its file cannot be had or compiled.
    #[error("plugin {plugin}: {error}")]
    Compile {
        /// Which.
        plugin: String,
        /// Why.
        error: CompileError,
    },
    /// It does not fit this host.
    #[error("plugin {plugin}: {misfit}")]
    Misfit {
        /// Which.
        plugin: String,
        /// In what way.
        misfit: Misfit,
    },
    /// It does not begin.
    #[error("plugin {plugin} does not begin: {text}")]
    Init {
        /// Which.
        plugin: String,
        /// What it says, or what went wrong.
        text: String,
    },
    /// It complains of itself.
    #[error("plugin {plugin} fails its own test: {complaint}")]
    SelfTest {
        /// Which.
        plugin: String,
        /// What it says.
        complaint: String,
    },
    /// A table cannot be read.
    #[error("{0}")]
    Table(TableError),
    /// The configuration contradicts itself.
    #[error("plugin {plugin}: {problem}")]
    Configuration {
        /// Which.
        plugin: String,
        /// What is wrong.
        problem: String,
    },
    /// This machine cannot run it.
    #[error("this machine gives no room for the plugins: {0}")]
    Room(String),
    /// One of its components was rolled back and is not loaded again by itself.
    #[error(
        "plugin {plugin}, sha256:{digest}, was rolled back because of its faults; to load it all the \
         same: waypost plugin reload"
    )]
    Bad {
        /// Which.
        plugin: String,
        /// Its component.
        digest: Digest,
    },
}

/// What generations are made with.
#[derive(Debug)]
pub(crate) struct Maker {
    pub(crate) workshop: Workshop,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) series: Arc<Series>,
}

/// A component that is compiled and fits, and the plugin it is for.
struct Ready {
    config: PluginConfig,
    digest: Digest,
    code: Vec<u8>,
}

impl Maker {
    /// Makes a generation; nothing that runs is touched.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(crate) async fn make(
        &self,
        id: u64,
        config: &PolicyConfig,
        mut shared: Shared,
    ) -> Result<Generation, Vec<LoadError>> {
        let mut errors = contradictions(config);
        let files = config.tables.clone();
        match aside(move || Tables::load(&files)).await {
            Ok(tables) => shared.tables = Arc::new(tables),
            Err(wrong) => errors.extend(wrong.into_iter().map(LoadError::Table)),
        }
        shared.limits = Arc::new(config.limits.clone());
        shared.secrets = Arc::new(config.secrets.clone());
        let mut ready = Vec::new();
        for plugin in &config.plugins {
            match self.ready(plugin).await {
                Ok(compiled) => ready.push(compiled),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let ticker = self.ticker.clone();
        let installed = aside(move || install(ready, &ticker)).await?;
        let mut plugins = Vec::new();
        for (ready, linked) in installed {
            match self.begin(id, ready, linked, shared.clone()).await {
                Ok(plugin) => plugins.push(Arc::new(plugin)),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Generation::of(id, plugins)) } else { Err(errors) }
    }

    async fn ready(&self, config: &PluginConfig) -> Result<Ready, LoadError> {
        let failed = |error| LoadError::Compile { plugin: config.name.clone(), error };
        let (path, wanted) = (config.file.clone(), config.digest);
        let binary = aside(move || Binary::read(&path, wanted)).await.map_err(failed)?;
        let code = self.workshop.code(&binary).await.map_err(failed)?;
        Ok(Ready { config: config.clone(), digest: binary.digest, code })
    }

    /// Begins a plugin: its functions are checked, `init` and `self-test` called, and its first instance
    /// waits for the first call.
    async fn begin(
        &self,
        generation: u64,
        ready: Ready,
        (linked, hand): Installed,
        shared: Shared,
    ) -> Result<Plugin, LoadError> {
        let Ready { config, digest, .. } = ready;
        let Linked { pre, hooks, stages } = linked;
        let rights = Arc::new(Rights {
            plugin: config.name.clone(),
            grants: config.grants.clone(),
            services: shared,
            series: self.series.clone(),
            lines: Default::default(),
        });
        let init = |text: String| LoadError::Init { plugin: config.name.clone(), text };
        let running = self.ticker.running();
        let born = Instance::begin(&pre, &hooks, &rights, config.memory, &config.config).await;
        let (mut instance, info) = born.map_err(|failure| init(told(&failure)))?;
        check_interest(info.as_ref()).map_err(init)?;
        let complaints = instance.self_test().await.map_err(|failure| init(told(&failure)))?;
        if !complaints.is_empty() {
            let complaint = complaints.join("; ");
            return Err(LoadError::SelfTest { plugin: config.name.clone(), complaint });
        }
        drop(running);
        for surprise in surprises(&config, &stages) {
            warn!(plugin = config.name, "{surprise}");
        }
        let pool = Pool::new(config.slots, config.memory);
        if !config.isolated {
            pool.give_back(instance);
        }
        let series = &self.series;
        Ok(Plugin {
            lasting: crate::STAGES.map(|stage| series.calls(&config.name, stage)),
            digest,
            generation,
            stages,
            info,
            rights,
            pool,
            pre,
            hooks,
            breakers: Default::default(),
            tallies: Default::default(),
            last_fault: Mutex::default(),
            ticker: self.ticker.clone(),
            hand,
            config,
        })
    }
}

/// A component in the engine that it will run in, and what keeps that one's clock going.
type Installed = (Linked, Arc<Hand>);

/// Looks at each component in an engine of its own, then gives all of them one that has just the room
/// they need.
fn install(ready: Vec<Ready>, ticker: &Ticker) -> Result<Vec<(Ready, Installed)>, Vec<LoadError>> {
    let no_room = |error: wasmtime::Error| vec![LoadError::Room(format!("{error:#}"))];
    let workshop = crate::engine::workshop().map_err(no_room)?;
    let mut room = Room::default();
    let mut errors = Vec::new();
    for Ready { config, code, .. } in &ready {
        let misfit = |misfit| LoadError::Misfit { plugin: config.name.clone(), misfit };
        let component = component(&workshop, code).map_err(no_room)?;
        if let Err(misfits) = component::link(&workshop, &component) {
            errors.extend(misfits.into_iter().map(misfit));
            continue;
        }
        // One slot more, for the instance that is looked at while the others work.
        let slots = u32::try_from(config.slots + 1).unwrap_or(u32::MAX);
        match component::room(&component, slots, config.memory) {
            Ok(more) => room = room.and(more),
            Err(wrong) => errors.push(misfit(wrong)),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let hall = hall(&room).map_err(no_room)?;
    let hand = ticker.wind(&hall);
    let linked = ready.into_iter().map(|ready| {
        let Ready { config, code, .. } = &ready;
        // What the engine has no room for by its very shape, such as a table of millions.
        let too_large = |error: wasmtime::Error| {
            let misfit = Misfit::Type(format!("{error:#}"));
            vec![LoadError::Misfit { plugin: config.name.clone(), misfit }]
        };
        let component = component(&hall, code).map_err(too_large)?;
        let linked = component::link(&hall, &component).map_err(|misfits| {
            let misfit = |misfit| LoadError::Misfit { plugin: config.name.clone(), misfit };
            misfits.into_iter().map(misfit).collect::<Vec<_>>()
        })?;
        Ok((ready, (linked, hand.clone())))
    });
    linked.collect()
}

/// A failure in words for who loads.
fn told(failure: &Failure) -> String {
    match failure.kind {
        FaultKind::Reported => failure.text.clone(),
        FaultKind::Cpu => "it computes without end (over 1 s)".to_owned(),
        FaultKind::Wall => "it waits without end (over 10 s)".to_owned(),
        FaultKind::Memory => format!("it wants more memory than it may have: {}", failure.text),
        _ => failure.text.clone(),
    }
}

fn check_interest(info: Option<&PluginInfo>) -> Result<(), String> {
    let Some(info) = info else { return Ok(()) };
    if info.name.len() > 64 || info.version.len() > 64 {
        return Err("its name or version has over 64 octets".to_owned());
    }
    let interest = &info.interest;
    if interest.headers.len() > 256 || interest.events.len() > 64 || interest.timers.len() > 16 {
        return Err("it wants over 256 fields, 64 kinds of events or 16 timers".to_owned());
    }
    if interest.timers.iter().any(|(_, period)| *period == 0) {
        return Err("it wants a timer with a period of no seconds".to_owned());
    }
    Ok(())
}

/// What contradicts itself in the configuration of plugins.
fn contradictions(config: &PolicyConfig) -> Vec<LoadError> {
    let mut errors = Vec::new();
    for plugin in &config.plugins {
        let mut wrong = |problem: String| {
            errors.push(LoadError::Configuration { plugin: plugin.name.clone(), problem });
        };
        let grants = &plugin.grants;
        for name in grants.tables.iter().filter(|name| !config.tables.contains_key(*name)) {
            wrong(format!("there is no table {name:?} to grant"));
        }
        for name in grants.limits.iter().filter(|name| !config.limits.contains_key(*name)) {
            wrong(format!("there is no limit {name:?} to grant"));
        }
        let secrets = grants.secrets.iter().chain(&grants.reveal);
        for name in secrets.filter(|name| !config.secrets.contains_key(*name)) {
            wrong(format!("there is no secret {name:?} to grant"));
        }
        for (stage, remedy) in &plugin.on_error {
            if !stage.remedies().contains(remedy) {
                wrong(format!("on-error at {stage} cannot be {:?}", remedy.name()));
            }
        }
        // Names stand in metadata (`plugin/key`) and in the keys of what is kept.
        if !is_name(&plugin.name, b"-") {
            wrong("a plugin's name has 1 to 32 of the characters a-z, 0-9 and -".to_owned());
        }
        for name in grants.kv.keys().filter(|name| !is_name(name, b"._-")) {
            wrong(format!(
                "{name:?} is no namespace: it takes 1 to 32 of the characters a-z, 0-9, ._-"
            ));
        }
        if config.plugins.iter().filter(|other| other.name == plugin.name).count() > 1 {
            wrong("another plugin has the same name".to_owned());
        }
    }
    errors
}

fn is_name(text: &str, more: &[u8]) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || more.contains(&b);
    (1..=32).contains(&text.len()) && text.bytes().all(legal)
}

/// What is legal and probably not meant.
fn surprises(config: &PluginConfig, stages: &[Stage]) -> Vec<String> {
    let mut surprises = Vec::new();
    if stages.contains(&Stage::Auth) && !config.grants.auth {
        surprises
            .push("it has an auth-hook, which is not called without the grant auth".to_owned());
    }
    for stage in config.budgets.keys().chain(config.on_error.keys()) {
        if !stages.contains(stage) {
            surprises
                .push(format!("the configuration speaks of {stage}, where it answers nothing"));
        }
    }
    surprises
}

impl Generation {
    pub(crate) fn of(id: u64, plugins: Vec<Arc<Plugin>>) -> Generation {
        let by_stage = crate::STAGES.map(|stage| {
            let answering = plugins.iter().enumerate().filter(|(_, plugin)| plugin.answers(stage));
            answering.map(|(place, _)| place).collect()
        });
        Generation { id, plugins, by_stage, timers: Mutex::default() }
    }

    /// Those that answer at a stage, in order.
    pub(crate) fn at(&self, stage: Stage) -> impl Iterator<Item = &Arc<Plugin>> {
        self.by_stage[stage.index()].iter().map(|place| &self.plugins[*place])
    }

    /// True when nobody answers at a stage.
    pub(crate) fn is_silent(&self, stage: Stage) -> bool {
        self.by_stage[stage.index()].is_empty()
    }

    /// It is not in force any more: its timers end, and its instances but those at work.
    pub(crate) fn retire(&self) {
        let mut timers = self.timers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        timers.drain(..).for_each(|timer| timer.abort());
        drop(timers);
        self.plugins.iter().for_each(|plugin| plugin.pool.retire(true));
    }

    /// As many instances as `old` has free, so that the first calls wait for none to begin. A plugin of
    /// which only the first instance begins is found out here.
    ///
    /// # Errors
    /// When one does not begin.
    pub(crate) async fn warm(&self, old: &Generation) -> Result<(), Vec<LoadError>> {
        for plugin in &self.plugins {
            let like = old.plugins.iter().find(|other| other.name() == plugin.name());
            let wanted = like.map_or(0, |other| other.pool.free());
            plugin.warm(wanted).await.map_err(|failure| {
                vec![LoadError::Init { plugin: plugin.name().to_owned(), text: failure.text }]
            })?;
        }
        Ok(())
    }

    /// It is in force, maybe again.
    pub(crate) fn enlist(&self) {
        self.plugins.iter().for_each(|plugin| plugin.pool.retire(false));
    }

    /// Digests of its components.
    pub(crate) fn digests(&self) -> impl Iterator<Item = Digest> {
        self.plugins.iter().map(|plugin| plugin.digest)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.retire();
    }
}
