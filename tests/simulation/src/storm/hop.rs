//! Tickets, attempts and what they come to.

use std::task::Poll;

use waypost_mail::{Clock, Outcome, RecipientState, Timestamp, Why};
use waypost_queue::{Settled, Settlement, Ticket};
use waypost_smtp::Phase;
use waypost_smtp::server::Question;

use super::{Storm, content, poll};
use crate::attempt::{Attempt, Deed, Mood, Settling, fates, notice, reroute, untried};
use crate::book::{Law, Lawful, Standing, demand};
use crate::dialogue::{Event, Report};
use crate::relay::{DAYTIME, PER_DESTINATION, PER_TICKET, SLOW, SLOW_DOMAIN};
use crate::visit::DOMAINS;

impl Storm {
    /// Takes what is due, if anything is, and begins an attempt.
    pub(super) async fn take_ticket(&mut self) -> Lawful {
        let Some(relay) = &self.relay else { return Ok(()) };
        let next = poll(std::pin::pin!(relay.queue.next()));
        let Poll::Ready(Some(ticket)) = next else { return Ok(()) };
        let now = self.ground.clock.now();
        let (id, count) = (ticket.id, ticket.recipients.len());
        self.last += 1;
        self.story.tell(format_args!("attempt {}: {id}, {count} recipients", self.last));
        demand(Law::Limits, count <= PER_TICKET, || format!("{count} recipients in a ticket"))?;
        check_class(&mut self.begun, &ticket, now)?;
        for recipient in &ticket.recipients {
            let number = recipient.recipient.id;
            self.book.leased(id, number, &recipient.state, ticket.expired, now)?;
        }
        use rand::Rng;
        if !self.calm && self.random.random_bool(0.03) {
            self.story.tell("the attempt's task dies");
            self.drop_ticket(ticket);
            return Ok(());
        }
        let decided = untried(&ticket);
        let octets = content(relay, id);
        if decided.len() == count {
            return self.settle(ticket, decided, &octets.unwrap_or_default()).await;
        }
        let octets = match octets {
            Ok(octets) => octets,
            Err(error) => {
                demand(Law::ContentIsWhole, self.is_excused(), || error.to_string())?;
                let why = Why::Unreadable(error.to_string());
                return self.put_off(ticket, decided, why).await;
            }
        };
        let tale = self.book.tale(id).map(|tale| tale.content.clone()).unwrap_or_default();
        demand(Law::ContentIsWhole, octets.ends_with(&tale), || format!("{id} has changed"))?;
        let mood = self.mood(&ticket.destination);
        if mood == Mood::Away {
            relay.queue.rest(&ticket.destination, "it is away".to_owned());
            let (hop, error) = ("hop.example".to_owned(), "away".to_owned());
            return self.put_off(ticket, decided, Why::Unreachable { hop, error }).await;
        }
        let attempt = Attempt::new(self.last, ticket, decided, octets, mood, now);
        self.attempts.push(attempt);
        Ok(())
    }

    /// True where storage, and not a bug, may be why something cannot be read.
    fn is_excused(&self) -> bool {
        let failed = self.relay.as_ref().is_some_and(|relay| relay.spool.failure().is_some());
        failed || self.book.hurt || self.ground.disk.ended().is_some()
    }

    fn mood(&self, destination: &str) -> Mood {
        let at = DOMAINS.iter().position(|domain| *domain == destination);
        at.map_or(Mood::Well, |at| self.moods[at])
    }

    /// A task is gone with its ticket, perhaps after the next hop took the message.
    pub(super) fn drop_ticket(&mut self, ticket: Ticket) {
        for recipient in &ticket.recipients {
            self.book.excuse(ticket.id, recipient.recipient.id);
            self.book.give_back(ticket.id, recipient.recipient.id);
        }
        drop(ticket);
    }

    pub(super) async fn advance_attempt(&mut self) -> Lawful {
        use rand::Rng;
        if self.attempts.is_empty() {
            return self.take_ticket().await;
        }
        let at = self.random.random_range(0..self.attempts.len());
        if !self.calm && self.random.random_bool(0.01) {
            self.story.tell("an attempt's task dies");
            let Attempt { ticket, .. } = self.attempts.swap_remove(at);
            self.drop_ticket(ticket);
            return Ok(());
        }
        if self.attempts[at].hangs() {
            if self.ground.clock.now() < self.attempts[at].patience {
                return Ok(());
            }
            let attempt = self.attempts.swap_remove(at);
            return self.lose(attempt).await;
        }
        for _ in 0..12 {
            let attempt = &mut self.attempts[at];
            match attempt.dialogue.advance(&mut self.random) {
                Event::Moved => {}
                Event::Chunk(chunk) => attempt.gather(&chunk),
                Event::Discard => attempt.discard(),
                Event::Asked(question) => {
                    if self.answer(at, question)? {
                        let attempt = self.attempts.swap_remove(at);
                        return self.lose(attempt).await;
                    }
                }
                Event::Reported(report) => {
                    let attempt = self.attempts.swap_remove(at);
                    return self.finish(attempt, report).await;
                }
                Event::Idle | Event::Over => {
                    let attempt = self.attempts.swap_remove(at);
                    return self.lose(attempt).await;
                }
            }
        }
        Ok(())
    }

    /// The next hop answers; true when the connection is lost instead.
    fn answer(&mut self, at: usize, question: Question) -> Result<bool, crate::book::Violation> {
        let attempt = &mut self.attempts[at];
        let id = attempt.ticket.id;
        let (taken, lost) = match attempt.answer(question, &mut self.random) {
            Deed::Answered => return Ok(false),
            Deed::Took(taken) => (taken, false),
            Deed::Dropped(taken) => (taken, true),
        };
        self.story.tell(format_args!("{id} is taken for {taken:?}, lost: {lost}"));
        let whole = attempt.received() == &attempt.content[..];
        demand(Law::ContentIsWhole, whole, || format!("{id} arrives changed"))?;
        for recipient in taken {
            self.book.taken(id, recipient)?;
            if lost {
                // RFC 1047: it comes again.
                self.book.excuse(id, recipient);
            }
        }
        Ok(lost)
    }

    /// The connection is lost.
    async fn lose(&mut self, attempt: Attempt) -> Lawful {
        let Attempt { ticket, dialogue, members, decided, content, .. } = attempt;
        let nothing =
            || Report { token: 0, results: vec![None; members.len()], phase: Phase::Greeting };
        let report = dialogue.cut().unwrap_or_else(nothing);
        self.conclude(ticket, decided, &members, report, &content).await
    }

    async fn finish(&mut self, attempt: Attempt, report: Report) -> Lawful {
        let Attempt { ticket, members, decided, content, .. } = attempt;
        self.conclude(ticket, decided, &members, report, &content).await
    }

    async fn conclude(
        &mut self,
        ticket: Ticket,
        mut states: Vec<(u32, Settled)>,
        members: &[(u32, waypost_smtp::Mailbox)],
        report: Report,
        content: &[u8],
    ) -> Lawful {
        let Some(relay) = &self.relay else { return Ok(()) };
        let again = |id: u32| retry_at(relay, &ticket, id);
        states.extend(fates(members, report, again));
        if !self.calm && ticket.entry.reroutes < 5 {
            reroute(&mut states, &mut self.random);
        }
        for (recipient, state) in &states {
            if let Settled::Done(Outcome::Delivered { .. }) = state {
                self.book.counts_as_delivered(ticket.id, *recipient)?;
            }
        }
        self.settle(ticket, states, content).await
    }

    /// Nothing can be sent now.
    async fn put_off(
        &mut self,
        ticket: Ticket,
        mut states: Vec<(u32, Settled)>,
        why: Why,
    ) -> Lawful {
        let Some(relay) = &self.relay else { return Ok(()) };
        for recipient in &ticket.recipients {
            let id = recipient.recipient.id;
            if !states.iter().any(|(known, _)| *known == id) {
                let at = retry_at(relay, &ticket, id);
                states.push((id, Settled::Again { at, why: why.clone() }));
            }
        }
        self.settle(ticket, states, b"").await
    }

    /// Hands the outcome to the queue, with the notice it causes.
    async fn settle(
        &mut self,
        ticket: Ticket,
        states: Vec<(u32, Settled)>,
        content: &[u8],
    ) -> Lawful {
        let Some(relay) = &self.relay else { return Ok(()) };
        let now = self.ground.clock.now();
        let mut told = None;
        let mut prepared = None;
        if let Some((text, about)) = notice(&ticket, &states, content, now) {
            prepared = relay.intake.notice(text).await;
            told = prepared.as_ref().map(|notice| (notice.id(), about));
        }
        let id = ticket.id;
        let notice = told.map(|(notice, about)| {
            self.book.notice(notice, id, about);
            self.book.stands(notice, Standing::Coming);
            notice
        });
        let labels: Vec<_> = states.iter().map(|(id, state)| (id, label(state))).collect();
        self.story.tell(format_args!("{id} settles as {labels:?}, notice {notice:?}"));
        let recipients = ticket.recipients.iter().map(|r| r.recipient.id).collect();
        let destination = Some(ticket.destination.clone());
        let settlement =
            Settlement { states: states.clone(), notice: prepared, told: ticket.late.clone() };
        let queue = relay.queue.clone();
        let future = Box::pin(async move { queue.settle(ticket, settlement).await });
        self.hear_settled(Settling { id, states, recipients, notice, destination, future })
    }
}

/// The slow class keeps to its hours and to its rate.
fn check_class(begun: &mut Vec<Timestamp>, ticket: &Ticket, now: Timestamp) -> Lawful {
    let sender = ticket.entry.sender.mailbox();
    let slow = sender.is_some_and(|sender| sender.domain().name() == Some(SLOW_DOMAIN));
    if !slow || ticket.expired {
        return Ok(());
    }
    demand(Law::NotTooEarly, DAYTIME.next(now) == now, || format!("an attempt at {now}"))?;
    begun.push(now);
    // A class gives leave when a destination has a slot; who has leave may begin later.
    let on_leave = PER_DESTINATION * DOMAINS.len();
    let per_token = SLOW.per.as_secs_f64() / f64::from(SLOW.count);
    for (at, since) in begun.iter().enumerate() {
        let (count, time) = (begun.len() - at, now.since(*since).as_secs_f64());
        let most = f64::from(SLOW.count) + on_leave as f64 + time / per_token;
        demand(Law::Limits, count as f64 <= most + 0.01, || {
            format!("{count} attempts of a class within {time} s")
        })?;
    }
    Ok(())
}

fn retry_at(relay: &crate::relay::Relay, ticket: &Ticket, recipient: u32) -> Timestamp {
    let entry = ticket.recipients.iter().find(|r| r.recipient.id == recipient);
    let tries = match entry.map(|entry| &entry.state) {
        Some(RecipientState::Waiting { tries, .. }) => *tries,
        _ => 0,
    };
    relay.queue.retry_at(ticket, tries + 1).min(ticket.entry.expires)
}

fn label(state: &Settled) -> &'static str {
    match state {
        Settled::Done(outcome) => outcome.label(),
        Settled::Again { .. } => "again",
        Settled::Rerouted { .. } => "rerouted",
        _ => "otherwise",
    }
}
