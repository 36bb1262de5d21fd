//! What was measured, for people and for programs.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::disk::Disk;
use super::load::Case;
use super::standings::{self, Standing};
use super::works::Work;

/// Everything one run of the benchmark found.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) passes: u32,
    pub(crate) relays: Vec<Settings>,
    /// smtp-source straight into the sink: what the measuring itself can do.
    pub(crate) straight: Vec<Straight>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) latencies: Vec<Latency>,
    pub(crate) syncs: Vec<Syncs>,
    pub(crate) summary: Vec<Summary>,
    pub(crate) works: Vec<Work>,
    pub(crate) standings: Vec<Standing>,
}

#[derive(Serialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) processors: usize,
    pub(crate) spools: Disk,
}

#[derive(Serialize)]
pub(crate) struct Settings {
    pub(crate) relay: String,
    pub(crate) settings: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct Straight {
    pub(crate) case: Case,
    pub(crate) per_second: f64,
}

/// One case, one relay, one pass.
#[derive(Serialize)]
pub(crate) struct Sample {
    pub(crate) relay: String,
    pub(crate) case: Case,
    pub(crate) pass: u32,
    pub(crate) accepted_per_second: f64,
    pub(crate) relayed_per_second: f64,
    pub(crate) cpu_ms_per_message: f64,
    /// Sum over processes of VmHWM: shared pages count once for each.
    pub(crate) peak_bytes: u64,
    /// Sum over processes of Pss when the load had gone.
    pub(crate) held_bytes: u64,
}

/// One relay, one pass: how long single messages took through an idle relay.
#[derive(Serialize)]
pub(crate) struct Latency {
    pub(crate) relay: String,
    pub(crate) pass: u32,
    pub(crate) messages: u32,
    pub(crate) median_ms: f64,
    pub(crate) slowest_ms: f64,
}

/// The traced pass.
#[derive(Serialize)]
pub(crate) struct Syncs {
    pub(crate) relay: String,
    pub(crate) case: Case,
    pub(crate) syncs: u64,
    pub(crate) groups: Option<u64>,
}

/// Median of the passes, with the lowest and the highest.
#[derive(Serialize, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

/// One case, one relay, all passes; and how often it does what the others do.
#[derive(Serialize)]
pub(crate) struct Summary {
    pub(crate) relay: String,
    pub(crate) case: Case,
    accepted_per_second: Spread,
    relayed_per_second: Spread,
    pub(crate) cpu_ms_per_message: Spread,
    peak_bytes: Spread,
    held_bytes: Spread,
    /// Messages relayed per second by this relay for one by the relay named.
    pub(crate) ratios: Vec<Ratio>,
}

#[derive(Serialize)]
pub(crate) struct Ratio {
    pub(crate) over: String,
    pub(crate) relayed: f64,
    cpu: f64,
}

impl Spread {
    /// Of no values there is none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (lowest, highest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Self { median, lowest, highest })
    }
}

impl Report {
    /// Fills the summary from the samples, and the standings from the works.
    pub(crate) fn summarise(&mut self) {
        self.standings = standings::standings(&self.works);
        let mut cases: Vec<Case> = Vec::new();
        for sample in &self.samples {
            if !cases.contains(&sample.case) {
                cases.push(sample.case);
            }
        }
        for case in cases {
            let all = self.relays.iter();
            let mut rows: Vec<Summary> =
                all.filter_map(|relay| self.row(&relay.relay, case)).collect();
            let others: Vec<(String, f64, f64)> = rows
                .iter()
                .map(|row| {
                    let (rate, cpu) = (row.relayed_per_second, row.cpu_ms_per_message);
                    (row.relay.clone(), rate.median, cpu.median)
                })
                .collect();
            for row in &mut rows {
                let strangers = others.iter().filter(|(name, ..)| *name != row.relay);
                row.ratios = strangers
                    .map(|(over, rate, cpu)| Ratio {
                        over: over.clone(),
                        relayed: row.relayed_per_second.median / rate,
                        cpu: row.cpu_ms_per_message.median / cpu,
                    })
                    .collect();
            }
            self.summary.extend(rows);
        }
    }

    fn row(&self, relay: &str, case: Case) -> Option<Summary> {
        let of = |value: fn(&Sample) -> f64| {
            let samples = self.samples.iter();
            let ours = samples.filter(|sample| sample.relay == relay && sample.case == case);
            Spread::of(ours.map(value))
        };
        #[expect(clippy::cast_precision_loss, reason = "bytes of memory stay far below 2^52")]
        let memory: [fn(&Sample) -> f64; 2] =
            [|sample| sample.peak_bytes as f64, |sample| sample.held_bytes as f64];
        Some(Summary {
            relay: relay.to_owned(),
            case,
            accepted_per_second: of(|sample| sample.accepted_per_second)?,
            relayed_per_second: of(|sample| sample.relayed_per_second)?,
            cpu_ms_per_message: of(|sample| sample.cpu_ms_per_message)?,
            peak_bytes: of(memory[0])?,
            held_bytes: of(memory[1])?,
            ratios: Vec::new(),
        })
    }

    pub(crate) fn write_json(&self, file: &Path) -> anyhow::Result<()> {
        Ok(fs::write(file, serde_json::to_string_pretty(self)? + "\n")?)
    }

    pub(crate) fn print(&self) {
        self.print_setting();
        self.print_loads();
        self.print_latencies();
        self.print_syncs();
        let relays = ["postfix", "postfix-tuned", "exim", "opensmtpd", "haraka"];
        standings::print(&self.standings, &relays);
        self.print_aims();
    }

    fn print_setting(&self) {
        let Machine { kernel, processors, spools } = &self.machine;
        println!("\nLinux {kernel}, {processors} processors; all spools in {spools}");
        println!("{} interleaved passes; medians, with lowest–highest", self.passes);
        for Settings { relay, settings } in &self.relays {
            println!("  {relay}: {}", settings.join("; "));
        }
        if self.straight.is_empty() {
            return;
        }
        println!("\nsmtp-source straight into the sink, messages/s");
        for Straight { case, per_second } in &self.straight {
            println!("  {case}: {per_second:>8.0}");
        }
    }

    fn print_loads(&self) {
        if self.summary.is_empty() {
            return;
        }
        println!(
            "\n{:<30} {:<14} {:>22} {:>22} {:>20} {:>9} {:>9}  relayed, times",
            "load", "relay", "accepted/s", "relayed/s", "CPU ms/message", "peak MB", "Pss MB"
        );
        for row in &self.summary {
            let ratios = row.ratios.iter();
            let ratios: Vec<String> =
                ratios.map(|ratio| format!("{:.2} {}", ratio.relayed, ratio.over)).collect();
            println!(
                "{:<30} {:<14} {:>22} {:>22} {:>20} {:>9.1} {:>9.1}  {}",
                row.case.to_string(),
                row.relay,
                spread(row.accepted_per_second, 0),
                spread(row.relayed_per_second, 0),
                spread(row.cpu_ms_per_message, 2),
                row.peak_bytes.median / 1e6,
                row.held_bytes.median / 1e6,
                ratios.join(", "),
            );
        }
    }

    /// Median over the passes of each pass's median.
    pub(crate) fn latency(&self, relay: &str) -> Option<Spread> {
        let ours = self.latencies.iter().filter(|latency| latency.relay == relay);
        Spread::of(ours.map(|latency| latency.median_ms))
    }

    fn print_latencies(&self) {
        if self.latencies.is_empty() {
            return;
        }
        println!("\nidle: from MAIL FROM on an open connection to the sink holding 4 KiB, ms");
        for relay in &self.relays {
            if let Some(latency) = self.latency(&relay.relay) {
                println!("  {:<14} {:>20}", relay.relay, spread(latency, 2));
            }
        }
    }

    fn print_syncs(&self) {
        if self.syncs.is_empty() {
            return;
        }
        println!("\nsyncs of the disk, in a pass of its own under strace");
        for syncs in &self.syncs {
            let messages = syncs.case.messages;
            let each = syncs.syncs as f64 / f64::from(messages);
            let groups = syncs.groups.map(|groups| format!(", {groups} commit groups"));
            println!(
                "  {:<14} {}: {} for {messages} messages ({each:.2} each){}",
                syncs.relay,
                syncs.case,
                syncs.syncs,
                groups.unwrap_or_default(),
            );
        }
    }
}

/// Median, with lowest and highest.
pub(crate) fn spread(spread: Spread, digits: usize) -> String {
    let Spread { median, lowest, highest } = spread;
    format!("{median:.digits$} ({lowest:.digits$}–{highest:.digits$})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_between_two() {
        let spread = Spread::of([3.0, 1.0, 2.0, 10.0]).unwrap();
        assert_eq!((spread.lowest, spread.median, spread.highest), (1.0, 2.5, 10.0));
        assert_eq!(Spread::of([7.0]).unwrap().median, 7.0);
        assert!(Spread::of([]).is_none());
    }
}
