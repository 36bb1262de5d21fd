//! What can be said about a component on its author's desk: what it exports and imports, what it wants to be
//! granted, how large and how quick it is, and everything that keeps it from running here.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use waypost_mail::{
    Allow, Fetch, FetchError, FetchRequest, FetchResponse, Ledger, LedgerError, Timestamp,
};

use crate::compile::{Binary, component};
use crate::component::{Shape, link};
use crate::context::now;
use crate::engine::workshop;
use crate::{
    Compiler, Digest, Found, HostConfig, Lookup, LookupError, OpenError, PluginConfig, Policy,
    PolicyConfig, STAGES, Services, Stage,
};

/// Everything about one component.
#[derive(Debug, Clone)]
pub struct Report {
    /// Octets of the file.
    pub size: usize,
    /// Its digest.
    pub digest: Digest,
    /// How long compiling took, and how large the code is.
    pub compiled: Option<(Duration, usize)>,
    /// What it exports and imports.
    pub shape: Shape,
    /// Where it is asked.
    pub stages: Vec<Stage>,
    /// What it calls itself, and its version.
    pub says: Option<(String, String)>,
    /// What it wants to be told.
    pub interest: Option<Interest>,
    /// Octets of an instance after it has begun, and how long that took.
    pub begun: Option<(usize, Duration)>,
    /// What keeps it from running here.
    pub problems: Vec<String>,
}

/// What a component wants to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interest {
    /// Names of header fields.
    pub headers: Vec<String>,
    /// Kinds of events.
    pub events: Vec<String>,
    /// Names and periods, in seconds, of timers.
    pub timers: Vec<(String, u32)>,
}

/// Looks at a component; `config` is its section as JSON.
///
/// # Errors
/// When the file is no component at all.
pub async fn check(path: &Path, config: &str, directory: &Path) -> Result<Report, String> {
    let binary = Binary::read(path, None).map_err(|error| error.to_string())?;
    let mut report = Report {
        size: binary.octets.len(),
        digest: binary.digest,
        compiled: None,
        shape: Shape::default(),
        stages: Vec::new(),
        says: None,
        interest: None,
        begun: None,
        problems: Vec::new(),
    };
    let shop = crate::compile::Workshop::open(Compiler::Here, directory);
    let shop = shop.map_err(|error| error.to_string())?;
    let began = now();
    let code = match shop.code(&binary).await {
        Ok(code) => code,
        Err(error) => {
            report.problems.push(error.to_string());
            return Ok(report);
        }
    };
    report.compiled = Some((now() - began, code.len()));
    let engine = workshop().map_err(|error| format!("{error:#}"))?;
    let component = component(&engine, &code).map_err(|error| format!("{error:#}"))?;
    report.shape = Shape::of(&engine, &component);
    match link(&engine, &component) {
        Ok(linked) => report.stages = linked.stages,
        Err(misfits) => {
            report.problems.extend(misfits.iter().map(ToString::to_string));
            return Ok(report);
        }
    }
    report.begin(path, config, directory).await;
    Ok(report)
}

impl Report {
    /// Begins it as the relay would, with nothing granted.
    async fn begin(&mut self, path: &Path, config: &str, directory: &Path) {
        let mut plugin = PluginConfig::new("checked", path);
        plugin.config = config.to_owned();
        let policy = PolicyConfig { plugins: vec![plugin], ..PolicyConfig::default() };
        let host =
            HostConfig { directory: directory.to_owned(), compiler: Compiler::Here, keep: 1 };
        let began = now();
        match Policy::open(&host, &policy, nothing()).await {
            Ok(policy) => {
                let took = now() - began;
                for plugin in &policy.current().plugins {
                    self.begun = plugin.pool.memory_of_one().map(|memory| (memory, took));
                    let Some(info) = &plugin.info else { continue };
                    self.says = Some((info.name.clone(), info.version.clone()));
                    let interest = &info.interest;
                    self.interest = Some(Interest {
                        headers: interest.headers.clone(),
                        events: interest.events.clone(),
                        timers: interest.timers.clone(),
                    });
                }
            }
            Err(OpenError::Load(errors)) => {
                self.problems.extend(errors.iter().map(ToString::to_string));
            }
            Err(other) => self.problems.push(other.to_string()),
        }
    }

    /// What the interfaces it imports want to be granted, as lines for the configuration.
    pub fn wanted_grants(&self) -> Vec<(String, &'static str)> {
        let grant = |interface: &str| {
            Some(match interface {
                "tables" => "tables = [\"NAME\"]",
                "kv" => "kv = { NAMESPACE = \"rw\" }",
                "limits" => "limits = [\"NAME\"]",
                "dns" => "dns = 20",
                "http" => "http = [{ origin = \"https://HOST\", methods = [\"GET\"] }]",
                "secrets" => "secrets = [\"NAME\"]",
                _ => return None,
            })
        };
        let named = self.shape.imported().filter_map(|name| Some((name.to_owned(), grant(name)?)));
        let mut wanted: Vec<(String, &'static str)> = named.collect();
        if self.stages.contains(&Stage::Auth) {
            wanted.push(("auth-hook".to_owned(), "auth = true"));
        }
        wanted
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "digest     sha256:{}", self.digest)?;
        writeln!(f, "size       {} octets", self.size)?;
        if let Some((took, octets)) = self.compiled {
            writeln!(f, "compiled   {octets} octets of code in {took:.1?}")?;
        }
        if let Some((name, version)) = &self.says {
            writeln!(f, "says       {name} {version}")?;
        }
        for export in &self.shape.exports {
            writeln!(f, "exports    {export}")?;
        }
        for import in &self.shape.imports {
            writeln!(f, "imports    {import}")?;
        }
        for (interface, grant) in self.wanted_grants() {
            writeln!(f, "wants      {interface}: {grant}")?;
        }
        if let Some(Interest { headers, events, timers }) = &self.interest {
            if !headers.is_empty() {
                writeln!(f, "told       header fields {}", headers.join(", "))?;
            }
            if !events.is_empty() {
                writeln!(f, "told       events {}", events.join(", "))?;
            }
            for (name, period) in timers {
                writeln!(f, "timer      {name}, every {period} s")?;
            }
        }
        if let Some((memory, took)) = self.begun {
            writeln!(f, "begins     in {took:.1?}, with {} KiB of memory", memory / 1024)?;
        }
        for stage in STAGES.iter().filter(|stage| self.stages.contains(stage)) {
            let budget = stage.usual_budget();
            writeln!(
                f,
                "asked at   {stage}: {:?} of a processor and {:?} in all for each call",
                budget.cpu, budget.wall
            )?;
        }
        for problem in &self.problems {
            writeln!(f, "problem    {problem}")?;
        }
        Ok(())
    }
}

/// Services that have nothing: on the desk there is no relay.
fn nothing() -> Services {
    Services {
        clock: Arc::new(waypost_mail::SystemClock),
        lookup: Arc::new(Nothing),
        fetch: Arc::new(Nothing),
        ledger: Arc::new(Nothing),
    }
}

#[derive(Debug)]
struct Nothing;

#[async_trait]
impl Lookup for Nothing {
    async fn lookup(&self, _: &str, _: &str) -> Result<Found, LookupError> {
        Err(LookupError::Failed("there is no resolver here".to_owned()))
    }
}

#[async_trait]
impl Fetch for Nothing {
    async fn fetch(&self, _: FetchRequest, _: &Allow) -> Result<FetchResponse, FetchError> {
        Err(FetchError::Unreachable("there is no network here".to_owned()))
    }
}

#[async_trait]
impl Ledger for Nothing {
    async fn get(&self, _: &str, _: Timestamp) -> Result<Option<Bytes>, LedgerError> {
        Ok(None)
    }

    async fn put(&self, _: &str, _: Bytes, _: Option<Timestamp>) -> Result<(), LedgerError> {
        Ok(())
    }

    async fn remove(&self, _: &str) -> Result<(), LedgerError> {
        Ok(())
    }

    async fn list(
        &self,
        _: &str,
        _: usize,
        _: Timestamp,
    ) -> Result<Vec<(String, Bytes)>, LedgerError> {
        Ok(Vec::new())
    }
}
