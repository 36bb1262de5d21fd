//! What the doors count.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::tls::Change;

/// Counters and gauges, cheap to clone: all clones are the same numbers.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Sessions begun.
    pub sessions: Family<ListenerLabel, Counter>,
    /// Sessions open now.
    pub open: Family<ListenerLabel, Gauge>,
    /// Replies 4xx and 5xx.
    pub refusals: Family<RefusalLabels, Counter>,
    /// Silent sessions that had to leave for newcomers.
    pub sent_home: Counter,
    /// Connections refused before a session began.
    pub refused: Family<RefusedLabels, Counter>,
    /// Logins tried.
    pub logins: Family<LoginLabels, Counter>,
    /// TLS handshakes.
    pub handshakes: Family<HandshakeLabels, Counter>,
    /// Certificates whose files changed.
    pub certificates: Family<CertificateLabel, Counter>,
    /// Messages taken or refused at the end of data.
    pub messages: Family<MessageLabels, Counter>,
    /// Octets read from peers, without TLS.
    pub bytes: Family<ListenerLabel, Counter>,
    /// Questions that policy failed to answer.
    pub faults: Family<FaultLabel, Counter>,
    /// Logins that had to wait because others of the same user from there had failed.
    pub logins_delayed: Counter,
    /// Addresses shut out because of logins that failed.
    pub bans: Counter,
    /// Senders refused because they are not the login's to send as.
    pub sender_denied: Family<ListenerLabel, Counter>,
    /// Recipients refused because relaying is not allowed.
    pub relay_denied: Family<ListenerLabel, Counter>,
}

/// Which listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ListenerLabel {
    /// Its name.
    pub listener: String,
}

/// Labels of a refusal within a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusalLabels {
    /// The listener's name.
    pub listener: String,
    /// The limit or rule it stands for, or the reply's code.
    pub reason: String,
}

/// Labels of a connection that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusedLabels {
    /// Its name.
    pub listener: String,
    /// `sessions`, `sessions-per-address`, `sessions-per-network`, `session-rate-per-address`,
    /// `session-rate-per-network`; `disk`, `spool`, `queue` or `memory` when that is short;
    /// `banned`, `proxy-header` or `no-proxy`.
    pub reason: &'static str,
}

/// Labels of a login.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LoginLabels {
    /// The SASL mechanism.
    pub mechanism: String,
    /// `granted`, `denied`, `downgraded`, `unavailable`, `malformed`, `busy` or `fault`.
    pub result: &'static str,
}

/// Labels of a TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HandshakeLabels {
    /// `1.2`, `1.3`, or nothing when it failed.
    pub version: String,
    /// `done`, `failed` or `timeout`.
    pub result: &'static str,
}

/// What became of a certificate whose files changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CertificateLabel {
    /// `renewed`, or `kept` when the new one cannot be used.
    pub result: &'static str,
}

/// Labels of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MessageLabels {
    /// The listener's name.
    pub listener: String,
    /// `accepted`, `deferred` (4xx) or `refused` (5xx).
    pub result: &'static str,
}

/// At which stage policy failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FaultLabel {
    /// `connect`, `helo`, `auth`, `sender` or `recipients`.
    pub stage: &'static str,
}

impl Metrics {
    /// Enters all of them, each with the prefix `waypost_inbound`.
    pub fn register(&self, registry: &mut Registry) {
        let inbound = registry.sub_registry_with_prefix("waypost_inbound");
        inbound.register("sessions", "Sessions begun", self.sessions.clone());
        inbound.register("sessions_open", "Sessions open now", self.open.clone());
        inbound.register("refused", "Connections refused at the door", self.refused.clone());
        inbound.register("refusals", "Replies 4xx and 5xx in sessions", self.refusals.clone());
        inbound.register("sent_home", "Silent sessions that made room", self.sent_home.clone());
        inbound.register("logins", "Logins tried", self.logins.clone());
        inbound.register(
            "logins_delayed",
            "Logins that waited after failures",
            self.logins_delayed.clone(),
        );
        inbound.register("bans", "Addresses shut out after failed logins", self.bans.clone());
        inbound.register("sender_denied", "Senders not the login's", self.sender_denied.clone());
        inbound.register("tls_handshakes", "TLS handshakes", self.handshakes.clone());
        inbound.register(
            "certificates",
            "Certificates whose files changed",
            self.certificates.clone(),
        );
        inbound.register("messages", "Messages by their final reply", self.messages.clone());
        inbound.register("bytes", "Octets read from peers", self.bytes.clone());
        inbound.register("policy_faults", "Questions policy failed on", self.faults.clone());
        inbound.register("relay_denied", "Recipients not relayed to", self.relay_denied.clone());
    }

    /// Sessions open now on one listener.
    pub fn open_sessions(&self, listener: &str) -> u64 {
        let label = ListenerLabel { listener: listener.to_owned() };
        self.open.get(&label).map_or(0, |open| open.get().max(0) as u64)
    }

    /// The numbers that every session of one listener touches, found once.
    pub(crate) fn listener(&self, name: &str) -> ListenerMetrics {
        let label = ListenerLabel { listener: name.to_owned() };
        let message = |result| {
            let labels = MessageLabels { listener: name.to_owned(), result };
            self.messages.get_or_create_owned(&labels)
        };
        ListenerMetrics {
            sessions: self.sessions.get_or_create_owned(&label),
            open: self.open.get_or_create_owned(&label),
            bytes: self.bytes.get_or_create_owned(&label),
            relay_denied: self.relay_denied.get_or_create_owned(&label),
            sender_denied: self.sender_denied.get_or_create_owned(&label),
            accepted: message("accepted"),
            deferred: message("deferred"),
            refused: message("refused"),
        }
    }

    pub(crate) fn refused(&self, listener: &str, reason: &'static str) {
        let labels = RefusedLabels { listener: listener.to_owned(), reason };
        self.refused.get_or_create(&labels).inc();
    }

    pub(crate) fn refusals(&self, listener: &str, reason: String, times: u64) {
        let labels = RefusalLabels { listener: listener.to_owned(), reason };
        self.refusals.get_or_create(&labels).inc_by(times);
    }

    /// How often was refused for this reason.
    #[cfg(test)]
    pub(crate) fn refused_for(&self, listener: &str, reason: &str) -> u64 {
        let (listener, reason) = (listener.to_owned(), reason.to_owned());
        self.refusals.get_or_create(&RefusalLabels { listener, reason }).get()
    }

    pub(crate) fn sent_home(&self, sessions: u64) {
        self.sent_home.inc_by(sessions);
    }

    pub(crate) fn login(&self, mechanism: &str, result: &'static str) {
        let labels = LoginLabels { mechanism: mechanism.to_owned(), result };
        self.logins.get_or_create(&labels).inc();
    }

    pub(crate) fn handshake(&self, version: &str, result: &'static str) {
        let labels = HandshakeLabels { version: version.to_owned(), result };
        self.handshakes.get_or_create(&labels).inc();
    }

    pub(crate) fn certificate(&self, change: &Change) {
        let result = match change {
            Change::Renewed(_) => "renewed",
            Change::Kept(_) => "kept",
        };
        self.certificates.get_or_create(&CertificateLabel { result }).inc();
    }

    pub(crate) fn fault(&self, stage: &'static str) {
        self.faults.get_or_create(&FaultLabel { stage }).inc();
    }
}

/// Numbers of one listener.
#[derive(Debug, Clone)]
pub(crate) struct ListenerMetrics {
    pub(crate) sessions: Counter,
    pub(crate) open: Gauge,
    pub(crate) bytes: Counter,
    pub(crate) relay_denied: Counter,
    pub(crate) sender_denied: Counter,
    pub(crate) accepted: Counter,
    pub(crate) deferred: Counter,
    pub(crate) refused: Counter,
}
