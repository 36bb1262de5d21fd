//! What this room counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Questions asked by kind and result, and how long they took. Answers from the cache count too.
#[derive(Debug, Clone)]
pub struct Metrics {
    queries: Family<Labels, Counter>,
    duration: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    kind: &'static str,
    result: &'static str,
}

impl Metrics {
    /// Adds `dns_queries` (labels `kind`: mx, a, aaaa, ptr; `result`: found, none, nxdomain,
    /// bogus, timeout, failed) and `dns_query_seconds`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("dns_queries", "DNS questions by kind and result", self.queries.clone());
        registry.register_with_unit(
            "dns_query",
            "Time until a DNS question was answered",
            Unit::Seconds,
            self.duration.clone(),
        );
    }

    /// How often a question of this kind had this result.
    pub fn queries(&self, kind: &'static str, result: &'static str) -> u64 {
        self.queries.get_or_create(&Labels { kind, result }).get()
    }

    pub(crate) fn asked(&self, kind: &'static str, result: &'static str, took: Duration) {
        self.queries.get_or_create(&Labels { kind, result }).inc();
        self.duration.observe(took.as_secs_f64());
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        let buckets = [0.0001, 0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
        Metrics { queries: Family::default(), duration: Histogram::new(buckets) }
    }
}
