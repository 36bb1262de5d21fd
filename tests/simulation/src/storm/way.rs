//! The way out: tickets, attempts, next hops.

use std::task::Poll;

use rand::Rng;
use waypost_mail::{Clock, MessageId, RecipientState, Timestamp};
use waypost_queue::Ticket;
use waypost_smtp::ReversePath;

use super::{Storm, poll};
use crate::attempt::Attempt;
use crate::book::{Law, Lawful, demand};
use crate::hop::{Deed, Hop};
use crate::relay::{DAYTIME, PER_TICKET, SLOW, SLOW_DOMAIN};

impl Storm {
    /// Takes what is due, if anything is, and begins an attempt.
    pub(super) fn take_ticket(&mut self) -> Lawful {
        let Some(relay) = &self.relay else { return Ok(()) };
        let next = poll(std::pin::pin!(relay.queue.next()));
        let Poll::Ready(Some(ticket)) = next else { return Ok(()) };
        let delivery = relay.delivery.clone();
        self.last += 1;
        let (name, now) = (self.last, self.ground.clock.now());
        let (id, count, late) = (ticket.id, ticket.recipients.len(), ticket.late.len());
        let out_of_turn = ticket.out_of_turn;
        self.story.tell(format_args!(
            "attempt {name}: {id}, {count} recipients, {late} late, out of turn: {out_of_turn}"
        ));
        demand(Law::Limits, count <= PER_TICKET, || format!("{count} recipients in a ticket"))?;
        check_class(&mut self.begun, &ticket, now)?;
        for recipient in &ticket.recipients {
            let number = recipient.recipient.id;
            let excused = ticket.expired || ticket.late.iter().any(|(late, _)| *late == number);
            self.book.leased(id, number, &recipient.state, excused, now)?;
        }
        self.attempts.push(Attempt::new(name, ticket, delivery, now));
        Ok(())
    }

    /// Next hops and their connections go on; now and then a task dies.
    pub(super) fn advance_attempts(&mut self) -> Lawful {
        if self.attempts.is_empty() {
            return self.take_ticket();
        }
        if !self.calm && self.random.random_bool(0.02) {
            self.kill_attempt();
        }
        let all = self.calm || self.random.random_bool(0.3);
        for _ in 0..self.random.random_range(1..8) {
            for hop in std::mem::take(&mut self.hops) {
                match all || self.random.random() {
                    true => self.advance_hop(hop)?,
                    false => self.hops.push(hop),
                }
            }
            self.hear_attempts()?;
        }
        Ok(())
    }

    fn advance_hop(&mut self, mut hop: Hop) -> Lawful {
        let mood = self.ground.net.mood(hop.host);
        let mut deed = hop.advance(mood, &mut self.random);
        if let Deed::Took { named, body } = &deed {
            let id = self.book.find(body);
            self.story.tell(format_args!("host {} takes {id:?} for {}", hop.host, named.len()));
            let Some(id) = id else {
                return demand(Law::ContentIsWhole, false, || {
                    format!("nobody has sent this: {:?}", String::from_utf8_lossy(body))
                });
            };
            let taken: Vec<u32> =
                named.iter().filter_map(|mailbox| self.book.recipient(id, mailbox)).collect();
            demand(Law::ContentIsWhole, taken.len() == named.len(), || {
                format!("{id} comes for {named:?}")
            })?;
            for recipient in &taken {
                self.book.taken(id, *recipient)?;
                let mut attempts = self.attempts.iter().filter(|attempt| attempt.id == id);
                let untried = attempts.find(|attempt| attempt.untried.contains(recipient));
                demand(Law::NotTooEarly, untried.is_none(), || {
                    format!("{recipient} of {id} is tried, and was here to be told of or to bounce")
                })?;
            }
            hop.took(id, &taken, mood, &mut self.random);
        }
        // An idle connection costs the other side as well.
        if matches!(deed, Deed::Waited) && !self.calm && self.random.random_bool(0.005) {
            deed = hop.hang_up();
        }
        match deed {
            Deed::Over(unheard) => {
                self.story.tell(format_args!("host {}: over, unheard {unheard:?}", hop.host));
                self.unheard(unheard);
            }
            _ => self.hops.push(hop),
        }
        Ok(())
    }

    /// What was taken, and nobody heard of, comes again (RFC 1047).
    pub(super) fn unheard(&mut self, unheard: Vec<(MessageId, u32)>) {
        unheard.into_iter().for_each(|(id, recipient)| self.book.excuse(id, recipient));
    }

    /// A task is gone, perhaps after the next hop took the message. A settlement that was begun goes on by
    /// itself.
    fn kill_attempt(&mut self) {
        let at = self.random.random_range(0..self.attempts.len());
        let attempt = self.attempts.swap_remove(at);
        self.story.tell(format_args!("attempt {} dies", attempt.name));
        for recipient in &attempt.recipients {
            self.book.excuse(attempt.id, *recipient);
        }
        match attempt.settling {
            Some(number) => {
                self.orphans.insert(number, (attempt.id, attempt.recipients));
            }
            None => self.give_back(attempt.id, &attempt.recipients),
        }
    }

    /// The program's tasks go on.
    pub(super) fn hear_attempts(&mut self) -> Lawful {
        let mut at = 0;
        while let Some(attempt) = self.attempts.get_mut(at) {
            let is_over = poll(attempt.future.as_mut()).is_ready();
            self.hear_spool(Some(at))?;
            if is_over {
                let attempt = self.attempts.remove(at);
                self.story.tell(format_args!("attempt {} is over", attempt.name));
                self.give_back(attempt.id, &attempt.recipients);
            } else {
                at += 1;
            }
        }
        for (host, wire) in self.ground.net.calls() {
            self.story.tell(format_args!("host {host} is called"));
            let mood = self.ground.net.mood(host);
            self.hops.push(Hop::new(host, wire, mood, &mut self.random));
        }
        Ok(())
    }

    pub(super) fn give_back(&mut self, id: MessageId, recipients: &[u32]) {
        recipients.iter().for_each(|recipient| self.book.give_back(id, *recipient));
    }
}

/// The slow class keeps to its hours and to its rate. What comes only to bounce, or so that its sender is
/// told, is no attempt.
fn check_class(begun: &mut Vec<Timestamp>, ticket: &Ticket, now: Timestamp) -> Lawful {
    let tried = ticket.recipients.iter().any(|recipient| match &recipient.state {
        RecipientState::Waiting { tries: 0, last: Some(why), .. } if why.is_permanent() => false,
        RecipientState::Waiting { due, .. } => *due <= now,
        _ => true,
    });
    if ticket.expired || ticket.out_of_turn || !tried {
        return Ok(());
    }
    check_class_of(begun, &ticket.entry.sender, now)
}

/// The same for an attempt at a message of this sender.
pub(super) fn check_class_of(
    begun: &mut Vec<Timestamp>,
    sender: &ReversePath,
    now: Timestamp,
) -> Lawful {
    let sender = sender.mailbox();
    if sender.is_none_or(|sender| sender.domain().name() != Some(SLOW_DOMAIN)) {
        return Ok(());
    }
    demand(Law::NotTooEarly, DAYTIME.next(now) == now, || format!("an attempt at {now}"))?;
    begun.push(now);
    let per_token = SLOW.per.as_secs_f64() / f64::from(SLOW.count);
    for (at, since) in begun.iter().enumerate() {
        let (count, time) = (begun.len() - at, now.since(*since).as_secs_f64());
        let most = f64::from(SLOW.count) + time / per_token;
        demand(Law::Limits, count as f64 <= most + 0.01, || {
            format!("{count} attempts of a class within {time} s")
        })?;
    }
    Ok(())
}
