//! From what an attempt came to, to what the queue keeps: policy's say, the notice, the record.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tracing::{error, info, warn};
use waypost_hooks::{
    Attempt, AttemptAnswer, EventKind, LaneAdvice, MAX_REROUTES, RecipientResult, Remedy, Way,
};
use waypost_intake::Notice;
use waypost_mail::dsn::FailureNotice;
use waypost_mail::header::{MAX_HEADER, header_len};
use waypost_mail::{MessageId, Outcome, RecipientEntry, RecipientState, Route, Timestamp, Why};
use waypost_queue::{Prepared, Settled, Settlement, SpoolError, Ticket};

use crate::attempt::{self, Fate, Tried};
use crate::stored::Stored;
use crate::{Delivery, bounded};

/// Longest pause of a destination that policy can ask for at once.
const LONGEST_PAUSE: Duration = Duration::from_secs(86_400);
/// The soonest that policy can have something tried again.
const SOONEST: Duration = Duration::from_secs(1);

/// What the host would do about one recipient, and what is done in the end.
struct Plan {
    settled: Settled,
    /// What came of trying; absent when nothing was tried.
    outcome: Option<Outcome>,
}

/// Lets policy judge an attempt, and goes the other ways it knows, before anything is settled.
pub(crate) async fn judge(delivery: &Delivery, ticket: &Ticket, mut tried: Tried) -> Judged {
    let mut answer = AttemptAnswer::default();
    let mut open: Vec<usize> = (0..ticket.recipients.len()).collect();
    for reroutes in 0..=MAX_REROUTES {
        let said = delivery.ask(ticket, &tried, &open).await;
        answer.advice.extend(said.advice);
        answer.reasons.extend(said.reasons);
        let mut elsewhere: Vec<(usize, Way)> = Vec::new();
        for (id, remedy) in said.remedies {
            let place = open.iter().position(|place| ticket.recipients[*place].recipient.id == id);
            let Some(place) = place.map(|at| open.swap_remove(at)) else { continue };
            match remedy {
                // Who was delivered stays delivered, and who was not tried has no other way.
                Remedy::Reroute(_) if !tried.fates[place].is_failure() => {}
                Remedy::Reroute(way) => elsewhere.push((place, way)),
                other => answer.remedies.push((id, other)),
            }
        }
        if reroutes == MAX_REROUTES {
            answer.remedies.extend(elsewhere.iter().map(|(place, _)| {
                let reason = format!("policy rerouted it {MAX_REROUTES} times in one attempt");
                (ticket.recipients[*place].recipient.id, Remedy::Hold(reason))
            }));
            break;
        }
        let ways = delivery.ways(ticket, elsewhere);
        open = ways.iter().flat_map(|(_, members)| members.iter().copied()).collect();
        if open.is_empty() {
            break;
        }
        let again = bounded(ticket, attempt::again(delivery, ticket, &ways)).await;
        tried.hop = again.hop.or(tried.hop);
        for (place, fate) in again.fates.into_iter().enumerate() {
            if open.contains(&place) {
                tried.fates[place] = fate;
            }
        }
    }
    Judged { tried, answer }
}

/// An attempt, and what policy says to it.
#[derive(Debug)]
pub(crate) struct Judged {
    tried: Tried,
    answer: AttemptAnswer,
}

impl Judged {
    /// An attempt that is nobody's to judge.
    pub(crate) fn unasked(tried: Tried) -> Judged {
        Judged { tried, answer: AttemptAnswer::default() }
    }
}

/// Ends a ticket. When storage fails nothing is kept of what came of it, and the queue gives its
/// recipients out again: what was delivered is then delivered twice.
pub(crate) async fn settle(
    delivery: &Delivery,
    ticket: Ticket,
    judged: Judged,
) -> Result<(), SpoolError> {
    let Judged { tried, answer } = judged;
    let plans = tried.fates.iter().zip(&ticket.recipients);
    let mut plans: Vec<Plan> =
        plans.map(|(fate, recipient)| delivery.plan(&ticket, recipient, fate)).collect();
    delivery.apply(&ticket, &mut plans, answer);
    let notice = delivery.notice(&ticket, &plans).await;
    let ids = ticket.recipients.iter().map(|recipient| recipient.recipient.id);
    let states = ids.zip(plans.iter().map(|plan| plan.settled.clone())).collect();
    let (message, recipients) = (ticket.id, ticket.recipients.clone());
    let settled = delivery.parts.queue.settle(ticket, Settlement { states, notice }).await;
    match &settled {
        // Told once it is durable: what is not will happen again, and be told then.
        Ok(()) => {
            for (recipient, plan) in recipients.iter().zip(&plans) {
                delivery.tell(message, recipient, plan, tried.hop.as_deref());
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
    fn plan(&self, ticket: &Ticket, recipient: &RecipientEntry, fate: &Fate) -> Plan {
        let again =
            |why: &Why| Settled::Again { at: self.retry_at(ticket, recipient), why: why.clone() };
        match fate {
            Fate::Postponed(at) => {
                let at = self.legal_moment(*at, ticket);
                Plan { settled: Settled::Later { at }, outcome: None }
            }
            Fate::Held(reason) => Plan { settled: Settled::Held(reason.clone()), outcome: None },
            Fate::Doomed(why) => {
                Plan { settled: Settled::Done(Outcome::Bounced(why.clone())), outcome: None }
            }
            Fate::Tried(outcome) => {
                let settled = match outcome {
                    // The final dot was sent and never answered: sending again may make a second
                    // copy, not sending again may lose the mail (RFC 1047).
                    Outcome::Deferred(why) | Outcome::Unknown(why) => again(why),
                    _ => Settled::Done(outcome.clone()),
                };
                Plan { settled, outcome: Some(outcome.clone()) }
            }
        }
    }

    /// A moment that policy chose: not after the message expires, and not so soon that the same
    /// attempt is made over and over.
    fn legal_moment(&self, at: Timestamp, ticket: &Ticket) -> Timestamp {
        at.min(ticket.entry.expires).max(self.parts.clock.now().after(SOONEST))
    }

    /// The retry curve's moment; not after the message expires, which is its last turn.
    fn retry_at(&self, ticket: &Ticket, recipient: &RecipientEntry) -> Timestamp {
        let at = self.parts.queue.retry_at(tries(recipient).saturating_add(1));
        at.min(ticket.entry.expires)
    }

    /// What policy says about recipients that were tried, by their places; nothing when it fails.
    async fn ask(&self, ticket: &Ticket, tried: &Tried, places: &[usize]) -> AttemptAnswer {
        let result = |place: &usize| {
            let (recipient, fate) = (&ticket.recipients[*place], &tried.fates[*place]);
            let Fate::Tried(outcome) = fate else { return None };
            let planned_retry = match self.plan(ticket, recipient, fate).settled {
                Settled::Again { at, .. } => Some(at),
                _ => None,
            };
            Some(RecipientResult { recipient, outcome, planned_retry })
        };
        let results: Vec<_> = places.iter().filter_map(result).collect();
        if results.is_empty() {
            return AttemptAnswer::default();
        }
        let attempt = Attempt {
            entry: &ticket.entry,
            hop: tried.hop.as_deref(),
            destination: &ticket.destination,
            results: &results,
            text: &Stored { delivery: self, entry: &ticket.entry },
        };
        self.parts.hooks.on_attempt(&attempt).await.unwrap_or_else(|fault| {
            warn!(message = %ticket.id, %fault, "policy did not judge the attempt");
            AttemptAnswer::default()
        })
    }

    /// The ways that policy chose, each with the recipients that take it. Who is sent where the
    /// configuration knows no way stays as it is.
    fn ways(&self, ticket: &Ticket, chosen: Vec<(usize, Way)>) -> Vec<(Route, Vec<usize>)> {
        let mut ways: Vec<(Route, Vec<usize>)> = Vec::new();
        for (place, way) in chosen {
            let recipient = &ticket.recipients[place].recipient;
            match self.parts.intake.lower(&way, recipient.mailbox.domain()) {
                Ok(route) => match ways.iter_mut().find(|(known, _)| *known == route) {
                    Some((_, members)) => members.push(place),
                    None => ways.push((route, vec![place])),
                },
                Err(unknown) => {
                    let rcpt = &recipient.mailbox;
                    warn!(message = %ticket.id, %rcpt, %unknown, "policy's other way cannot be gone");
                }
            }
        }
        ways
    }

    fn apply(&self, ticket: &Ticket, plans: &mut [Plan], answer: AttemptAnswer) {
        for advice in answer.advice {
            let LaneAdvice { destination, pause, max_concurrent, valid } = advice;
            if let Some(pause) = pause {
                let pause = pause.min(LONGEST_PAUSE);
                info!(destination, ?pause, "policy pauses a destination");
                let why = "policy asked for a pause".to_owned();
                self.parts.queue.pause(&destination, pause, why);
            }
            if let Some(most) = max_concurrent {
                let valid = valid.min(LONGEST_PAUSE);
                info!(destination, most, ?valid, "policy limits attempts at once");
                self.parts.queue.limit(&destination, most, valid);
            }
        }
        let mut remedies: HashMap<u32, Remedy> = answer.remedies.into_iter().collect();
        for (recipient, plan) in ticket.recipients.iter().zip(plans) {
            let why = match &plan.outcome {
                Some(Outcome::Deferred(why) | Outcome::Bounced(why) | Outcome::Unknown(why)) => why,
                _ => continue,
            };
            let Some(remedy) = remedies.remove(&recipient.recipient.id) else { continue };
            plan.settled = match remedy {
                Remedy::RetryAt(at) => {
                    Settled::Again { at: self.legal_moment(at, ticket), why: why.clone() }
                }
                Remedy::Fail(reply) => {
                    Settled::Done(Outcome::Bounced(Why::Policy(reply.into_reply()).bounded()))
                }
                Remedy::Hold(reason) => Settled::Held(reason),
                Remedy::Drop(reason) => {
                    let rcpt = &recipient.recipient.mailbox;
                    warn!(message = %ticket.id, %rcpt, reason, "policy gives up, the sender is not told");
                    Settled::Done(Outcome::Deleted)
                }
                // It was gone by now: what came of the last way counts.
                Remedy::Reroute(_) => continue,
            };
        }
    }

    /// One event, one log line and one count per recipient.
    fn tell(&self, message: MessageId, recipient: &RecipientEntry, plan: &Plan, hop: Option<&str>) {
        let rcpt = &recipient.recipient.mailbox;
        let attempt = tries(recipient) + 1;
        let tell = |kind, text: String| self.parts.events.tell(kind, Some(message), text);
        match &plan.settled {
            Settled::Done(Outcome::Delivered { hop, reply }) => {
                info!(%message, attempt, hop, %rcpt, %reply, "delivered");
                self.metrics.recipient("delivered");
                tell(EventKind::Delivered, format!("{rcpt} by {hop}: {reply}"));
            }
            Settled::Done(outcome @ Outcome::Deleted) => {
                let why = plan.outcome.as_ref().and_then(Outcome::why);
                let why = why.map(Why::to_string).unwrap_or_default();
                info!(%message, attempt, hop, %rcpt, why, "dropped by policy");
                self.metrics.recipient(outcome.label());
                tell(EventKind::Dropped, format!("{rcpt}: {why}"));
            }
            Settled::Done(outcome) => {
                let why = outcome.why().map(Why::to_string).unwrap_or_default();
                info!(%message, attempt, hop, %rcpt, why, "bounced");
                self.metrics.recipient(outcome.label());
                tell(EventKind::Bounced, format!("{rcpt}: {why}"));
            }
            Settled::Again { at, why } => {
                let label = plan.outcome.as_ref().map_or("deferred", Outcome::label);
                info!(%message, attempt, hop, %rcpt, %why, retry = %at, outcome = label, "deferred");
                self.metrics.recipient(label);
                tell(EventKind::Deferred, format!("{rcpt}: {why}; again at {at}"));
            }
            Settled::Later { at } => {
                info!(%message, hop, %rcpt, until = %at, "postponed");
            }
            Settled::Held(reason) => {
                info!(%message, hop, %rcpt, reason, "held");
                self.metrics.recipient("held");
            }
        }
    }

    /// The notice about recipients that bounce, through the same door as any mail.
    async fn notice(&self, ticket: &Ticket, plans: &[Plan]) -> Option<Prepared> {
        let bounced = |(recipient, plan): (&RecipientEntry, &Plan)| match &plan.settled {
            Settled::Done(Outcome::Bounced(why)) => Some((recipient.clone(), why.clone())),
            _ => None,
        };
        let failed: Vec<_> = ticket.recipients.iter().zip(plans).filter_map(bounced).collect();
        if failed.is_empty() {
            return None;
        }
        let original_header = self.header(ticket).await;
        let reporting_mta = self.config.ehlo_name.to_string();
        let notice = FailureNotice {
            entry: &ticket.entry,
            failed: &failed,
            reporting_mta: &reporting_mta,
            now: self.parts.clock.now(),
            original_header: &original_header,
        };
        let Some(notice) = notice.compose() else {
            warn!(message = %ticket.id, "a message from the null sender bounced: dropped");
            return None;
        };
        let notice =
            Notice { to: notice.to, header: notice.header, body: notice.body, about: ticket.id };
        self.parts.intake.notice(notice).await
    }

    /// The stored header; what cannot be read is left out of the notice.
    async fn header(&self, ticket: &Ticket) -> Bytes {
        let start = match self.content(&ticket.entry).await {
            Ok(content) => content.read_at(0, MAX_HEADER),
            Err(error) => Err(error),
        };
        match start {
            Ok(start) => start.slice(..header_len(&start).unwrap_or(start.len())),
            Err(error) => {
                warn!(message = %ticket.id, %error, "the notice goes without the original header");
                Bytes::new()
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
