//! Answers while a peer waits for a reply: connection, greeting, login, sender, recipients.

use std::fmt;
use std::time::Duration;

use waypost_mail::{Attr, Envelope, Facts, Recipient};
use waypost_smtp::{BodyType, Mailbox, PermanentReply, ReversePath, TransientReply};

use crate::Reason;

/// A refusal, whose class cannot be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// 4xx.
    Tempfail(TransientReply),
    /// 5xx.
    Reject(PermanentReply),
}

impl Refusal {
    /// The reply to send.
    pub fn reply(&self) -> &waypost_smtp::Reply {
        match self {
            Refusal::Tempfail(reply) => reply.reply(),
            Refusal::Reject(reply) => reply.reply(),
        }
    }
}

/// Decision at a stage where the peer waits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Verdict {
    /// No objection.
    #[default]
    Proceed,
    /// Say no.
    Refuse(Refusal),
    /// Say no and close the connection.
    Disconnect(Refusal),
}

/// Answer about the session or the sender.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionAnswer {
    /// The decision.
    pub verdict: Verdict,
    /// Wait this long before the reply; the host caps it.
    pub delay: Duration,
    /// Session metadata to set.
    pub meta: Vec<Attr>,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// What becomes of the reverse path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SenderChange {
    /// As it is.
    #[default]
    Keep,
    /// Another one.
    To(ReversePath),
}

/// Answer about one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecipientAnswer {
    /// The decision.
    pub verdict: Verdict,
    /// Deliver to these instead; empty keeps the address.
    pub replace_with: Vec<Replacement>,
    /// Recipient metadata to set.
    pub meta: Vec<Attr>,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// A recipient that policy puts in another's place, or adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The address.
    pub mailbox: Mailbox,
    /// Policy was granted this domain by the configuration, whatever the peer may do. Otherwise the
    /// peer must be allowed to send there itself.
    pub granted: bool,
}

/// The mail transaction so far.
#[derive(Debug, Clone, Copy)]
pub struct Transaction<'a> {
    /// The session it is part of.
    pub session: &'a Facts,
    /// The reverse path.
    pub sender: &'a ReversePath,
    /// `SIZE=`, as declared.
    pub declared_size: Option<u64>,
    /// `BODY=`.
    pub body_type: BodyType,
    /// SMTPUTF8 was asked for.
    pub smtputf8: bool,
    /// Recipients accepted so far.
    pub recipients: &'a [Recipient],
    /// Message metadata set so far.
    pub meta: &'a [Attr],
}

impl<'a> Transaction<'a> {
    /// The transaction of a complete envelope.
    pub fn of(session: &'a Facts, envelope: &'a Envelope) -> Transaction<'a> {
        Transaction {
            session,
            sender: &envelope.sender,
            declared_size: None,
            body_type: envelope.body_type,
            smtputf8: envelope.smtputf8,
            recipients: envelope.recipients(),
            meta: &envelope.meta,
        }
    }
}

/// A password that a peer offered. Its text form never shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The SASL mechanism.
    pub mechanism: String,
    /// Whom the peer wants to act as, if another.
    pub authzid: Option<String>,
    /// Who the peer is.
    pub authcid: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("mechanism", &self.mechanism)
            .field("authcid", &self.authcid)
            .finish_non_exhaustive()
    }
}

/// Decision about a login.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AuthDecision {
    /// Not policy's users: the configured ones decide.
    #[default]
    Proceed,
    /// Accept with this identity.
    Allow(String),
    /// Refuse.
    Deny(Refusal),
}
