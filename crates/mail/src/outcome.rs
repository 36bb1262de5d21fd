//! What an attempt came to, recipient by recipient, and why.

use std::fmt;

use serde::{Deserialize, Serialize};
use waypost_smtp::{Enhanced, Phase, Reply, Severity};

use crate::{Category, Diagnosis, Disposition, Scope, Security};

/// Longest text kept of a remote reply or a local error, in octets.
const MAX_TEXT: usize = 512;

/// What became of one recipient in one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The next hop took responsibility (RFC 5321 §4.2.5).
    Delivered {
        /// Who took it, `host[address]:port`.
        hop: String,
        /// Its reply to the final dot.
        reply: Reply,
        /// What the message travelled over.
        security: Security,
    },
    /// Not now; another attempt may succeed.
    Deferred(Why),
    /// Not at all; the sender is told.
    Bounced(Why),
    /// The connection was lost after the final dot: it may or may not have been delivered.
    Unknown(Why),
    /// An operator or policy removed it without a notice.
    Deleted,
}

/// Why a recipient was not delivered. Everything else that is said of a failure (permanent or not,
/// the DSN status, the metric label) is derived from this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// The next hop refused.
    Refused {
        /// Who, `host[address]:port`.
        hop: String,
        /// In answer to what.
        phase: Phase,
        /// What it said.
        reply: Reply,
    },
    /// The domain does not exist (RFC 5321 §5.1).
    NoSuchDomain(String),
    /// The domain says that it takes no mail (RFC 7505).
    NullMx(String),
    /// The domain's mail exchangers lead back to this relay.
    Loop(String),
    /// The domain exists, but none of its hosts has an address.
    NoAddress(String),
    /// DNS did not answer, or answered with an error.
    DnsFailed(String),
    /// No host could be reached.
    Unreachable {
        /// The last one tried.
        hop: String,
        /// What the system said.
        error: String,
    },
    /// A host stopped answering.
    TimedOut {
        /// Who.
        hop: String,
        /// During what.
        phase: Phase,
    },
    /// The connection was closed in the middle.
    ConnectionLost {
        /// Who.
        hop: String,
        /// During what.
        phase: Phase,
    },
    /// The peer's answer was no SMTP.
    ProtocolError {
        /// Who.
        hop: String,
        /// During what.
        phase: Phase,
        /// What was wrong with it.
        error: String,
    },
    /// The route asks for TLS that the next hop did not provide.
    TlsRequired {
        /// Who.
        hop: String,
        /// What was missing.
        error: String,
    },
    /// Logging in at the next hop failed, or is not possible as configured.
    AuthFailed {
        /// Who.
        hop: String,
        /// What was wrong.
        error: String,
    },
    /// The content has octets over 127 and the next hop lacks 8BITMIME.
    NeedsEightBit(String),
    /// The message is internationalized and the next hop lacks SMTPUTF8.
    NeedsSmtputf8(String),
    /// Larger than the next hop takes.
    TooBig(String),
    /// It waited until its time was over; inside is why the last attempt failed.
    Expired(Option<Box<Why>>),
    /// Policy said so.
    Policy(Reply),
    /// The destination is resting after failures; no attempt was made.
    BackedOff(String),
    /// An operator said so.
    Operator(String),
    /// The message's bytes could not be read back from the spool.
    Unreadable(String),
    /// The content may be any octets and the next hop lacks BINARYMIME.
    NeedsBinaryMime(String),
    /// The message must not go without TLS, and the way does not promise it (RFC 8689 §4.2.1).
    RequireTls {
        /// Who.
        hop: String,
        /// What was missing.
        error: String,
    },
    /// The message has a deadline that the next hop cannot promise to keep (RFC 2852 §4.1).
    NeedsDeliverBy(String),
    /// A refusal, and what it means: that counts more than its digits.
    Diagnosed {
        /// What it means.
        diagnosis: Diagnosis,
        /// The rule that says so; empty when the numbers of the reply do.
        rule: String,
        /// The refusal.
        why: Box<Why>,
    },
    /// The next hop cannot take the message as it is, and no copy can be made that it takes.
    Unconvertible {
        /// Who.
        hop: String,
        /// It is the header that it cannot take, because it is internationalized.
        header: bool,
        /// What stands in the way.
        error: String,
    },
}

impl Outcome {
    /// The label used in logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Outcome::Delivered { .. } => "delivered",
            Outcome::Deferred(_) => "deferred",
            Outcome::Bounced(_) => "bounced",
            Outcome::Unknown(_) => "unknown",
            Outcome::Deleted => "deleted",
        }
    }

    /// Why, unless it was delivered or deleted.
    pub fn why(&self) -> Option<&Why> {
        match self {
            Outcome::Deferred(why) | Outcome::Bounced(why) | Outcome::Unknown(why) => Some(why),
            Outcome::Delivered { .. } | Outcome::Deleted => None,
        }
    }
}

/// What one cause implies.
struct Meaning {
    label: &'static str,
    permanent: bool,
    status: Enhanced,
}

impl Why {
    /// The failure as an outcome: bounced when it is permanent, else deferred.
    pub fn into_outcome(self) -> Outcome {
        if self.is_permanent() { Outcome::Bounced(self) } else { Outcome::Deferred(self) }
    }

    /// What it means.
    pub fn diagnosis(&self) -> Diagnosis {
        let (disposition, category) = match self {
            Why::Diagnosed { diagnosis, .. } => return *diagnosis,
            Why::Refused { phase, reply, .. } => return Diagnosis::by_code(*phase, reply),
            Why::Policy(_) | Why::Operator(_) => (self.usual(), Category::Local),
            Why::NoSuchDomain(_) | Why::NullMx(_) => (self.usual(), Category::BadDomain),
            Why::Loop(_) => (self.usual(), Category::Loop),
            Why::NoAddress(_) => (self.usual(), Category::Routing),
            Why::DnsFailed(_) => (self.usual(), Category::Dns),
            Why::Unreachable { .. } => (self.usual(), Category::Unreachable),
            Why::TimedOut { phase, .. } | Why::ConnectionLost { phase, .. } => {
                let lost = *phase == Phase::Eod;
                (if lost { Disposition::Uncertain } else { self.usual() }, Category::Lost)
            }
            Why::ProtocolError { .. } => (self.usual(), Category::Protocol),
            Why::TlsRequired { .. } | Why::RequireTls { .. } => (self.usual(), Category::TlsNeeded),
            Why::AuthFailed { .. } => (Disposition::LocalFault, Category::AuthNeeded),
            Why::NeedsEightBit(_)
            | Why::NeedsSmtputf8(_)
            | Why::NeedsBinaryMime(_)
            | Why::Unconvertible { .. } => (self.usual(), Category::Conversion),
            Why::NeedsDeliverBy(_) => (self.usual(), Category::Protocol),
            Why::TooBig(_) => (self.usual(), Category::TooBig),
            Why::Expired(Some(why)) => {
                return Diagnosis { disposition: Disposition::Permanent, ..why.diagnosis() };
            }
            Why::Expired(None) => (self.usual(), Category::Expired),
            Why::BackedOff(_) => (self.usual(), Category::Busy),
            Why::Unreadable(_) => (Disposition::LocalFault, Category::Local),
        };
        let found = Diagnosis::new(disposition, category);
        match category {
            // There was no host to speak of.
            Category::Loop | Category::Routing | Category::Dns => found.about(Scope::Provider),
            _ => found,
        }
    }

    /// Without what it means: the cause itself.
    pub fn cause(&self) -> &Why {
        match self {
            Why::Diagnosed { why, .. } => why.cause(),
            other => other,
        }
    }

    /// The rule that says what it means, if one does.
    pub fn rule(&self) -> Option<&str> {
        match self {
            Why::Diagnosed { rule, .. } if !rule.is_empty() => Some(rule),
            Why::Expired(Some(why)) => why.rule(),
            _ => None,
        }
    }

    fn usual(&self) -> Disposition {
        if self.is_permanent() { Disposition::Permanent } else { Disposition::Transient }
    }

    /// True when another attempt cannot help.
    pub fn is_permanent(&self) -> bool {
        self.meaning().permanent
    }

    /// The label used in logs and metrics.
    pub fn label(&self) -> &'static str {
        self.meaning().label
    }

    /// The status for a DSN (RFC 3463), of class 5 when permanent and 4 otherwise.
    pub fn status(&self) -> Enhanced {
        self.meaning().status
    }

    /// The remote reply, if one decided.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Why::Refused { reply, .. } | Why::Policy(reply) => Some(reply),
            Why::Expired(Some(why)) | Why::Diagnosed { why, .. } => why.reply(),
            _ => None,
        }
    }

    /// Who was spoken to, if anybody.
    pub fn hop(&self) -> Option<&str> {
        match self {
            Why::Refused { hop, .. }
            | Why::Unreachable { hop, .. }
            | Why::TimedOut { hop, .. }
            | Why::ConnectionLost { hop, .. }
            | Why::ProtocolError { hop, .. }
            | Why::TlsRequired { hop, .. }
            | Why::AuthFailed { hop, .. }
            | Why::NeedsEightBit(hop)
            | Why::NeedsSmtputf8(hop)
            | Why::NeedsBinaryMime(hop)
            | Why::RequireTls { hop, .. }
            | Why::NeedsDeliverBy(hop)
            | Why::Unconvertible { hop, .. }
            | Why::TooBig(hop) => Some(hop),
            Why::Expired(Some(why)) | Why::Diagnosed { why, .. } => why.hop(),
            _ => None,
        }
    }

    /// The same with long texts cut, as it is kept in the spool.
    pub fn bounded(mut self) -> Why {
        match &mut self {
            Why::Refused { reply, .. } | Why::Policy(reply) => {
                let mut text = std::mem::take(&mut reply.text).into_owned();
                truncate(&mut text);
                reply.text = text.into();
            }
            Why::Unreachable { error, .. }
            | Why::ProtocolError { error, .. }
            | Why::TlsRequired { error, .. }
            | Why::RequireTls { error, .. }
            | Why::Unconvertible { error, .. }
            | Why::AuthFailed { error, .. } => truncate(error),
            Why::DnsFailed(text) | Why::Operator(text) | Why::Unreadable(text) => truncate(text),
            Why::Diagnosed { why, .. } => {
                let bounded = std::mem::replace(&mut **why, Why::Expired(None)).bounded();
                **why = bounded;
            }
            _ => {}
        }
        self
    }

    fn meaning(&self) -> Meaning {
        let lasting = |label, subject, detail| Meaning {
            label,
            permanent: true,
            status: Enhanced(5, subject, detail),
        };
        let passing = |label, subject, detail| Meaning {
            label,
            permanent: false,
            status: Enhanced(4, subject, detail),
        };
        match self {
            Why::Refused { reply, .. } => refused(reply),
            Why::NoSuchDomain(_) => lasting("no-such-domain", 1, 2),
            Why::NullMx(_) => lasting("null-mx", 1, 10),
            Why::Loop(_) => lasting("loop", 4, 6),
            Why::NoAddress(_) => passing("no-address", 4, 4),
            Why::DnsFailed(_) => passing("dns-failed", 4, 3),
            Why::Unreachable { .. } => passing("unreachable", 4, 1),
            Why::TimedOut { .. } => passing("timed-out", 4, 2),
            Why::ConnectionLost { .. } => passing("connection-lost", 4, 2),
            Why::ProtocolError { .. } => passing("protocol-error", 5, 0),
            Why::TlsRequired { .. } => passing("tls-required", 7, 10),
            Why::AuthFailed { .. } => passing("auth-failed", 7, 8),
            Why::NeedsEightBit(_) => lasting("needs-8bitmime", 6, 3),
            Why::NeedsSmtputf8(_) => lasting("needs-smtputf8", 6, 7),
            Why::TooBig(_) => lasting("too-big", 3, 4),
            Why::Expired(_) => lasting("expired", 4, 7),
            Why::Policy(reply) => Meaning { label: "policy", ..refused(reply) },
            Why::BackedOff(_) => passing("backed-off", 4, 5),
            Why::Operator(_) => lasting("operator", 7, 1),
            Why::Unreadable(_) => passing("unreadable", 3, 0),
            Why::NeedsBinaryMime(_) => lasting("needs-binarymime", 6, 3),
            Why::RequireTls { .. } => lasting("require-tls", 7, 30),
            Why::NeedsDeliverBy(_) => lasting("needs-deliverby", 3, 3),
            Why::Diagnosed { diagnosis, why, .. } => diagnosed(*diagnosis, why),
            // RFC 6531 §4.3.
            Why::Unconvertible { header: true, .. } => lasting("unconvertible", 6, 9),
            Why::Unconvertible { header: false, .. } => lasting("unconvertible", 6, 3),
        }
    }
}

/// A refusal means what its digits say; the enhanced code only where its class agrees.
fn refused(reply: &Reply) -> Meaning {
    let permanent = reply.severity() == Severity::Permanent;
    let class = if permanent { 5 } else { 4 };
    let status = match reply.enhanced {
        Some(enhanced) if enhanced.0 == class => enhanced,
        _ => Enhanced(class, 0, 0),
    };
    Meaning { label: "refused", permanent, status }
}

/// A refusal that is understood: what it means says whether it lasts.
fn diagnosed(diagnosis: Diagnosis, why: &Why) -> Meaning {
    let status = why.reply().map_or_else(|| diagnosis.status(), |r| diagnosis.status_of(r));
    Meaning { label: why.label(), permanent: diagnosis.is_permanent(), status }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Refused { hop, phase, reply } => write!(f, "{hop} said to {phase}: {reply}"),
            Why::NoSuchDomain(domain) => write!(f, "the domain {domain} does not exist"),
            Why::NullMx(domain) => write!(f, "the domain {domain} takes no mail (null MX)"),
            Why::Loop(domain) => {
                write!(f, "the mail exchangers of {domain} lead back to this relay")
            }
            Why::NoAddress(domain) => write!(f, "no mail host of {domain} has an address"),
            Why::DnsFailed(error) => write!(f, "DNS: {error}"),
            Why::Unreachable { hop, error } => write!(f, "cannot connect to {hop}: {error}"),
            Why::TimedOut { hop, phase } => write!(f, "{hop} did not answer in time ({phase})"),
            Why::ConnectionLost { hop, phase } => {
                write!(f, "{hop} closed the connection ({phase})")
            }
            Why::ProtocolError { hop, phase, error } => {
                write!(f, "{hop} does not speak SMTP ({phase}): {error}")
            }
            Why::TlsRequired { hop, error } => write!(f, "{hop} lacks the TLS asked for: {error}"),
            Why::AuthFailed { hop, error } => write!(f, "cannot log in at {hop}: {error}"),
            Why::NeedsEightBit(hop) => {
                write!(f, "{hop} does not take 8-bit content (8BITMIME)")
            }
            Why::NeedsSmtputf8(hop) => {
                write!(f, "{hop} does not take internationalized mail (SMTPUTF8)")
            }
            Why::TooBig(hop) => write!(f, "the message is larger than {hop} takes"),
            Why::Expired(Some(why)) => write!(f, "waited too long; the last time: {why}"),
            Why::Expired(None) => write!(f, "waited too long"),
            Why::Policy(reply) => write!(f, "refused by policy: {reply}"),
            Why::BackedOff(hop) => write!(f, "{hop} is resting after failures"),
            Why::Operator(text) => write!(f, "by an operator: {text}"),
            Why::Unreadable(error) => write!(f, "the stored message cannot be read: {error}"),
            Why::NeedsBinaryMime(hop) => {
                write!(f, "{hop} does not take binary content (BINARYMIME)")
            }
            Why::RequireTls { hop, error } => {
                write!(f, "the message requires TLS on all its way, {hop} does not: {error}")
            }
            Why::NeedsDeliverBy(hop) => {
                write!(f, "{hop} cannot promise to keep the message's deadline (DELIVERBY)")
            }
            Why::Diagnosed { why, .. } => why.fmt(f),
            Why::Unconvertible { hop, error, .. } => {
                write!(
                    f,
                    "{hop} cannot take the message as it is, nor can it be converted: {error}"
                )
            }
        }
    }
}

fn truncate(text: &mut String) {
    if text.len() > MAX_TEXT {
        let mut end = MAX_TEXT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(reply: Reply) -> Why {
        Why::Refused { hop: "mx".into(), phase: Phase::Rcpt, reply }
    }

    #[test]
    fn digits_decide_and_a_contradicting_status_does_not() {
        let liar = Reply::fixed(450, (5, 1, 1), "x");
        assert!(!refusal(liar.clone()).is_permanent());
        assert_eq!(refusal(liar).status(), Enhanced(4, 0, 0));
        assert!(matches!(refusal(Reply::RELAY_DENIED).into_outcome(), Outcome::Bounced(_)));
        assert!(matches!(refusal(Reply::LOCAL_ERROR).into_outcome(), Outcome::Deferred(_)));
    }

    #[test]
    fn what_is_meant_counts_more_than_digits() {
        let later = Diagnosis::new(Disposition::Transient, Category::Greylisted);
        let why = |reply, diagnosis| Why::Diagnosed {
            diagnosis,
            rule: "r".into(),
            why: Box::new(refusal(reply)),
        };
        let grey = why(Reply::plain(550, "greylisted"), later);
        assert!(matches!(grey.clone().into_outcome(), Outcome::Deferred(_)));
        assert_eq!(grey.status(), Enhanced(4, 7, 1));
        assert_eq!((grey.label(), grey.hop()), ("refused", Some("mx")));
        let never = Diagnosis::new(Disposition::Permanent, Category::BadMailbox);
        let gone = why(Reply::fixed(450, (4, 2, 1), "x"), never);
        assert!(matches!(gone.clone().into_outcome(), Outcome::Bounced(_)));
        assert_eq!(gone.status(), Enhanced(5, 2, 1), "its own subject and detail stay");
        assert_eq!(gone.cause().to_string(), gone.to_string());
    }

    #[test]
    fn stored_texts_are_bounded() {
        let deep = refusal(Reply::RELAY_DENIED.with_text("ü".repeat(1000)));
        let diagnosis = deep.diagnosis();
        let why = Why::Diagnosed { diagnosis, rule: String::new(), why: Box::new(deep) }.bounded();
        assert!(why.reply().is_some_and(|r| r.text.len() <= MAX_TEXT));
        let why = refusal(Reply::RELAY_DENIED.with_text("ü".repeat(1000))).bounded();
        assert!(why.reply().is_some_and(|r| r.text.len() <= MAX_TEXT));
    }
}
