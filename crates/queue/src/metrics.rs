//! What the queue counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters and gauges, cheap to clone: all clones are the same numbers.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Recipients that wait.
    pub waiting: Gauge,
    /// Recipients that are held.
    pub held: Gauge,
    /// Recipients that are in flight.
    pub leased: Gauge,
    /// Destinations and sites that rest.
    pub resting: Gauge,
    /// Sites known to be behind destinations with mail.
    pub sites: Gauge,
    /// Times that fewer attempts at once were allowed because a site was in trouble.
    pub narrowed: Counter,
    /// Attempts given back because others at the same site came first.
    pub crowded: Counter,
    /// Messages committed.
    pub committed: Counter,
    /// Recipients settled, by outcome and cause.
    pub settled: Family<SettledLabels, Counter>,
    /// Times the clock was set to another time, by direction.
    pub clock_jumps: Family<JumpLabels, Counter>,
}

/// Labels of a settled recipient.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SettledLabels {
    /// [`waypost_mail::Outcome::label`], or `held`.
    pub outcome: &'static str,
    /// [`waypost_mail::Why::label`], empty when there is nothing to explain.
    pub cause: &'static str,
}

/// Which way the clock went.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct JumpLabels {
    /// `forward` or `back`.
    pub direction: &'static str,
}

impl Metrics {
    /// Enters all of them, each with the prefix `waypost_queue`.
    pub fn register(&self, registry: &mut Registry) {
        let queue = registry.sub_registry_with_prefix("waypost_queue");
        queue.register("waiting", "Recipients waiting for an attempt", self.waiting.clone());
        queue.register("held", "Recipients held", self.held.clone());
        queue.register("leased", "Recipients in flight", self.leased.clone());
        queue.register(
            "resting",
            "Destinations and sites resting after failures",
            self.resting.clone(),
        );
        queue.register("sites", "Sites behind destinations with mail", self.sites.clone());
        let narrowed = "Times that a site in trouble was given fewer attempts at once";
        queue.register("narrowed", narrowed, self.narrowed.clone());
        let crowded = "First attempts put off because their site was busy with others";
        queue.register("crowded", crowded, self.crowded.clone());
        queue.register("committed", "Messages made durable", self.committed.clone());
        queue.register("settled", "Recipients settled by an attempt", self.settled.clone());
        let jumps = self.clock_jumps.clone();
        queue.register("clock_jumps", "Times the clock was set to another time", jumps);
    }
}
