//! What senders are told, and whether it is so.

use waypost_mail::{MessageId, Outcome, RecipientState, Timestamp};

use super::tale::{Part, Tale};
use super::{Book, Law, Lawful, demand};
use crate::notice;
use crate::relay::DELAY_NOTICES;
use crate::witness::Letter;

/// A settlement, as the spool is asked for it.
#[derive(Debug, Clone, Copy)]
pub struct Settling<'a> {
    /// The message.
    pub id: MessageId,
    /// Recipients and their new states.
    pub states: &'a [(u32, RecipientState)],
    /// Recipients of whose delay the sender is told, and how often that was.
    pub told: &'a [(u32, u8)],
    /// The notice.
    pub notice: Option<&'a Letter>,
    /// The time of day; absent once the clock was set.
    pub now: Option<Timestamp>,
}

impl Settling<'_> {
    fn state(&self, recipient: u32) -> Option<&RecipientState> {
        self.states.iter().find(|(id, _)| *id == recipient).map(|(_, state)| state)
    }

    fn bounces(&self, recipient: u32) -> bool {
        matches!(self.state(recipient), Some(RecipientState::Done(Outcome::Bounced(_))))
    }

    /// Recipients that bounce.
    pub fn bounced(&self) -> Vec<u32> {
        self.states.iter().map(|(id, _)| *id).filter(|id| self.bounces(*id)).collect()
    }
}

impl Book {
    /// A settlement tells the sender what is so, and what the sender wants to hear.
    ///
    /// # Errors
    /// When it does not.
    pub fn check_notice(&self, settling: Settling<'_>) -> Lawful {
        let id = settling.id;
        let Some(tale) = self.tales.get(&id) else { return Ok(()) };
        let all = settling.notice.map(|letter| notice::told(&letter.content)).unwrap_or_default();
        demand(Law::NoticesAreTrue, settling.notice.is_none() || tale.has_sender, || {
            format!("{id} has no sender, who is told of {all:?}")
        })?;
        let told = settling.told;
        demand(Law::NoticesAreTrue, told.is_empty() || tale.has_sender, || {
            format!("{id} has no sender, who is told of {told:?}")
        })?;
        demand(Law::NoticesAreTrue, settling.notice.is_none() || !all.is_empty(), || {
            format!("a notice about {id} tells nothing")
        })?;
        for (address, action) in &all {
            let part = tale.parts.iter().find(|(_, part)| part.mailbox.to_string() == *address);
            let is_true = part.is_some_and(|(n, part)| is_true(&settling, *n, part, action));
            demand(Law::NoticesAreTrue, is_true, || {
                format!("{address} of {id} is told of as {action}, in {settling:?}")
            })?;
        }
        for (recipient, part) in &tale.parts {
            let told = all.get(&part.mailbox.to_string()).map(String::as_str);
            let must = settling.bounces(*recipient) && tale.has_sender && part.notify.on_failure();
            demand(Law::BounceIsTold, !must || told == Some("failed"), || {
                format!("{recipient} of {id} bounces, the sender is told: {told:?}")
            })?;
        }
        self.check_delays(settling, tale)
    }

    fn check_delays(&self, settling: Settling<'_>, tale: &Tale) -> Lawful {
        let id = settling.id;
        for (recipient, count) in settling.told {
            let Some(part) = tale.parts.get(recipient) else { continue };
            let (known, count) = (part.told, *count);
            demand(Law::NoticesAreTrue, count > known, || {
                format!("{recipient} of {id} is told of again: {known} and {count}")
            })?;
            let delay = DELAY_NOTICES.get(usize::from(count).saturating_sub(1));
            let due = delay.map(|delay| tale.received.after(*delay));
            let early = settling.now.is_some_and(|now| due.is_none_or(|due| due > now));
            demand(Law::NoticesAreTrue, !early, || {
                format!("{recipient} of {id} is told of as late for the {count}. time")
            })?;
        }
        Ok(())
    }

    /// A settlement was written, and with it what was told.
    pub fn told(&mut self, id: MessageId, told: &[(u32, u8)]) {
        for (recipient, count) in told {
            self.part(id, *recipient, |part| part.told = part.told.max(*count));
        }
    }
}

/// True when what is told of a recipient is what happens to it, and the sender wants to hear of it.
fn is_true(settling: &Settling<'_>, recipient: u32, part: &Part, action: &str) -> bool {
    let state = settling.state(recipient);
    match action {
        "failed" => settling.bounces(recipient) && part.notify.on_failure(),
        "relayed" => {
            let taken = matches!(state, Some(RecipientState::Done(Outcome::Delivered { .. })));
            taken && part.taken > 0 && part.notify.on_success()
        }
        "delayed" => {
            let over = state.is_some_and(RecipientState::is_done);
            let told = settling.told.iter().any(|(told, _)| *told == recipient);
            !over && told && part.notify.on_delay()
        }
        _ => false,
    }
}
