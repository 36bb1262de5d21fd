//! One seed: everything that can happen, in some order, one step at a time, and then calm.

mod hop;
mod weather;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use waypost_mail::{Clock, ManualClock, RecipientState, Timestamp};
use waypost_queue::{Selector, Settled};
use waypost_smtp::Phase;
use waypost_spool::Spool;

use crate::attempt::{Attempt, Mood, Settling};
use crate::book::{Book, End, Law, Lawful, Standing, Violation, demand};
use crate::dialogue::{Event, Report};
use crate::disk::{self, SimDisk};
use crate::facts::Facts;
use crate::order::{Order, Verb};
use crate::policy::Wish;
use crate::relay::{
    Ground, IN_FLIGHT, MAX_ERRORS, MAX_RECIPIENTS, MAX_SIZE, PER_DESTINATION, Relay,
};
use crate::rows::ModelPlace;
use crate::story::Story;
use crate::visit::{DOMAINS, Visit, token_of, wish_of};

/// Steps before it gets calm.
const STEPS: usize = 350;
/// Rounds in which everything must come to an end.
const CALM: usize = 6000;
/// What of recipients is counted.
const STANDINGS: [&str; 3] = ["state:waiting", "state:held", "state:in-flight"];
/// Sessions at once.
const VISITS: usize = 4;

/// What a seed came to.
#[derive(Debug)]
pub struct Outcome {
    /// The law that was broken, if one was.
    pub violation: Option<Violation>,
    /// The same for the same run.
    pub hash: u64,
    /// The last lines of the story.
    pub story: String,
    /// Messages accepted.
    pub accepted: usize,
    /// Recipients that next hops took.
    pub deliveries: u32,
    /// Starts after the first.
    pub restarts: usize,
}

/// Runs one seed. `whole` keeps the whole story.
pub fn run(seed: u64, whole: bool) -> Outcome {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let Ok(runtime) = runtime.enable_time().start_paused(true).build() else {
        unreachable!("a runtime without I/O")
    };
    // Budgets would make tasks give way at points that have nothing to do with the seed.
    runtime.block_on(tokio::task::unconstrained(async {
        let mut storm = Storm::new(seed, whole);
        let violation = storm.blow().await.err();
        Outcome {
            violation,
            hash: storm.story.hash(),
            story: storm.story.end(),
            accepted: storm.book.accepted(),
            deliveries: storm.book.deliveries(),
            restarts: storm.restarts,
        }
    }))
}

/// Everything.
struct Storm {
    random: StdRng,
    ground: Ground,
    book: Book,
    story: Story,
    relay: Option<Relay>,
    visits: Vec<Visit>,
    attempts: Vec<Attempt>,
    settlings: Vec<Settling>,
    orders: Vec<Order>,
    facts: Facts,
    /// How operators ask for what waits, what is held and what is in flight.
    selectors: Vec<Selector>,
    /// When attempts of the slow class began, since the clock was set or the program started.
    begun: Vec<Timestamp>,
    moods: [Mood; DOMAINS.len()],
    /// The last token, and the last name of a visit or an attempt.
    last: u64,
    checked: u64,
    /// An I/O error came since the power was last lost: the page cache may lie.
    sick: bool,
    restarts: usize,
    calm: bool,
}

impl Storm {
    fn new(seed: u64, whole: bool) -> Storm {
        let mut random = StdRng::seed_from_u64(seed);
        let disk = SimDisk::new();
        let clock = Arc::new(ManualClock::at(Timestamp(1_800_000_000_000)));
        let place = ModelPlace::new(disk.clone());
        let ground = Ground { disk, place, clock, seal: random.random() };
        Storm {
            random,
            ground,
            book: Book::default(),
            story: Story::new(whole),
            relay: None,
            visits: Vec::new(),
            attempts: Vec::new(),
            settlings: Vec::new(),
            orders: Vec::new(),
            facts: Facts::default(),
            selectors: STANDINGS.iter().filter_map(|text| text.parse().ok()).collect(),
            begun: Vec::new(),
            moods: [Mood::Well; DOMAINS.len()],
            last: 0,
            checked: 0,
            sick: false,
            restarts: 0,
            calm: false,
        }
    }

    async fn blow(&mut self) -> Lawful {
        self.start().await?;
        for _ in 0..STEPS {
            self.step().await?;
            self.settle_down().await?;
        }
        self.calm_down().await
    }

    /// One thing that happens.
    async fn step(&mut self) -> Lawful {
        match self.random.random_range(0..100) {
            0..6 => self.visit(),
            6..42 => self.advance_visit()?,
            42..54 => self.write(),
            54..64 => self.take_ticket().await?,
            64..84 => self.advance_attempt().await?,
            84..87 if self.random.random_bool(0.3) => self.change_fact(),
            84..87 => self.order()?,
            87..94 => self.pass_time().await,
            94..100 => self.change_weather().await?,
            _ => {}
        }
        Ok(())
    }

    /// Whatever is ready goes on; then the laws are looked at.
    async fn settle_down(&mut self) -> Lawful {
        self.hear_answers().await?;
        tokio::task::yield_now().await;
        if let Some(end) = self.ground.disk.ended() {
            self.story.tell(format_args!("{end:?}"));
            return self.restart(end == disk::End::OfMachine || self.sick).await;
        }
        self.check()
    }

    /// A new peer, or none where there are enough.
    fn visit(&mut self) {
        if self.visits.len() < VISITS {
            self.last += 10;
            let visit = Visit::new(self.last, self.last, &mut self.random);
            self.story.tell(format_args!("peer {} comes", self.last));
            self.visits.push(visit);
        }
    }

    fn advance_visit(&mut self) -> Lawful {
        if self.visits.is_empty() || self.relay.is_none() {
            self.visit();
            return Ok(());
        }
        let at = self.random.random_range(0..self.visits.len());
        if !self.calm && self.random.random_bool(0.01) {
            let visit = self.visits.swap_remove(at);
            self.story.tell(format_args!("peer {} is cut off", visit.name));
            return self.part(visit);
        }
        // Several pieces in a row, as packets come.
        for _ in 0..self.random.random_range(1..12) {
            let visit = &mut self.visits[at];
            let event = visit.dialogue.advance(&mut self.random);
            match event {
                Event::Moved => {}
                Event::Idle => break,
                Event::Chunk(chunk) => visit.gather(&chunk),
                Event::Discard => visit.discard(),
                Event::Asked(question) => {
                    self.decide(at, question)?;
                    if self.visits[at].accepting.is_some() {
                        break;
                    }
                }
                Event::Reported(report) => self.heard(at, &report)?,
                Event::Over => {
                    let visit = self.visits.swap_remove(at);
                    self.story.tell(format_args!("peer {} is done", visit.name));
                    return self.part(visit);
                }
            }
            let refusals = self.visits[at].dialogue.refusals();
            demand(Law::Limits, refusals <= MAX_ERRORS + 1, || format!("{refusals} replies 5xx"))?;
        }
        Ok(())
    }

    fn decide(&mut self, at: usize, question: waypost_smtp::server::Question) -> Lawful {
        let Some(relay) = &self.relay else { return Ok(()) };
        if let waypost_smtp::server::Question::Commit { size, .. } = &question {
            let size = *size;
            demand(Law::Limits, size <= MAX_SIZE, || format!("a message of {size} octets"))?;
        }
        let (visit, now) = (&mut self.visits[at], self.ground.clock.now());
        let Some(arrived) = visit.decide(question, &relay.intake, now, &mut self.random) else {
            return Ok(());
        };
        self.story.tell(format_args!("peer {} sends {}", visit.name, arrived.id));
        let recipients = arrived.recipients;
        demand(Law::Limits, recipients <= MAX_RECIPIENTS, || format!("{recipients} recipients"))?;
        let (all, wish) = (0..recipients as u32, wish_of(&arrived.content));
        self.book.coming(arrived.id, arrived.content, all);
        match wish {
            Wish::Quarantine => self.book.quarantined(arrived.id),
            Wish::Doom => self.book.doomed(arrived.id, 0),
            _ => {}
        }
        Ok(())
    }

    /// The peer must hear what was decided, no more and no less.
    fn heard(&mut self, at: usize, report: &Report) -> Lawful {
        let visit = &mut self.visits[at];
        let decided = visit.decided.iter().find(|(token, _)| *token == report.token);
        let taken = decided.is_some_and(|(_, taken)| *taken);
        let yes = report.results.iter().flatten().any(|result| result.reply.is_positive());
        self.story.tell(format_args!("peer {} hears: {yes}", visit.name));
        demand(Law::AcceptedIsKept, !yes || taken, || {
            format!("message {} is acknowledged, but was not taken", report.token)
        })?;
        let settled = report.results.iter().flatten().any(|result| result.phase == Phase::Eod);
        demand(Law::RefusedIsGone, yes || !taken || !settled, || {
            format!("message {} was taken, but the peer hears that it was not", report.token)
        })
    }

    /// The peer is gone; what it sent may still be accepted.
    fn part(&mut self, visit: Visit) -> Lawful {
        let Visit { accepting, dialogue, .. } = visit;
        drop(dialogue.cut());
        if let Some((id, accepting)) = accepting {
            // The session's task ends; the change that was begun goes on by itself.
            drop(accepting);
            self.book.stands(id, Standing::Doubtful);
        }
        Ok(())
    }

    fn write(&mut self) {
        if let Some(relay) = &mut self.relay {
            let before = self.ground.disk.operations();
            relay.driver.step();
            let count = self.ground.disk.operations() - before;
            self.story.tell(format_args!("the writer: {count} operations"));
        }
    }

    fn order(&mut self) -> Lawful {
        let verb = Verb::any(&mut self.random);
        let Some(relay) = &self.relay else { return Ok(()) };
        let ids = self.ground.disk.observe(|| relay.spool.ids(None, usize::MAX));
        let ids = ids.unwrap_or_default();
        if ids.is_empty() {
            return Ok(());
        }
        let id = ids[self.random.random_range(0..ids.len())];
        self.give(verb, id)
    }

    fn change_fact(&mut self) {
        let Some(relay) = &self.relay else { return };
        let story = self.facts.change(&relay.spool, &mut self.random);
        story.into_iter().for_each(|story| self.story.tell(story));
    }

    fn give(&mut self, verb: Verb, id: waypost_mail::MessageId) -> Lawful {
        let Some(relay) = &self.relay else { return Ok(()) };
        let known = self.book.tale(id).is_some_and(|tale| tale.standing == Standing::Kept);
        let Ok(entry) = self.ground.disk.observe(|| relay.spool.load(id)) else { return Ok(()) };
        if !known {
            return Ok(());
        }
        self.story.tell(format_args!("order: {verb:?} {id}"));
        let free = |recipient| !self.book.has_in_hand(id, recipient);
        let mut order = Order::new(verb, &entry, free, relay.queue.clone());
        match poll(order.future.as_mut()) {
            Poll::Ready(_) => Ok(()),
            Poll::Pending => {
                for recipient in &order.recipients {
                    self.book.take_in_hand(id, *recipient)?;
                }
                self.orders.push(order);
                Ok(())
            }
        }
    }

    /// Everybody who waits for storage looks whether it has answered.
    async fn hear_answers(&mut self) -> Lawful {
        for at in 0..self.visits.len() {
            self.hear_accepted(at)?;
        }
        for settling in std::mem::take(&mut self.settlings) {
            self.hear_settled(settling)?;
        }
        for order in std::mem::take(&mut self.orders) {
            self.hear_ordered(order);
        }
        self.facts.hear();
        Ok(())
    }

    fn hear_accepted(&mut self, at: usize) -> Lawful {
        let visit = &mut self.visits[at];
        let Some((id, accepting)) = &mut visit.accepting else { return Ok(()) };
        let Poll::Ready(answer) = poll(accepting.as_mut()) else { return Ok(()) };
        let id = *id;
        visit.accepting = None;
        let content = self.book.tale(id).map(|tale| tale.content.clone()).unwrap_or_default();
        let (token, wish) = (token_of(&content), wish_of(&content));
        let failed = self.relay.as_ref().is_some_and(|relay| relay.spool.failure().is_some());
        let standing = match &answer {
            Ok(_) if wish == Wish::Discard => Standing::Refused,
            Ok(_) => Standing::Kept,
            Err(_) if failed => Standing::Doubtful,
            Err(_) => Standing::Refused,
        };
        self.story.tell(format_args!("{id}: {standing:?}, {wish:?}"));
        let unwanted = matches!(wish, Wish::Refuse | Wish::Fail);
        demand(Law::RefusedIsGone, !unwanted || answer.is_err(), || {
            format!("{id} was refused by policy and is acknowledged")
        })?;
        self.book.stands(id, standing);
        if answer.is_ok() {
            visit.dialogue.forgive();
        }
        visit.decided.extend(token.map(|token| (token, answer.is_ok())));
        let (Ok(reply) | Err(reply)) = answer;
        visit.dialogue.answer(waypost_smtp::server::Answer::Reply(reply));
        Ok(())
    }

    fn hear_settled(&mut self, mut settling: Settling) -> Lawful {
        let Poll::Ready(answer) = poll(settling.future.as_mut()) else {
            self.settlings.push(settling);
            return Ok(());
        };
        let Settling { id, states, recipients, notice, .. } = settling;
        self.story.tell(format_args!("settled {id}: {}", answer.is_ok()));
        for recipient in &recipients {
            self.book.give_back(id, *recipient);
        }
        for (recipient, state) in states {
            let (end, not_before) = match &state {
                _ if answer.is_err() => (End::Unsure, Timestamp(0)),
                Settled::Done(_) => (End::Done, Timestamp(0)),
                Settled::Again { at, .. } | Settled::Rerouted { at, .. } => (End::Open, *at),
                Settled::Held(_) => (End::Held, Timestamp(0)),
                _ => continue,
            };
            if answer.is_err() {
                self.book.excuse(id, recipient);
            }
            self.book.becomes(id, recipient, end, not_before);
        }
        let standing = if answer.is_ok() { Standing::Kept } else { Standing::Doubtful };
        notice.into_iter().for_each(|notice| self.book.stands(notice, standing));
        Ok(())
    }

    fn hear_ordered(&mut self, mut order: Order) {
        let Poll::Ready(answer) = poll(order.future.as_mut()) else {
            self.orders.push(order);
            return;
        };
        let Order { verb, id, recipients, .. } = order;
        self.story.tell(format_args!("{verb:?} {id}: {}", answer.is_ok()));
        for recipient in recipients {
            self.book.give_back(id, recipient);
            let end = if answer.is_ok() { verb.end() } else { End::Unsure };
            self.book.becomes(id, recipient, end, Timestamp(0));
        }
    }

    /// The laws, as far as they can be looked at from outside.
    fn check(&mut self) -> Lawful {
        let Some(relay) = &self.relay else { return Ok(()) };
        let (leased, in_hand) = (relay.queue.metrics().leased.get(), self.book.in_hand());
        demand(Law::LeasesReturn, leased == in_hand as i64, || {
            format!("{leased} recipients are leased, {in_hand} are in hand")
        })?;
        let out = self.attempts.iter().map(|attempt| attempt.ticket.destination.as_str());
        let settling = self.settlings.iter().filter_map(|s| s.destination.as_deref());
        let out: Vec<&str> = out.chain(settling).collect();
        demand(Law::Limits, out.len() <= IN_FLIGHT, || format!("{} tickets", out.len()))?;
        for domain in DOMAINS {
            let count = out.iter().filter(|destination| **destination == domain).count();
            demand(Law::Limits, count <= PER_DESTINATION, || format!("{count} for {domain}"))?;
        }
        let version = self.ground.place.version();
        if version != self.checked && relay.spool.failure().is_none() {
            self.checked = version;
            self.ground.disk.observe(|| self.book.check(&*relay.spool))?;
            self.ground.disk.observe(|| self.facts.check(&relay.spool, false))?;
            if !self.book.hurt {
                let truth = self.ground.disk.observe(|| self.book.standings(&*relay.spool));
                let told = self.selectors.iter().map(|s| relay.queue.count(s).recipients);
                let told: Vec<usize> = told.collect();
                demand(Law::ListsTell, told == truth, || {
                    format!("{STANDINGS:?} are {truth:?}, lists say {told:?}")
                })?;
            }
        }
        Ok(())
    }

    /// Faults end, peers are well, and everything must come to an end.
    async fn calm_down(&mut self) -> Lawful {
        self.story.tell("calm");
        self.calm = true;
        self.ground.disk.mend();
        self.ground.disk.set_capacity(None);
        self.moods = [Mood::Well; DOMAINS.len()];
        for visit in std::mem::take(&mut self.visits) {
            self.part(visit)?;
        }
        if self.relay.as_ref().is_none_or(|relay| relay.spool.failure().is_some()) {
            self.restart(self.sick).await?;
        }
        for round in 0..CALM {
            self.write();
            self.settle_down().await?;
            self.take_ticket().await?;
            for _ in 0..self.attempts.len() {
                self.advance_attempt().await?;
            }
            self.settle_down().await?;
            if round % 20 == 0 {
                if self.is_over() {
                    return self.look_again().await;
                }
                self.release_all()?;
            }
            if self.is_idle() || round % 8 == 7 {
                self.move_clocks(Duration::from_secs(300)).await;
            }
        }
        let left =
            self.relay.as_ref().map(|relay| self.ground.disk.observe(|| relay.spool.ids(None, 9)));
        demand(Law::EverythingEnds, false, || format!("still there: {left:?}"))
    }

    fn is_over(&self) -> bool {
        let Some(relay) = &self.relay else { return false };
        let ids = self.ground.disk.observe(|| relay.spool.ids(None, 1));
        self.is_idle() && ids.is_ok_and(|ids| ids.is_empty())
    }

    /// Nothing is under way.
    fn is_idle(&self) -> bool {
        self.attempts.is_empty() && self.settlings.is_empty() && self.orders.is_empty()
    }

    fn release_all(&mut self) -> Lawful {
        let Some(relay) = &self.relay else { return Ok(()) };
        let spool = relay.spool.clone();
        let ids = self.ground.disk.observe(|| spool.ids(None, usize::MAX)).unwrap_or_default();
        for id in ids {
            let entry = self.ground.disk.observe(|| spool.load(id)).ok();
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

    /// All is over, here and after another start.
    async fn look_again(&mut self) -> Lawful {
        self.book.check_over()?;
        let Some(relay) = &self.relay else { return Ok(()) };
        let metrics = relay.queue.metrics();
        let counts = [metrics.waiting.get(), metrics.held.get(), metrics.leased.get()];
        demand(Law::LeasesReturn, counts == [0, 0, 0], || format!("counted: {counts:?}"))?;
        self.restart(true).await?;
        demand(Law::EverythingEnds, self.is_over(), || "mail came back".to_owned())
    }
}

/// Looks whether it is ready; nobody is woken, as everything is looked at after every step.
pub(crate) fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A message's octets.
fn content(relay: &Relay, id: waypost_mail::MessageId) -> Result<Bytes, waypost_queue::SpoolError> {
    let content = relay.queue.content(id)?;
    content.read_at(0, usize::MAX)
}
