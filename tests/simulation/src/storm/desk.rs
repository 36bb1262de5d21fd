//! Operators and their orders; the house's own facts.

use std::task::Poll;

use rand::Rng;
use waypost_mail::{MessageId, RecipientState};
use waypost_spool::Spool;

use super::{Storm, poll};
use crate::book::{Law, Lawful, Standing, demand};
use crate::order::{Order, Verb};

impl Storm {
    pub(super) fn order(&mut self) -> Lawful {
        let verb = Verb::any(&mut self.random);
        let ids = self.ids();
        if ids.is_empty() {
            return Ok(());
        }
        let id = ids[self.random.random_range(0..ids.len())];
        self.give(verb, id)
    }

    fn ids(&self) -> Vec<MessageId> {
        let Some(relay) = &self.relay else { return Vec::new() };
        self.ground.disk.observe(|| relay.spool.ids(None, usize::MAX)).unwrap_or_default()
    }

    pub(super) fn change_fact(&mut self) {
        let Some(relay) = &self.relay else { return };
        let story = self.facts.change(&relay.spool, &mut self.random);
        story.into_iter().for_each(|story| self.story.tell(story));
    }

    fn give(&mut self, verb: Verb, id: MessageId) -> Lawful {
        let Some(relay) = &self.relay else { return Ok(()) };
        let known = self.book.tale(id).is_some_and(|tale| tale.standing == Standing::Kept);
        let Ok(entry) = self.ground.disk.observe(|| relay.spool.load(id)) else { return Ok(()) };
        if !known {
            return Ok(());
        }
        self.story.tell(format_args!("order: {verb:?} {id}"));
        let free = |recipient| !self.book.has_in_hand(id, recipient);
        let mut order = Order::new(verb, &entry, free, relay);
        let answer = poll(order.future.as_mut());
        if answer.is_pending() {
            for (recipient, _) in &order.recipients {
                self.book.take_in_hand(id, *recipient)?;
            }
            self.orders.push(order);
        }
        self.deleting = Some(id).filter(|_| verb == Verb::Delete);
        let lawful = self.hear_spool(None);
        self.deleting = None;
        lawful
    }

    /// Orders that are carried out go on.
    pub(super) fn hear_orders(&mut self) -> Lawful {
        for mut order in std::mem::take(&mut self.orders) {
            let answer = poll(order.future.as_mut());
            self.hear_spool(None)?;
            match answer {
                Poll::Pending => self.orders.push(order),
                Poll::Ready(answer) => self.carried_out(&order, answer.is_ok())?,
            }
        }
        Ok(())
    }

    fn carried_out(&mut self, order: &Order, is_done: bool) -> Lawful {
        let Order { verb, id, recipients, .. } = order;
        self.story.tell(format_args!("{verb:?} {id}: {is_done}"));
        for (recipient, end) in recipients {
            self.book.give_back(*id, *recipient);
            let found = self.book.end(*id, *recipient);
            demand(Law::OrdersAreObeyed, !is_done || found == Some(*end), || {
                format!("{verb:?} was done, {recipient} of {id} is {found:?}")
            })?;
        }
        Ok(())
    }

    /// In the end nothing is kept back any more.
    pub(super) fn release_all(&mut self) -> Lawful {
        for id in self.ids() {
            let Some(relay) = &self.relay else { return Ok(()) };
            let entry = self.ground.disk.observe(|| relay.spool.load(id)).ok();
            let is_held = |state: &RecipientState| matches!(state, RecipientState::Held { .. });
            let held = entry.is_some_and(|e| e.recipients.iter().any(|r| is_held(&r.state)));
            if held {
                // What cannot be read any more is held again: it is deleted in the end.
                let verb = if self.book.hurt { Verb::Delete } else { Verb::Release };
                self.give(verb, id)?;
            }
        }
        Ok(())
    }
}
