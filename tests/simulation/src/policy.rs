//! A policy that does what the message says, and after attempts whatever comes to its mind.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use waypost_hooks::{
    Attempt, AttemptAnswer, AuthDecision, Credentials, Disposition, Event, Fault, FaultKind, Hooks,
    Hop, MessageAnswer, MessageVerdict, MessageView, Pass, Preparation, PreparedCopy,
    RecipientAnswer, RecipientVerdict, Refusal, Remedy, RouteGroup, RouteView, SenderAnswer,
    SessionAnswer, Transaction, Verdict, Way,
};
use waypost_mail::{Clock, Facts, ManualClock, MessageId, Recipient};
use waypost_smtp::{Domain, PermanentReply, Reply};

use crate::visit::DOMAINS;

/// Recipients whose names begin so are refused at RCPT.
pub const REFUSED: &str = "refused";

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

/// The policy. Clones are the same.
#[derive(Debug, Clone)]
pub struct Obedient {
    clock: Arc<ManualClock>,
    mind: Arc<Mutex<Mind>>,
}

#[derive(Debug)]
struct Mind {
    random: StdRng,
    calm: bool,
    discarded: BTreeSet<MessageId>,
    doomed: BTreeSet<(MessageId, u32)>,
    dropped: BTreeSet<(MessageId, u32)>,
}

impl Obedient {
    /// With a mind of its own.
    pub fn new(clock: Arc<ManualClock>, seed: u64) -> Obedient {
        let random = StdRng::seed_from_u64(seed);
        let (doomed, dropped) = <(BTreeSet<_>, BTreeSet<_>)>::default();
        let mind = Mind { random, calm: false, discarded: BTreeSet::new(), doomed, dropped };
        Obedient { clock, mind: Arc::new(Mutex::new(mind)) }
    }

    /// From now on nothing comes to its mind.
    pub fn calm_down(&self) {
        self.mind().calm = true;
    }

    /// True for a message that was taken and dropped.
    pub fn has_discarded(&self, id: MessageId) -> bool {
        self.mind().discarded.contains(&id)
    }

    /// True for a recipient that was refused though the message was not.
    pub fn has_doomed(&self, id: MessageId, recipient: u32) -> bool {
        self.mind().doomed.contains(&(id, recipient))
    }

    /// True for a recipient that was dropped after an attempt.
    pub fn has_dropped(&self, id: MessageId, recipient: u32) -> bool {
        self.mind().dropped.contains(&(id, recipient))
    }

    fn mind(&self) -> MutexGuard<'_, Mind> {
        self.mind.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What comes to its mind about a recipient that was not delivered, if anything.
fn remedy(random: &mut StdRng, clock: &ManualClock) -> Option<Remedy> {
    match random.random_range(0..40) {
        0..4 => {
            let domain = Domain::parse(DOMAINS[random.random_range(0..DOMAINS.len())]).ok()?;
            Some(Remedy::Reroute(Way { hops: vec![Hop::Mx(domain)], ..Way::default() }))
        }
        4 => PermanentReply::new(Reply::REFUSED_BY_POLICY).map(Remedy::Fail),
        5 => Some(Remedy::Drop("it comes to its mind".to_owned())),
        6 => Some(Remedy::Hold("it comes to its mind".to_owned())),
        7 => {
            let wait = Duration::from_secs(random.random_range(1..3600));
            Some(Remedy::RetryAt(clock.now().after(wait)))
        }
        _ => None,
    }
}

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
        let mut answers = Pass.on_recipients(transaction, recipients).await?;
        for (answer, recipient) in answers.iter_mut().zip(recipients) {
            if recipient.mailbox.to_string().starts_with(REFUSED)
                && let Some(refusal) = PermanentReply::new(Reply::REFUSED_BY_POLICY)
            {
                answer.verdict = Verdict::Refuse(Refusal::Reject(refusal));
            }
        }
        Ok(answers)
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
            Wish::Discard => {
                self.mind().discarded.insert(message.id);
                answer.verdict = MessageVerdict::Discard("as was wished".to_owned());
            }
            Wish::Quarantine => {
                answer.verdict = MessageVerdict::Quarantine("as was wished".to_owned());
            }
            Wish::Doom => {
                let verdict = refusal().ok_or_else(fault)?;
                let first = message.transaction.recipients.first().map_or(0, |first| first.id);
                self.mind().doomed.insert((message.id, first));
                let first = RecipientVerdict { id: first, verdict, reasons: Vec::new() };
                answer.recipients = vec![first];
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
        let mut answer = Pass.on_attempt(attempt).await?;
        let mut mind = self.mind();
        if !mind.calm {
            let open = attempt.results.iter().filter(|r| r.disposition() != Disposition::Delivered);
            for result in open {
                let remedy = remedy(&mut mind.random, &self.clock);
                let id = result.recipient.recipient.id;
                if let Some(Remedy::Drop(_)) = &remedy {
                    mind.dropped.insert((attempt.entry.id, id));
                }
                answer.remedies.extend(remedy.map(|remedy| (id, remedy)));
            }
        }
        Ok(answer)
    }

    async fn on_events(&self, _: &[Event]) -> Result<(), Fault> {
        Ok(())
    }
}
