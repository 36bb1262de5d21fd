//! How long a small sender's mail waits for its turn: on an empty queue, while a million messages wait
//! for one dead domain, and while summaries of that million are made one after the other.
//!
//! ```text
//! cargo run --release -p waypost-queue --example fairness [MESSAGES]
//! ```
//!
//! What counts are the ratios of the last column. The spool is made up, so that what is measured is the
//! queue: its lock, its schedule, its index. Says too what the index costs: octets of resident memory
//! for each message, and how long lists and summaries take.

#![expect(clippy::print_stdout, reason = "it tells what it measured")]
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a measurement that fails says so")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep};
use waypost_mail::{
    Body, Clock, Entry, Facts, MessageId, NextHop, Outcome, Recipient, RecipientEntry,
    RecipientState, Route, SessionId, SystemClock, Terms, Timestamp, TlsLevel, Why,
};
use waypost_queue::{
    Config, Content, Field, Prepared, Queue, Selector, Settled, Settlement, SpoolError, Ticket,
};
use waypost_smtp::{Domain, Reply, ReversePath};
use waypost_spool::{Change, Spool};

/// Messages of the small sender in a round.
const SMALL: u64 = 500;
/// Rounds.
const ROUNDS: usize = 9;
/// Their ids are above this.
const FRESH: u64 = 1 << 40;

/// Makes up the backlog when it is read, and forgets what is written.
#[derive(Debug)]
struct MadeUp {
    backlog: u64,
    began: Timestamp,
}

#[async_trait]
impl Spool for MadeUp {
    async fn commit(&self, _: Change) -> Result<(), SpoolError> {
        Ok(())
    }
    fn load(&self, id: MessageId) -> Result<Entry, SpoolError> {
        if id.0 > self.backlog { Err(SpoolError::Unknown(id)) } else { Ok(crowd(id, self.began)) }
    }
    fn content(&self, id: MessageId) -> Result<Box<dyn Content>, SpoolError> {
        Err(SpoolError::Unknown(id))
    }
    fn ids(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<MessageId>, SpoolError> {
        let first = after.map_or(0, |after| after.0) + 1;
        Ok((first..=self.backlog).take(limit).map(MessageId).collect())
    }
    fn highest_id(&self) -> u64 {
        self.backlog
    }
    fn incoming(&self) -> PathBuf {
        std::env::temp_dir()
    }
    fn accepting(&self, _: Timestamp) -> Result<(), SpoolError> {
        Ok(())
    }
}

/// One of the many: a recipient of its own, a sender that many share.
fn crowd(id: MessageId, now: Timestamp) -> Entry {
    let sender = format!("newsletter{}@shop.example", id.0 % 1000);
    message(id, &sender, &format!("customer.{}", id.0), "dead.example", now)
}

fn message(id: MessageId, sender: &str, local: &str, domain: &str, now: Timestamp) -> Entry {
    let domain = Domain::parse(domain).unwrap();
    let recipient = Recipient::new(0, format!("{local}@{domain}").parse().unwrap());
    Entry {
        id,
        received: now,
        expires: now.after(Duration::from_secs(5 * 86_400)),
        sender: ReversePath::Mailbox(sender.parse().unwrap()),
        eight_bit: false,
        smtputf8: false,
        size: 4096,
        facts: Facts::internal(SessionId(id.0)),
        meta: Vec::new(),
        sign: Vec::new(),
        terms: Terms::default(),
        reroutes: 0,
        routes: vec![Route::new(NextHop::Mx(domain), TlsLevel::Opportunistic)],
        recipients: vec![RecipientEntry {
            recipient,
            route: 0,
            told: 0,
            state: RecipientState::fresh(now),
        }],
    }
}

#[tokio::main]
async fn main() {
    let backlog = std::env::args().nth(1).map_or(1_000_000, |count| count.parse().unwrap());
    let mut empty = World::open(0).await;
    let mut crowded = World::open(backlog).await;
    looks(&crowded.queue);
    let (mut quiet, mut beside, mut watched) =
        (Waits::default(), Waits::default(), Waits::default());
    // In turns, so that what disturbs the machine disturbs all alike.
    for _ in 0..ROUNDS {
        quiet.add(empty.measure().await);
        beside.add(crowded.measure().await);
        let watcher = Watcher::of(&crowded.queue);
        watched.add(crowded.measure().await);
        watcher.stop();
    }
    println!(
        "\n| from commit to ticket, {ROUNDS} rounds of {SMALL} messages | median | p99 | p99, beside an empty queue |"
    );
    println!("|---|---|---|---|");
    let row = |name: String, waits: &Waits| {
        let ratio = waits.p99().as_secs_f64() / quiet.p99().as_secs_f64();
        println!("| {name} | {:?} | {:?} | {ratio:.2} |", waits.median(), waits.p99());
    };
    row("empty queue".to_owned(), &quiet);
    row(format!("{backlog} wait for one dead domain"), &beside);
    row("the same, and it is summed up all the time".to_owned(), &watched);
}

/// Median and p99 of each round. What is told is the quietest of the rounds: others had company on
/// this machine.
#[derive(Default)]
struct Waits(Vec<(Duration, Duration)>);

impl Waits {
    fn add(&mut self, mut waits: Vec<Duration>) {
        waits.sort_unstable();
        self.0.push((waits[waits.len() / 2], waits[waits.len() * 99 / 100]));
    }

    fn median(&self) -> Duration {
        self.0.iter().map(|(median, _)| *median).min().unwrap()
    }

    fn p99(&self) -> Duration {
        self.0.iter().map(|(_, p99)| *p99).min().unwrap()
    }
}

/// A queue with a backlog, and somebody who delivers.
struct World {
    queue: Arc<Queue>,
    taken: UnboundedReceiver<Instant>,
    next: u64,
}

impl World {
    async fn open(backlog: u64) -> World {
        let clock = Arc::new(SystemClock);
        let spool = Arc::new(MadeUp { backlog, began: clock.now() });
        let (resident, began) = (resident(), Instant::now());
        let queue = Queue::open(spool, Config::default(), clock, 1).await.unwrap();
        if let Some(octets) = self::resident().saturating_sub(resident).checked_div(backlog) {
            println!("opened in {:?}, {octets} octets resident for each message", began.elapsed());
        }
        let (starts, taken) = unbounded_channel();
        tokio::spawn(deliver(queue.clone(), starts));
        World { queue, taken, next: FRESH }
    }

    /// How long each of some messages waits for its ticket.
    async fn measure(&mut self) -> Vec<Duration> {
        let mut waits = Vec::new();
        for _ in 0..SMALL {
            self.next += 1;
            let (id, now) = (MessageId(self.next), SystemClock.now());
            let entry = message(id, "me@small.example", "you", "alive.example", now);
            let header = Bytes::from_static(b"Subject: hello\r\n");
            let prepared = Prepared::new(entry, header, Body::Memory(Bytes::new()));
            let began = Instant::now();
            self.queue.commit(prepared).await.unwrap();
            let taken = self.taken.recv().await.expect("it is delivered");
            waits.push(taken - began);
            sleep(Duration::from_micros(500)).await;
        }
        waits
    }
}

/// An operator who sums up without end.
struct Watcher {
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Watcher {
    fn of(queue: &Arc<Queue>) -> Watcher {
        let over = Arc::new(AtomicBool::new(false));
        let (queue, told) = (queue.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                queue.summary(&Selector::everything(), Field::Sender, 50);
            }
        });
        Watcher { over, thread }
    }

    fn stop(self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watcher ends");
    }
}

/// Delivers what can be delivered; attempts for the dead domain hang for seconds.
async fn deliver(queue: Arc<Queue>, starts: UnboundedSender<Instant>) {
    while let Some(ticket) = queue.next().await {
        let queue = queue.clone();
        if ticket.id.0 > FRESH {
            let _ = starts.send(Instant::now());
            let reply = Reply::fixed(250, (2, 0, 0), "ok");
            let hop = "mx.alive.example".to_owned();
            settle(
                &queue,
                ticket,
                Settled::Done(Outcome::Delivered {
                    hop,
                    reply,
                    security: waypost_mail::Security::CLEAR,
                }),
            )
            .await;
            continue;
        }
        tokio::spawn(async move {
            sleep(Duration::from_secs(2)).await;
            queue.rest(&ticket.destination, "it is dead".to_owned());
            let at = queue.retry_at(&ticket, 1);
            settle(&queue, ticket, Settled::Again { at, why: Why::NoAddress("dead".into()) }).await;
        });
    }
}

async fn settle(queue: &Queue, ticket: Ticket, settled: Settled) {
    let states = ticket.recipients.iter().map(|r| (r.recipient.id, settled.clone())).collect();
    // What the made-up spool cannot write is of no interest here.
    let _ = queue.settle(ticket, Settlement { states, ..Settlement::default() }).await;
}

/// How long operators wait.
fn looks(queue: &Queue) {
    let selector = |text: &str| text.parse::<Selector>().unwrap();
    for text in ["", "recipient:customer.999999@dead.example", "sender:*7@shop.example age>1h"] {
        let began = Instant::now();
        let page = queue.list(&selector(text), None, 1000).unwrap();
        println!("list «{text}»: {} messages in {:?}", page.messages.len(), began.elapsed());
    }
    for by in [Field::Destination, Field::Sender] {
        let began = Instant::now();
        let groups = queue.summary(&selector(""), by, 50);
        println!("summary by {by}: {} groups in {:?}", groups.len(), began.elapsed());
    }
}

/// Octets of memory that the process has.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * 4096
}
