//! Answers to what a peer's speech asks: first our own rules, then policy.
//!
//! Every door drives the same [`Decider`], so that policy cannot differ by door. What is known of
//! the peer grows with the session; what is known of a message lives from MAIL to its end.

mod auth;
mod recipients;
mod senders;
mod token;
mod xclient;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracing::{info, warn};
use waypost_hooks::{
    Fault, Hooks, MAX_ATTR_BYTES, MAX_ATTRS, SenderChange, SessionAnswer, Verdict, are_legal,
};
use waypost_intake::{Gather, Rules};
use waypost_mail::ledger::Fact;
use waypost_mail::{Attr, Envelope, Facts, Message, MessageId, Recipient, Terms, Timestamp};
use waypost_mutant::planted;
use waypost_smtp::server::{Answer, MailFrom, Offers, Question};
use waypost_smtp::{BodyType, Priority, Reply, ReversePath, Severity};

use crate::ListenerConfig;
use crate::manner::Manner;
use crate::metrics::ListenerMetrics;
use crate::sasl::Exchange;
use crate::scram::ChannelBinding;
use crate::server::{Current, House, Presence};
use crate::tls::Secured;

/// Decides for one session.
#[derive(Debug)]
pub(crate) struct Decider {
    house: Arc<House>,
    current: Arc<Current>,
    manner: Manner,
    metrics: ListenerMetrics,
    facts: Facts,
    /// See [`Client`].
    presence: Option<Presence>,
    anonymous: bool,
    spoken_for: bool,
    /// The identity is a login's, made in this session.
    logged_in: bool,
    /// What a login can be bound to.
    binding: Option<ChannelBinding>,
    exchange: Option<Exchange>,
    transaction: Option<Transaction>,
    /// Session metadata that was set before the peer said anything.
    connect_meta: Vec<Attr>,
}

/// Who comes in.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) facts: Facts,
    /// What its login can be bound to.
    pub(crate) binding: Option<ChannelBinding>,
    /// The identity in the facts is a login's, and held to the rules about senders. A user of this
    /// machine, of whom the system tells, is not: cron and mailing programs send as anybody.
    pub(crate) known: bool,
    /// Its place among all sessions; absent where it is the connection's.
    pub(crate) presence: Option<Presence>,
    /// Its address is not known; the one in the facts is a proxy's.
    pub(crate) anonymous: bool,
    /// A peer speaks for it (XCLIENT): what that peer proves, it does not prove for the client.
    pub(crate) spoken_for: bool,
}

/// A message on its way in.
#[derive(Debug)]
struct Transaction {
    id: MessageId,
    /// The policy that answers for all of it, where policy may change meanwhile.
    pinned: Option<Arc<dyn Hooks>>,
    received: Timestamp,
    sender: ReversePath,
    declared_size: Option<u64>,
    body_type: BodyType,
    smtputf8: bool,
    terms: Terms,
    /// MAIL said how urgent it is.
    said_priority: bool,
    meta: Vec<Attr>,
    recipients: Vec<Recipient>,
    /// For each RCPT that was taken, the recipients it stands for.
    named: Vec<Vec<u32>>,
    next_recipient: u32,
    body: Incoming,
    promise: Option<Promise>,
}

/// What is to become durable with a message, of the replies that will be given then.
struct Promise(Box<waypost_intake::Promise>);

impl std::fmt::Debug for Promise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Promise")
    }
}

/// The body so far.
#[derive(Debug)]
enum Incoming {
    Nothing,
    Gathering(Gather),
    /// It was lost; the end of data is answered with this.
    Lost(Reply),
}

impl Decider {
    pub(crate) fn new(
        house: Arc<House>,
        current: Arc<Current>,
        manner: Manner,
        metrics: ListenerMetrics,
        client: Client,
    ) -> Decider {
        let Client { facts, binding, known, presence, anonymous, spoken_for } = client;
        Decider {
            house,
            current,
            manner,
            metrics,
            facts,
            presence,
            anonymous,
            spoken_for,
            logged_in: known,
            binding,
            exchange: None,
            transaction: None,
            connect_meta: Vec::new(),
        }
    }

    /// True when the peer may send to anybody.
    pub(crate) fn is_ours(&self) -> bool {
        self.facts.may_relay
    }

    /// The channel is encrypted now; what was said before is forgotten (RFC 3207 §4.2).
    /// Gives the mechanisms to log in with from now on.
    pub(crate) fn encrypted(&mut self, mut channel: Secured) -> Vec<String> {
        if self.spoken_for {
            // The channel is the peer's, and so is what could be bound to it.
            (channel.facts.certificate, channel.binding) = (None, None);
        }
        let mechanisms = self.current.settings.mechanisms(&channel);
        self.facts.tls = Some(channel.facts);
        self.binding = channel.binding;
        self.facts.may_relay = self.is_admitted();
        self.facts.helo = None;
        self.facts.identity = None;
        self.logged_in = false;
        self.facts.meta = self.connect_meta.clone();
        self.facts.protocol = self.manner.protocol(false);
        self.exchange = None;
        self.transaction = None;
        mechanisms
    }

    /// True when the client may send to anybody, whoever is logged in.
    fn is_admitted(&self) -> bool {
        let address = (!self.anonymous).then_some(self.facts.client.ip());
        self.current.settings.relay.admits(address, self.facts.tls.as_ref())
    }

    /// The message that is on its way in.
    pub(crate) fn message(&self) -> Option<MessageId> {
        self.transaction.as_ref().map(|transaction| transaction.id)
    }

    /// Sees to it that these facts become durable together with the message, or not at all.
    pub(crate) fn promise(
        &mut self,
        facts: impl Fn(&[Reply]) -> Vec<Fact> + Send + Sync + 'static,
    ) {
        if let Some(transaction) = &mut self.transaction {
            transaction.promise = Some(Promise(Box::new(facts)));
        }
    }

    /// The extensions on offer.
    pub(crate) fn offers(&self) -> Offers {
        let listener = ListenerConfig { name: self.facts.listener.clone(), kind: self.manner.0 };
        self.current.settings.offers(&listener, self.house.rooms.clock.now())
    }

    /// What is held against the peer.
    pub(crate) fn strictness(&self) -> waypost_smtp::server::Strictness {
        self.manner.strictness(&self.current.settings)
    }

    /// How much the peer may take.
    pub(crate) fn limits(&self) -> &crate::Limits {
        &self.current.settings.limits
    }

    /// Answers a question.
    pub(crate) async fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Connect => self.connect().await,
            Question::Helo { name, esmtp } => self.helo(name, esmtp).await,
            Question::Auth { mechanism, initial } => self.auth(mechanism, initial).await,
            Question::AuthResponse(response) => self.auth_response(response).await,
            Question::Xclient(told) => self.introduced(told),
            Question::Sender(from) => self.sender(from).await,
            Question::Recipients(all) => self.recipients(all).await,
            Question::Data => self.data(),
            Question::Commit { .. } => self.commit().await,
        }
    }

    /// Takes a piece of the body.
    pub(crate) async fn chunk(&mut self, chunk: Bytes) {
        let Some(transaction) = &mut self.transaction else { return };
        if planted!("a long piece of a message is dropped") && chunk.len() > 600 {
            return;
        }
        if let Incoming::Gathering(gather) = &mut transaction.body
            && let Err(error) = gather.push(chunk).await
        {
            warn!(message = %transaction.id, %error, "a body is lost, the message will be refused");
            transaction.body = Incoming::Lost(error.reply());
        }
    }

    /// Throws the body away, and the transaction it is part of.
    pub(crate) fn discard(&mut self) {
        self.transaction = None;
    }

    async fn connect(&mut self) -> Answer {
        if let Err(answer) = self.not_shut_out() {
            return answer;
        }
        let said = self.house.rooms.hooks.on_connect(&self.facts).await;
        let said = self.checked("connect", said);
        let answer = self.session_ruled(said, Answer::Disconnect(Reply::INTERNAL_FAULT)).await;
        self.connect_meta = self.facts.meta.clone();
        answer
    }

    async fn helo(&mut self, name: String, esmtp: bool) -> Answer {
        let (old_helo, old_protocol) = (self.facts.helo.take(), self.facts.protocol);
        self.facts.helo = Some(name);
        self.facts.protocol = self.manner.protocol(esmtp);
        let said = self.house.rooms.hooks.on_helo(&self.facts).await;
        let said = self.checked("helo", said);
        let answer = self.session_ruled(said, Answer::Disconnect(Reply::INTERNAL_FAULT)).await;
        if matches!(&answer, Answer::Reply(reply) if reply.is_positive()) {
            self.transaction = None;
        } else {
            (self.facts.helo, self.facts.protocol) = (old_helo, old_protocol);
        }
        answer
    }

    async fn sender(&mut self, from: MailFrom) -> Answer {
        self.transaction = None;
        let rooms = &self.house.rooms;
        if let Some(shortage) = self.house.shortage() {
            return Answer::Reply(shortage.reply());
        }
        if self.house.payers.pay(&self.facts, &self.current.settings.limits).is_err() {
            return Answer::Reply(Reply::TOO_MANY_IN_TIME);
        }
        if let Some(reply) = self.refused_sender(&from.path) {
            return Answer::Reply(reply);
        }
        let id = rooms.intake.ids().message();
        let received = rooms.clock.now();
        let mut transaction = Transaction {
            id,
            pinned: rooms.hooks.pin(id),
            received,
            terms: self.permitted(Terms::asked(&from, received)),
            sender: from.path,
            declared_size: from.size,
            body_type: from.body,
            smtputf8: from.smtputf8,
            said_priority: from.priority.is_some(),
            meta: Vec::new(),
            recipients: Vec::new(),
            named: Vec::new(),
            next_recipient: 0,
            body: Incoming::Nothing,
            promise: None,
        };
        let hooks = transaction.hooks(&rooms.hooks);
        let said = hooks.on_sender(&transaction.view(&self.facts)).await;
        let (said, change) = match said {
            Ok((answer, change)) => (self.checked("sender", Ok(answer)), change),
            Err(fault) => (self.checked("sender", Err(fault)), SenderChange::Keep),
        };
        let answer = match said {
            None => return Answer::Reply(Reply::LOCAL_ERROR),
            Some(answer) => answer,
        };
        set_all(answer.meta, &mut self.facts.meta);
        if let SenderChange::To(path) = change {
            info!(message = %transaction.id, from = %transaction.sender, to = %path, "sender changed by policy");
            transaction.sender = path;
        }
        self.wait(answer.delay).await;
        let answer = ruled(answer.verdict, consent(from.priority, transaction.terms.priority));
        if matches!(&answer, Answer::Reply(reply) if reply.is_positive()) {
            self.transaction = Some(transaction);
        }
        answer
    }

    /// The most urgent that this peer's mail may be, where it may say so. RFC 6710 §4.1: who is not
    /// trusted may lower it and no more.
    fn highest_priority(&self) -> Option<Priority> {
        let settings = &self.current.settings;
        let highest = settings.highest_priority(&self.facts.listener, self.manner.0)?;
        let trusted = self.facts.may_relay;
        Some(if trusted { highest } else { highest.min(Priority::default()) })
    }

    /// What this peer may ask for: urgency and the word of others are for who may relay.
    fn permitted(&self, mut terms: Terms) -> Terms {
        terms.priority = terms.priority.min(self.highest_priority().unwrap_or_default());
        // RFC 4954 §5: a user who logged in speaks for nobody else.
        if !self.current.settings.relay.lists(self.facts.client.ip()) {
            terms.submitter = terms.submitter.map(|_| ReversePath::Null);
        }
        terms
    }

    fn data(&mut self) -> Answer {
        let Some(transaction) = &mut self.transaction else {
            return Answer::Reply(Reply::BAD_SEQUENCE);
        };
        transaction.body = Incoming::Gathering(self.house.rooms.intake.gather());
        Answer::Reply(Reply::OK)
    }

    async fn commit(&mut self) -> Answer {
        // Boxed: idle sessions need not carry the room that a commit takes.
        let replies = Box::pin(self.hand_over()).await;
        let is = |severity| {
            replies.as_ref().map_or_else(
                |reply| reply.severity() == severity,
                |all| all.iter().any(|reply| reply.severity() == severity),
            )
        };
        if is(Severity::Positive) {
            self.metrics.accepted.inc();
        } else if is(Severity::Transient) {
            self.metrics.deferred.inc();
        } else {
            self.metrics.refused.inc();
        }
        match replies {
            Ok(each) if self.manner.answers_each() => Answer::Recipients(each),
            Ok(all) => Answer::Reply(all.into_iter().next().unwrap_or(Reply::LOCAL_ERROR)),
            Err(reply) => Answer::Reply(reply),
        }
    }

    /// The replies to those who were named, or one for all of them where the door has no more.
    async fn hand_over(&mut self) -> Result<Vec<Reply>, Reply> {
        let transaction = self.transaction.take().ok_or(Reply::BAD_SEQUENCE)?;
        let id = transaction.id;
        if planted!("250 and nothing is kept") && transaction.recipients.len() == 3 {
            return Ok(vec![Reply::OK.with_text(format!("OK queued as {id}"))]);
        }
        let body = match transaction.body {
            Incoming::Gathering(gather) => gather.finish().await.map_err(|error| {
                warn!(message = %id, %error, "a body is lost, the message is refused");
                error.reply()
            })?,
            Incoming::Lost(reply) => return Err(reply),
            Incoming::Nothing => return Err(Reply::LOCAL_ERROR),
        };
        let groups = match self.manner.answers_each() {
            true => transaction.named,
            false => vec![transaction.recipients.iter().map(|recipient| recipient.id).collect()],
        };
        let envelope = Envelope::new(id, transaction.sender, transaction.recipients);
        let mut envelope = envelope.ok_or(Reply::NO_VALID_RECIPIENTS)?;
        envelope.body_type = transaction.body_type;
        envelope.smtputf8 = transaction.smtputf8;
        envelope.terms = transaction.terms;
        envelope.meta = transaction.meta;
        let facts = self.facts.clone();
        let message = Message { envelope, facts, body, received: transaction.received };
        let relay = &self.current.settings.relay;
        let origin = self.manner.origin(&self.current.settings);
        let rules = Rules {
            pinned: transaction.pinned.as_deref(),
            may_send_to: &|domain| relay.allows(&self.facts, domain),
            check_header: &|header| self.author().map_or(Ok(()), |author| author.check(header)),
            groups: &groups,
            origin: origin.as_ref(),
            // What MAIL says goes before; a stranger's field says nothing (RFC 6758 §7).
            tunnelled: self
                .highest_priority()
                .filter(|_| self.facts.may_relay && !transaction.said_priority),
            promise: transaction.promise.as_ref().map(|promise| &*promise.0 as _),
        };
        Ok(self.house.rooms.intake.accept(message, self.manner.door(), rules).await)
    }

    /// Policy's answer, unless it failed or may not be said.
    fn checked(
        &self,
        stage: &'static str,
        said: Result<SessionAnswer, Fault>,
    ) -> Option<SessionAnswer> {
        let problem = match said {
            Ok(answer) if are_legal(&answer.meta) => return Some(answer),
            Ok(_) => "illegal attributes".to_owned(),
            Err(fault) => fault.to_string(),
        };
        self.fault(stage, &problem);
        None
    }

    fn fault(&self, stage: &'static str, problem: &str) {
        self.house.metrics.fault(stage);
        warn!(stage, problem, "policy failed, the peer is put off");
    }

    /// Carries out an answer about the session.
    async fn session_ruled(&mut self, said: Option<SessionAnswer>, failed: Answer) -> Answer {
        let Some(answer) = said else { return failed };
        set_all(answer.meta, &mut self.facts.meta);
        self.wait(answer.delay).await;
        ruled(answer.verdict, Reply::OK)
    }

    async fn wait(&self, delay: Duration) {
        let delay = delay.min(self.current.settings.limits.max_delay);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }
}

impl Transaction {
    /// Who answers for this transaction.
    fn hooks(&self, current: &Arc<dyn Hooks>) -> Arc<dyn Hooks> {
        self.pinned.as_ref().unwrap_or(current).clone()
    }

    fn view<'a>(&'a self, session: &'a Facts) -> waypost_hooks::Transaction<'a> {
        waypost_hooks::Transaction {
            session,
            sender: &self.sender,
            declared_size: self.declared_size,
            body_type: self.body_type,
            smtputf8: self.smtputf8,
            recipients: &self.recipients,
            meta: &self.meta,
        }
    }
}

/// 250 to MAIL; a priority other than the one asked for is named (RFC 6710 §4.1).
fn consent(asked: Option<Priority>, granted: Priority) -> Reply {
    match asked {
        Some(asked) if asked != granted => Reply::fixed(250, (2, 3, 6), "")
            .with_text(format!("{granted} is the new priority assigned to the message")),
        _ => Reply::SENDER_OK,
    }
}

fn ruled(verdict: Verdict, consent: Reply) -> Answer {
    match verdict {
        Verdict::Proceed => Answer::Reply(consent),
        Verdict::Refuse(refusal) => Answer::Reply(refusal.reply().clone()),
        Verdict::Disconnect(refusal) => Answer::Disconnect(refusal.reply().clone()),
    }
}

/// Sets attributes as far as there is room for them.
fn set_all(new: Vec<Attr>, attrs: &mut Vec<Attr>) {
    for attr in new {
        let others = attrs.iter().filter(|other| other.name != attr.name);
        let (mut count, mut bytes) = (1, attr.name.len() + attr.value.len());
        for other in others {
            count += 1;
            bytes += other.name.len() + other.value.len();
        }
        if attr.value.is_empty() || (count <= MAX_ATTRS && bytes <= MAX_ATTR_BYTES) {
            attr.set(attrs);
        } else {
            warn!(name = attr.name, "no room for an attribute set by policy");
        }
    }
}
