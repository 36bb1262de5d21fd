//! Which recipients somebody has in hand. Knows neither tasks nor storage.

use std::collections::{HashMap, HashSet};

use waypost_mail::MessageId;

/// Who is in hand, message by message. Lives in memory only.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    busy: HashMap<MessageId, Busy>,
}

#[derive(Debug, Default)]
struct Busy {
    recipients: HashSet<u32>,
    readers: usize,
    /// Rises whenever recipients are given back, that is, after their state may have changed.
    generation: u64,
}

/// A read of a message's state from the spool that is under way.
#[derive(Debug)]
#[must_use]
pub(crate) struct Reading {
    id: MessageId,
    generation: u64,
}

impl Leases {
    /// A state of `id` is about to be read from the spool.
    pub(crate) fn begin_read(&mut self, id: MessageId) -> Reading {
        let busy = self.busy.entry(id).or_default();
        busy.readers += 1;
        Reading { id, generation: busy.generation }
    }

    /// The state was read. False when recipients were given back in the meantime: what was read may
    /// show them as they were before, and must not be used to lease anybody.
    pub(crate) fn end_read(&mut self, reading: Reading) -> bool {
        let Some(busy) = self.busy.get_mut(&reading.id) else { return false };
        let fresh = busy.generation == reading.generation;
        busy.readers -= 1;
        self.forget_if_idle(reading.id);
        fresh
    }

    /// Puts recipients in somebody's hand.
    pub(crate) fn lease(&mut self, id: MessageId, recipients: impl Iterator<Item = u32>) {
        self.busy.entry(id).or_default().recipients.extend(recipients);
    }

    /// They are in nobody's hand any more.
    pub(crate) fn give_back(&mut self, id: MessageId, recipients: impl Iterator<Item = u32>) {
        if let Some(busy) = self.busy.get_mut(&id) {
            busy.generation += 1;
            for recipient in recipients {
                busy.recipients.remove(&recipient);
            }
            self.forget_if_idle(id);
        }
    }

    /// The recipients of this message that are in somebody's hand, if any.
    pub(crate) fn of(&self, id: MessageId) -> Option<&HashSet<u32>> {
        self.busy.get(&id).map(|busy| &busy.recipients)
    }

    fn forget_if_idle(&mut self, id: MessageId) {
        let idle = |busy: &Busy| busy.recipients.is_empty() && busy.readers == 0;
        if self.busy.get(&id).is_some_and(idle) {
            self.busy.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: MessageId = MessageId(1);

    #[test]
    fn a_read_is_stale_after_recipients_came_back() {
        let mut leases = Leases::default();
        leases.lease(ID, [1, 2].into_iter());
        let (early, late) = (leases.begin_read(ID), leases.begin_read(ID));
        assert!(leases.end_read(early));
        leases.give_back(ID, [1, 2].into_iter());
        assert!(!leases.end_read(late));
        let again = leases.begin_read(ID);
        assert!(leases.end_read(again));
        assert!(leases.busy.is_empty(), "nothing is remembered of idle messages");
    }

    #[test]
    fn only_what_is_given_back_is_free() {
        let mut leases = Leases::default();
        leases.lease(ID, 0..3);
        leases.give_back(ID, [1].into_iter());
        assert_eq!(leases.of(ID), Some(&HashSet::from([0, 2])));
        assert_eq!(leases.of(MessageId(2)), None);
    }
}
