//! A host with plugins at work, and the questions that the mail path would put to it.

#![allow(dead_code, unreachable_pub, reason = "every test takes of it what it needs")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

pub mod cache;
pub mod doubles;
pub mod forge;
#[path = "../../src/testing.rs"]
pub mod ledger;
pub mod mail;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::broadcast::Receiver;
use waypost_hooks::{Fault, FaultKind};
use waypost_mail::{Clock, ManualClock, Timestamp};
use waypost_plugin::{
    Answers, Change, Compiler, Decision, GenerationInfo, HostConfig, LoadError, OnError, OpenError,
    PluginConfig, Policy, PolicyConfig, Services, Stage,
};

use cache::Cache;
use doubles::{Names, Web};
use ledger::MemoryLedger;

/// A day in 2026: answers about dates need one.
pub const NOON: Timestamp = Timestamp(1_780_000_000_000);

/// A component that `cargo xtask guests` made.
pub fn guest(name: &str) -> PathBuf {
    let directory = std::env::var_os("WAYPOST_GUESTS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests"),
        PathBuf::from,
    );
    let path = directory.join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is missing: run `cargo xtask guests`", path.display());
    path
}

/// The guest `hostile`, doing this when the listener is called `bad`.
pub fn hostile(name: &str, deed: &str) -> PluginConfig {
    hostile_with(name, &format!(r#"{{"do": "{deed}"}}"#))
}

pub fn hostile_with(name: &str, config: &str) -> PluginConfig {
    PluginConfig { config: config.to_owned(), ..PluginConfig::new(name, guest("hostile")) }
}

/// The guest `all-stages` with this configuration.
pub fn witness(name: &str, config: serde_json::Value) -> PluginConfig {
    PluginConfig { config: config.to_string(), ..PluginConfig::new(name, guest("all-stages")) }
}

pub fn policy(plugins: impl IntoIterator<Item = PluginConfig>) -> PolicyConfig {
    PolicyConfig { plugins: plugins.into_iter().collect(), ..PolicyConfig::default() }
}

/// A host at work.
pub struct Bed {
    pub policy: Arc<Policy>,
    pub answers: Answers,
    pub clock: Arc<ManualClock>,
    pub names: Arc<Names>,
    pub web: Arc<Web>,
    pub ledger: Arc<MemoryLedger>,
    pub config: PolicyConfig,
    pub directory: TempDir,
    watch: Receiver<Decision>,
}

/// What a host stands on, before it is opened.
pub struct Ground {
    pub clock: Arc<ManualClock>,
    pub names: Arc<Names>,
    pub web: Arc<Web>,
    pub ledger: Arc<MemoryLedger>,
    pub directory: TempDir,
    pub compiler: Compiler,
    /// Compiled code of other tests is used.
    pub shares: bool,
}

impl Ground {
    pub fn new() -> Ground {
        Ground { shares: true, ..Ground::bare() }
    }

    /// Without the compiled code of other tests.
    pub fn bare() -> Ground {
        Ground {
            shares: false,
            clock: Arc::new(ManualClock::at(NOON)),
            names: Arc::default(),
            web: Arc::default(),
            ledger: Arc::default(),
            directory: tempfile::tempdir().unwrap(),
            compiler: Compiler::Here,
        }
    }

    pub fn services(&self) -> Services {
        Services {
            clock: self.clock.clone(),
            lookup: self.names.clone(),
            fetch: self.web.clone(),
            ledger: self.ledger.clone(),
        }
    }

    pub async fn open(self, config: PolicyConfig) -> Result<Bed, OpenError> {
        let cache = self.shares.then(Cache::shared);
        if let Some(cache) = &cache {
            cache.lend(self.directory.path());
        }
        let host = HostConfig {
            directory: self.directory.path().to_owned(),
            compiler: self.compiler.clone(),
            keep: 5,
        };
        let policy = Policy::open(&host, &config, self.services()).await?;
        if let Some(cache) = &cache {
            cache.learn(self.directory.path());
        }
        let Ground { clock, names, web, ledger, directory, .. } = self;
        let (answers, watch) = (Answers::new(policy.clone()), policy.watch());
        Ok(Bed { policy, answers, clock, names, web, ledger, config, directory, watch })
    }
}

impl Bed {
    /// A host with these plugins.
    pub async fn with(plugins: impl IntoIterator<Item = PluginConfig>) -> Bed {
        Bed::of(policy(plugins)).await
    }

    pub async fn of(config: PolicyConfig) -> Bed {
        Ground::new().open(config).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Why there is no host with these plugins.
    pub async fn refused(plugins: impl IntoIterator<Item = PluginConfig>) -> String {
        match Ground::new().open(policy(plugins)).await {
            Ok(_) => panic!("it was taken"),
            Err(error) => error.to_string(),
        }
    }

    pub async fn reload(
        &self,
        config: &PolicyConfig,
        change: Change,
    ) -> Result<GenerationInfo, Vec<LoadError>> {
        self.policy.reload(config, change).await
    }

    /// Decisions are told to nobody.
    pub fn nobody_watches(&mut self) {
        self.watch = tokio::sync::broadcast::Sender::new(1).subscribe();
    }

    /// Decisions since it was asked last.
    pub fn decisions(&mut self) -> Vec<Decision> {
        let mut all = Vec::new();
        while let Ok(decision) = self.watch.try_recv() {
            all.push(decision);
        }
        all
    }

    /// The reasons of all decisions since it was asked last, as `code: text`.
    pub fn reasons(&mut self) -> Vec<String> {
        let decisions = self.decisions();
        let reasons = decisions.iter().flat_map(|decision| &decision.reasons);
        reasons.map(|reason| format!("{}: {}", reason.code, reason.text)).collect()
    }

    /// What is counted, as it is scraped.
    pub fn metrics(&self) -> String {
        let mut registry = prometheus_client::registry::Registry::with_prefix("waypost");
        registry.register_collector(Box::new(self.policy.metrics()));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    /// The value of a series; 0 when there is none.
    pub fn counted(&self, series: &str) -> f64 {
        let text = self.metrics();
        let line = text.lines().find(|line| line.starts_with(series));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.directory.path().join("audit.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Asks about a bad session; it must fail in this way, nothing of the answer may be applied, and a
    /// fresh instance must answer the next call.
    pub async fn fails(&mut self, stage: Stage, kind: FaultKind) -> Fault {
        self.good(stage).await;
        let fault = match self.ask(stage, "bad").await {
            Err(fault) => fault,
            Ok(answer) => panic!("at {stage} a bad answer was taken: {answer}"),
        };
        assert_eq!(fault.kind, kind, "at {stage}: {fault}");
        let who = fault.who.clone();
        let kind = format!("{kind:?}").to_ascii_lowercase();
        let labels = format!("{{kind=\"{kind}\",plugin=\"{who}\",stage=\"{stage}\"}}");
        assert!(self.counted(&format!("waypost_policy_faults_total{labels}")) >= 1.0, "{labels}");
        let told = self.decisions();
        assert!(told.iter().any(|decision| decision.verdict.starts_with("failed")), "{told:?}");
        self.good(stage).await;
        if fault.kind != FaultKind::Reported && stage != Stage::Auth {
            assert_eq!(self.reasons(), ["call: 1"], "at {stage} the instance lives on");
        }
        fault
    }

    /// Asks about a good session, which must be answered.
    pub async fn good(&self, stage: Stage) -> String {
        match self.ask(stage, "good").await {
            Ok(answer) => answer,
            Err(fault) => panic!("at {stage} a good session failed: {fault}"),
        }
    }
}

/// With this remedy at a stage.
pub fn remedied(mut plugin: PluginConfig, stage: Stage, remedy: OnError) -> PluginConfig {
    plugin.on_error.insert(stage, remedy);
    plugin
}
