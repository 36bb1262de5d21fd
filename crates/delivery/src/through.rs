//! Cut-through: an attempt at a message while its submitter waits, by the machinery of all attempts.
//!
//! The attempt is a task of its own, so that what was begun comes to an end when the submitter hangs up.
//! When it ends in time, each group of recipients that fared alike is answered in the next hop's own
//! words ([`Word`]), and nothing of the message is kept for them; all others become durable, each as it
//! fared, before they are answered. When it does not, the message becomes durable as it is, its submitter
//! goes, and the attempt is one like any other from then on.

mod word;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{Instrument, debug_span, info};
use waypost_history::About;
use waypost_hooks::EventKind;
use waypost_intake::{Handed, Handoff, Said, Story};
use waypost_mail::{
    Category, Diagnosis, Disposition, Entry, Outcome, RecipientEntry, Security, Why,
};
use waypost_mutant::planted;
use waypost_queue::{Doubt, Prepared, Settled, Settlement, Ticket};
use waypost_smtp::Reply;

use self::word::{Word, kept, on_each};
use crate::attempt::Tried;
use crate::settle::{Plan, result};
use crate::story::{Ended, Told};
use crate::{Delivery, UnderWay, settle};

#[async_trait]
impl Handoff for Delivery {
    async fn hand(self: Arc<Self>, prepared: Prepared, groups: Vec<Vec<u32>>) -> Handed {
        if self.passages.is_hurried() {
            return Handed::Back(Box::new(prepared));
        }
        let story = Story::of(self.parts.events.pen(), &prepared);
        let ticket = match self.parts.queue.pass(prepared) {
            Ok(ticket) => ticket,
            Err(prepared) => {
                self.metrics.went_through("not-tried");
                return Handed::Back(prepared);
            }
        };
        let (answer, answered) = oneshot::channel();
        let count = groups.len();
        let passage = Passage { delivery: self.clone(), groups, story, answer };
        let span =
            debug_span!("cut-through", message = %ticket.id, destination = ticket.destination);
        self.passages.begin(passage.make(ticket).instrument(span));
        drop(self);
        // It ended by a bug, or with the program: nothing was promised, and nothing is kept.
        let nothing = |_| vec![Said::Passed(Reply::LOCAL_ERROR); count];
        Handed::Answered(answered.await.unwrap_or_else(nothing))
    }
}

/// Attempts that somebody waits for.
#[derive(Debug)]
pub(crate) struct Passages {
    under_way: Mutex<JoinSet<()>>,
    hurry: watch::Sender<bool>,
}

impl Default for Passages {
    fn default() -> Passages {
        Passages { under_way: Mutex::default(), hurry: watch::Sender::new(false) }
    }
}

impl Passages {
    fn begin(&self, passage: impl Future<Output = ()> + Send + 'static) {
        let mut under_way = self.under_way();
        while let Some(ended) = under_way.try_join_next() {
            crate::report(ended);
        }
        under_way.spawn(passage);
    }

    /// Nobody is to wait any longer.
    pub(crate) fn hurry(&self) {
        self.hurry.send_replace(true);
    }

    fn is_hurried(&self) -> bool {
        *self.hurry.borrow()
    }

    /// Waits until all have ended. When the future is dropped, they stop where they are.
    pub(crate) async fn end(&self) {
        let mut under_way = std::mem::take(&mut *self.under_way());
        while let Some(ended) = under_way.join_next().await {
            crate::report(ended);
        }
    }

    /// They stop where they are.
    pub(crate) fn abandon(&self) {
        self.under_way().abort_all();
    }

    /// What abandons them when it is dropped.
    pub(crate) fn stop(&self) -> Stop<'_> {
        Stop(self)
    }

    /// A panic elsewhere leaves the set whole.
    fn under_way(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Passages::stop`].
pub(crate) struct Stop<'a>(&'a Passages);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// One attempt, and who waits for it.
struct Passage {
    delivery: Arc<Delivery>,
    groups: Vec<Vec<u32>>,
    story: Option<Story>,
    answer: oneshot::Sender<Vec<Said>>,
}

impl Passage {
    async fn make(self, ticket: Ticket) {
        let delivery = self.delivery.clone();
        let _under_way = UnderWay::new(&delivery.metrics);
        let mut attempt = Box::pin(delivery.try_once(&ticket));
        let in_time = tokio::select! {
            biased;
            tried = &mut attempt => Some(tried),
            () = delivery.patience_ends() => None,
        };
        if let Some(tried) = in_time {
            drop(attempt);
            return self.end(ticket, tried).await;
        }
        if !self.keep(&ticket).await {
            // Whoever sent it will send it again.
            return;
        }
        let tried = attempt.await;
        // A failure is in the log, and the queue has the recipients back.
        let _ = settle::settle(&delivery, ticket, tried).await;
    }

    /// Makes the message durable while it is tried, and lets its submitter go. False when it cannot be.
    async fn keep(mut self, ticket: &Ticket) -> bool {
        let kept = self.delivery.parts.queue.keep(ticket).await;
        let said = match &kept {
            Ok(()) => Said::Kept,
            Err(failure) => Said::Lost(failure.clone()),
        };
        self.delivery.metrics.went_through(if kept.is_ok() { "late" } else { "lost" });
        if kept.is_ok() {
            let story = self.story.take();
            self.delivery.tell_accepted(&ticket.entry, story, "kept while it is tried");
        }
        let all = vec![said; self.groups.len()];
        self.say(all);
        kept.is_ok()
    }

    /// Answers the groups that fared alike, and keeps what is left.
    async fn end(mut self, ticket: Ticket, tried: Tried) {
        let delivery = self.delivery.clone();
        let Tried { fates, hop, security, rest, log, .. } = tried;
        let mut plans = delivery.plans(&ticket, fates, rest);
        let planned: Vec<Settled> = plans.iter().map(|plan| plan.settled.clone()).collect();
        // Until it is settled: reroutes are counted one by one.
        let _turn = delivery.judge(&ticket, &mut plans, hop.as_deref()).await;
        let (entry, recipients) = (ticket.entry.clone(), ticket.recipients.clone());
        let both = plans.iter().zip(&planned);
        let words: Vec<_> = both.map(|(plan, planned)| Word::on(&entry, plan, planned)).collect();
        let agreed = on_each(&self.groups, &recipients, &words);
        let kept = kept(&self.groups, &agreed);
        let destination = ticket.destination.clone();
        for (recipient, plan) in recipients.iter().zip(&mut plans) {
            match kept.contains(&recipient.recipient.id) {
                true => leave(plan),
                false => conclude(plan),
            }
        }
        let ids = recipients.iter().map(|recipient| recipient.recipient.id);
        let states = ids.zip(plans.iter().map(|plan| plan.settled.clone())).collect();
        let settlement = Settlement { states, ..Settlement::default() };
        let settled = delivery.parts.queue.settle(ticket, settlement).await;
        let said = agreed.iter().map(|word| match (word, &settled) {
            (Some(word), _) => Said::Passed(word.reply.clone()),
            (None, Ok(())) => Said::Kept,
            (None, Err(failure)) => Said::Lost(failure.clone()),
        });
        let said: Vec<Said> = said.collect();
        let came = Came { entry, agreed, hop, security, lost: settled.is_err() };
        came.tell(&delivery, self.story.take(), &plans);
        let answered = |recipient: &RecipientEntry| !kept.contains(&recipient.recipient.id);
        let all = || recipients.iter().zip(&plans).zip(&words);
        for ((recipient, plan), word) in all() {
            let word = word.as_ref().filter(|_| answered(recipient));
            came.tell_one(&delivery, recipient, plan, word);
        }
        self.say(said);
        for ((recipient, plan), word) in all() {
            // What was put off is not held against anybody.
            if answered(recipient) && word.as_ref().is_some_and(Word::is_lasting) {
                delivery.suppress(&came.entry, recipient, plan).await;
            }
        }
        let pen = delivery.parts.events.pen();
        let answered = recipients.iter().filter(|recipient| answered(recipient));
        let heard = answered.map(|recipient| recipient.recipient.id).collect();
        let dialogue = pen.dialogue();
        let (held, ended) = (Vec::new(), Ended::Answered(plans, heard));
        let told = Told { log, destination, recipients, held, ended, dialogue };
        pen.tell(About::Message(came.entry.id), told.weight(), || told.note());
    }

    /// The submitter may have gone.
    fn say(self, said: Vec<Said>) {
        let _ = self.answer.send(said);
    }
}

impl Delivery {
    /// Waits as long as a submitter may be kept waiting.
    async fn patience_ends(&self) {
        let mut hurry = self.passages.hurry.subscribe();
        let hurried = async {
            // The sender lives as long as this does.
            let _ = hurry.wait_for(|hurry| *hurry).await;
        };
        tokio::select! {
            biased;
            () = hurried => {}
            () = sleep(self.config.patience) => {}
        }
    }

    fn tell_accepted(&self, entry: &Entry, story: Option<Story>, how: &str) {
        let Entry { id, sender, size, terms, .. } = entry;
        let (user, priority) = (entry.facts.identity.as_deref(), terms.priority);
        let recipients = entry.recipients.len();
        info!(message = %id, %sender, user, size, recipients, %priority, through = how, "message accepted");
        let text = format!("cut-through: {how}");
        self.parts.events.tell(EventKind::MessageAccepted, Some(*id), text);
        story.into_iter().for_each(|story| story.tell(self.parts.events.pen()));
    }
}

/// What an attempt came to that ended in time.
struct Came {
    entry: Arc<Entry>,
    agreed: Vec<Option<Word>>,
    hop: Option<String>,
    security: Option<Security>,
    /// What was to be kept could not be.
    lost: bool,
}

impl Came {
    /// What came of one recipient, who was answered for by `word`, or is kept.
    fn tell_one(
        &self,
        delivery: &Delivery,
        recipient: &RecipientEntry,
        plan: &Plan,
        word: Option<&Word>,
    ) {
        let (message, rcpt) = (self.entry.id, &recipient.recipient.mailbox);
        match word {
            // It comes again, and is told of then.
            None if self.lost => {}
            Some(word) if !word.is_taken() => {
                let (hop, reply) = (self.hop.as_deref(), &word.reply);
                info!(%message, hop, %rcpt, %reply, "refused, and its submitter told so");
                delivery.metrics.recipient("refused");
            }
            _ => delivery.tell(message, recipient, plan, self.hop.as_deref(), self.security),
        }
    }

    /// What came of the message.
    fn tell(&self, delivery: &Delivery, story: Option<Story>, plans: &[Plan]) {
        let words = || self.agreed.iter().flatten();
        let taken = words().any(Word::is_taken);
        let is_kept = self.agreed.iter().any(Option::is_none) && !self.lost;
        let refusal = words().find(|word| !word.is_taken());
        let result = match is_kept {
            _ if self.lost => "lost",
            true if plans.iter().all(|plan| plan.outcome.is_none()) => "not-tried",
            true => "kept",
            false => outcome(plans),
        };
        delivery.metrics.went_through(result);
        delivery.metrics.attempted(self::result(plans));
        match refusal {
            _ if taken || is_kept => delivery.tell_accepted(&self.entry, story, result),
            Some(Word { reply, .. }) => {
                let (id, text) = (self.entry.id, reply.to_string());
                info!(message = %id, %reply, "message refused by its next hop");
                let events = &delivery.parts.events;
                events.tell(EventKind::MessageRefused, Some(id), text);
                story.into_iter().for_each(|story| story.tell_refused(events.pen(), reply));
            }
            None => {}
        }
    }
}

/// What came of a message of which nothing is kept, in a word.
fn outcome(plans: &[Plan]) -> &'static str {
    let some = |is: fn(&Outcome) -> bool| {
        plans.iter().any(|plan| matches!(&plan.settled, Settled::Done(outcome) if is(outcome)))
    };
    if some(|outcome| matches!(outcome, Outcome::Delivered { .. })) {
        "delivered"
    } else if some(|outcome| matches!(outcome, Outcome::Unknown(_))) {
        "unknown"
    } else if some(|outcome| matches!(outcome, Outcome::Deleted)) {
        "dropped"
    } else {
        "refused"
    }
}

/// What becomes of a recipient that its submitter was not told of: who bounces does so at its next turn,
/// so that the notice is part of that turn's record.
fn leave(plan: &mut Plan) {
    let bounces = match &plan.settled {
        Settled::Done(Outcome::Bounced(_))
            if planted!("who is refused beside others is not told of") =>
        {
            return;
        }
        Settled::Done(Outcome::Bounced(why)) => why.clone(),
        Settled::Done(Outcome::Unknown(why)) if plan.doubt == Doubt::Bounce => for_good(why),
        _ => return,
    };
    plan.settled = Settled::Doomed(bounces);
}

/// Who was put off is its submitter's again: here it is done with, whatever is left of the message.
fn conclude(plan: &mut Plan) {
    if let Settled::Again { why, .. } | Settled::Rested { why, .. } = &plan.settled {
        plan.settled = Settled::Done(Outcome::Bounced(why.clone()));
    }
}

/// A failure of which nobody knows whether it is one, and that is not tried again.
fn for_good(why: &Why) -> Why {
    let diagnosis = Diagnosis::new(Disposition::Permanent, Category::Lost);
    Why::Diagnosed { diagnosis, rule: String::new(), why: Box::new(why.clone()) }
}
