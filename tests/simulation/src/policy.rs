//! A policy that does what the message says.

use async_trait::async_trait;
use waypost_hooks::{
    Attempt, AttemptAnswer, AuthDecision, Credentials, Event, Fault, FaultKind, Hooks,
    MessageAnswer, MessageVerdict, MessageView, Pass, Preparation, PreparedCopy, RecipientAnswer,
    RecipientVerdict, Refusal, RouteGroup, RouteView, SenderAnswer, SessionAnswer, Transaction,
};
use waypost_mail::{Facts, Recipient};
use waypost_smtp::{PermanentReply, Reply};

/// What policy does with a message, as its field `X-Policy` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    Pass,
    /// It is refused for good.
    Refuse,
    /// Policy fails: it is refused for now.
    Fail,
    /// It is taken and dropped.
    Discard,
    /// It is held.
    Quarantine,
    /// The first of several recipients is refused, the others are not.
    Doom,
}

impl Wish {
    /// All of them.
    pub const ALL: [Wish; 6] =
        [Wish::Pass, Wish::Refuse, Wish::Fail, Wish::Discard, Wish::Quarantine, Wish::Doom];

    /// As the field has it.
    pub fn name(self) -> &'static str {
        match self {
            Wish::Pass => "pass",
            Wish::Refuse => "refuse",
            Wish::Fail => "fail",
            Wish::Discard => "discard",
            Wish::Quarantine => "quarantine",
            Wish::Doom => "doom",
        }
    }

    fn of(message: &MessageView<'_>) -> Wish {
        let name = message.text.header.first("X-Policy").unwrap_or_default();
        Wish::ALL.into_iter().find(|wish| wish.name() == name.trim()).unwrap_or(Wish::Pass)
    }
}

/// The policy.
#[derive(Debug, Clone, Copy)]
pub struct Obedient;

#[async_trait]
impl Hooks for Obedient {
    async fn on_connect(&self, session: &Facts) -> Result<SessionAnswer, Fault> {
        Pass.on_connect(session).await
    }

    async fn on_helo(&self, session: &Facts) -> Result<SessionAnswer, Fault> {
        Pass.on_helo(session).await
    }

    async fn on_auth(&self, session: &Facts, who: &Credentials) -> Result<AuthDecision, Fault> {
        Pass.on_auth(session, who).await
    }

    async fn on_sender(&self, transaction: &Transaction<'_>) -> Result<SenderAnswer, Fault> {
        Pass.on_sender(transaction).await
    }

    async fn on_recipients(
        &self,
        transaction: &Transaction<'_>,
        recipients: &[Recipient],
    ) -> Result<Vec<RecipientAnswer>, Fault> {
        Pass.on_recipients(transaction, recipients).await
    }

    async fn on_message(&self, message: &MessageView<'_>) -> Result<MessageAnswer, Fault> {
        let mut answer = MessageAnswer::default();
        let refusal = || PermanentReply::new(Reply::REFUSED_BY_POLICY).map(Refusal::Reject);
        let fault = || {
            let (who, text) = ("obedient".to_owned(), "as was wished".to_owned());
            Fault { who, kind: FaultKind::Reported, text }
        };
        match Wish::of(message) {
            Wish::Pass => {}
            Wish::Refuse => answer.verdict = MessageVerdict::Refuse(refusal().ok_or_else(fault)?),
            Wish::Fail => return Err(fault()),
            Wish::Discard => answer.verdict = MessageVerdict::Discard("as was wished".to_owned()),
            Wish::Quarantine => {
                answer.verdict = MessageVerdict::Quarantine("as was wished".to_owned());
            }
            Wish::Doom => {
                let verdict = refusal().ok_or_else(fault)?;
                answer.recipients = vec![RecipientVerdict { id: 0, verdict, reasons: Vec::new() }];
            }
        }
        Ok(answer)
    }

    async fn on_route(&self, message: &RouteView<'_>) -> Result<Vec<RouteGroup>, Fault> {
        Pass.on_route(message).await
    }

    async fn on_prepare(&self, copy: &PreparedCopy<'_>) -> Result<Preparation, Fault> {
        Pass.on_prepare(copy).await
    }

    async fn on_attempt(&self, attempt: &Attempt<'_>) -> Result<AttemptAnswer, Fault> {
        Pass.on_attempt(attempt).await
    }

    async fn on_events(&self, _: &[Event]) -> Result<(), Fault> {
        Ok(())
    }
}
