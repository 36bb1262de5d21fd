//! What delivery counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use waypost_convert::Target;
use waypost_mail::{Diagnosis, Protection};
use waypost_smtp::{BodyType, Phase};

use crate::converted::NoCopy;

/// Counters, gauges and durations, cheap to clone: all clones are the same numbers.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Attempts under way.
    pub in_flight: Gauge,
    /// Attempts ended, by what they came to.
    pub attempts: Family<AttemptLabels, Counter>,
    /// Recipients of attempts, by outcome.
    pub recipients: Family<RecipientLabels, Counter>,
    /// Refusals of next hops, by what they mean.
    pub replies: Family<ReplyLabels, Counter>,
    /// Messages for cut-through, by what they came to.
    pub through: Family<ThroughLabels, Counter>,
    /// Connections made ready.
    pub connections_opened: Counter,
    /// Connections that could not be made ready.
    pub connections_failed: Counter,
    /// Times a connection was used again.
    pub connections_reused: Counter,
    /// TLS handshakes done.
    pub tls: Family<TlsLabels, Counter>,
    /// Connections made ready, by how they are protected.
    pub protections: Family<ProtectionLabels, Counter>,
    /// Octets sent, before encryption.
    pub sent: Counter,
    /// Copies made for next hops that lack extensions, or not made.
    pub conversions: Family<ConversionLabels, Counter>,
    /// Seconds a next hop took, by phase.
    pub phases: Family<PhaseLabels, Histogram>,
}

/// Labels of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AttemptLabels {
    /// `delivered` (to all), `partial`, `failed` or `postponed` (nothing was tried).
    pub result: &'static str,
}

/// Labels of a recipient.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RecipientLabels {
    /// [`waypost_mail::Outcome::label`], `held` or `rerouted`.
    pub outcome: &'static str,
}

/// Labels of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReplyLabels {
    /// [`waypost_mail::Disposition::word`].
    pub disposition: &'static str,
    /// [`waypost_mail::Scope::word`].
    pub scope: &'static str,
    /// [`waypost_mail::Category::word`].
    pub category: &'static str,
    /// A provider of the rules, or empty.
    pub provider: String,
}

/// Labels of a message for cut-through.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ThroughLabels {
    /// `delivered` or `refused` (answered by the next hop alone), `kept` (some of it is durable), `late`
    /// (durable because it took too long), `not-tried` (queued at once), or `lost` (storage failed).
    pub result: &'static str,
}

/// Labels of a handshake.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TlsLabels {
    /// `1.2` or `1.3`.
    pub version: &'static str,
}

/// Labels of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProtectionLabels {
    /// [`Protection::label`].
    pub protection: &'static str,
}

/// Labels of a conversion.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConversionLabels {
    /// What the copy had to be: `7bit`, `8bit`, or `header` where the header alone had to become ASCII.
    pub target: &'static str,
    /// `made`, `signed` (by somebody else), `unfit` (it would not say the same), `unsigned` (our own
    /// signature cannot be made again now) or `failed`.
    pub result: &'static str,
}

/// Labels of a wait.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PhaseLabels {
    /// [`Phase`] in one word.
    pub phase: &'static str,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            in_flight: Gauge::default(),
            attempts: Family::default(),
            recipients: Family::default(),
            through: Family::default(),
            replies: Family::default(),
            connections_opened: Counter::default(),
            connections_failed: Counter::default(),
            connections_reused: Counter::default(),
            tls: Family::default(),
            protections: Family::default(),
            sent: Counter::default(),
            conversions: Family::default(),
            // From a fast local host at 1 ms to a slow one at 17 minutes.
            phases: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 4.0, 11))
            }),
        }
    }
}

impl Metrics {
    /// Enters all of them, each with the prefix `waypost_delivery`.
    pub fn register(&self, registry: &mut Registry) {
        let delivery = registry.sub_registry_with_prefix("waypost_delivery");
        delivery.register("in_flight", "Attempts under way", self.in_flight.clone());
        delivery.register("attempts", "Attempts ended", self.attempts.clone());
        delivery.register("recipients", "Recipients of attempts", self.recipients.clone());
        delivery.register("replies", "Refusals by what they mean", self.replies.clone());
        let through = self.through.clone();
        delivery.register("cut_through", "Messages tried before they were durable", through);
        let opened = self.connections_opened.clone();
        delivery.register("connections_opened", "Connections made ready", opened);
        let failed = self.connections_failed.clone();
        delivery.register("connections_failed", "Connections not made ready", failed);
        let reused = self.connections_reused.clone();
        delivery.register("connections_reused", "Connections used again", reused);
        delivery.register("tls_handshakes", "TLS handshakes done", self.tls.clone());
        let protections = self.protections.clone();
        delivery.register("protections", "Connections by their protection", protections);
        delivery.register("sent_bytes", "Octets sent before encryption", self.sent.clone());
        let conversions = self.conversions.clone();
        delivery.register("conversions", "Copies converted for a next hop", conversions);
        let phases = self.phases.clone();
        delivery.register("phase_seconds", "Time a next hop took for a phase", phases);
    }

    pub(crate) fn waited(&self, phase: Phase, duration: Duration) {
        let labels = PhaseLabels { phase: word(phase) };
        self.phases.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    pub(crate) fn encrypted(&self, version: &'static str) {
        self.tls.get_or_create(&TlsLabels { version }).inc();
    }

    pub(crate) fn protected(&self, protection: Protection) {
        self.protections.get_or_create(&ProtectionLabels { protection: protection.label() }).inc();
    }

    pub(crate) fn converted(&self, target: Target, failure: Option<&NoCopy>) {
        let labels = ConversionLabels {
            target: match target.body {
                BodyType::SevenBit => "7bit",
                BodyType::EightBitMime => "8bit",
                BodyType::BinaryMime => "header",
            },
            result: match failure {
                None => "made",
                Some(NoCopy::Signed(_)) => "signed",
                Some(NoCopy::Unfit(_) | NoCopy::NotOurs) => "unfit",
                Some(NoCopy::Unsigned(_) | NoCopy::Unsealed(_)) => "unsigned",
                Some(NoCopy::Failed(_)) => "failed",
            },
        };
        self.conversions.get_or_create(&labels).inc();
    }

    pub(crate) fn attempted(&self, result: &'static str) {
        self.attempts.get_or_create(&AttemptLabels { result }).inc();
    }

    pub(crate) fn reply(&self, diagnosis: Diagnosis, provider: Option<&str>) {
        let Diagnosis { disposition, scope, category } = diagnosis;
        let labels = ReplyLabels {
            disposition: disposition.word(),
            scope: scope.word(),
            category: category.word(),
            provider: provider.unwrap_or_default().to_owned(),
        };
        self.replies.get_or_create(&labels).inc();
    }

    pub(crate) fn went_through(&self, result: &'static str) {
        self.through.get_or_create(&ThroughLabels { result }).inc();
    }

    pub(crate) fn recipient(&self, outcome: &'static str) {
        self.recipients.get_or_create(&RecipientLabels { outcome }).inc();
    }
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Connect => "connect",
        Phase::Greeting => "greeting",
        Phase::Ehlo => "ehlo",
        Phase::StartTls => "starttls",
        Phase::Auth => "auth",
        Phase::Mail => "mail",
        Phase::Rcpt => "rcpt",
        Phase::Data => "data",
        Phase::Body => "body",
        Phase::Eod => "eod",
        Phase::Rset => "rset",
        Phase::Quit => "quit",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_counted_is_shown() {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        metrics.attempted("partial");
        metrics.recipient("bounced");
        metrics.went_through("kept");
        metrics.encrypted("1.3");
        metrics.protected(Protection::Dane);
        metrics.waited(Phase::Eod, Duration::from_millis(70));
        metrics.sent.inc_by(9);
        metrics.converted(Target { body: BodyType::SevenBit, ascii_header: true }, None);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "waypost_delivery_in_flight 0",
            "waypost_delivery_attempts_total{result=\"partial\"} 1",
            "waypost_delivery_recipients_total{outcome=\"bounced\"} 1",
            "waypost_delivery_cut_through_total{result=\"kept\"} 1",
            "waypost_delivery_connections_reused_total 0",
            "waypost_delivery_tls_handshakes_total{version=\"1.3\"} 1",
            "waypost_delivery_protections_total{protection=\"dane\"} 1",
            "waypost_delivery_sent_bytes_total 9",
            "waypost_delivery_conversions_total{target=\"7bit\",result=\"made\"} 1",
            "waypost_delivery_phase_seconds_count{phase=\"eod\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }
}
