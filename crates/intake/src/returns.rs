//! Mail that comes back to the senders of single copies: read, counted, and put to use.
//!
//! Copies of a class with `verp` leave from addresses that say for which message and recipient they are
//! ([`Verp`]). What comes to such an address ends here: a bounce may put its recipient on the suppression
//! list, and goes on to the sender of the message where it is known and that is wanted.

use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tracing::{info, warn};
use waypost_hooks::EventKind;
use waypost_identity::{Named, NotOurs, Origin, Verp};
use waypost_mail::returned::{Action, Complaint, Fate, MAX_READ, Returned, quoted_field};
use waypost_mail::rulebook::Said;
use waypost_mail::suppression::{Ground, Target};
use waypost_mail::{Envelope, Recipient, Rulebook, Timestamp, Why};
use waypost_smtp::{Mailbox, Phase, Reply, ReversePath};

use crate::content::Content;
use crate::{Events, Suppressions};

/// The field of a copy that says, under a keyed hash, who sent its message.
pub const SENDER_FIELD: &str = "X-Waypost-Sender";

/// Where mail comes back to.
#[derive(Debug)]
pub struct Returns {
    /// Makes the addresses and knows them again.
    pub verp: Verp,
    /// Local parts in its domain that complaints come to.
    pub feedback: Vec<String>,
    /// What is no complaint goes on to the sender of the message.
    pub forward: bool,
    rulebook: RwLock<Arc<Rulebook>>,
    suppressions: Arc<Suppressions>,
    events: Events,
    metrics: ReturnMetrics,
}

/// What came back.
#[derive(Debug, Clone, Default)]
pub struct ReturnMetrics {
    /// Messages, by what they are and what came of them.
    pub messages: Family<ReturnLabels, Counter>,
    /// Recipients that were refused: nothing of ours was sent from there.
    pub strangers: Counter,
}

/// Labels of what came back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReturnLabels {
    /// `failed`, `delayed`, `done`, `complaint`, `auto-reply` or `other`.
    pub kind: &'static str,
    /// `suppressed`, `noted`, or `unattributed` when nobody knows about which recipient it is.
    pub result: &'static str,
}

/// What is known of a message that came back.
struct Case {
    message: waypost_mail::MessageId,
    recipient: Option<Mailbox>,
    sender: Option<Mailbox>,
}

impl Returns {
    /// Mail comes back to the domain of `verp`.
    pub fn new(
        verp: Verp,
        feedback: Vec<String>,
        forward: bool,
        suppressions: Arc<Suppressions>,
        events: Events,
    ) -> Returns {
        Returns {
            verp,
            feedback,
            forward,
            rulebook: RwLock::default(),
            suppressions,
            events,
            metrics: ReturnMetrics::default(),
        }
    }

    /// Puts other rules in place that read the replies which bounces quote.
    pub fn set_rulebook(&self, rulebook: Arc<Rulebook>) {
        *self.rulebook.write().unwrap_or_else(PoisonError::into_inner) = rulebook;
    }

    /// Its counters.
    pub fn metrics(&self) -> &ReturnMetrics {
        &self.metrics
    }

    /// True for postmaster and abuse of the domain (RFC 5321 §4.5.1, RFC 2142 §4), who are persons.
    pub fn is_role(&self, mailbox: &Mailbox) -> bool {
        mailbox.domain() == self.verp.domain() && Target::is_exempt(mailbox)
    }

    /// Whether mail for an address is taken here: nothing when it is in another domain.
    pub fn takes(&self, mailbox: &Mailbox, now: Timestamp) -> Option<Result<(), Reply>> {
        if mailbox.domain() != self.verp.domain() {
            return None;
        }
        let known = match self.is_feedback(mailbox) {
            true => Ok(()),
            false => self.verp.read(mailbox, now).map(|_| ()),
        };
        Some(known.map_err(|why: NotOurs| {
            self.metrics.strangers.inc();
            Reply::MAILBOX_UNAVAILABLE.with_text(format!("No such address: {why}"))
        }))
    }

    /// Puts what came back to use and takes those recipients out, or puts the senders in their place
    /// to whom it goes on. Answers false when nobody is left.
    pub(crate) async fn receive(
        &self,
        envelope: &mut Envelope,
        content: &Content,
        now: Timestamp,
    ) -> bool {
        let own = |r: &Recipient| r.mailbox.domain() == self.verp.domain();
        if !envelope.recipients().iter().any(own) {
            return true;
        }
        let octets = self.octets(content).await;
        let mut left = Vec::new();
        for recipient in envelope.recipients() {
            if !own(recipient) {
                left.push(recipient.clone());
                continue;
            }
            let on = self.use_up(&octets, &envelope.sender, &recipient.mailbox, now).await;
            left.extend(on.map(|sender| Recipient::new(recipient.id, sender)));
        }
        envelope.replace_recipients(left)
    }

    /// The start of a message. What cannot be read is not there.
    async fn octets(&self, content: &Content) -> Vec<u8> {
        let mut octets = content.text.header.as_bytes().to_vec();
        octets.extend_from_slice(b"\r\n");
        let body = content.text.body.clone();
        let read = tokio::task::spawn_blocking(move || body.read_at(0, MAX_READ)).await;
        if let Ok(Ok(body)) = read {
            octets.extend_from_slice(&body);
        }
        octets
    }

    /// Puts one message to use. Answers who it goes on to.
    async fn use_up(
        &self,
        octets: &[u8],
        from: &ReversePath,
        to: &Mailbox,
        now: Timestamp,
    ) -> Option<Mailbox> {
        let returned = Returned::read(octets, from.mailbox().is_none());
        let origin = match &returned {
            Returned::Complaint(complaint) if self.is_feedback(to) => {
                let sender = complaint.sender.as_deref().and_then(|s| Mailbox::parse(s).ok());
                sender.and_then(|sender| self.verp.read(&sender, now).ok())
            }
            _ => self.verp.read(to, now).ok(),
        };
        let Some(origin) = origin else {
            // It came to the address for complaints and is none, or about mail of somebody else.
            self.count(kind(&returned), "unattributed");
            info!(rcpt = %to, kind = kind(&returned), "returned mail is about no message of ours");
            return None;
        };
        let case = self.case(&origin, &returned, octets);
        let result = match &returned {
            Returned::Report(fates) => self.fates(&case, fates.iter()).await,
            Returned::Words(fate) => self.fates(&case, std::iter::once(fate)).await,
            Returned::Complaint(complaint) => self.complaint(&case, complaint).await,
            Returned::AutoReply | Returned::Other => "noted",
        };
        self.count(kind(&returned), result);
        let Case { message, recipient, sender } = case;
        let rcpt = recipient.as_ref().map(ToString::to_string).unwrap_or_default();
        info!(%message, rcpt, kind = kind(&returned), result, "mail came back");
        let complaint = matches!(returned, Returned::Complaint(_));
        let on = sender.filter(|sender| sender.domain() != self.verp.domain());
        on.filter(|_| self.forward && !complaint)
    }

    fn case(&self, origin: &Origin, returned: &Returned, octets: &[u8]) -> Case {
        let field = quoted_field(octets, SENDER_FIELD);
        let sender = field.and_then(|field| self.verp.vouched(origin.message, field));
        let recipient = match (&origin.recipient, returned) {
            (Named::Address(address), _) => Some(address.clone()),
            (named, Returned::Report(fates)) => {
                let told = fates.iter().filter_map(|fate| fate.recipient.as_deref());
                self.meant(named, told)
            }
            (named, Returned::Complaint(complaint)) => {
                self.meant(named, complaint.recipient.as_deref().into_iter())
            }
            _ => None,
        };
        Case { message: origin.message, recipient, sender }
    }

    fn meant<'a>(&self, named: &Named, told: impl Iterator<Item = &'a str>) -> Option<Mailbox> {
        let mut told = told.filter_map(|text| Mailbox::parse(text).ok());
        told.find(|mailbox| self.verp.is(named, mailbox))
    }

    /// What became of the copy's recipient, as a bounce has it.
    async fn fates(&self, case: &Case, fates: impl Iterator<Item = &Fate> + Clone) -> &'static str {
        let Some(recipient) = &case.recipient else { return "unattributed" };
        let about = |fate: &&Fate| {
            let told = fate.recipient.as_deref().and_then(|text| Mailbox::parse(text).ok());
            told.is_some_and(|told| told.to_string().eq_ignore_ascii_case(&recipient.to_string()))
        };
        // A copy is for one recipient: who is named otherwise stands behind that one.
        let fate = fates.clone().find(about).or_else(|| fates.clone().next());
        let Some(Fate { action: Action::Failed, reply: Some(reply), host, .. }) = fate else {
            return "noted";
        };
        let host = host.clone().unwrap_or_default();
        let why = self.why(reply, host);
        let text = format!("{recipient}: {why}");
        self.events.tell(EventKind::Bounced, Some(case.message), text);
        if Ground::of(&why).is_none() {
            return "noted";
        }
        let sender = case.sender.clone().map_or(ReversePath::Null, ReversePath::Mailbox);
        match self.suppressions.bounced(&sender, None, recipient, &why).await {
            true => "suppressed",
            false => "noted",
        }
    }

    /// The reply that a bounce quotes, as if we had heard it ourselves.
    fn why(&self, reply: &Reply, host: String) -> Why {
        let rulebook = self.rulebook.read().unwrap_or_else(PoisonError::into_inner).clone();
        let found = rulebook.read(&Said { reply, phase: Phase::Rcpt, host: &host });
        let hop = if host.is_empty() { "a bounce".to_owned() } else { host.clone() };
        let why = Why::Refused { hop, phase: Phase::Rcpt, reply: reply.clone() }.bounded();
        Why::Diagnosed {
            diagnosis: found.diagnosis,
            rule: found.rule.map_or_else(String::new, |rule| rule.name.clone()),
            why: Box::new(why),
        }
    }

    async fn complaint(&self, case: &Case, complaint: &Complaint) -> &'static str {
        let Some(recipient) = &case.recipient else { return "unattributed" };
        let text = format!("{recipient}: complaint: {}", complaint.kind);
        warn!(message = %case.message, rcpt = %recipient, kind = complaint.kind, "a recipient complained");
        self.events.tell(EventKind::Bounced, Some(case.message), text);
        if !complaint.is_refusal() {
            return "noted";
        }
        let sender = case.sender.clone().map_or(ReversePath::Null, ReversePath::Mailbox);
        let note = format!("complaint: {}", complaint.kind);
        let fed = self.suppressions.feed(Ground::Complaint, &sender, None, recipient, note);
        if fed.await { "suppressed" } else { "noted" }
    }

    fn is_feedback(&self, mailbox: &Mailbox) -> bool {
        self.feedback.iter().any(|local| mailbox.local().eq_ignore_ascii_case(local))
    }

    fn count(&self, kind: &'static str, result: &'static str) {
        self.metrics.messages.get_or_create(&ReturnLabels { kind, result }).inc();
    }
}

impl ReturnMetrics {
    /// Enters them, each with the prefix `waypost_returned`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("waypost_returned");
        registry.register("messages", "Mail that came back", self.messages.clone());
        registry.register("strangers", "Recipients that were never used", self.strangers.clone());
    }
}

fn kind(returned: &Returned) -> &'static str {
    let of = |action: Action| match action {
        Action::Failed => "failed",
        Action::Delayed => "delayed",
        Action::Done => "done",
    };
    match returned {
        Returned::Report(fates) => fates.first().map_or("other", |fate| of(fate.action)),
        Returned::Words(fate) => of(fate.action),
        Returned::Complaint(_) => "complaint",
        Returned::AutoReply => "auto-reply",
        Returned::Other => "other",
    }
}
