//! The questions put to policy and the verdicts allowed.
//!
//! One trait, [`Hooks`], with a method for each stage of a message's way. The mail path asks only
//! about legal speech and applies the answers; who answers (nobody, a test, sandboxed plugins) it
//! does not know. An answer cannot say what would be wrong at its stage: a refusal carries a 4xx or
//! a 5xx by type, results are per recipient, and no verdict widens who may relay, because the relay
//! check is made before and apart from it.

#![forbid(unsafe_code)]

mod attempt;
mod draft;
mod fault;
mod limits;
mod message;
mod pass;
mod route;
mod session;

pub use attempt::{
    Attempt, AttemptAnswer, Disposition, LaneAdvice, MAX_REROUTES, Preparation, PreparedCopy,
    RecipientResult, Remedy,
};
pub use draft::{Draft, EditError, MAX_RECIPIENTS};
pub use fault::{Fault, FaultKind};
pub use limits::{MAX_ATTR_BYTES, MAX_ATTRS, are_legal};
pub use message::{
    HeaderPlace, MessageAnswer, MessageEdit, MessageVerdict, MessageView, RecipientVerdict,
};
pub use pass::Pass;
pub use route::{Hop, Readable, RouteDecision, RouteGroup, RouteView, Way};
pub use session::{
    AuthDecision, Credentials, RecipientAnswer, Refusal, Replacement, SenderChange, SessionAnswer,
    Transaction, Verdict,
};

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use waypost_mail::{Facts, MessageId, Timestamp};

/// Why policy decided as it did, for the log and for who watches decisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// A short stable code, `greylisted`.
    pub code: String,
    /// The same for a person.
    pub text: String,
    /// The rule that matched, if there is one.
    pub rule: Option<String>,
}

/// Something that happened. Facts, never questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// When.
    pub at: Timestamp,
    /// The message, if it is about one.
    pub message: Option<MessageId>,
    /// What else there is to say.
    pub text: String,
}

/// What an [`Event`] tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// A peer connected.
    SessionOpened,
    /// A peer is gone.
    SessionClosed,
    /// A message is durable.
    MessageAccepted,
    /// A message was refused at the end of data.
    MessageRefused,
    /// A recipient was delivered.
    Delivered,
    /// A recipient will be tried again.
    Deferred,
    /// A recipient bounced.
    Bounced,
    /// Policy gave a recipient up, and nobody is told.
    Dropped,
}

/// Policy. Every method may fail with a [`Fault`], which is then handled by the stage's own rule:
/// refused with 4xx at the SMTP stages, kept and tried again later behind them; never a loss, never
/// a bounce.
#[async_trait]
pub trait Hooks: Send + Sync + fmt::Debug {
    /// After the connection was accepted, before the greeting.
    async fn on_connect(&self, session: &Facts) -> Result<SessionAnswer, Fault>;
    /// After EHLO or HELO, and again after STARTTLS.
    async fn on_helo(&self, session: &Facts) -> Result<SessionAnswer, Fault>;
    /// At AUTH with a mechanism that reveals the password, before the users of the configuration.
    async fn on_auth(
        &self,
        session: &Facts,
        credentials: &Credentials,
    ) -> Result<AuthDecision, Fault>;
    /// At MAIL FROM.
    async fn on_sender(&self, transaction: &Transaction<'_>) -> Result<SenderAnswer, Fault>;
    /// At RCPT TO, about recipients that the relay check has let pass. One answer each, in order.
    async fn on_recipients(
        &self,
        transaction: &Transaction<'_>,
        recipients: &[waypost_mail::Recipient],
    ) -> Result<Vec<RecipientAnswer>, Fault>;
    /// After the end of data, before the reply.
    async fn on_message(&self, message: &MessageView<'_>) -> Result<MessageAnswer, Fault>;
    /// Before a message is committed, and again for recipients to be rerouted. Recipients that no
    /// group names take the configured route.
    async fn on_route(&self, message: &RouteView<'_>) -> Result<Vec<RouteGroup>, Fault>;
    /// Before one copy is sent to one next hop.
    async fn on_prepare(&self, copy: &PreparedCopy<'_>) -> Result<Preparation, Fault>;
    /// After an attempt, about the recipients that were tried.
    async fn on_attempt(&self, attempt: &Attempt<'_>) -> Result<AttemptAnswer, Fault>;
    /// Off the mail path, in batches. Events that policy is too slow for are dropped and counted.
    async fn on_events(&self, events: &[Event]) -> Result<(), Fault>;
    /// The policy that answers for one transaction from MAIL to the end of data, whatever comes into
    /// force meanwhile. Absent where policy does not change.
    fn pin(&self, _transaction: MessageId) -> Option<Arc<dyn Hooks>> {
        None
    }
}

/// Answer to [`Hooks::on_sender`].
pub type SenderAnswer = (SessionAnswer, SenderChange);
