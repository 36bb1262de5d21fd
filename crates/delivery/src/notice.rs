//! What the sender is told of what came of a ticket: failures, delays, and hops that tell nothing more.

use std::collections::BTreeSet;

use bytes::Bytes;
use tracing::warn;
use waypost_intake::Notice;
use waypost_mail::dsn::{Action, Report, StatusNotice};
use waypost_mail::header::{MAX_HEADER, header_len};
use waypost_mail::{Outcome, RecipientEntry, RecipientState, Terms};
use waypost_mutant::planted;
use waypost_queue::{Doubt, Prepared, Settled, Ticket};
use waypost_smtp::{ByMode, Notify};

use crate::Delivery;
use crate::connection::Promise;
use crate::settle::Plan;

impl Delivery {
    /// The notice about a ticket's recipients, through the same door as any mail.
    pub(crate) async fn notice(
        &self,
        ticket: &Ticket,
        plans: &[Plan],
        promises: &[Option<Promise>],
    ) -> Option<Prepared> {
        let both = ticket.recipients.iter().zip(plans.iter().zip(promises));
        let reports: Vec<Report> = both
            .filter_map(|(recipient, (plan, promise))| {
                let action = action(ticket, recipient, plan, *promise)?;
                Some(Report { recipient: recipient.clone(), action })
            })
            .collect();
        if reports.is_empty() {
            return None;
        }
        let entry = &*ticket.entry;
        let most = self.config.max_returned;
        let whole = match StatusNotice::returns_all(entry, &reports, most) {
            true => self.start(ticket, most as usize).await,
            false => None,
        };
        let original_header = match &whole {
            Some(whole) => header_of(whole),
            None => self.start(ticket, MAX_HEADER).await.map(|start| header_of(&start))?,
        };
        let reporting_mta = self.config.ehlo_name.to_string();
        let notice = StatusNotice {
            entry,
            reports: &reports,
            reporting_mta: &reporting_mta,
            now: self.parts.clock.now(),
            original_header: &original_header,
            original: whole.as_deref(),
        };
        let Some(notice) = notice.compose() else {
            warn!(message = %ticket.id, "a message from the null sender bounced: dropped");
            return None;
        };
        let notice = Notice {
            to: notice.to,
            header: notice.header,
            body: notice.body,
            about: ticket.id,
            require_tls: entry.terms.require_tls,
            priority: entry.terms.priority,
        };
        self.parts.intake.notice(notice).await
    }

    /// The beginning of the stored message; what cannot be read is left out of the notice.
    async fn start(&self, ticket: &Ticket, most: usize) -> Option<Bytes> {
        let start = match self.content(&ticket.entry).await {
            Ok(content) => content.read_at(0, most),
            Err(error) => Err(error),
        };
        Some(start.unwrap_or_else(|error| {
            warn!(message = %ticket.id, %error, "the notice goes without the original header");
            Bytes::new()
        }))
    }
}

fn header_of(start: &Bytes) -> Bytes {
    start.slice(..header_len(start).unwrap_or(start.len()))
}

/// What a notice tells of, in a word each.
pub(crate) fn kinds(ticket: &Ticket, plans: &[Plan], promises: &[Option<Promise>]) -> Vec<String> {
    let both = ticket.recipients.iter().zip(plans.iter().zip(promises));
    let actions = both.filter_map(|(one, (plan, promise))| action(ticket, one, plan, *promise));
    let words: BTreeSet<&str> = actions.map(|action| action.word()).collect();
    words.into_iter().map(str::to_owned).collect()
}

/// What the sender is told of one recipient, if anything (RFC 3461 §5.2, RFC 2852 §4).
fn action(
    ticket: &Ticket,
    recipient: &RecipientEntry,
    plan: &Plan,
    promise: Option<Promise>,
) -> Option<Action> {
    let notify = recipient.recipient.notify;
    match &plan.settled {
        Settled::Done(Outcome::Bounced(why))
            if notify.on_failure() || planted!("who wants to hear nothing is told") =>
        {
            Some(Action::Failed(why.clone()))
        }
        Settled::Done(Outcome::Delivered { hop, reply, .. })
            if ends_here(notify, &ticket.entry.terms, promise?) =>
        {
            let (hop, reply) = (hop.clone(), reply.clone());
            Some(match promise?.stores {
                true => Action::Delivered { hop, reply },
                false => Action::Relayed { hop, reply },
            })
        }
        Settled::Done(Outcome::Unknown(why))
            if plan.doubt == Doubt::Bounce && notify.on_failure() =>
        {
            Some(Action::Failed(why.clone()))
        }
        Settled::Done(_) | Settled::Held(_) | Settled::Doomed(_) => None,
        Settled::Again { why, .. }
        | Settled::Rested { why, .. }
        | Settled::Rerouted { why, .. } => {
            is_late(ticket, recipient).then(|| Action::Delayed(Some(why.clone())))
        }
        Settled::Later { .. } | Settled::Routed { .. } => {
            let last = match &recipient.state {
                RecipientState::Waiting { last, .. } => last.clone(),
                _ => None,
            };
            is_late(ticket, recipient).then_some(Action::Delayed(last))
        }
    }
}

fn is_late(ticket: &Ticket, recipient: &RecipientEntry) -> bool {
    ticket.late.iter().any(|(id, _)| *id == recipient.recipient.id)
}

/// True when the sender wanted to hear more than the host that took the message will tell: of
/// success (RFC 3461 §5.2.2), of a deadline (RFC 2852 §4.2), or of each such host.
fn ends_here(notify: Notify, terms: &Terms, promise: Promise) -> bool {
    let traced = terms.deliver_by.is_some_and(|by| by.trace || by.mode == ByMode::Notify);
    let deadline = traced && !promise.deliver_by && notify != Notify::Never;
    let wanted = notify.on_success() || planted!("success is told to who did not ask");
    deadline || (wanted && !promise.dsn)
}

#[cfg(test)]
mod tests {
    use waypost_mail::{Deadline, Timestamp};

    use super::*;

    #[test]
    fn what_a_host_does_not_know_it_will_not_tell() {
        let wanted = Notify::Of { success: true, failure: true, delay: true };
        let plain = Terms::default();
        let promise = |dsn, deliver_by| Promise { dsn, deliver_by, stores: false };
        assert!(ends_here(wanted, &plain, promise(false, false)));
        assert!(!ends_here(wanted, &plain, promise(true, false)));
        assert!(!ends_here(Notify::Unsaid, &plain, promise(false, false)));
        let by = |mode, trace| {
            let deliver_by = Some(Deadline { at: Timestamp(1), mode, trace });
            Terms { deliver_by, ..Terms::default() }
        };
        let traced = by(ByMode::Return, true);
        assert!(ends_here(Notify::Unsaid, &traced, promise(true, false)));
        assert!(!ends_here(Notify::Unsaid, &traced, promise(true, true)));
        assert!(!ends_here(Notify::Never, &traced, promise(false, false)));
        assert!(ends_here(Notify::Unsaid, &by(ByMode::Notify, false), promise(true, false)));
        assert!(!ends_here(Notify::Unsaid, &by(ByMode::Return, false), promise(true, false)));
    }
}
