//! The one door into the queue. SMTP and our own notices come through it, so that policy cannot
//! differ by the way mail came in.
//!
//! [`Gather`] collects a body; [`Intake::accept`] takes the complete [`Message`] through its steps,
//! each in a file of its own: who vouches for it is found out ([`verify`]), the header is mended
//! ([`submission`]), policy speaks and its edits are applied ([`policy`]), the trace field goes on top ([`trace`]), recipients get their
//! routes ([`plan`]), and what has come of it is committed, or has been taken by its next hop
//! ([`Handoff`]). Only then is there a 250.

#![forbid(unsafe_code)]

mod answers;
mod budget;
mod content;
pub mod events;
mod gather;
mod handoff;
mod hosts;
mod notice;
mod own;
mod plan;
mod policy;
mod priority;
mod returns;
mod routing;
mod shortage;
mod story;
mod submission;
mod suppressions;
mod trace;
mod verify;

pub use events::Events;
pub use gather::{Gather, GatherError};
pub use handoff::{Handed, Handoff, Said};
pub use hosts::{Hosts, Share};
pub use notice::Notice;
pub use own::OwnMail;
pub use plan::{RoutePlan, patience, undecided};
pub use returns::{ReturnLabels, ReturnMetrics, Returns, SENDER_FIELD};
pub use routing::{NamedHop, NoWay, RouteRule, Routing, Via};
pub use shortage::Shortage;
pub use story::Story;
pub use suppressions::{
    GroundLabels, Page as SuppressionPage, Reach, SuppressionMetrics, SuppressionSettings,
    Suppressions,
};
pub use verify::{Action, OnFail, Verification, Whose};

use std::path::Path;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use tracing::{error, info, warn};
use waypost_hooks::{EventKind, Hooks, Way};
use waypost_identity::verify::Verifier;
use waypost_identity::{Keyring, SealRequest};
use waypost_mail::ledger::Fact;
use waypost_mail::{
    Clock, Entry, Envelope, Facts, HeaderBlock, IdSource, Message, MessageId, Recipient,
    RecipientState, Route, SignRequest, Timestamp, Why,
};
use waypost_queue::{Prepared, Queue, SpoolError};
use waypost_smtp::{Domain, Priority, Reply, ReversePath};

use crate::answers::Answers;
use crate::budget::Budget;
use crate::content::Content;
use crate::plan::refuse_unroutable;
use crate::policy::{Judge, Ruling, Waiting};
use crate::story::Bringer;
use crate::verify::verify;
use waypost_mutant::planted;

/// What intake is told by the configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Our name in trace fields.
    pub hostname: String,
    /// Messages with more `Received` fields are in a loop (RFC 5321 §6.3).
    pub max_hops: usize,
    /// Messages with more header fields are refused.
    pub max_header_fields: usize,
    /// How long a message is tried.
    pub lifetime: Duration,
    /// Bodies up to this many octets gather in memory, larger ones in a file.
    pub memory_limit: usize,
    /// Octets of bodies in memory, all of them together, until they are committed. Those for which
    /// there is no room go to files earlier.
    pub body_memory: usize,
    /// Messages that may wait, or be held, before new mail is refused.
    pub max_messages: usize,
    /// Octets of those messages, all together.
    pub max_octets: u64,
    /// Signatures that our own notices get, unless policy wants others.
    pub sign_notices: Vec<SignRequest>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            hostname: "localhost".to_owned(),
            max_hops: 100,
            max_header_fields: 1000,
            lifetime: Duration::from_secs(5 * 24 * 3600),
            memory_limit: 256 * 1024,
            body_memory: 64 * 1024 * 1024,
            max_messages: usize::MAX,
            max_octets: u64::MAX,
            sign_notices: Vec::new(),
        }
    }
}

/// Which kind of door a message came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Port 25: the message is passed on as it is.
    Relay,
    /// Ports 587 and 465: the message is completed (RFC 6409 §8).
    Submission,
}

/// By which rules a message is taken.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// The policy of its transaction, where that is another than the current one.
    pub pinned: Option<&'a dyn Hooks>,
    /// Whether the peer may send to this domain itself. Policy may add such recipients without a
    /// grant, and no others: no verdict widens who may relay.
    pub may_send_to: &'a (dyn Fn(&Domain) -> bool + Send + Sync),
    /// What the door has against a message with this header, as the peer sent it.
    pub check_header: &'a (dyn Fn(&HeaderBlock) -> Result<(), Reply> + Send + Sync),
    /// The recipients by their ids, in groups that share a reply: one group where one reply answers for
    /// all (SMTP), else one for each recipient that the peer named.
    pub groups: &'a [Vec<u32>],
    /// Completes addresses in the message's fields that have no domain.
    pub origin: Option<&'a Domain>,
    /// The most that the message's field MT-Priority may ask for; absent where it does not count
    /// (RFC 6758 §3.1).
    pub tunnelled: Option<Priority>,
    /// Facts that become durable together with the message, made of the replies that will be given then.
    pub promise: Option<&'a Promise>,
}

/// The facts that go with these replies.
pub type Promise = dyn Fn(&[Reply]) -> Vec<Fact> + Send + Sync;

/// The door. One for the whole program.
#[derive(Debug)]
pub struct Intake {
    config: Config,
    queue: Arc<Queue>,
    hooks: Arc<dyn Hooks>,
    routing: RwLock<Arc<Routing>>,
    clock: Arc<dyn Clock>,
    ids: IdSource,
    incoming: std::path::PathBuf,
    events: Events,
    keys: RwLock<Keyring>,
    verifier: Option<Arc<Verifier>>,
    verification: RwLock<Arc<Verification>>,
    budget: Budget,
    suppressions: Option<Arc<Suppressions>>,
    returns: Option<Arc<Returns>>,
    handoff: OnceLock<Weak<dyn Handoff>>,
}

/// What the door stands on.
#[derive(Debug, Clone)]
pub struct Rooms {
    /// Where accepted messages wait.
    pub queue: Arc<Queue>,
    /// Policy.
    pub hooks: Arc<dyn Hooks>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Names for messages.
    pub ids: IdSource,
    /// Where what happened is told.
    pub events: Events,
    /// Keys for signatures that policy asks for.
    pub keys: Keyring,
    /// Who finds out who vouches for a message; without it nothing is verified.
    pub verifier: Option<Arc<Verifier>>,
    /// The directory for large bodies; see `Spool::incoming`.
    pub incoming: std::path::PathBuf,
}

impl Intake {
    /// A door into `rooms.queue`.
    pub fn new(config: Config, routing: Routing, rooms: Rooms) -> Intake {
        Intake {
            budget: Budget::new(config.body_memory),
            verification: RwLock::new(Arc::new(Verification::by(config.hostname.clone()))),
            verifier: rooms.verifier,
            config,
            queue: rooms.queue,
            hooks: rooms.hooks,
            routing: RwLock::new(Arc::new(routing)),
            clock: rooms.clock,
            ids: rooms.ids,
            incoming: rooms.incoming,
            events: rooms.events,
            keys: RwLock::new(rooms.keys),
            suppressions: None,
            returns: None,
            handoff: OnceLock::new(),
        }
    }

    /// The same with a list of who gets no more mail, and where mail comes back to.
    #[must_use]
    pub fn with_lists(
        mut self,
        suppressions: Arc<Suppressions>,
        returns: Option<Arc<Returns>>,
    ) -> Intake {
        (self.suppressions, self.returns) = (Some(suppressions), returns);
        self
    }

    /// Who gets no more mail.
    pub fn suppressions(&self) -> Option<&Arc<Suppressions>> {
        self.suppressions.as_ref()
    }

    /// Where mail comes back to.
    pub fn returns(&self) -> Option<&Arc<Returns>> {
        self.returns.as_ref()
    }

    /// Puts other keys in place; messages from now on are signed with them.
    pub fn set_keys(&self, keys: Keyring) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// The keys that messages are signed with.
    pub fn keys(&self) -> Keyring {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who seals messages that were verified, if anybody does.
    pub fn seal(&self) -> Option<SealRequest> {
        self.verification().seal.clone()
    }

    /// The directory for large bodies that are not stored yet, or not at all; emptied at each start.
    pub fn incoming(&self) -> &Path {
        &self.incoming
    }

    /// Puts other rules in place for what is verified, and what follows.
    pub fn set_verification(&self, verification: Verification) {
        let mut current = self.verification.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(verification);
    }

    /// Puts other routes in place: messages from now on take them, and those that wait when they are tried
    /// again.
    pub fn set_routing(&self, routing: Routing) {
        *self.routing.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(routing);
    }

    /// A way of policy for a recipient of `domain`, with what it leaves open filled in.
    ///
    /// # Errors
    /// When the configuration lacks what it names.
    pub fn lower(&self, way: &Way, domain: &Domain, message: MessageId) -> Result<Route, NoWay> {
        self.routing.read().unwrap_or_else(PoisonError::into_inner).lower(way, domain, message)
    }

    /// Names for sessions and messages.
    pub fn ids(&self) -> &IdSource {
        &self.ids
    }

    /// A place for one body to gather in.
    pub fn gather(&self) -> Gather {
        let room = self.budget.room(self.config.memory_limit);
        Gather::new(self.queue.clone(), self.incoming.clone(), room)
    }

    /// Fails with the reply for MAIL when no message can be taken now.
    pub fn accepting(&self) -> Result<(), Reply> {
        self.shortage().map_or(Ok(()), |shortage| Err(shortage.reply()))
    }

    /// Why no message can be taken now, if so.
    pub fn shortage(&self) -> Option<Shortage> {
        match self.queue.accepting() {
            Err(SpoolError::NoSpace) => Some(Shortage::Disk),
            Err(_) => Some(Shortage::Spool),
            Ok(()) => {
                let (messages, octets) = self.queue.kept();
                let full = messages >= self.config.max_messages || octets >= self.config.max_octets;
                full.then_some(Shortage::Queue)
            }
        }
    }

    /// Takes a message, and gives the reply to each group of recipients. When one of them is positive,
    /// the message is durable and ours, for the recipients of these groups, or their next hop has taken
    /// it; when none is, nothing of it is kept.
    pub async fn accept(&self, message: Message, door: Door, rules: Rules<'_>) -> Vec<Reply> {
        let id = message.envelope.id;
        let mut answers = Answers::new(rules.groups);
        let bringer = Bringer::of(&message);
        let reply = match self.prepare(message, door, rules, &mut answers).await {
            Ok(Some(ready)) => {
                // What was promised becomes durable with the message, or there is no promise.
                let ready = match rules.promise {
                    Some(_) => ready,
                    None => match self.go_through(Box::new(ready), &answers).await {
                        Ok(replies) => return replies,
                        Err(ready) => *ready,
                    },
                };
                let Ready { prepared, lowered, .. } = ready;
                let reply = queued_as(id, lowered);
                let facts = rules.promise.map(|of| of(&answers.replies(&reply)));
                self.commit(prepared.with_facts(facts.unwrap_or_default()), lowered).await
            }
            Ok(None) => queued_as(id, None),
            Err(reply) => {
                info!(message = %id, reply = %reply, "message refused");
                self.events.tell(EventKind::MessageRefused, Some(id), reply.to_string());
                story::refused(self.events.pen(), id, bringer, &reply);
                reply
            }
        };
        answers.replies(&reply)
    }

    /// Everything between the final dot and durability. `None` when nothing is left to be kept: policy
    /// discards the message, or it came back and was put to use.
    async fn prepare(
        &self,
        message: Message,
        door: Door,
        rules: Rules<'_>,
        answers: &mut Answers<'_>,
    ) -> Result<Option<Ready>, Reply> {
        let hooks = rules.pinned.unwrap_or(&*self.hooks);
        let Message { mut envelope, facts, body, received } = message;
        let mut content = Content::read(body).await?;
        content.binary = envelope.terms.binary;
        if content.binary && !content.has_clean_header() {
            return Err(Reply::BARE_LINE_ENDING);
        }
        self.check_header(&content)?;
        if let Some(origin) = rules.origin {
            submission::qualify(&mut content, origin);
        }
        (rules.check_header)(&content.text.header)?;
        let verification = self.verification();
        let mut verified = verify(
            self.verifier.as_deref(),
            &verification,
            &facts,
            &mut envelope,
            &mut content,
            received,
        )
        .await?;
        if door == Door::Submission {
            submission::complete(&mut content, &self.config.hostname, received, &self.ids);
        }
        if let Some(returns) = &self.returns
            && !returns.receive(&mut envelope, &content, received).await?
        {
            return Ok(None);
        }
        let lowered = tell_urgency(&mut envelope, &mut content, rules.tunnelled);
        envelope.terms.tls_optional = !envelope.terms.require_tls && content.waives_tls();
        let judge = Judge { hooks, may_send_to: rules.may_send_to };
        let ruling = self.ask_message(judge, &facts, &mut envelope, &mut content, answers).await?;
        answers.strike(&mut envelope)?;
        let (waiting, sign) = match ruling {
            Ruling::Proceed(waiting, sign) => (waiting.or_held(verified.hold.take()), sign),
            Ruling::Discard(reason) => {
                info!(message = %envelope.id, reason, "message discarded by policy");
                story::discarded(self.events.pen(), envelope.id, &reason);
                return Ok(None);
            }
        };
        self.sign(&sign, &mut content, received).await.map_err(|error| {
            warn!(message = %envelope.id, %error, "cannot sign a message, refused for now");
            Reply::LOCAL_ERROR
        })?;
        verified.seal(&verification, self.keys(), &mut content, received).await?;
        content.put_on_top(&trace::received(&self.config.hostname, &facts, &envelope, received));
        let stage = Finish { envelope, facts, content, waiting, sign, received };
        let (prepared, through) = self.finish(hooks, stage, answers).await?;
        Ok(Some(Ready { prepared, lowered, through }))
    }

    fn verification(&self) -> Arc<Verification> {
        self.verification.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn check_header(&self, content: &Content) -> Result<(), Reply> {
        let header = &content.text.header;
        // RFC 5321 §6.3
        if header.count_named("Received") > self.config.max_hops {
            return Err(Reply::ROUTING_LOOP);
        }
        match header.count() > self.config.max_header_fields {
            true => Err(Reply::TOO_MANY_FIELDS),
            false => Ok(()),
        }
    }

    /// Puts the signatures that are asked for on top, the first one topmost.
    async fn sign(
        &self,
        requests: &[SignRequest],
        content: &mut Content,
        now: Timestamp,
    ) -> Result<(), Unsigned> {
        if requests.is_empty() {
            return Ok(());
        }
        let body = content.body_hash().await.map_err(|_| Unsigned::Body)?;
        let keys = self.keys();
        let (requests, header) = (requests.to_vec(), content.text.header.clone());
        // An RSA signature takes a millisecond and more: others go on meanwhile.
        let signed =
            tokio::task::spawn_blocking(move || keys.sign(&requests, &header, &body, now)).await;
        let fields = signed.map_err(|_| Unsigned::Bug)??;
        content.put_on_top(&fields.concat());
        Ok(())
    }

    /// Routes the recipients and seals the message. True when it may be tried while its submitter waits,
    /// as far as its routes go.
    async fn finish(
        &self,
        hooks: &dyn Hooks,
        stage: Finish,
        answers: &mut Answers<'_>,
    ) -> Result<(Prepared, bool), Reply> {
        let Finish { envelope, facts, content, waiting, sign, received } = stage;
        let size = content.len();
        let eight_bit = content.is_eight_bit().await?;
        let mut plan =
            self.route(hooks, &envelope, &facts, &content.text, received, &waiting).await;
        refuse_unroutable(&mut plan, answers)?;
        self.doom_suppressed(&mut plan, &envelope.sender, facts.identity.as_deref()).await;
        let mut entry = Entry {
            id: envelope.id,
            received,
            expires: received,
            smtputf8: needs_smtputf8(&envelope, &content),
            eight_bit,
            size,
            sender: envelope.sender,
            meta: envelope.meta,
            facts,
            sign,
            terms: envelope.terms,
            reroutes: 0,
            routes: plan.routes,
            recipients: plan.recipients,
        };
        entry.expires = entry.terms.expires(received, self.queue.lifetime(&entry));
        let (header, body) = content.into_parts();
        Ok((Prepared::new(entry, header, body), plan.through))
    }

    /// Recipients that are on the suppression list bounce without an attempt: those that policy added, or
    /// that were put there since RCPT.
    async fn doom_suppressed(
        &self,
        plan: &mut RoutePlan,
        sender: &ReversePath,
        user: Option<&str>,
    ) {
        let Some(suppressions) = &self.suppressions else { return };
        for entry in &mut plan.recipients {
            let RecipientState::Waiting { tries: 0, last: last @ None, .. } = &mut entry.state
            else {
                continue;
            };
            if let Some(found) = suppressions.on(sender, user, &entry.recipient.mailbox).await {
                *last = Some(Why::Policy(found.reply()));
            }
        }
    }

    async fn commit(&self, prepared: Prepared, lowered: Option<Priority>) -> Reply {
        let id = prepared.id();
        let (size, recipients) = (prepared.entry().size, prepared.entry().recipients.len());
        let sender = prepared.entry().sender.clone();
        let user = prepared.entry().facts.identity.clone();
        let priority = prepared.entry().terms.priority;
        let story = Story::of(self.events.pen(), &prepared);
        if planted!("250 before it is written") {
            let queue = self.queue.clone();
            tokio::spawn(async move { queue.commit(prepared).await });
            return queued_as(id, lowered);
        }
        match self.queue.commit(prepared).await {
            Ok(_) => {
                info!(message = %id, %sender, user, size, recipients, %priority, "message accepted");
                self.events.tell(EventKind::MessageAccepted, Some(id), String::new());
                story.into_iter().for_each(|story| story.tell(self.events.pen()));
                queued_as(id, lowered)
            }
            Err(failure) => {
                error!(message = %id, error = %failure, "message not accepted, storage failed");
                if planted!("250 though storage failed") {
                    return queued_as(id, lowered);
                }
                storage_reply(&failure)
            }
        }
    }
}

/// A message that can be committed.
struct Ready {
    prepared: Prepared,
    /// It is less urgent than its field said.
    lowered: Option<Priority>,
    /// Its routes let it be tried while its submitter waits.
    through: bool,
}

/// A message that policy has judged.
struct Finish {
    envelope: Envelope,
    facts: Facts,
    content: Content,
    waiting: Waiting,
    sign: Vec<SignRequest>,
    received: Timestamp,
}

/// Why a message is not signed.
#[derive(Debug, thiserror::Error)]
enum Unsigned {
    #[error(transparent)]
    Sign(#[from] waypost_identity::SignError),
    #[error("its body cannot be read")]
    Body,
    #[error("signing failed by a bug")]
    Bug,
}

/// Where the field of a message asked for more than it got, the reply says so (RFC 6710 §4.1).
fn queued_as(id: MessageId, lowered: Option<Priority>) -> Reply {
    match lowered {
        None => Reply::OK.with_text(format!("OK queued as {id}")),
        Some(priority) => Reply::fixed(250, (2, 3, 6), "")
            .with_text(format!("{priority} is the new priority of the message queued as {id}")),
    }
}

/// Takes the field MT-Priority away, and obeys it where it counts, up to `most`. Gives the priority when
/// that is less than the field asked for.
fn tell_urgency(
    envelope: &mut Envelope,
    content: &mut Content,
    most: Option<Priority>,
) -> Option<Priority> {
    let asked = priority::take(content)?;
    let most = most?;
    envelope.terms.priority = asked.min(most);
    (asked > most).then_some(most)
}

fn storage_reply(error: &SpoolError) -> Reply {
    match error {
        SpoolError::NoSpace => Reply::INSUFFICIENT_STORAGE,
        _ => Reply::LOCAL_ERROR,
    }
}

/// RFC 6531 §3.4 asks for SMTPUTF8 only where something is internationalized: an ASCII message of a
/// submitter that always says SMTPUTF8 can go anywhere.
fn needs_smtputf8(envelope: &Envelope, content: &Content) -> bool {
    let sender_is_ascii = match &envelope.sender {
        ReversePath::Null => true,
        ReversePath::Mailbox(mailbox) => mailbox.is_ascii(),
    };
    let recipient_is_ascii = |r: &Recipient| r.mailbox.is_ascii();
    let addresses_are_ascii =
        sender_is_ascii && envelope.recipients().iter().all(recipient_is_ascii);
    !addresses_are_ascii || (envelope.smtputf8 && content.text.header.is_eight_bit())
}
