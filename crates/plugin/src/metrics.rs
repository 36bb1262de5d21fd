//! Counters: what plugins count themselves, and what the host counts of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::Stage;
use crate::tally::Tally;

/// Most series of one plugin.
const MAX_SERIES: usize = 200;
/// Most labels, and octets of a label's value.
const MAX_LABELS: usize = 8;
const MAX_LABEL: usize = 128;
/// Upper bounds of histograms: from microseconds to hours, whatever a plugin measures.
const BOUNDS: [f64; 12] =
    [0.0001, 0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 600.0, 3600.0, f64::MAX];

/// Everything that is counted about plugins and by plugins.
#[derive(Debug, Default)]
pub struct Series {
    families: Mutex<BTreeMap<Name, Family>>,
    /// Calls by plugin and stage; counted without this lock.
    calls: Mutex<BTreeMap<(String, Stage), Arc<Tally>>>,
}

/// Name of a family.
type Name = String;
/// Labels in the order of their names.
type Labels = Vec<(String, String)>;

#[derive(Debug)]
enum Family {
    Counter(BTreeMap<Labels, u64>),
    Gauge(BTreeMap<Labels, i64>),
    Histogram(BTreeMap<Labels, Histogram>),
}

#[derive(Debug, Clone, Default)]
struct Histogram {
    sum: f64,
    count: u64,
    buckets: [u64; BOUNDS.len()],
}

impl Histogram {
    fn observe(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
        let at = BOUNDS.iter().position(|bound| value <= *bound).unwrap_or(BOUNDS.len() - 1);
        self.buckets[at] += 1;
    }
}

impl Series {
    /// Where the calls of a plugin at a stage are counted.
    pub(crate) fn calls(&self, plugin: &str, stage: Stage) -> Arc<Tally> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.entry((plugin.to_owned(), stage)).or_default().clone()
    }

    /// Counts for the host.
    pub(crate) fn add(&self, name: &str, labels: &[(&str, &str)], by: u64) {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name.to_owned()).or_insert(Family::Counter(BTreeMap::new()));
        if let Family::Counter(rows) = family {
            let row = rows.entry(sorted(labels)).or_default();
            *row = row.saturating_add(by);
        }
    }

    /// Sets a level for the host.
    pub(crate) fn set(&self, name: &str, labels: &[(&str, &str)], level: i64) {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name.to_owned()).or_insert(Family::Gauge(BTreeMap::new()));
        if let Family::Gauge(rows) = family {
            rows.insert(sorted(labels), level);
        }
    }

    /// Adds an observation.
    fn observe(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name.to_owned()).or_insert(Family::Histogram(BTreeMap::new()));
        if let Family::Histogram(rows) = family {
            rows.entry(sorted(labels)).or_default().observe(value);
        }
    }

    /// Counts for a plugin; illegal names count as `other`.
    pub(crate) fn count_for(&self, plugin: &str, name: &str, labels: &[(String, String)], by: u64) {
        let (name, labels) = self.place(plugin, name, labels);
        let labels: Vec<(&str, &str)> =
            labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.add(&name, &labels, by);
    }

    /// Measures for a plugin.
    pub(crate) fn observe_for(
        &self,
        plugin: &str,
        name: &str,
        labels: &[(String, String)],
        value: f64,
    ) {
        if !value.is_finite() {
            return;
        }
        let (name, labels) = self.place(plugin, name, labels);
        let labels: Vec<(&str, &str)> =
            labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.observe(&format!("{name}_observed"), &labels, value);
    }

    /// Where a plugin's count goes: its own series, or `other` when it has too many.
    fn place(&self, plugin: &str, name: &str, labels: &[(String, String)]) -> (Name, Labels) {
        let other = ("plugin_other".to_owned(), vec![("plugin".to_owned(), plugin.to_owned())]);
        let legal = |text: &str| {
            (1..=64).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
                && !text.starts_with(|c: char| c.is_ascii_digit())
        };
        let names: BTreeSet<&str> = labels.iter().map(|(name, _)| name.as_str()).collect();
        let fine = legal(name)
            && labels.len() <= MAX_LABELS
            && names.len() == labels.len()
            && !names.contains("plugin")
            && labels.iter().all(|(name, value)| legal(name) && value.len() <= MAX_LABEL);
        if !fine {
            return other;
        }
        let mut placed: Labels = labels.to_vec();
        placed.push(("plugin".to_owned(), plugin.to_owned()));
        placed.sort();
        let name = format!("plugin_{name}");
        if self.has(&name, &placed) || self.count(plugin) < MAX_SERIES {
            (name, placed)
        } else {
            other
        }
    }

    fn has(&self, name: &str, labels: &Labels) -> bool {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let observed = format!("{name}_observed");
        [families.get(name), families.get(&observed)].into_iter().flatten().any(|family| {
            match family {
                Family::Counter(rows) => rows.contains_key(labels),
                Family::Gauge(rows) => rows.contains_key(labels),
                Family::Histogram(rows) => rows.contains_key(labels),
            }
        })
    }

    /// Series that a plugin counts itself.
    fn count(&self, plugin: &str) -> usize {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = |labels: &Labels| labels.iter().any(|(n, v)| n == "plugin" && v == plugin);
        let own = families.iter().filter(|(name, _)| name.starts_with("plugin_"));
        own.map(|(_, family)| match family {
            Family::Counter(rows) => rows.keys().filter(|labels| mine(labels)).count(),
            Family::Gauge(rows) => rows.keys().filter(|labels| mine(labels)).count(),
            Family::Histogram(rows) => rows.keys().filter(|labels| mine(labels)).count(),
        })
        .sum()
    }
}

fn sorted(labels: &[(&str, &str)]) -> Labels {
    let mut labels: Labels =
        labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    labels.sort();
    labels
}

impl Series {
    fn encode_calls(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let asked: Vec<_> = calls
            .iter()
            .map(|((plugin, stage), tally)| (plugin, stage, tally.counts()))
            .filter(|(_, _, counts)| counts.calls() > 0)
            .collect();
        if asked.is_empty() {
            return Ok(());
        }
        let labels = |plugin: &str, stage: &Stage| {
            vec![("plugin".to_owned(), plugin.to_owned()), ("stage".to_owned(), stage.to_string())]
        };
        let mut all = encoder.encode_descriptor(
            "policy_calls",
            help("policy_calls"),
            None,
            MetricType::Counter,
        )?;
        for (plugin, stage, counts) in &asked {
            for (result, count) in [("answered", counts.answered), ("failed", counts.failed)] {
                let mut labels = labels(plugin, stage);
                labels.push(("result".to_owned(), result.to_owned()));
                all.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&count, None)?;
            }
        }
        let name = "policy_call_seconds";
        let mut all = encoder.encode_descriptor(name, help(name), None, MetricType::Histogram)?;
        for (plugin, stage, counts) in &asked {
            let bound = |index: usize| match index + 1 == counts.steps.len() {
                true => f64::MAX,
                false => (1_u64 << index) as f64 / 1e6,
            };
            let buckets: Vec<(f64, u64)> = counts
                .steps
                .iter()
                .enumerate()
                .map(|(index, count)| (bound(index), *count))
                .collect();
            let sum = counts.nanoseconds as f64 / 1e9;
            all.encode_family(&labels(plugin, stage))?.encode_histogram::<NoLabelSet>(
                sum,
                counts.calls(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

impl Collector for Series {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.encode_calls(&mut encoder)?;
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, family) in &*families {
            let help = help(name);
            match family {
                Family::Counter(rows) => {
                    let mut all =
                        encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
                    for (labels, value) in rows {
                        all.encode_family(labels)?
                            .encode_counter::<NoLabelSet, _, f64>(value, None)?;
                    }
                }
                Family::Gauge(rows) => {
                    let mut all = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                    for (labels, value) in rows {
                        all.encode_family(labels)?.encode_gauge(value)?;
                    }
                }
                Family::Histogram(rows) => {
                    let mut all =
                        encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
                    for (labels, row) in rows {
                        let buckets: Vec<(f64, u64)> =
                            BOUNDS.into_iter().zip(row.buckets).collect();
                        all.encode_family(labels)?
                            .encode_histogram::<NoLabelSet>(row.sum, row.count, &buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn help(name: &str) -> &'static str {
    match name {
        "policy_calls" => "Calls of plugins by stage and result",
        "policy_call_seconds" => "How long calls of plugins took",
        "policy_faults" => "Calls of plugins that failed, by kind",
        "policy_breaker_open" => "1 while a plugin is not asked at a stage because it kept failing",
        "policy_denied" => "Host functions that were called without a grant",
        "policy_generation" => "Number of the policy generation in force",
        "policy_reloads" => "Reloads of the policy by result",
        "policy_log_lines_dropped" => "Log lines of plugins over their rate",
        "policy_instances" => "Instances that were made",
        _ => "Counted by a plugin",
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    fn label(value: &str) -> Vec<(String, String)> {
        vec![("kind".to_owned(), value.to_owned())]
    }

    #[test]
    fn an_explosion_of_labels_ends_in_other() {
        let series = Arc::new(Series::default());
        for index in 0..1000 {
            series.count_for("loud", "seen", &label(&index.to_string()), 1);
        }
        series.count_for("loud", "seen", &label("0"), 1);
        series.count_for("loud", "Bad Name", &[], 1);
        series.count_for("quiet", "seen", &label("a"), 2);
        series.observe_for("quiet", "took", &[], 0.5);
        let mut registry = Registry::with_prefix("waypost");
        registry.register_collector(Box::new(series));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let rows = text.lines().filter(|l| l.contains("plugin=\"loud\"")).count();
        assert_eq!(rows, MAX_SERIES + 1, "{text}");
        assert!(text.contains("waypost_plugin_other_total{plugin=\"loud\"} 801"), "{text}");
        assert!(text.contains("waypost_plugin_seen_total{kind=\"0\",plugin=\"loud\"} 2"));
        assert!(text.contains("waypost_plugin_seen_total{kind=\"a\",plugin=\"quiet\"} 2"));
        assert!(text.contains("waypost_plugin_took_observed_count{plugin=\"quiet\"} 1"));
    }
}
