//! What this room counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::verify::{AuthResult, Findings};

/// Checks of messages by method and result.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    verified: Family<Labels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: &'static str,
    result: &'static str,
}

impl Metrics {
    /// Adds `verified` (labels `method`: spf, dkim, dmarc, arc, iprev; `result`: the words of
    /// RFC 8601 §2.7). Of several DKIM signatures the best counts.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Checks of who vouches for a message, by method and result";
        registry.register("verified", help, self.verified.clone());
    }

    /// How often a method had this result.
    pub fn verified(&self, method: &'static str, result: AuthResult) -> u64 {
        self.verified.get_or_create(&Labels { method, result: result.word() }).get()
    }

    pub(crate) fn found(&self, findings: &Findings) {
        for (method, result) in findings.results() {
            self.verified.get_or_create(&Labels { method, result: result.word() }).inc();
        }
    }
}
