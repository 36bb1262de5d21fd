//! What the spool counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Counters of one spool. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Changes made durable.
    pub commits: Counter,
    /// Groups of changes that shared their syncs.
    pub groups: Counter,
    /// Syncs asked of the disk: one of the log and one of the index for each group.
    pub syncs: Counter,
    /// Octets appended to the log.
    pub bytes: Counter,
    /// Seconds from the start of a group to its last sync.
    pub group_seconds: Histogram,
    /// Octets free on the spool's file system when last asked.
    pub free_bytes: Gauge,
    /// Octets of all segments of the log.
    pub log_bytes: Gauge,
    /// Octets in the log that still matter.
    pub live_bytes: Gauge,
    /// New mail refused for want of space.
    pub refused: Counter,
    /// Times that a message, or another part of the log, was found damaged: a message is held, and
    /// the rest flows.
    pub damaged: Counter,
    /// Octets of finished segments of the log that were looked at again since the start.
    pub scrubbed: Counter,
    /// Failures of storage: above zero the spool has stopped.
    pub failures: Counter,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            commits: Counter::default(),
            groups: Counter::default(),
            syncs: Counter::default(),
            bytes: Counter::default(),
            group_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            free_bytes: Gauge::default(),
            log_bytes: Gauge::default(),
            live_bytes: Gauge::default(),
            refused: Counter::default(),
            damaged: Counter::default(),
            scrubbed: Counter::default(),
            failures: Counter::default(),
        }
    }
}

impl Metrics {
    /// Makes the counters part of what is served, as `spool_…`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("spool");
        registry.register("commits", "Changes made durable", self.commits.clone());
        registry.register("groups", "Groups of changes sharing syncs", self.groups.clone());
        registry.register("syncs", "Syncs asked of the disk", self.syncs.clone());
        registry.register("log_appended_bytes", "Octets appended to the log", self.bytes.clone());
        let seconds = self.group_seconds.clone();
        registry.register("group_seconds", "Time to make a group durable", seconds);
        registry.register("free_bytes", "Octets free on the file system", self.free_bytes.clone());
        registry.register("log_bytes", "Octets of the log's segments", self.log_bytes.clone());
        registry.register("live_bytes", "Octets of the log that matter", self.live_bytes.clone());
        registry.register("refused", "New mail refused for want of space", self.refused.clone());
        let damaged = self.damaged.clone();
        registry.register("damaged", "Times something was found damaged", damaged);
        let scrubbed = self.scrubbed.clone();
        registry.register("scrubbed_bytes", "Octets of the log looked at again", scrubbed);
        registry.register("failures", "Failures of storage", self.failures.clone());
    }
}
