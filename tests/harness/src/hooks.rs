//! A policy that notes what it is asked and answers as it is told.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use waypost_hooks::{
    Attempt, AttemptAnswer, AuthDecision, Credentials, Event, EventKind, Fault, FaultKind, Hooks,
    MessageAnswer, MessageVerdict, MessageView, Preparation, PreparedCopy, RecipientAnswer,
    Refusal, Remedy, RouteDecision, RouteGroup, RouteView, SenderAnswer, SenderChange,
    SessionAnswer, Transaction, Verdict,
};
use waypost_mail::{Facts, Recipient};
use waypost_smtp::{PermanentReply, Reply, ReplyParser, TransientReply};

/// A stage of a message's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Somebody connected.
    Connect,
    /// EHLO or HELO.
    Helo,
    /// AUTH.
    Auth,
    /// MAIL.
    Sender,
    /// RCPT.
    Recipients,
    /// The end of data.
    Message,
    /// Where it goes.
    Route,
    /// Before a copy is sent.
    Prepare,
    /// After an attempt.
    Attempt,
}

impl Stage {
    /// All, in the order of a message's way.
    pub const ALL: [Stage; 9] = [
        Stage::Connect,
        Stage::Helo,
        Stage::Auth,
        Stage::Sender,
        Stage::Recipients,
        Stage::Message,
        Stage::Route,
        Stage::Prepare,
        Stage::Attempt,
    ];
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Connect => "connect",
            Stage::Helo => "helo",
            Stage::Auth => "auth",
            Stage::Sender => "sender",
            Stage::Recipients => "recipients",
            Stage::Message => "message",
            Stage::Route => "route",
            Stage::Prepare => "prepare",
            Stage::Attempt => "attempt",
        })
    }
}

/// What it answers instead of having no objection.
#[derive(Debug, Clone)]
enum Say {
    /// A refusal, as the stage knows it: at `Route` and `Attempt` 5xx bounces and 4xx holds, at
    /// `Prepare` it postpones by a second.
    No(Refusal),
    /// At the stages of a session: a refusal, and the connection is closed.
    Goodbye(Refusal),
    /// It fails.
    Fault,
}

/// What it was shown of the session with a question at its stages up to the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The stage.
    pub stage: Stage,
    /// What was said in EHLO, if it was.
    pub helo: Option<String>,
    /// Who is logged in.
    pub identity: Option<String>,
    /// The peer may send to anybody.
    pub may_relay: bool,
    /// The connection is encrypted.
    pub tls: bool,
}

/// Notes and answers; clones of its `Arc` share everything.
#[derive(Debug, Default)]
pub struct RecordingHooks {
    asked: Mutex<Vec<(Stage, String)>>,
    seen: Mutex<Vec<Seen>>,
    events: Mutex<Vec<EventKind>>,
    script: Mutex<Vec<(Stage, Say)>>,
}

/// How it is set up.
impl RecordingHooks {
    /// One that objects to nothing.
    pub fn new() -> RecordingHooks {
        RecordingHooks::default()
    }

    /// From now on refuses at this stage: `450 4.7.1 not now`.
    ///
    /// # Panics
    /// When the text is no reply of class 4 or 5.
    pub fn refuse(&self, stage: Stage, reply: &str) {
        self.set(stage, Say::No(refusal(reply)));
    }

    /// From now on refuses at this stage and hangs up.
    ///
    /// # Panics
    /// When the text is no reply of class 4 or 5.
    pub fn hang_up(&self, stage: Stage, reply: &str) {
        self.set(stage, Say::Goodbye(refusal(reply)));
    }

    /// From now on fails at this stage.
    pub fn fail(&self, stage: Stage) {
        self.set(stage, Say::Fault);
    }

    /// From now on objects to nothing.
    pub fn relent(&self) {
        lock(&self.script).clear();
    }

    fn set(&self, stage: Stage, say: Say) {
        let mut script = lock(&self.script);
        script.retain(|(other, _)| *other != stage);
        script.push((stage, say));
    }
}

/// What it was asked.
impl RecordingHooks {
    /// The questions so far, in order: the stage and what it was about.
    pub fn asked(&self) -> Vec<(Stage, String)> {
        lock(&self.asked).clone()
    }

    /// The stages asked about so far, in order.
    pub fn stages(&self) -> Vec<Stage> {
        lock(&self.asked).iter().map(|(stage, _)| *stage).collect()
    }

    /// What it was shown of sessions so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    fn sees(&self, stage: Stage, session: &Facts) {
        lock(&self.seen).push(Seen {
            stage,
            helo: session.helo.clone(),
            identity: session.identity.clone(),
            may_relay: session.may_relay,
            tls: session.tls.is_some(),
        });
    }

    /// What has happened so far, in order.
    pub fn events(&self) -> Vec<EventKind> {
        lock(&self.events).clone()
    }

    fn note(&self, stage: Stage, about: impl ToString) -> Result<Option<Say>, Fault> {
        lock(&self.asked).push((stage, about.to_string()));
        let script = lock(&self.script);
        match script.iter().find(|(told, _)| *told == stage).map(|(_, say)| say) {
            Some(Say::Fault) => Err(Fault {
                who: "recording".to_owned(),
                kind: FaultKind::Reported,
                text: format!("told to fail at {stage}"),
            }),
            other => Ok(other.cloned()),
        }
    }

    fn verdict(&self, stage: Stage, about: impl ToString) -> Result<Verdict, Fault> {
        Ok(match self.note(stage, about)? {
            Some(Say::No(refusal)) => Verdict::Refuse(refusal),
            Some(Say::Goodbye(refusal)) => Verdict::Disconnect(refusal),
            _ => Verdict::Proceed,
        })
    }

    fn refusal(&self, stage: Stage, about: impl ToString) -> Result<Option<Refusal>, Fault> {
        Ok(match self.note(stage, about)? {
            Some(Say::No(refusal) | Say::Goodbye(refusal)) => Some(refusal),
            _ => None,
        })
    }
}

#[async_trait]
impl Hooks for RecordingHooks {
    async fn on_connect(&self, session: &Facts) -> Result<SessionAnswer, Fault> {
        self.sees(Stage::Connect, session);
        let verdict = self.verdict(Stage::Connect, &session.listener)?;
        Ok(SessionAnswer { verdict, ..SessionAnswer::default() })
    }

    async fn on_helo(&self, session: &Facts) -> Result<SessionAnswer, Fault> {
        self.sees(Stage::Helo, session);
        let name = session.helo.clone().unwrap_or_default();
        let verdict = self.verdict(Stage::Helo, name)?;
        Ok(SessionAnswer { verdict, ..SessionAnswer::default() })
    }

    async fn on_auth(&self, _: &Facts, given: &Credentials) -> Result<AuthDecision, Fault> {
        let refusal = self.refusal(Stage::Auth, &given.authcid)?;
        Ok(refusal.map_or(AuthDecision::Proceed, AuthDecision::Deny))
    }

    async fn on_sender(&self, transaction: &Transaction<'_>) -> Result<SenderAnswer, Fault> {
        self.sees(Stage::Sender, transaction.session);
        let verdict = self.verdict(Stage::Sender, transaction.sender)?;
        Ok((SessionAnswer { verdict, ..SessionAnswer::default() }, SenderChange::Keep))
    }

    async fn on_recipients(
        &self,
        transaction: &Transaction<'_>,
        recipients: &[Recipient],
    ) -> Result<Vec<RecipientAnswer>, Fault> {
        self.sees(Stage::Recipients, transaction.session);
        let verdict = self.verdict(Stage::Recipients, names(recipients))?;
        let answer = RecipientAnswer { verdict, ..RecipientAnswer::default() };
        Ok(vec![answer; recipients.len()])
    }

    async fn on_message(&self, message: &MessageView<'_>) -> Result<MessageAnswer, Fault> {
        self.sees(Stage::Message, message.transaction.session);
        let refusal = self.refusal(Stage::Message, message.id)?;
        let verdict = refusal.map_or(MessageVerdict::Proceed, MessageVerdict::Refuse);
        Ok(MessageAnswer { verdict, ..MessageAnswer::default() })
    }

    async fn on_route(&self, message: &RouteView<'_>) -> Result<Vec<RouteGroup>, Fault> {
        let decision = match self.refusal(Stage::Route, names(message.recipients))? {
            None => return Ok(Vec::new()),
            Some(Refusal::Reject(reply)) => RouteDecision::Fail(reply),
            Some(Refusal::Tempfail(reply)) => RouteDecision::Hold(reply.reply().text.to_string()),
        };
        let recipients = message.recipients.iter().map(|recipient| recipient.id).collect();
        Ok(vec![RouteGroup { recipients, decision, reasons: Vec::new() }])
    }

    async fn on_prepare(&self, copy: &PreparedCopy<'_>) -> Result<Preparation, Fault> {
        let all = copy.recipients.iter().map(|entry| entry.recipient.mailbox.to_string());
        let refusal = self.refusal(Stage::Prepare, all.collect::<Vec<_>>().join(" "))?;
        let later = copy.entry.received.after(Duration::from_secs(1));
        Ok(Preparation { postpone_until: refusal.map(|_| later), ..Preparation::default() })
    }

    async fn on_attempt(&self, attempt: &Attempt<'_>) -> Result<AttemptAnswer, Fault> {
        let outcomes = attempt.results.iter().map(|result| result.outcome.label());
        let outcomes: Vec<_> = outcomes.collect();
        let remedy = match self.refusal(Stage::Attempt, outcomes.join(" "))? {
            None => return Ok(AttemptAnswer::default()),
            Some(Refusal::Reject(reply)) => Remedy::Fail(reply),
            Some(Refusal::Tempfail(reply)) => Remedy::Hold(reply.reply().text.to_string()),
        };
        let all = attempt.results.iter().map(|r| (r.recipient.recipient.id, remedy.clone()));
        Ok(AttemptAnswer { remedies: all.collect(), ..AttemptAnswer::default() })
    }

    async fn on_events(&self, events: &[Event]) -> Result<(), Fault> {
        lock(&self.events).extend(events.iter().map(|event| event.kind));
        Ok(())
    }
}

fn names(recipients: &[Recipient]) -> String {
    let all = recipients.iter().map(|recipient| recipient.mailbox.to_string());
    all.collect::<Vec<_>>().join(" ")
}

#[expect(clippy::panic, reason = "a script that is wrong fails its test")]
fn refusal(text: &str) -> Refusal {
    let mut parser = ReplyParser::new();
    parser.push(format!("{text}\r\n").as_bytes());
    let reply: Option<Reply> = parser.pull().ok().flatten();
    let transient = |reply| TransientReply::new(reply).map(Refusal::Tempfail);
    let permanent = |reply| PermanentReply::new(reply).map(Refusal::Reject);
    let refusal = reply.and_then(|reply| transient(reply.clone()).or_else(|| permanent(reply)));
    refusal.unwrap_or_else(|| panic!("no reply of class 4 or 5: {text}"))
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
