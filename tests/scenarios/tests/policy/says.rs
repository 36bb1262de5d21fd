//! A policy that answers as a story has it, and objects to nothing else.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use waypost_hooks::{
    Attempt, AttemptAnswer, AuthDecision, Credentials, Event, Fault, FaultKind, Hooks,
    MessageAnswer, MessageEdit, MessageView, Pass, Preparation, PreparedCopy, RecipientAnswer,
    Remedy, RouteDecision, RouteGroup, RouteView, SenderAnswer, SessionAnswer, Transaction, Way,
};
use waypost_intake::NamedHop;
use waypost_mail::{Facts, NextHop, Recipient, TlsLevel};
use waypost_scenarios::Home;

type Say<F> = Option<Box<F>>;

/// What a story has it say.
#[derive(Default)]
#[allow(clippy::type_complexity, reason = "each is the hook's own signature")]
pub(crate) struct Says {
    recipient: Say<dyn Fn(&Recipient) -> RecipientAnswer + Send + Sync>,
    message: Say<dyn Fn(&MessageView<'_>) -> MessageAnswer + Send + Sync>,
    route: Say<dyn Fn(&RouteView<'_>) -> Result<Vec<RouteGroup>, Fault> + Send + Sync>,
    prepare: Say<dyn Fn(&PreparedCopy<'_>) -> Result<Preparation, Fault> + Send + Sync>,
    attempt: Say<dyn Fn(&Attempt<'_>) -> Result<AttemptAnswer, Fault> + Send + Sync>,
}

impl fmt::Debug for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Says")
    }
}

impl Says {
    pub(crate) fn new() -> Says {
        Says::default()
    }

    pub(crate) fn of_a_recipient(
        mut self,
        say: impl Fn(&Recipient) -> RecipientAnswer + Send + Sync + 'static,
    ) -> Says {
        self.recipient = Some(Box::new(say));
        self
    }

    pub(crate) fn of_a_message(
        mut self,
        say: impl Fn(&MessageView<'_>) -> MessageAnswer + Send + Sync + 'static,
    ) -> Says {
        self.message = Some(Box::new(say));
        self
    }

    /// The same edits of each message that somebody sends; not of our notices.
    pub(crate) fn edits(self, edits: Vec<MessageEdit>) -> Says {
        self.of_a_message(move |view| match view.transaction.session.listener.as_str() {
            "internal" => MessageAnswer::default(),
            _ => MessageAnswer { edits: edits.clone(), ..MessageAnswer::default() },
        })
    }

    pub(crate) fn of_a_route(
        mut self,
        say: impl Fn(&RouteView<'_>) -> Result<Vec<RouteGroup>, Fault> + Send + Sync + 'static,
    ) -> Says {
        self.route = Some(Box::new(say));
        self
    }

    pub(crate) fn of_a_copy(
        mut self,
        say: impl Fn(&PreparedCopy<'_>) -> Result<Preparation, Fault> + Send + Sync + 'static,
    ) -> Says {
        self.prepare = Some(Box::new(say));
        self
    }

    pub(crate) fn of_an_attempt(
        mut self,
        say: impl Fn(&Attempt<'_>) -> Result<AttemptAnswer, Fault> + Send + Sync + 'static,
    ) -> Says {
        self.attempt = Some(Box::new(say));
        self
    }

    /// The same remedy for every recipient of an attempt; nothing for notices.
    pub(crate) fn remedy(self, remedy: Remedy) -> Says {
        self.of_an_attempt(move |attempt| {
            let all = attempt.results.iter().map(|r| (r.recipient.recipient.id, remedy.clone()));
            let is_notice = attempt.entry.facts.listener == "internal";
            let remedies = if is_notice { Vec::new() } else { all.collect() };
            Ok(AttemptAnswer { remedies, ..AttemptAnswer::default() })
        })
    }

    /// Ready for [`Home::hooks`].
    pub(crate) fn ready(self) -> Arc<Says> {
        Arc::new(self)
    }
}

#[async_trait]
impl Hooks for Says {
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
        match &self.recipient {
            Some(say) => Ok(recipients.iter().map(say).collect()),
            None => Pass.on_recipients(transaction, recipients).await,
        }
    }

    async fn on_message(&self, message: &MessageView<'_>) -> Result<MessageAnswer, Fault> {
        Ok(self.message.as_ref().map(|say| say(message)).unwrap_or_default())
    }

    async fn on_route(&self, message: &RouteView<'_>) -> Result<Vec<RouteGroup>, Fault> {
        self.route.as_ref().map_or(Ok(Vec::new()), |say| say(message))
    }

    async fn on_prepare(&self, copy: &PreparedCopy<'_>) -> Result<Preparation, Fault> {
        self.prepare.as_ref().map_or_else(|| Ok(Preparation::default()), |say| say(copy))
    }

    async fn on_attempt(&self, attempt: &Attempt<'_>) -> Result<AttemptAnswer, Fault> {
        self.attempt.as_ref().map_or_else(|| Ok(AttemptAnswer::default()), |say| say(attempt))
    }

    async fn on_events(&self, _: &[Event]) -> Result<(), Fault> {
        Ok(())
    }
}

/// It failed.
pub(crate) fn fault() -> Fault {
    Fault { who: "story".to_owned(), kind: FaultKind::Trap, text: "told to".to_owned() }
}

/// A field for the top of a message.
pub(crate) fn field(name: &str, value: &str) -> MessageEdit {
    let (name, value) = (name.to_owned(), value.to_owned());
    MessageEdit::AddHeader { name, value, place: waypost_hooks::HeaderPlace::Top }
}

/// By a hop that the configuration names.
pub(crate) fn by_name(name: &str) -> Way {
    Way { hops: vec![waypost_hooks::Hop::Named(name.to_owned())], ..Way::default() }
}

/// All recipients this way.
pub(crate) fn all_go(view: &RouteView<'_>, way: Way) -> Vec<RouteGroup> {
    let recipients = view.recipients.iter().map(|recipient| recipient.id).collect();
    let decision = RouteDecision::Route(way);
    vec![RouteGroup { recipients, decision, reasons: Vec::new() }]
}

/// The home with a next hop that policy can name.
pub(crate) fn with_hop(home: Home, name: &'static str, address: SocketAddr) -> Home {
    home.amended(move |settings| {
        let hop = NextHop::Host {
            host: address.ip().to_string(),
            port: address.port(),
            implicit_tls: false,
        };
        let (tls, credentials) = (TlsLevel::Opportunistic, None);
        let hop = NamedHop { hosts: vec![hop].into(), tls, credentials };
        settings.reload.routing.named.insert(name.to_owned(), hop);
    })
}
