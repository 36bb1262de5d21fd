//! No policy at all.

use async_trait::async_trait;
use waypost_mail::{Facts, Recipient};

use crate::{
    Attempt, AttemptAnswer, AuthDecision, Credentials, Event, Fault, Hooks, MessageAnswer,
    MessageView, Preparation, PreparedCopy, RecipientAnswer, RouteGroup, RouteView, SenderAnswer,
    SessionAnswer, Transaction,
};

/// Objects to nothing, changes nothing: what runs where no policy is configured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pass;

#[async_trait]
impl Hooks for Pass {
    async fn on_connect(&self, _: &Facts) -> Result<SessionAnswer, Fault> {
        Ok(SessionAnswer::default())
    }

    async fn on_helo(&self, _: &Facts) -> Result<SessionAnswer, Fault> {
        Ok(SessionAnswer::default())
    }

    async fn on_auth(&self, _: &Facts, _: &Credentials) -> Result<AuthDecision, Fault> {
        Ok(AuthDecision::default())
    }

    async fn on_sender(&self, _: &Transaction<'_>) -> Result<SenderAnswer, Fault> {
        Ok(SenderAnswer::default())
    }

    async fn on_recipients(
        &self,
        _: &Transaction<'_>,
        recipients: &[Recipient],
    ) -> Result<Vec<RecipientAnswer>, Fault> {
        Ok(vec![RecipientAnswer::default(); recipients.len()])
    }

    async fn on_message(&self, _: &MessageView<'_>) -> Result<MessageAnswer, Fault> {
        Ok(MessageAnswer::default())
    }

    async fn on_route(&self, _: &RouteView<'_>) -> Result<Vec<RouteGroup>, Fault> {
        Ok(Vec::new())
    }

    async fn on_prepare(&self, _: &PreparedCopy<'_>) -> Result<Preparation, Fault> {
        Ok(Preparation::default())
    }

    async fn on_attempt(&self, _: &Attempt<'_>) -> Result<AttemptAnswer, Fault> {
        Ok(AttemptAnswer::default())
    }

    async fn on_events(&self, _: &[Event]) -> Result<(), Fault> {
        Ok(())
    }
}
