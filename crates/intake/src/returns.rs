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
use waypost_mail::{Envelope, LedgerError, Recipient, Rulebook, Timestamp, Why};
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
    ///
    /// # Errors
    /// When storage fails: who brings it is to bring it again.
    pub(crate) async fn receive(
        &self,
        envelope: &mut Envelope,
        content: &Content,
        now: Timestamp,
    ) -> Result<bool, Reply> {
        let own =
            |r: &Recipient| r.mailbox.domain() == self.verp.domain() && !self.is_role(&r.mailbox);
        if !envelope.recipients().iter().any(own) {
            return Ok(true);
        }
        let from_nobody = envelope.sender.mailbox().is_none();
        let letter = Letter::read(content, from_nobody).await?;
        let mut left = Vec::new();
        for recipient in envelope.recipients() {
            if !own(recipient) {
                left.push(recipient.clone());
                continue;
            }
            let on = self.use_up(&letter, &recipient.mailbox, now).await.map_err(|failure| {
                warn!(rcpt = %recipient.mailbox, %failure, "returned mail is refused for now");
                Reply::LOCAL_ERROR
            })?;
            left.extend(on.map(|sender| Recipient::new(recipient.id, sender)));
        }
        Ok(envelope.replace_recipients(left))
    }

    /// Puts one message to use. Answers who it goes on to.
    async fn use_up(
        &self,
        letter: &Letter,
        to: &Mailbox,
        now: Timestamp,
    ) -> Result<Option<Mailbox>, LedgerError> {
        let returned = &letter.returned;
        let origin = match returned {
            Returned::Complaint(complaint) if self.is_feedback(to) => {
                let sender = complaint.sender.as_deref().and_then(|s| Mailbox::parse(s).ok());
                sender.and_then(|sender| self.verp.read(&sender, now).ok())
            }
            _ => self.verp.read(to, now).ok(),
        };
        let Some(origin) = origin else {
            // It came to the address for complaints and is none, or about mail of somebody else.
            self.count(kind(returned), "unattributed");
            info!(rcpt = %to, kind = kind(returned), "returned mail is about no message of ours");
            return Ok(None);
        };
        let case = self.case(&origin, letter);
        let result = match returned {
            Returned::Report(fates) => self.fates(&case, fates.iter()).await?,
            Returned::Words(fate) => self.fates(&case, std::iter::once(fate)).await?,
            Returned::Complaint(complaint) => self.complaint(&case, complaint).await?,
            Returned::AutoReply | Returned::Other => "noted",
        };
        self.count(kind(returned), result);
        let Case { message, recipient, sender } = case;
        let rcpt = recipient.as_ref().map(ToString::to_string).unwrap_or_default();
        info!(%message, rcpt, kind = kind(returned), result, "mail came back");
        let complaint = matches!(returned, Returned::Complaint(_));
        let on = sender.filter(|sender| sender.domain() != self.verp.domain());
        Ok(on.filter(|_| self.forward && !complaint))
    }

    fn case(&self, origin: &Origin, letter: &Letter) -> Case {
        let field = letter.sender.as_deref();
        let sender = field.and_then(|field| self.verp.vouched(origin.message, field));
        let recipient = match (&origin.recipient, &letter.returned) {
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
    async fn fates(
        &self,
        case: &Case,
        fates: impl Iterator<Item = &Fate> + Clone,
    ) -> Result<&'static str, LedgerError> {
        let Some(recipient) = &case.recipient else { return Ok("unattributed") };
        let about = |fate: &&Fate| {
            let told = fate.recipient.as_deref().and_then(|text| Mailbox::parse(text).ok());
            told.is_some_and(|told| told.to_string().eq_ignore_ascii_case(&recipient.to_string()))
        };
        // A copy is for one recipient: who is named otherwise stands behind that one.
        let fate = fates.clone().find(about).or_else(|| fates.clone().next());
        let Some(Fate { action: Action::Failed, reply: Some(reply), host, .. }) = fate else {
            return Ok("noted");
        };
        let host = host.clone().unwrap_or_default();
        let why = self.why(reply, host);
        let sender = case.sender.clone().map_or(ReversePath::Null, ReversePath::Mailbox);
        let listed = self.suppressions.bounced(&sender, None, recipient, &why).await?;
        let text = format!("{recipient}: {why}");
        self.events.tell(EventKind::Bounced, Some(case.message), text);
        Ok(if listed { "suppressed" } else { "noted" })
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

    async fn complaint(
        &self,
        case: &Case,
        complaint: &Complaint,
    ) -> Result<&'static str, LedgerError> {
        let Some(recipient) = &case.recipient else { return Ok("unattributed") };
        let sender = case.sender.clone().map_or(ReversePath::Null, ReversePath::Mailbox);
        let note = format!("complaint: {}", complaint.kind);
        let listed = complaint.is_refusal()
            && self
                .suppressions
                .feed(Ground::Complaint, &sender, None, recipient, note.clone())
                .await?;
        warn!(message = %case.message, rcpt = %recipient, kind = complaint.kind, "a recipient complained");
        self.events.tell(EventKind::Bounced, Some(case.message), format!("{recipient}: {note}"));
        Ok(if listed { "suppressed" } else { "noted" })
    }

    fn is_feedback(&self, mailbox: &Mailbox) -> bool {
        self.feedback.iter().any(|local| mailbox.local().eq_ignore_ascii_case(local))
    }

    fn count(&self, kind: &'static str, result: &'static str) {
        self.metrics.messages.get_or_create(&ReturnLabels { kind, result }).inc();
    }
}

/// A message that came back, read once for all to whom it came.
struct Letter {
    returned: Returned,
    /// The field of ours in what it returns.
    sender: Option<String>,
}

impl Letter {
    async fn read(content: &Content, from_nobody: bool) -> Result<Letter, Reply> {
        let mut octets = content.text.header.as_bytes().to_vec();
        octets.extend_from_slice(b"\r\n");
        let body = content.text.body.clone();
        // A stranger can have it take long: others go on meanwhile.
        let read = tokio::task::spawn_blocking(move || {
            octets.extend_from_slice(&body.read_at(0, MAX_READ)?);
            let sender = quoted_field(&octets, SENDER_FIELD).map(str::to_owned);
            Ok(Letter { returned: Returned::read(&octets, from_nobody), sender })
        });
        let read: std::io::Result<Letter> = read.await.map_err(|_| Reply::LOCAL_ERROR)?;
        read.map_err(|failure| {
            warn!(%failure, "returned mail cannot be read back, refused for now");
            Reply::LOCAL_ERROR
        })
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use async_trait::async_trait;
    use bytes::Bytes;
    use waypost_hooks::Pass;
    use waypost_mail::{HeaderBlock, Ledger, ManualClock, MessageId};
    use waypost_spool::MemorySpool;

    use super::*;
    use crate::{Reach, SuppressionSettings};

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    /// A disk without room.
    struct Full;

    #[async_trait]
    impl Ledger for Full {
        async fn get(&self, _: &str, _: Timestamp) -> Result<Option<Bytes>, LedgerError> {
            Ok(None)
        }

        async fn put(&self, _: &str, _: Bytes, _: Option<Timestamp>) -> Result<(), LedgerError> {
            Err(LedgerError::Storage("no space".to_owned()))
        }

        async fn remove(&self, _: &str) -> Result<(), LedgerError> {
            Ok(())
        }

        async fn list(
            &self,
            _: &str,
            _: usize,
            _: Timestamp,
        ) -> Result<Vec<(String, Bytes)>, LedgerError> {
            Ok(Vec::new())
        }
    }

    fn returns(ledger: Arc<dyn Ledger>) -> Returns {
        let clock = Arc::new(ManualClock::at(NOW));
        let feed = HashMap::from([(Ground::BadAddress, None)]);
        let settings = SuppressionSettings { feed, reach: Reach::Everybody };
        let list = Arc::new(Suppressions::new(ledger, clock.clone(), settings));
        let verp = Verp::new(b"secret", "bounces.example".parse().unwrap(), 30);
        Returns::new(verp, Vec::new(), true, list, Events::to(Arc::new(Pass), clock))
    }

    /// What came of a bounce of the copy for bob.
    async fn bounced(returns: &Returns) -> Result<bool, u16> {
        let bob = "bob@example.net".parse().unwrap();
        let to = returns.verp.sender(MessageId(7), &bob, NOW).mailbox().unwrap().clone();
        let to = vec![Recipient::new(0, to)];
        let mut envelope = Envelope::new(MessageId(8), ReversePath::Null, to).unwrap();
        let header = b"From: MAILER-DAEMON@example.net\r\nSubject: failure notice\r\n";
        let body = b"Remote host said:\r\n550 5.1.1 No such user\r\n";
        let header = HeaderBlock::parse(Bytes::from_static(header));
        let content = Content::new(header, Bytes::from_static(body));
        let came = returns.receive(&mut envelope, &content, NOW).await;
        came.map_err(|reply| reply.code.get())
    }

    #[tokio::test]
    async fn what_cannot_be_put_to_use_is_to_be_brought_again() {
        assert_eq!(bounced(&returns(Arc::new(Full))).await, Err(451));
        let returns = returns(Arc::new(MemorySpool::new()));
        assert_eq!(bounced(&returns).await, Ok(false), "nobody is left");
        assert_eq!(returns.suppressions.list(None, 9).await.unwrap().entries.len(), 1);
    }
}
