//! Waypost beside Postfix, Exim, OpenSMTPD and Haraka: same machine, same file system, same load, one run.
//!
//! In every pass each case goes through each relay in turn, so that what disturbs the machine
//! disturbs them alike. A relay is started afresh for each measurement and warmed up before the
//! clock runs; the clock stops when the sink holds every message, whole and once.

mod aims;
mod conversation;
mod cpu;
mod crowd;
mod disk;
mod exim;
mod haraka;
mod jail;
mod load;
mod memory;
mod million;
mod opendkim;
mod opensmtpd;
mod places;
mod postfix;
mod relay;
mod report;
mod setting;
mod sink;
mod standings;
mod tally;
mod waypost;
mod workload;
mod works;
mod yard;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use tokio::time::Instant;

use disk::Disk;
use load::{Case, HEADLINE, LARGE, MEBIBYTE, Patient, SMALL, cases};
use relay::{Relay, Running, free_ports};
use report::{Latency, Machine, Report, Sample, Settings, Spread, Straight, Syncs};
use setting::Duty;
use sink::Sink;
use tally::Body;
use waypost::Waypost;
use workload::Workload;
use works::Works;
use yard::Yard;

#[derive(Args)]
pub(crate) struct Options {
    /// A tenth of the messages: to see that it works, not to quote.
    #[arg(long)]
    quick: bool,
    /// How often every case is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    passes: u32,
    /// Where the spools lie, on a real file system [default: target/bench]
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// Where the numbers go [default: target/bench.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A Waypost already built, instead of a release build of this tree.
    #[arg(long, value_name = "FILE")]
    waypost: Option<PathBuf>,
    /// Only these relays (may be repeated).
    #[arg(long, value_enum)]
    only: Vec<Which>,
    /// How many messages wait, for `--only million`.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1000..))]
    messages: u32,
    /// Only the load our aims are stated for: 4 KiB, 20 sessions, connections reused.
    #[arg(long)]
    headline: bool,
    /// Only these workloads, and no other load (may be repeated).
    #[arg(long, value_enum)]
    workload: Vec<Workload>,
    /// Only the memory that many idle sessions, and many large messages, take; fails when it is too much.
    #[arg(long)]
    memory: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    Waypost,
    /// Waypost with a plugin whose five hooks are asked about every message.
    FiveHooks,
    /// Waypost with the same small plugin in each of four languages.
    Languages,
    Postfix,
    PostfixTuned,
    Exim,
    /// OpenSMTPD.
    #[value(name = "opensmtpd")]
    OpenSmtpd,
    Haraka,
    /// Nothing else: a million messages that wait for a destination that is down.
    Million,
}

/// Nothing for this long means the rest is lost.
const ARRIVAL_PATIENCE: Duration = Duration::from_secs(30);
/// How long a relay may tidy up before its CPU time is read.
const AFTERMATH: Duration = Duration::from_millis(200);
/// Between two messages of an idle relay.
const PAUSE: Duration = Duration::from_millis(30);

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let target = crate::target();
    let spool = options.spool.clone().unwrap_or_else(|| target.join("bench"));
    fs::create_dir_all(&spool)?;
    let disk = Disk::of(&spool)?;
    let home = tempfile::Builder::new().prefix("run-").tempdir_in(&spool)?;
    let sink = Sink::start()?;
    if options.memory {
        let program = Waypost::program(options.waypost.as_deref())?;
        let port = free_ports().next().context("no free port between 20000 and 30000")?;
        return memory::run(home.path(), &program, &sink, port);
    }
    if options.only == [Which::Million] {
        return waiting(options, home.path(), &sink);
    }
    let mut yard = Yard::new(options, home.path().to_path_buf(), sink.address.port())?;
    let cases = options.workload.is_empty();
    let relays = if cases { yard.relays(Duty::Plain, "plain", |_| true)? } else { Vec::new() };
    let mut works = Works::prepare(yard, &sink, &workloads(options))?;
    let mut bench = Bench::new(options, relays, &sink, disk)?;
    bench.report.relays.extend(works.settings());
    if cases {
        bench.straight()?;
    }
    for pass in 1..=options.passes {
        eprintln!("pass {pass} of {}", options.passes);
        if cases {
            bench.pass(pass)?;
        }
        bench.report.works.extend(works.pass(pass)?);
    }
    bench.trace(home.path())?;
    let mut report = bench.report;
    report.summarise();
    report.print();
    let json = options.json.clone().unwrap_or_else(|| target.join("bench.json"));
    report.write_json(&json)?;
    println!("\nas JSON: {}", json.display());
    synced(&report.syncs)
}

fn waiting(options: &Options, home: &Path, sink: &Sink) -> anyhow::Result<()> {
    let mut ports = free_ports();
    let mut port = || ports.next().context("no free port between 20000 and 30000");
    let program = Waypost::program(options.waypost.as_deref())?;
    let outcome = million::run(home, &program, [port()?, port()?], sink, options.messages)?;
    outcome.print();
    let json = options.json.clone().unwrap_or_else(|| crate::target().join("bench-million.json"));
    outcome.write_json(&json)?;
    println!("\nas JSON: {}", json.display());
    Ok(())
}

fn workloads(options: &Options) -> Vec<Workload> {
    if !options.workload.is_empty() {
        return options.workload.clone();
    }
    if options.headline { Vec::new() } else { Workload::ALL.to_vec() }
}

struct Bench<'a> {
    relays: Vec<Box<dyn Relay>>,
    sink: &'a Sink,
    quick: bool,
    cases: Vec<Case>,
    bodies: Vec<(u32, Body)>,
    report: Report,
}

impl<'a> Bench<'a> {
    fn new(
        options: &Options,
        relays: Vec<Box<dyn Relay>>,
        sink: &'a Sink,
        disk: Disk,
    ) -> anyhow::Result<Self> {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let settings = |relay: &dyn Relay| Settings {
            relay: relay.name().to_owned(),
            settings: relay.settings(),
        };
        let report = Report {
            machine: Machine {
                kernel: kernel.trim().to_owned(),
                processors: thread::available_parallelism()?.get(),
                spools: disk,
            },
            passes: options.passes,
            relays: relays.iter().map(|relay| settings(relay.as_ref())).collect(),
            straight: Vec::new(),
            samples: Vec::new(),
            latencies: Vec::new(),
            syncs: Vec::new(),
            summary: Vec::new(),
            works: Vec::new(),
            standings: Vec::new(),
        };
        let mut cases = cases(options.quick);
        cases.retain(|case| !options.headline || case.is_headline());
        Ok(Self { relays, sink, quick: options.quick, cases, bodies: Vec::new(), report })
    }

    /// smtp-source without a relay: what the sink can take, and what the bodies look like.
    fn straight(&mut self) -> anyhow::Result<()> {
        for size in [SMALL, LARGE, MEBIBYTE] {
            let case = Case::new(20, true, size, self.quick);
            self.sink.clear();
            let began = Instant::now();
            case.send(self.sink.address.port())?;
            let ended = self.sink.wait(case.messages as usize, ARRIVAL_PATIENCE)?;
            let body = self.sink.body()?;
            self.sink.audit(case.messages as usize, body)?;
            self.bodies.push((size, body));
            self.report.straight.push(Straight {
                case,
                per_second: per_second(case.messages as usize, ended - began),
            });
        }
        Ok(())
    }

    fn pass(&mut self, pass: u32) -> anyhow::Result<()> {
        for case in self.cases.clone() {
            for relay in self.relays.iter().filter(|relay| takes(relay.as_ref(), case)) {
                let sample = self
                    .measure(relay.as_ref(), case, pass)
                    .with_context(|| format!("{} with {case}", relay.name()))?;
                let rate = sample.relayed_per_second;
                eprintln!("  {case}  {:<14} {rate:>8.0}/s", sample.relay);
                self.report.samples.push(sample);
            }
        }
        for relay in &self.relays {
            let latency = self
                .idle(relay.as_ref(), pass)
                .with_context(|| format!("{} when idle", relay.name()))?;
            self.report.latencies.push(latency);
        }
        Ok(())
    }

    fn measure(&self, relay: &dyn Relay, case: Case, pass: u32) -> anyhow::Result<Sample> {
        let running = relay.start(None)?;
        self.through(&running, case.warm_up())?;
        let before = running.cpu()?;
        let (began, accepted, relayed) = self.through(&running, case)?;
        let cpu = running.cpu()?.saturating_sub(before);
        let memory = running.tree().memory()?;
        running.stop()?;
        Ok(Sample {
            relay: relay.name().to_owned(),
            case,
            pass,
            accepted_per_second: per_second(case.messages as usize, accepted - began),
            relayed_per_second: per_second(case.messages as usize, relayed - began),
            cpu_ms_per_message: cpu.as_secs_f64() * 1e3 / f64::from(case.messages),
            peak_bytes: memory.peak,
            held_bytes: memory.now,
        })
    }

    /// Sends a load and sees it arrive; when it began, was accepted, was relayed.
    fn through(
        &self,
        running: &Running,
        case: Case,
    ) -> anyhow::Result<(Instant, Instant, Instant)> {
        let messages = case.messages as usize;
        let body = self.bodies.iter().find(|(size, _)| *size == case.size);
        let (_, body) = body.context("no straight run with this size")?;
        self.sink.clear();
        let began = Instant::now();
        let accepted = case.send(running.port)?;
        let relayed = self.sink.wait(messages, ARRIVAL_PATIENCE)?;
        thread::sleep(AFTERMATH);
        self.sink.audit(messages, *body)?;
        Ok((began, accepted, relayed))
    }

    fn idle(&self, relay: &dyn Relay, pass: u32) -> anyhow::Result<Latency> {
        let messages = if self.quick { 20 } else { 100 };
        let running = relay.start(None)?;
        self.sink.clear();
        let mut patient = Patient::connect(running.port)?;
        // The first wakes processes and opens connections.
        patient.submit(self.sink)?;
        let mut times = Vec::new();
        for _ in 0..messages {
            self.sink.go_on()?;
            thread::sleep(PAUSE);
            times.push(patient.submit(self.sink)?.as_secs_f64() * 1e3);
        }
        // What a relay has not heard the answer about would come once more when it starts again.
        thread::sleep(AFTERMATH);
        running.stop()?;
        let spread = Spread::of(times).context("no message was timed")?;
        Ok(Latency {
            relay: relay.name().to_owned(),
            pass,
            messages,
            median_ms: spread.median,
            slowest_ms: spread.highest,
        })
    }

    fn trace(&mut self, home: &Path) -> anyhow::Result<()> {
        eprintln!("counting syncs");
        let case = Case::new(HEADLINE.sessions, HEADLINE.reuse, HEADLINE.size, self.quick);
        for relay in self.relays.iter().filter(|relay| takes(relay.as_ref(), case)) {
            let file = home.join(format!("{}.strace", relay.name()));
            let running = relay.start(Some(&file))?;
            self.through(&running, case.warm_up())?;
            let (groups_before, before) = (relay.groups()?, running.syncs()?);
            self.through(&running, case)?;
            let (groups, after) = (relay.groups()?, running.syncs()?);
            running.stop()?;
            self.report.syncs.push(Syncs {
                relay: relay.name().to_owned(),
                case,
                syncs: after - before,
                groups: groups.zip(groups_before).map(|(now, then)| now - then),
            });
        }
        Ok(())
    }
}

/// Relays that are several times slower than Postfix would take the night with every case. OpenSMTPD has a backlog of
/// five connections, and smtp-source waits for ever for one that got lost there: it has part in the workloads.
fn takes(relay: &dyn Relay, case: Case) -> bool {
    match relay.name() {
        "opensmtpd" => false,
        "exim" | "haraka" => case.is_for_all(),
        _ => true,
    }
}

/// A relay that answers 250 before the disk has it would win every comparison.
fn synced(all: &[Syncs]) -> anyhow::Result<()> {
    for Syncs { relay, syncs, groups, .. } in all {
        ensure!(*syncs > 0, "{relay} never synced the disk: its numbers are void");
        match groups {
            Some(0) => bail!("{relay} committed nothing: its counter of groups is broken"),
            Some(groups) if syncs < groups => {
                bail!("{relay} synced {syncs} times for {groups} groups: its numbers are void")
            }
            _ => {}
        }
    }
    Ok(())
}

fn per_second(messages: usize, took: Duration) -> f64 {
    messages as f64 / took.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_that_syncs_less_than_once_per_group_is_void() {
        let found = |syncs, groups| {
            synced(&[Syncs { relay: "waypost".to_owned(), case: HEADLINE, syncs, groups }])
        };
        assert!(found(10, Some(10)).is_ok());
        assert!(found(10, None).is_ok());
        assert!(found(9, Some(10)).is_err());
        assert!(found(9, Some(0)).is_err());
        assert!(found(0, None).is_err());
    }
}
