//! How the relays stand in each workload: medians of the passes, and what they are to each other.

use serde::Serialize;

use super::report::{Spread, spread};
use super::workload::Workload;
use super::works::Work;

/// One workload, one relay, all passes.
#[derive(Serialize)]
pub(crate) struct Standing {
    pub(crate) workload: Workload,
    pub(crate) relay: String,
    accepted_per_second: Spread,
    pub(crate) relayed_per_second: Option<Spread>,
    pub(crate) cpu_ms_per_message: Spread,
    single_ms: Option<Spread>,
}

/// Of every workload and relay, in the order of the works.
pub(crate) fn standings(works: &[Work]) -> Vec<Standing> {
    let mut all: Vec<Standing> = Vec::new();
    for work in works {
        let known = |standing: &Standing| {
            standing.workload == work.workload && standing.relay == work.relay
        };
        if !all.iter().any(known) {
            all.extend(Standing::of(works, work.workload, &work.relay));
        }
    }
    // Stable: within a workload the relays stay in order.
    all.sort_by_key(|standing| Workload::ALL.iter().position(|known| *known == standing.workload));
    all
}

impl Standing {
    fn of(works: &[Work], workload: Workload, relay: &str) -> Option<Standing> {
        let ours = || works.iter().filter(|work| work.workload == workload && work.relay == relay);
        Some(Standing {
            workload,
            relay: relay.to_owned(),
            accepted_per_second: Spread::of(ours().map(|work| work.accepted_per_second))?,
            relayed_per_second: Spread::of(ours().filter_map(|work| work.relayed_per_second)),
            cpu_ms_per_message: Spread::of(ours().map(|work| work.cpu_ms_per_message))?,
            single_ms: Spread::of(ours().filter_map(|work| work.single_ms)),
        })
    }

    /// How many times as much of `relayed_per_second` as another.
    fn over(&self, other: &Standing) -> Option<f64> {
        Some(self.relayed_per_second?.median / other.relayed_per_second?.median)
    }
}

/// Of one relay, in this workload, over another's.
pub(crate) fn ratio(
    all: &[Standing],
    (workload, relay): (Workload, &str),
    (other_workload, other): (Workload, &str),
) -> Option<f64> {
    let find = |workload: Workload, relay: &str| {
        all.iter().find(|standing| standing.workload == workload && standing.relay == relay)
    };
    find(workload, relay)?.over(find(other_workload, other)?)
}

/// A table, and below it who took no part and why.
pub(crate) fn print(all: &[Standing], relays: &[&str]) {
    if all.is_empty() {
        return;
    }
    println!(
        "\n{:<30} {:<14} {:>22} {:>22} {:>20} {:>22}  relayed, times",
        "workload (4 KiB ×20)", "relay", "accepted/s", "relayed/s", "CPU ms/message", "single ms"
    );
    for standing in all {
        let number = |value: Option<Spread>, digits| {
            value.map_or_else(|| "–".to_owned(), |value| spread(value, digits))
        };
        let others = all
            .iter()
            .filter(|other| other.workload == standing.workload && other.relay != standing.relay);
        let ratios = others
            .filter_map(|other| Some(format!("{:.2} {}", standing.over(other)?, other.relay)));
        println!(
            "{:<30} {:<14} {:>22} {:>22} {:>20} {:>22}  {}",
            standing.workload.title(),
            standing.relay,
            spread(standing.accepted_per_second, 0),
            number(standing.relayed_per_second, 0),
            spread(standing.cpu_ms_per_message, 2),
            number(standing.single_ms, 2),
            ratios.collect::<Vec<_>>().join(", "),
        );
    }
    for workload in Workload::ALL {
        if !all.iter().any(|standing| standing.workload == workload) {
            continue;
        }
        for relay in relays {
            if let Some(excuse) = workload.excuse(relay) {
                println!("  {}, without {relay}: {excuse}", workload.title());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(workload: Workload, relay: &str, pass: u32, rate: f64) -> Work {
        Work {
            workload,
            relay: relay.to_owned(),
            pass,
            messages: 100,
            accepted_per_second: rate,
            relayed_per_second: Some(rate),
            cpu_ms_per_message: 1.0,
            single_ms: None,
        }
    }

    #[test]
    fn medians_are_held_against_each_other() {
        let mut works = vec![work(Workload::Signed, "postfix", 1, 100.0)];
        for (pass, rate) in [(1, 900.0), (2, 100.0), (3, 500.0)] {
            works.push(work(Workload::Signed, "waypost", pass, rate));
        }
        works.push(work(Workload::Plain, "waypost", 1, 1000.0));
        let all = standings(&works);
        let order: Vec<&str> = all.iter().map(|standing| standing.relay.as_str()).collect();
        assert_eq!(order, ["waypost", "postfix", "waypost"], "plain comes first");
        let signed = |relay| (Workload::Signed, relay);
        assert_eq!(ratio(&all, signed("waypost"), signed("postfix")), Some(5.0));
        let plain = (Workload::Plain, "waypost");
        assert_eq!(ratio(&all, signed("waypost"), plain), Some(0.5));
        assert_eq!(ratio(&all, signed("exim"), plain), None);
    }
}
