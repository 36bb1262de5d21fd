//! What goes through: messages that are tried while their submitters wait.

use waypost_mail::{Clock, Entry, MessageId, Outcome, RecipientState};

use super::Storm;
use super::record::SESSION;
use super::way::check_class_of;
use crate::book::{Law, Lawful, demand};
use crate::gate::Begun;
use crate::relay::{PER_TICKET, Relay};
use crate::witness::Letter;

/// An attempt that somebody waits for. The program's task is its own.
#[derive(Debug)]
pub(super) struct Passage {
    id: MessageId,
    /// Where a slot is occupied.
    pub(super) destination: String,
    recipients: Vec<u32>,
    /// They are answered one by one.
    each: bool,
}

impl Storm {
    /// Takes note of what began, before anything follows from it.
    pub(super) fn hear_gate(&mut self) -> Lawful {
        let Some(relay) = &self.relay else { return Ok(()) };
        for Begun { letter, each } in relay.gate.begun() {
            let Entry { id, recipients, sender, received, .. } = &letter.entry;
            let (id, count, now) = (*id, recipients.len(), self.ground.clock.now());
            self.story.tell(format_args!("{id} goes through, {count} recipients"));
            demand(Law::Limits, count <= PER_TICKET, || format!("{count} recipients go through"))?;
            self.check_wanted(&letter)?;
            check_class_of(&mut self.begun, sender, now)?;
            let since = now.since(*received).min(SESSION);
            self.book.passing(&letter, self.lived.saturating_sub(since));
            let numbers: Vec<u32> = recipients.iter().map(|r| r.recipient.id).collect();
            for recipient in &numbers {
                self.book.take_in_hand(id, *recipient)?;
            }
            let first = recipients.first().and_then(|first| letter.entry.route_of(first));
            let destination = first.map(|route| route.destination()).unwrap_or_default();
            self.passages.push(Passage { id, destination, recipients: numbers, each });
        }
        Ok(())
    }

    /// What is left of a message that goes through is about to be kept. Who was refused is told by the reply, if
    /// it has one of its own, or bounces later.
    pub(super) fn left(&mut self, letter: &Letter) -> Lawful {
        let Letter { entry, .. } = letter;
        let each = self.passages.iter().any(|passage| passage.id == entry.id && passage.each);
        for recipient in &entry.recipients {
            let (number, state) = (recipient.recipient.id, &recipient.state);
            match state {
                RecipientState::Done(Outcome::Bounced(why)) => {
                    demand(Law::BounceIsTold, each && why.reply().is_some(), || {
                        format!("{number} of {} bounces, and nobody is told: {why}", entry.id)
                    })?;
                }
                state => self.check_end(entry.id, number, state)?,
            }
        }
        self.book.left(letter)
    }

    /// The program's tasks have gone on: some may be over.
    pub(super) fn hear_passages(&mut self) {
        let Some(relay) = &self.relay else { return };
        let all = std::mem::take(&mut self.passages);
        let (going, over) = all.into_iter().partition(|passage| is_under_way(relay, passage.id));
        self.passages = going;
        for Passage { id, recipients, .. } in over {
            self.story.tell(format_args!("{id} has gone through, or is kept"));
            self.give_back(id, &recipients);
            self.book.passed(id);
        }
    }
}

/// Somebody has it in hand: as what is not durable, or as what became so meanwhile.
fn is_under_way(relay: &Relay, id: MessageId) -> bool {
    let leased = || {
        let selector = format!("id:{id} state:in-flight").parse();
        selector.is_ok_and(|selector| relay.queue.count(&selector).recipients > 0)
    };
    relay.queue.is_passing(id) || leased()
}
