//! From what an attempt came to, to what the queue keeps: policy's say, the notice, the record.

use std::time::Duration;

use tracing::field::display;
use tracing::{error, info};
use waypost_history::About;
use waypost_hooks::EventKind;
use waypost_intake::Story;
use waypost_mail::{
    Entry, MessageId, Outcome, RecipientEntry, RecipientState, Security, Timestamp, Why,
};
use waypost_mutant::planted;
use waypost_queue::{Doubt, Settled, Settlement, SpoolError, Ticket};

use crate::Delivery;
use crate::attempt::{Fate, Tried};
use crate::notice::kinds;
use crate::reaction::{Reaction, reaction};
use crate::story::{Ended, Told};

/// The soonest that policy can have something tried again.
const SOONEST: Duration = Duration::from_secs(1);

/// What the host would do about one recipient, and what is done in the end.
pub(crate) struct Plan {
    pub(crate) settled: Settled,
    /// What came of trying; absent when nothing was tried.
    pub(crate) outcome: Option<Outcome>,
    /// Why policy drops it.
    pub(crate) dropped: Option<String>,
    /// What is done about it when nobody knows whether it was delivered.
    pub(crate) doubt: Doubt,
}

impl Plan {
    /// For a recipient that was not tried.
    fn untried(settled: Settled) -> Plan {
        Plan { settled, outcome: None, dropped: None, doubt: Doubt::Retry }
    }
}

/// Ends a ticket. When storage fails nothing is kept of what came of it, and the queue gives its
/// recipients out again: what was delivered is then delivered twice.
pub(crate) async fn settle(
    delivery: &Delivery,
    ticket: Ticket,
    tried: Tried,
) -> Result<(), SpoolError> {
    let mut plans = delivery.plans(&ticket, tried.fates, tried.rest);
    // Until it is settled: reroutes are counted one by one.
    let (hop, security) = (tried.hop.as_deref(), tried.security);
    let _turn = delivery.judge(&ticket, &mut plans, hop).await;
    let notice = delivery.notice(&ticket, &plans, &tried.promises).await;
    let mut told = ticket.late.clone();
    if planted!("that a delay was told of is forgotten") {
        told.clear();
    }
    let ids = ticket.recipients.iter().map(|recipient| recipient.recipient.id);
    let states = ids.zip(plans.iter().map(|plan| plan.settled.clone())).collect();
    let (message, recipients) = (ticket.id, ticket.recipients.clone());
    let entry = ticket.entry.clone();
    let (destination, held) = (ticket.destination.clone(), ticket.held.clone());
    let pen = delivery.parts.events.pen();
    let told_by = notice.as_ref().and_then(|notice| {
        let kinds = kinds(&ticket, &plans, &tried.promises);
        Story::of_notice(pen, notice, ticket.id, kinds)
    });
    let settled = delivery.parts.queue.settle(ticket, Settlement { states, notice, told }).await;
    match &settled {
        // Told once it is durable: what is not will happen again, and be told then.
        Ok(()) => {
            for (recipient, plan) in recipients.iter().zip(&plans) {
                delivery.tell(message, recipient, plan, hop, security);
                delivery.suppress(&entry, recipient, plan).await;
            }
            delivery.metrics.attempted(result(&plans));
            let dialogue = pen.dialogue();
            let (log, ended) = (tried.log, Ended::Settled(plans));
            let told = Told { log, destination, recipients, held, ended, dialogue };
            pen.tell(About::Message(message), told.weight(), || told.note());
            told_by.into_iter().for_each(|story| story.tell(pen));
        }
        Err(failure) => {
            error!(%message, error = %failure, "the outcome of an attempt could not be stored");
        }
    }
    settled
}

impl Delivery {
    /// What is done about each of a ticket's recipients when policy says nothing.
    pub(crate) fn plans(
        &self,
        ticket: &Ticket,
        fates: Vec<Fate>,
        rest: Option<Timestamp>,
    ) -> Vec<Plan> {
        let both = fates.into_iter().zip(&ticket.recipients);
        both.map(|(fate, recipient)| self.plan(ticket, recipient, fate, rest)).collect()
    }

    fn plan(
        &self,
        ticket: &Ticket,
        recipient: &RecipientEntry,
        fate: Fate,
        rest: Option<Timestamp>,
    ) -> Plan {
        match fate {
            Fate::Postponed(at) => {
                Plan::untried(Settled::Later { at: self.legal_moment(at, ticket) })
            }
            Fate::InLine => Plan::untried(Settled::Later { at: self.parts.clock.now() }),
            Fate::Held(reason) => Plan::untried(Settled::Held(reason)),
            Fate::Doomed(why) => Plan::untried(Settled::Done(Outcome::Bounced(why))),
            Fate::Routed(route, at) => Plan::untried(Settled::Routed { route, at }),
            Fate::Tried(outcome) => {
                let doubt = self.parts.queue.doubt(ticket);
                let settled = match &outcome {
                    Outcome::Deferred(why) if planted!("what may pass bounces") => {
                        Settled::Done(Outcome::Bounced(why.clone()))
                    }
                    Outcome::Unknown(_) if planted!("who is in doubt is given up") => {
                        Settled::Done(outcome.clone())
                    }
                    Outcome::Deferred(why) => self.again(ticket, recipient, why, rest),
                    // The final dot was sent and never answered: sending again may make a second
                    // copy, not sending again may lose the mail (RFC 1047).
                    Outcome::Unknown(why) if doubt == Doubt::Retry => {
                        self.again(ticket, recipient, why, rest)
                    }
                    _ => Settled::Done(outcome.clone()),
                };
                Plan { settled, outcome: Some(outcome), dropped: None, doubt }
            }
        }
    }

    /// When a recipient is tried again, as its failure means it.
    fn again(
        &self,
        ticket: &Ticket,
        recipient: &RecipientEntry,
        why: &Why,
        rest: Option<Timestamp>,
    ) -> Settled {
        let tries = tries(recipient);
        let now = self.parts.clock.now();
        let curve = self.parts.queue.retry_at(ticket, tries.saturating_add(1)).since(now);
        let rulebook = self.rulebook();
        let rule = why.rule().and_then(|name| rulebook.rule(name));
        let wait = rule.and_then(|rule| rule.wait);
        let why = why.clone();
        match (reaction(why.diagnosis(), wait, tries), rest) {
            (Reaction::Rest, Some(until)) => {
                Settled::Rested { at: self.legal_moment(until, ticket), why }
            }
            // Its last turn is when the message expires.
            (reaction, _) => {
                let at = now.after(reaction.wait(curve)).min(ticket.entry.expires);
                Settled::Again { at, why }
            }
        }
    }

    /// A moment that policy chose: not after the message expires, and not so soon that the same
    /// attempt is made over and over.
    pub(crate) fn legal_moment(&self, at: Timestamp, ticket: &Ticket) -> Timestamp {
        at.min(ticket.entry.expires).max(self.parts.clock.now().after(SOONEST))
    }

    /// Who is no more there may get no more mail. When that cannot be written it is logged there, and the
    /// next bounce makes up for it.
    pub(crate) async fn suppress(&self, entry: &Entry, recipient: &RecipientEntry, plan: &Plan) {
        let Some(list) = self.parts.intake.suppressions() else { return };
        if let Settled::Done(Outcome::Bounced(why)) = &plan.settled {
            let user = entry.facts.identity.as_deref();
            let _ = list.bounced(&entry.sender, user, &recipient.recipient.mailbox, why).await;
        }
    }

    /// One event, one log line and one count per recipient.
    pub(crate) fn tell(
        &self,
        message: MessageId,
        recipient: &RecipientEntry,
        plan: &Plan,
        hop: Option<&str>,
        security: Option<Security>,
    ) {
        let rcpt = &recipient.recipient.mailbox;
        let attempt = tries(recipient) + 1;
        let tls = security.map(display);
        let tell = |kind, text: String| self.parts.events.tell(kind, Some(message), text);
        match &plan.settled {
            Settled::Done(Outcome::Delivered { hop, reply, security }) => {
                info!(%message, attempt, hop, %rcpt, tls = %security, %reply, "delivered");
                self.metrics.recipient("delivered");
                tell(EventKind::Delivered, format!("{rcpt} by {hop}: {reply}"));
            }
            Settled::Done(outcome @ Outcome::Deleted) => {
                let why = plan.outcome.as_ref().and_then(Outcome::why).map(Why::to_string);
                let (why, reason) = (why.unwrap_or_default(), plan.dropped.as_deref());
                info!(%message, attempt, hop, %rcpt, why, reason, "dropped, the sender is not told");
                self.metrics.recipient(outcome.label());
                tell(EventKind::Dropped, format!("{rcpt}: {why}"));
            }
            Settled::Done(outcome @ Outcome::Unknown(why)) => {
                let told = plan.doubt == Doubt::Bounce;
                info!(%message, attempt, hop, %rcpt, %why, told, "unknown: it may or may not have been delivered, and is not tried again");
                self.metrics.recipient(outcome.label());
                let kind = if told { EventKind::Bounced } else { EventKind::Delivered };
                tell(kind, format!("{rcpt}: unknown: {why}"));
            }
            Settled::Done(outcome) => {
                let why = outcome.why().map(Why::to_string).unwrap_or_default();
                let means = outcome.why().map(|why| why.diagnosis().to_string());
                let rule = outcome.why().and_then(Why::rule);
                info!(%message, attempt, hop, %rcpt, tls, why, means, rule, "bounced");
                self.metrics.recipient(outcome.label());
                tell(EventKind::Bounced, format!("{rcpt}: {why}"));
            }
            Settled::Again { at, why } | Settled::Rested { at, why } => {
                let label = plan.outcome.as_ref().map_or("deferred", Outcome::label);
                let (means, rule) = (why.diagnosis(), why.rule());
                info!(%message, attempt, hop, %rcpt, tls, %why, %means, rule, retry = %at, outcome = label, "deferred");
                self.metrics.recipient(label);
                tell(EventKind::Deferred, format!("{rcpt}: {why}; again at {at}"));
            }
            Settled::Later { at } => {
                info!(%message, hop, %rcpt, until = %at, "postponed");
            }
            Settled::Rerouted { route, at, why } => {
                let to = route.destination();
                info!(%message, attempt, hop, %rcpt, %why, to, due = %at, "rerouted by policy");
                self.metrics.recipient("rerouted");
                tell(EventKind::Deferred, format!("{rcpt}: {why}; by {to} at {at}"));
            }
            Settled::Routed { route, at } => {
                info!(%message, %rcpt, to = route.destination(), due = %at, "goes another way, or has one at last");
            }
            Settled::Doomed(why) => {
                info!(%message, attempt, hop, %rcpt, tls, %why, "not delivered, it bounces at its next turn");
            }
            Settled::Held(reason) => {
                info!(%message, hop, %rcpt, reason, "held");
                self.metrics.recipient("held");
            }
        }
    }
}

/// Attempts made before this one.
pub(crate) fn tries(recipient: &RecipientEntry) -> u32 {
    match &recipient.state {
        RecipientState::Waiting { tries, .. } | RecipientState::Held { tries, .. } => *tries,
        RecipientState::Done(_) => 0,
    }
}

/// The attempt in one word, for the metrics.
pub(crate) fn result(plans: &[Plan]) -> &'static str {
    let tried = plans.iter().filter_map(|plan| plan.outcome.as_ref());
    let delivered =
        plans.iter().filter(|p| matches!(p.outcome, Some(Outcome::Delivered { .. }))).count();
    match (tried.count(), delivered) {
        (0, _) => "postponed",
        (_, count) if count == plans.len() => "delivered",
        (_, 0) => "failed",
        _ => "partial",
    }
}
