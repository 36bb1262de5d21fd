//! The workloads, measured: as in a pass of cases, each goes through each relay in turn, started afresh.

use std::thread;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use tokio::time::Instant;

use super::crowd::Crowd;
use super::load::{Patient, SMALL};
use super::relay::{Relay, Running};
use super::report::{Settings, Spread};
use super::setting::Duty;
use super::sink::Sink;
use super::tally::Body;
use super::workload::{Load, MEASURED, Workload};
use super::yard::Yard;
use super::{AFTERMATH, PAUSE, per_second};

/// Nothing for this long means the rest is lost; retries may take their time.
const PATIENCE: Duration = Duration::from_secs(60);
const SESSIONS: usize = 20;

/// One workload, one relay, one pass.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Work {
    pub(crate) workload: Workload,
    pub(crate) relay: String,
    pub(crate) pass: u32,
    pub(crate) messages: usize,
    pub(crate) accepted_per_second: f64,
    /// Of the messages that are measured.
    pub(crate) relayed_per_second: Option<f64>,
    /// Of all messages.
    pub(crate) cpu_ms_per_message: f64,
    /// The median of single messages beside the load, from MAIL FROM to the sink.
    pub(crate) single_ms: Option<f64>,
}

/// Every workload that is wanted, with the relays that take part.
pub(crate) struct Works<'a> {
    sink: &'a Sink,
    quick: bool,
    body: String,
    yard: Yard<'a>,
    parts: Vec<Part>,
}

struct Part {
    workload: Workload,
    relays: Vec<Box<dyn Relay>>,
    /// Whether the backlog is in their spools.
    filled: bool,
}

impl<'a> Works<'a> {
    pub(crate) fn prepare(
        mut yard: Yard<'a>,
        sink: &'a Sink,
        wanted: &[Workload],
    ) -> anyhow::Result<Self> {
        let mut parts = Vec::new();
        for &workload in wanted {
            let whom = |relay: &str| workload.excuse(relay).is_none();
            // A home for each: the backlog of one must not be another's.
            let place = format!("{workload:?}").to_lowercase();
            let relays = yard
                .relays(workload.duty(), &place, whom)
                .with_context(|| format!("preparing {}", workload.title()))?;
            parts.push(Part { workload, relays, filled: false });
        }
        let line = "X".repeat(62) + "\r\n";
        let body = line.repeat(SMALL as usize / line.len());
        Ok(Self { sink, quick: yard.options.quick, body, yard, parts })
    }

    /// What was set, for the report.
    pub(crate) fn settings(&self) -> Vec<Settings> {
        let mut all: Vec<Settings> = Vec::new();
        for part in &self.parts {
            for relay in &part.relays {
                let name = format!("{} ({})", relay.name(), part.workload.duty().name());
                if !all.iter().any(|known| known.relay == name) {
                    all.push(Settings { relay: name, settings: relay.settings() });
                }
            }
        }
        all
    }

    pub(crate) fn pass(&mut self, pass: u32) -> anyhow::Result<Vec<Work>> {
        let mut works = Vec::new();
        for number in 0..self.parts.len() {
            let part = &self.parts[number];
            for relay in &part.relays {
                let (workload, name) = (part.workload, relay.name());
                let work = self
                    .measure(part, relay.as_ref(), pass)
                    .with_context(|| format!("{name} with {}", workload.title()))?;
                let rate = work.relayed_per_second.unwrap_or(work.accepted_per_second);
                eprintln!("  {:<30} {name:<14} {rate:>8.0}/s", workload.title());
                works.push(work);
            }
            self.parts[number].filled = true;
        }
        Ok(works)
    }

    fn measure(&self, part: &Part, relay: &dyn Relay, pass: u32) -> anyhow::Result<Work> {
        let workload = part.workload;
        let running = relay.start(None)?;
        self.sink.clear();
        self.sink.slow(true);
        let crowd = self.crowd(&running, workload.duty(), &self.body);
        let warm = workload.warm_up();
        crowd.send(&warm)?;
        self.sink.wait(warm.len(), PATIENCE)?;
        if !part.filled {
            self.crowd(&running, workload.duty(), "x\r\n").send(&workload.backlog(self.quick))?;
        }
        thread::sleep(AFTERMATH);
        self.sink.clear();
        let load = workload.load(self.quick);
        let before = running.cpu()?;
        let began = Instant::now();
        let accepted = crowd.send(&load.letters)?;
        let (relayed, singles) = self.wait(&running, workload, &load)?;
        self.sink.slow(false);
        let all = load.letters.len() + singles.len();
        self.sink.wait(all, PATIENCE)?;
        thread::sleep(AFTERMATH);
        self.sink.audit(all, Body::of_lines(&self.body))?;
        let cpu = running.cpu()?.saturating_sub(before);
        running.stop()?;
        let rate = |count: usize, until: Instant| per_second(count, until - began);
        Ok(Work {
            workload,
            relay: relay.name().to_owned(),
            pass,
            messages: all,
            accepted_per_second: rate(load.letters.len(), accepted),
            relayed_per_second: relayed.map(|at| rate(load.measured, at)),
            cpu_ms_per_message: cpu.as_secs_f64() * 1e3 / all as f64,
            single_ms: Spread::of(singles).map(|spread| spread.median),
        })
    }

    fn crowd<'b>(&self, running: &Running, duty: Duty, body: &'b str) -> Crowd<'b> {
        let tls = duty.is_secure().then(|| self.yard.keys.connector.clone());
        Crowd { port: running.port, sessions: SESSIONS, body, tls }
    }

    /// When the last of the measured messages came; or how long single ones take meanwhile, in milliseconds.
    fn wait(
        &self,
        running: &Running,
        workload: Workload,
        load: &Load,
    ) -> anyhow::Result<(Option<Instant>, Vec<f64>)> {
        if workload != Workload::Fair {
            return Ok((Some(self.sink.wait_for(MEASURED, load.measured, PATIENCE)?), Vec::new()));
        }
        let mut patient = Patient::connect(running.port)?;
        let mut times = Vec::new();
        for _ in 0..if self.quick { 10 } else { 50 } {
            self.sink.go_on()?;
            times.push(patient.submit(self.sink)?.as_secs_f64() * 1e3);
            thread::sleep(PAUSE);
        }
        Ok((None, times))
    }
}
