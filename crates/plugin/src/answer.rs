//! Policy as the mail path knows it.

use std::sync::Arc;

use async_trait::async_trait;
use waypost_hooks::{
    Attempt, AttemptAnswer, AuthDecision, Credentials, Event, Fault, Hooks, MessageAnswer,
    MessageView, Preparation, PreparedCopy, RecipientAnswer, RouteGroup, RouteView, SenderAnswer,
    SessionAnswer, Transaction,
};
use waypost_mail::{Facts, MessageId, Recipient};

use crate::Policy;
use crate::generation::Generation;

/// The policy in force, as the mail path asks it.
#[derive(Debug, Clone)]
pub struct Answers(Arc<Policy>);

impl Answers {
    /// Answers by whatever is in force.
    pub fn new(policy: Arc<Policy>) -> Answers {
        Answers(policy)
    }
}

/// One generation, for one transaction.
#[derive(Debug)]
struct Pinned {
    policy: Arc<Policy>,
    generation: Arc<Generation>,
}

/// Both answer alike, each by the generation that it chooses for a key.
macro_rules! hooks {
    ($kind:ty, |$self:ident, $key:ident| $policy:expr, $generation:expr, pin: |$pin_self:ident, $transaction:ident| $pin:expr) => {
        #[async_trait]
        impl Hooks for $kind {
            async fn on_connect(&$self, session: &Facts) -> Result<SessionAnswer, Fault> {
                let $key = session.session.0;
                let generation = $generation;
                $policy.turn(&generation).connect(session).await
            }

            async fn on_helo(&$self, session: &Facts) -> Result<SessionAnswer, Fault> {
                let $key = session.session.0;
                let generation = $generation;
                $policy.turn(&generation).helo(session).await
            }

            async fn on_auth(
                &$self,
                session: &Facts,
                credentials: &Credentials,
            ) -> Result<AuthDecision, Fault> {
                let $key = session.session.0;
                let generation = $generation;
                $policy.turn(&generation).auth(session, credentials).await
            }

            async fn on_sender(
                &$self,
                transaction: &Transaction<'_>,
            ) -> Result<SenderAnswer, Fault> {
                let $key = transaction.session.session.0;
                let generation = $generation;
                $policy.turn(&generation).sender(transaction).await
            }

            async fn on_recipients(
                &$self,
                transaction: &Transaction<'_>,
                recipients: &[Recipient],
            ) -> Result<Vec<RecipientAnswer>, Fault> {
                let $key = transaction.session.session.0;
                let generation = $generation;
                $policy.turn(&generation).recipients(transaction, recipients).await
            }

            async fn on_message(
                &$self,
                message: &MessageView<'_>,
            ) -> Result<MessageAnswer, Fault> {
                let $key = message.id.0;
                let generation = $generation;
                $policy.turn(&generation).message(message).await
            }

            async fn on_route(&$self, message: &RouteView<'_>) -> Result<Vec<RouteGroup>, Fault> {
                let $key = message.id.0;
                let generation = $generation;
                $policy.turn(&generation).route(message).await
            }

            async fn on_prepare(&$self, copy: &PreparedCopy<'_>) -> Result<Preparation, Fault> {
                let $key = copy.entry.id.0;
                let generation = $generation;
                $policy.turn(&generation).prepare(copy).await
            }

            async fn on_attempt(&$self, attempt: &Attempt<'_>) -> Result<AttemptAnswer, Fault> {
                let $key = attempt.entry.id.0;
                let generation = $generation;
                $policy.turn(&generation).attempt(attempt).await
            }

            async fn on_events(&$self, events: &[Event]) -> Result<(), Fault> {
                let generation = $policy.current();
                $policy.turn(&generation).events(events).await;
                Ok(())
            }

            fn pin(&$pin_self, $transaction: MessageId) -> Option<Arc<dyn Hooks>> {
                $pin
            }
        }
    };
}

hooks!(
    Answers,
    |self, key| self.0,
    self.0.chosen(key),
    pin: |self, transaction| {
        let generation = self.0.chosen(transaction.0);
        Some(Arc::new(Pinned { policy: self.0.clone(), generation }))
    }
);

hooks!(
    Pinned,
    |self, _key| self.policy,
    self.generation.clone(),
    pin: |self, _transaction| None
);
