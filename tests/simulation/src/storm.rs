//! One seed: everything that can happen, in some order, one step at a time, and then calm.

mod desk;
mod door;
mod laws;
mod passage;
mod record;
mod way;
mod weather;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use waypost_mail::{MessageId, Timestamp};
use waypost_queue::Selector;
use waypost_spool::Spool;

use crate::attempt::Attempt;
use crate::book::{Book, Law, Lawful, Violation, demand};
use crate::disk;
use crate::facts::Facts;
use crate::hop::Hop;
use crate::order::Order;
use crate::relay::{Ground, Relay};
use crate::story::Story;
use crate::visit::Visit;
use crate::witness::Asked;
use passage::Passage;

/// Steps before it gets calm.
const STEPS: usize = 350;
/// Rounds in which everything must come to an end.
const CALM: usize = 6000;
/// What of recipients is counted.
const STANDINGS: [&str; 3] = ["state:waiting", "state:held", "state:in-flight"];

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
    passages: Vec<Passage>,
    hops: Vec<Hop>,
    orders: Vec<Order>,
    facts: Facts,
    /// Changes that the spool has not answered, by their numbers, and how often the clock had been set when
    /// they were asked for.
    pending: BTreeMap<u64, (Asked, usize)>,
    /// Settlements whose tasks are gone, and what these had in hand.
    orphans: BTreeMap<u64, (MessageId, Vec<u32>)>,
    /// The message that an operator orders to be deleted, while that is asked.
    deleting: Option<MessageId>,
    /// How operators ask for what waits, what is held and what is in flight.
    selectors: Vec<Selector>,
    /// When attempts of the slow class began, since the clock was set or the program started.
    begun: Vec<Timestamp>,
    /// The last token, and the last name of a visit or an attempt.
    last: u64,
    checked: u64,
    /// An I/O error came since the power was last lost: the page cache may lie.
    sick: bool,
    is_clock_set: bool,
    clock_sets: usize,
    /// How much time has gone by, whatever the clock says, and a session's before: what is taken first may
    /// have begun then.
    lived: Duration,
    restarts: usize,
    calm: bool,
}

impl Storm {
    fn new(seed: u64, whole: bool) -> Storm {
        let mut random = StdRng::seed_from_u64(seed);
        let ground = Ground::new(random.random());
        Storm {
            random,
            ground,
            book: Book::default(),
            story: Story::new(whole),
            relay: None,
            visits: Vec::new(),
            attempts: Vec::new(),
            passages: Vec::new(),
            hops: Vec::new(),
            orders: Vec::new(),
            facts: Facts::default(),
            pending: BTreeMap::new(),
            orphans: BTreeMap::new(),
            deleting: None,
            selectors: STANDINGS.iter().filter_map(|text| text.parse().ok()).collect(),
            begun: Vec::new(),
            last: 0,
            checked: 0,
            sick: false,
            is_clock_set: false,
            clock_sets: 0,
            lived: record::SESSION,
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
            0..6 => self.visit()?,
            6..42 => self.advance_visit()?,
            42..54 => self.write(),
            54..64 => self.take_ticket()?,
            64..84 => self.advance_attempts()?,
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
        self.hear_all()?;
        tokio::task::yield_now().await;
        self.hear_all()?;
        if let Some(end) = self.ground.disk.ended() {
            self.story.tell(format_args!("{end:?}"));
            return self.restart(end == disk::End::OfMachine || self.sick).await;
        }
        self.check()
    }

    /// Everybody who waits for storage looks whether it has answered.
    fn hear_all(&mut self) -> Lawful {
        self.hear_spool(None)?;
        self.hear_sessions()?;
        self.hear_attempts()?;
        self.hear_orders()?;
        self.hear_passages();
        self.facts.hear();
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

    /// Faults end, peers are well, and everything must come to an end.
    async fn calm_down(&mut self) -> Lawful {
        self.story.tell("calm");
        self.calm = true;
        self.ground.disk.mend();
        self.ground.disk.set_capacity(None);
        self.ground.net.calm_down();
        self.visits.iter_mut().for_each(Visit::leave);
        match &self.relay {
            Some(relay) if relay.spool.failure().is_none() => relay.policy.calm_down(),
            _ => self.restart(self.sick).await?,
        }
        for round in 0..CALM {
            self.write();
            self.settle_down().await?;
            self.take_ticket()?;
            self.advance_attempts()?;
            self.settle_down().await?;
            if round % 20 == 0 {
                if self.is_over() {
                    return self.look_again().await;
                }
                self.release_all()?;
            }
            if self.is_idle() || round % 8 == 7 {
                let seconds = if self.is_idle() { 900 } else { 300 };
                self.move_clocks(Duration::from_secs(seconds)).await;
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
        self.attempts.is_empty()
            && self.passages.is_empty()
            && self.pending.is_empty()
            && self.orders.is_empty()
    }
}

/// Looks whether it is ready; nobody is woken, as everything is looked at after every step.
pub(crate) fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}
