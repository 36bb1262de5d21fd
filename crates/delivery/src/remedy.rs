//! What policy says to an attempt, and what it means for the recipients that were tried.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tracing::{info, warn};
use waypost_hooks::{
    Attempt, AttemptAnswer, LaneAdvice, MAX_REROUTES, RecipientResult, Remedy, Way,
};
use waypost_mail::{MessageId, Outcome, RecipientEntry, Route, Why};
use waypost_queue::{Settled, Ticket};

use crate::Delivery;
use crate::settle::Plan;
use crate::stored::Stored;

/// Longest pause or limit of a destination that policy can ask for at once.
const LONGEST_ADVICE: Duration = Duration::from_secs(86_400);

/// Lets the reroutes of one message, each from its count to its record, come one after the other, so
/// that tickets of one message cannot pass the limit together. Some messages share a lock.
#[derive(Debug, Default)]
pub(crate) struct Turns([Mutex<()>; 32]);

impl Turns {
    async fn of(&self, message: MessageId) -> MutexGuard<'_, ()> {
        self.0[message.0 as usize % self.0.len()].lock().await
    }
}

impl Delivery {
    /// Lets policy change what is planned for recipients that were tried. While the guard is held, the
    /// message is not rerouted by another attempt, and its reroutes are what the spool says.
    pub(crate) async fn judge(
        &self,
        ticket: &Ticket,
        plans: &mut [Plan],
        hop: Option<&str>,
    ) -> Option<MutexGuard<'_, ()>> {
        if plans.iter().all(|plan| plan.outcome.is_none()) {
            return None;
        }
        let answer = self.ask(ticket, plans, hop).await;
        self.advise(answer.advice);
        let reroutes = |(_, remedy): &(u32, Remedy)| matches!(remedy, Remedy::Reroute(_));
        let turn = match answer.remedies.iter().any(reroutes) {
            true => Some(self.rerouting.of(ticket.id).await),
            false => None,
        };
        let worn_out = turn.is_some() && self.is_worn_out(ticket);
        self.apply(ticket, plans, answer.remedies, worn_out);
        turn
    }

    /// What policy says about the recipients that were tried; nothing when it fails.
    async fn ask(&self, ticket: &Ticket, plans: &[Plan], hop: Option<&str>) -> AttemptAnswer {
        let result = |(recipient, plan)| {
            let Plan { settled, outcome, .. }: &Plan = plan;
            let planned_retry = match settled {
                Settled::Again { at, .. } | Settled::Rested { at, .. } => Some(*at),
                _ => None,
            };
            let outcome = outcome.as_ref()?;
            Some(RecipientResult { recipient, outcome, planned_retry })
        };
        let results: Vec<_> = ticket.recipients.iter().zip(plans).filter_map(result).collect();
        let attempt = Attempt {
            entry: &ticket.entry,
            hop,
            destination: &ticket.destination,
            results: &results,
            text: &Stored { delivery: self, entry: &ticket.entry, copy: None },
        };
        self.parts.hooks.on_attempt(&attempt).await.unwrap_or_else(|fault| {
            warn!(message = %ticket.id, %fault, "policy did not judge the attempt");
            AttemptAnswer::default()
        })
    }

    fn advise(&self, advice: Vec<LaneAdvice>) {
        for LaneAdvice { destination, pause, max_concurrent, valid } in advice {
            if let Some(pause) = pause {
                let pause = pause.min(LONGEST_ADVICE);
                info!(destination, ?pause, "policy pauses a destination");
                let why = "policy asked for a pause".to_owned();
                self.parts.queue.pause(&destination, pause, why);
            }
            if let Some(most) = max_concurrent {
                let valid = valid.min(LONGEST_ADVICE);
                info!(destination, most, ?valid, "policy limits the attempts at once");
                self.parts.queue.limit(&destination, most, valid);
            }
        }
    }

    /// True when the message was rerouted as often as it may be.
    fn is_worn_out(&self, ticket: &Ticket) -> bool {
        let stored = self.parts.queue.show(ticket.id).map(|entry| entry.reroutes);
        stored.unwrap_or(ticket.entry.reroutes) as usize >= MAX_REROUTES
    }

    fn apply(
        &self,
        ticket: &Ticket,
        plans: &mut [Plan],
        remedies: Vec<(u32, Remedy)>,
        worn_out: bool,
    ) {
        let mut remedies: HashMap<u32, Remedy> = remedies.into_iter().collect();
        for (recipient, plan) in ticket.recipients.iter().zip(plans) {
            // Who was delivered stays delivered.
            let why = match &plan.outcome {
                Some(Outcome::Deferred(why) | Outcome::Bounced(why) | Outcome::Unknown(why)) => why,
                _ => continue,
            };
            let Some(remedy) = remedies.remove(&recipient.recipient.id) else { continue };
            plan.settled = match remedy {
                Remedy::RetryAt(at) => {
                    Settled::Again { at: self.legal_moment(at, ticket), why: why.clone() }
                }
                Remedy::Reroute(_) if worn_out => Settled::Held(format!(
                    "policy rerouted the message {MAX_REROUTES} times, no more"
                )),
                Remedy::Reroute(way) => match self.rerouted(ticket, recipient, &way, why) {
                    Some(settled) => settled,
                    None => continue,
                },
                Remedy::Fail(reply) => {
                    Settled::Done(Outcome::Bounced(Why::Policy(reply.into_reply()).bounded()))
                }
                Remedy::Drop(reason) => {
                    plan.dropped = Some(reason);
                    Settled::Done(Outcome::Deleted)
                }
                Remedy::Hold(reason) => Settled::Held(reason),
            };
        }
    }

    /// Another way for a recipient; nothing when the configuration lacks what it names, which leaves
    /// what the host planned.
    fn rerouted(
        &self,
        ticket: &Ticket,
        recipient: &RecipientEntry,
        way: &Way,
        why: &Why,
    ) -> Option<Settled> {
        let (message, rcpt) = (ticket.id, &recipient.recipient.mailbox);
        match self.parts.intake.lower(way, rcpt.domain(), message) {
            Ok(route) => {
                let route = Route { fixed: true, ..route };
                let now = self.parts.clock.now();
                let at = way.not_before.filter(|moment| *moment > now);
                let at = at.map_or(now, |moment| self.legal_moment(moment, ticket));
                Some(Settled::Rerouted { route, at, why: why.clone() })
            }
            Err(unknown) => {
                warn!(%message, %rcpt, %unknown, "policy's other way cannot be gone");
                None
            }
        }
    }
}
