//! A policy made of closures, one for each stage behind the door that it has an opinion about.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use waypost_hooks::{
    Attempt, AttemptAnswer, AuthDecision, Credentials, Event, EventKind, Fault, FaultKind, Hooks,
    MessageAnswer, MessageView, Pass, Preparation, PreparedCopy, RecipientAnswer, RouteGroup,
    RouteView, SenderAnswer, SessionAnswer, Transaction,
};
use waypost_mail::{Facts, Recipient, Text};

type Judge = Box<dyn Fn(&Attempt<'_>) -> Result<AttemptAnswer, Fault> + Send + Sync>;
type Routed = Box<dyn Fn(&RouteView<'_>) -> Result<Vec<RouteGroup>, Fault> + Send + Sync>;
type Prepared = Box<dyn Fn(&PreparedCopy<'_>, &Text) -> Result<Preparation, Fault> + Send + Sync>;

/// Objects to nothing but what its rules say. A rule for copies is shown the stored text too.
#[derive(Default)]
pub struct Rules {
    route: Option<Routed>,
    prepare: Option<Prepared>,
    attempt: Option<Judge>,
    events: Mutex<Vec<EventKind>>,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").finish_non_exhaustive()
    }
}

/// A fault, as a rule that fails answers it.
pub fn fault() -> Fault {
    Fault { who: "rules".to_owned(), kind: FaultKind::Reported, text: "told to fail".to_owned() }
}

impl Rules {
    /// No rules.
    pub fn new() -> Rules {
        Rules::default()
    }

    /// About the way of recipients.
    pub fn route(
        mut self,
        rule: impl Fn(&RouteView<'_>) -> Result<Vec<RouteGroup>, Fault> + Send + Sync + 'static,
    ) -> Rules {
        self.route = Some(Box::new(rule));
        self
    }

    /// About a copy; the stored text is read for it.
    pub fn prepare(
        mut self,
        rule: impl Fn(&PreparedCopy<'_>, &Text) -> Result<Preparation, Fault> + Send + Sync + 'static,
    ) -> Rules {
        self.prepare = Some(Box::new(rule));
        self
    }

    /// About an attempt.
    pub fn attempt(
        mut self,
        rule: impl Fn(&Attempt<'_>) -> Result<AttemptAnswer, Fault> + Send + Sync + 'static,
    ) -> Rules {
        self.attempt = Some(Box::new(rule));
        self
    }

    /// What has happened so far, in order.
    pub fn events(&self) -> Vec<EventKind> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Hooks for Rules {
    async fn on_connect(&self, session: &Facts) -> Result<SessionAnswer, Fault> {
        Pass.on_connect(session).await
    }

    async fn on_helo(&self, session: &Facts) -> Result<SessionAnswer, Fault> {
        Pass.on_helo(session).await
    }

    async fn on_auth(&self, session: &Facts, given: &Credentials) -> Result<AuthDecision, Fault> {
        Pass.on_auth(session, given).await
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
        Pass.on_message(message).await
    }

    async fn on_route(&self, message: &RouteView<'_>) -> Result<Vec<RouteGroup>, Fault> {
        self.route.as_ref().map_or(Ok(Vec::new()), |rule| rule(message))
    }

    async fn on_prepare(&self, copy: &PreparedCopy<'_>) -> Result<Preparation, Fault> {
        let Some(rule) = &self.prepare else { return Ok(Preparation::default()) };
        let text = copy.text.text().await.map_err(|error| Fault {
            kind: FaultKind::Host,
            text: error.to_string(),
            ..fault()
        })?;
        rule(copy, &text)
    }

    async fn on_attempt(&self, attempt: &Attempt<'_>) -> Result<AttemptAnswer, Fault> {
        self.attempt.as_ref().map_or(Ok(AttemptAnswer::default()), |rule| rule(attempt))
    }

    async fn on_events(&self, events: &[Event]) -> Result<(), Fault> {
        let mut told = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        told.extend(events.iter().map(|event| event.kind));
        Ok(())
    }
}
