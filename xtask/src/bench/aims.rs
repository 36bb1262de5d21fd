//! What we promised ourselves, and how it stands.

use super::report::Report;
use super::standings::ratio;
use super::waypost::Policy;
use super::workload::Workload;

/// Noise between two passes of the same: less than this is "no slower".
const NO_SLOWER: f64 = 0.95;

impl Report {
    /// Every aim that this run measured.
    pub(crate) fn print_aims(&self) {
        self.print_headline_aims();
        self.print_workload_aims();
    }

    fn print_headline_aims(&self) {
        let headline = |relay: &str| {
            self.summary.iter().find(|row| row.relay == relay && row.case.is_headline())
        };
        let Some(row) = headline("waypost") else { return };
        println!("\naims at {}", row.case);
        for ratio in row.ratios.iter().filter(|ratio| ratio.over.starts_with("postfix")) {
            aim(&format!("times {}", ratio.over), ratio.relayed, ratio.relayed >= 9.0, "9 or more");
        }
        let hooks = headline(Policy::FIVE_HOOKS.name).map(|row| row.ratios.iter());
        for ratio in hooks.into_iter().flatten().filter(|ratio| ratio.over == "waypost") {
            aim("5 hooks, times", ratio.relayed, ratio.relayed >= 0.9, "0.9 or more");
        }
        let cpu = row.cpu_ms_per_message.median;
        aim("CPU ms per message", cpu, cpu <= 0.2, "0.2 or less");
        if let Some(latency) = self.latency("waypost") {
            aim("idle median ms", latency.median, latency.median < 2.0, "less than 2");
        }
    }

    fn print_workload_aims(&self) {
        let mut lines = Vec::new();
        for other in ["postfix", "postfix-tuned"] {
            let at = |relay| (Workload::Signed, relay);
            if let Some(times) = ratio(&self.standings, at("waypost"), at(other)) {
                lines.push((format!("TLS and DKIM, times {other}"), times, 5.0));
            }
        }
        let at = |workload| (workload, "waypost");
        for (workload, what) in [
            (Workload::Backlog, "with 100,000 waiting, times without"),
            (Workload::Slow, "the fast beside the slow, times alone"),
        ] {
            if let Some(times) = ratio(&self.standings, at(workload), at(Workload::Plain)) {
                lines.push((what.to_owned(), times, NO_SLOWER));
            }
        }
        if !lines.is_empty() {
            println!("\naims of the workloads");
        }
        for (what, times, least) in lines {
            aim(&what, times, times >= least, &format!("{least} or more"));
        }
    }
}

fn aim(what: &str, value: f64, met: bool, wanted: &str) {
    let verdict = if met { "met" } else { "NOT MET" };
    println!("  {what:<36} {value:>8.2}  ({wanted}: {verdict})");
}
