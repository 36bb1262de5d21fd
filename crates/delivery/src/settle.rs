//! From what an attempt came to, to what the queue keeps: policy's say, the notice, the record.

use std::time::Duration;

use tracing::field::display;
use tracing::{error, info};
use waypost_hooks::EventKind;
use waypost_mail::{MessageId, Outcome, RecipientEntry, RecipientState, Security, Timestamp, Why};
use waypost_mutant::planted;
use waypost_queue::{Settled, Settlement, SpoolError, Ticket};

use crate::Delivery;
use crate::attempt::{Fate, Tried};

/// The soonest that policy can have something tried again.
const SOONEST: Duration = Duration::from_secs(1);

/// What the host would do about one recipient, and what is done in the end.
pub(crate) struct Plan {
    pub(crate) settled: Settled,
    /// What came of trying; absent when nothing was tried.
    pub(crate) outcome: Option<Outcome>,
    /// Why policy drops it.
    pub(crate) dropped: Option<String>,
}

impl Plan {
    /// For a recipient that was not tried.
    fn untried(settled: Settled) -> Plan {
        Plan { settled, outcome: None, dropped: None }
    }
}

/// Ends a ticket. When storage fails nothing is kept of what came of it, and the queue gives its
/// recipients out again: what was delivered is then delivered twice.
pub(crate) async fn settle(
    delivery: &Delivery,
    ticket: Ticket,
    tried: Tried,
) -> Result<(), SpoolError> {
    let plans = tried.fates.into_iter().zip(&ticket.recipients);
    let mut plans: Vec<Plan> =
        plans.map(|(fate, recipient)| delivery.plan(&ticket, recipient, fate)).collect();
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
    let settled = delivery.parts.queue.settle(ticket, Settlement { states, notice, told }).await;
    match &settled {
        // Told once it is durable: what is not will happen again, and be told then.
        Ok(()) => {
            for (recipient, plan) in recipients.iter().zip(&plans) {
                delivery.tell(message, recipient, plan, hop, security);
            }
            delivery.metrics.attempted(result(&plans));
        }
        Err(failure) => {
            error!(%message, error = %failure, "the outcome of an attempt could not be stored");
        }
    }
    settled
}

impl Delivery {
    fn plan(&self, ticket: &Ticket, recipient: &RecipientEntry, fate: Fate) -> Plan {
        let again =
            |why: &Why| Settled::Again { at: self.retry_at(ticket, recipient), why: why.clone() };
        match fate {
            Fate::Postponed(at) => {
                Plan::untried(Settled::Later { at: self.legal_moment(at, ticket) })
            }
            Fate::Held(reason) => Plan::untried(Settled::Held(reason)),
            Fate::Doomed(why) => Plan::untried(Settled::Done(Outcome::Bounced(why))),
            Fate::Routed(route, at) => Plan::untried(Settled::Routed { route, at }),
            Fate::Tried(outcome) => {
                let settled = match &outcome {
                    Outcome::Deferred(why) if planted!("what may pass bounces") => {
                        Settled::Done(Outcome::Bounced(why.clone()))
                    }
                    Outcome::Unknown(_) if planted!("who is in doubt is given up") => {
                        Settled::Done(outcome.clone())
                    }
                    // The final dot was sent and never answered: sending again may make a second
                    // copy, not sending again may lose the mail (RFC 1047).
                    Outcome::Deferred(why) | Outcome::Unknown(why) => again(why),
                    _ => Settled::Done(outcome.clone()),
                };
                Plan { settled, outcome: Some(outcome), dropped: None }
            }
        }
    }

    /// A moment that policy chose: not after the message expires, and not so soon that the same
    /// attempt is made over and over.
    pub(crate) fn legal_moment(&self, at: Timestamp, ticket: &Ticket) -> Timestamp {
        at.min(ticket.entry.expires).max(self.parts.clock.now().after(SOONEST))
    }

    /// The retry curve's moment; not after the message expires, which is its last turn.
    fn retry_at(&self, ticket: &Ticket, recipient: &RecipientEntry) -> Timestamp {
        let at = self.parts.queue.retry_at(ticket, tries(recipient).saturating_add(1));
        at.min(ticket.entry.expires)
    }

    /// One event, one log line and one count per recipient.
    fn tell(
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
            Settled::Done(outcome) => {
                let why = outcome.why().map(Why::to_string).unwrap_or_default();
                info!(%message, attempt, hop, %rcpt, tls, why, "bounced");
                self.metrics.recipient(outcome.label());
                tell(EventKind::Bounced, format!("{rcpt}: {why}"));
            }
            Settled::Again { at, why } => {
                let label = plan.outcome.as_ref().map_or("deferred", Outcome::label);
                info!(%message, attempt, hop, %rcpt, tls, %why, retry = %at, outcome = label, "deferred");
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
            Settled::Held(reason) => {
                info!(%message, hop, %rcpt, reason, "held");
                self.metrics.recipient("held");
            }
        }
    }
}

/// Attempts made before this one.
fn tries(recipient: &RecipientEntry) -> u32 {
    match &recipient.state {
        RecipientState::Waiting { tries, .. } | RecipientState::Held { tries, .. } => *tries,
        RecipientState::Done(_) => 0,
    }
}

/// The attempt in one word, for the metrics.
fn result(plans: &[Plan]) -> &'static str {
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
