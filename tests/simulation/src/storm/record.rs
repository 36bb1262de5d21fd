//! What the spool is asked, and what follows for the book.

use std::time::Duration;

use waypost_mail::{Clock, MessageId, Outcome, RecipientState, Timestamp, Why};
use waypost_spool::SpoolError;

use super::Storm;
use crate::book::{End, Law, Lawful, Settling, Standing, demand};
use crate::policy::{REFUSED, Wish};
use crate::visit::wish_of;
use crate::witness::{Asked, Letter, Note};

/// No session lasts longer.
pub(super) const SESSION: Duration = Duration::from_secs(4 * 3600);

impl Storm {
    /// Takes note of what the spool was asked and what it answered, while the task of an attempt went on or
    /// somebody else's.
    pub(super) fn hear_spool(&mut self, attempt: Option<usize>) -> Lawful {
        self.hear_gate()?;
        let Some(relay) = &self.relay else { return Ok(()) };
        for note in relay.witness.notes() {
            match note {
                Note::Asked(number, asked) => {
                    if let Some(attempt) = attempt.and_then(|at| self.attempts.get_mut(at)) {
                        attempt.settling = Some(number);
                    }
                    self.asked(&asked)?;
                    self.pending.insert(number, (asked, self.clock_sets));
                }
                Note::Answered(number, answer) => {
                    if let Some((asked, clock_sets)) = self.pending.remove(&number) {
                        self.answered(asked, &answer);
                        // Its moments are those of another clock.
                        if clock_sets != self.clock_sets {
                            self.book.clock_set();
                        }
                    }
                    if let Some((id, recipients)) = self.orphans.remove(&number) {
                        self.give_back(id, &recipients);
                    }
                }
            }
        }
        Ok(())
    }

    fn asked(&mut self, asked: &Asked) -> Lawful {
        match asked {
            Asked::Accept(letter) => self.coming(letter),
            Asked::Settle { id, states, told, notice } => {
                let now = (!self.is_clock_set).then(|| self.ground.clock.now());
                let notice = notice.as_deref();
                let settling = Settling { id: *id, states, told, notice, now };
                self.book.check_notice(settling)?;
                for (recipient, state) in states {
                    self.check_end(*id, *recipient, state)?;
                }
                let labels: Vec<_> = states.iter().map(|(n, state)| (n, label(state))).collect();
                let about = notice.map(|letter| letter.entry.id);
                self.story.tell(format_args!("{id} settles as {labels:?}, {told:?}, {about:?}"));
                if let Some(letter) = notice {
                    // What was unsure before may have ended in another way.
                    let mut about = settling.bounced();
                    about.retain(|recipient| self.book.end(*id, *recipient) != Some(End::Unsure));
                    self.book.coming(letter, Some((*id, about)), self.lived);
                }
                Ok(())
            }
            Asked::Remove(id) => {
                demand(Law::AcceptedIsKept, self.book.hurt, || format!("{id} is removed"))
            }
        }
    }

    fn coming(&mut self, letter: &Letter) -> Lawful {
        let (id, wish) = (letter.entry.id, wish_of(&letter.content));
        let count = letter.entry.recipients.len();
        self.story.tell(format_args!("{id} is taken for {count} recipients, {wish:?}"));
        if self.book.is_passing(id) {
            return self.left(letter);
        }
        self.check_wanted(letter)?;
        // It counts from MAIL on, not longer ago than a session lasts.
        let since = self.ground.clock.now().since(letter.entry.received).min(SESSION);
        self.book.coming(letter, None, self.lived.saturating_sub(since));
        if wish == Wish::Quarantine {
            self.book.quarantined(id);
        }
        let numbers = letter.entry.recipients.iter().map(|recipient| recipient.recipient.id);
        let policy = self.relay.as_ref().map(|relay| &relay.policy);
        for number in numbers.filter(|n| policy.is_some_and(|policy| policy.has_doomed(id, *n))) {
            self.book.doomed(id, number);
        }
        Ok(())
    }

    /// Policy has nothing against it, nor against any of its recipients.
    pub(super) fn check_wanted(&self, letter: &Letter) -> Lawful {
        let (id, wish) = (letter.entry.id, wish_of(&letter.content));
        let count = letter.entry.recipients.len();
        let unwanted = matches!(wish, Wish::Refuse | Wish::Fail | Wish::Discard);
        demand(Law::RefusedIsGone, !unwanted, || format!("{id} is kept, policy: {wish:?}"))?;
        demand(Law::Limits, count <= crate::relay::MAX_RECIPIENTS, || {
            format!("{id} has {count} recipients")
        })?;
        let mut recipients = letter.entry.recipients.iter();
        let refused = recipients.find(|r| r.recipient.mailbox.to_string().starts_with(REFUSED));
        demand(Law::RefusedIsGone, refused.is_none(), || format!("{id} is kept for {refused:?}"))
    }

    /// An outcome that is for good must be so.
    pub(super) fn check_end(
        &self,
        id: MessageId,
        recipient: u32,
        state: &RecipientState,
    ) -> Lawful {
        let RecipientState::Done(outcome) = state else { return Ok(()) };
        let just = match outcome {
            Outcome::Delivered { .. } => return self.book.counts_as_delivered(id, recipient),
            Outcome::Bounced(Why::Expired(_)) => {
                return self.book.check_age(id, self.lived);
            }
            Outcome::Bounced(why) => why.is_permanent(),
            Outcome::Deleted => {
                let policy = self.relay.as_ref().map(|relay| &relay.policy);
                let dropped = policy.is_some_and(|policy| policy.has_dropped(id, recipient));
                dropped || self.deleting == Some(id)
            }
            Outcome::Deferred(_) | Outcome::Unknown(_) => false,
        };
        demand(Law::EndsAreJust, just, || format!("{recipient} of {id} ends as {outcome:?}"))
    }

    fn answered(&mut self, asked: Asked, answer: &Result<(), SpoolError>) {
        let is_kept = answer.is_ok();
        let failed = self.relay.as_ref().is_some_and(|relay| relay.spool.failure().is_some());
        match asked {
            Asked::Accept(letter) => {
                let standing = match answer {
                    Ok(()) => Standing::Kept,
                    Err(_) if failed => Standing::Doubtful,
                    Err(_) => Standing::Refused,
                };
                let id = letter.entry.id;
                self.story.tell(format_args!("{id}: {standing:?}"));
                self.book.stands(id, standing);
                // Where it was tried before, its next hop may have it.
                let recipients = letter.entry.recipients.iter().filter(|_| !is_kept);
                recipients.for_each(|recipient| self.book.excuse(id, recipient.recipient.id));
            }
            Asked::Settle { id, states, told, notice } => {
                self.story.tell(format_args!("settled {id}: {is_kept}"));
                for (recipient, state) in &states {
                    self.book.give_back(id, *recipient);
                    if is_kept {
                        let (end, not_before) = end_of(state);
                        self.book.becomes(id, *recipient, end, not_before);
                    } else {
                        self.book.excuse(id, *recipient);
                        self.book.becomes(id, *recipient, End::Unsure, Timestamp(0));
                    }
                }
                if is_kept {
                    self.book.told(id, &told);
                }
                let standing = if is_kept { Standing::Kept } else { Standing::Doubtful };
                notice.into_iter().for_each(|notice| self.book.stands(notice.entry.id, standing));
            }
            Asked::Remove(id) if is_kept => self.book.removed(id),
            Asked::Remove(_) => {}
        }
    }
}

fn end_of(state: &RecipientState) -> (End, Timestamp) {
    match state {
        RecipientState::Waiting { due, .. } => (End::Open, *due),
        RecipientState::Held { .. } => (End::Held, Timestamp(0)),
        RecipientState::Done(_) => (End::Done, Timestamp(0)),
    }
}

fn label(state: &RecipientState) -> &'static str {
    match state {
        RecipientState::Waiting { .. } => "waiting",
        RecipientState::Held { .. } => "held",
        RecipientState::Done(outcome) => outcome.label(),
    }
}
