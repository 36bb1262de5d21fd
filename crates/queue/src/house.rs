//! A queue on a spool with moods, for tests.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;
use waypost_mail::{Entry, MessageId, Outcome, RecipientEntry, RecipientState, Timestamp, Why};
use waypost_smtp::Reply;
use waypost_spool::{Change, Content, MemorySpool, Spool, SpoolError};

use crate::samples::{TestClock, prepared};
use crate::{Config, Queue, Settled, Settlement, Ticket};

/// As good as at once.
const SOON: Duration = Duration::from_millis(5);

/// A spool in memory that takes its time, counts reads, and has damaged messages when told.
#[derive(Debug, Default)]
pub(crate) struct SlowSpool {
    pub(crate) inner: MemorySpool,
    pub(crate) pause: Duration,
    pub(crate) loads: AtomicUsize,
    pub(crate) damaged: Mutex<Vec<MessageId>>,
    pub(crate) seen: Mutex<Vec<String>>,
}

#[async_trait]
impl Spool for SlowSpool {
    async fn commit(&self, change: Change) -> Result<(), SpoolError> {
        if !self.pause.is_zero() {
            tokio::time::sleep(self.pause).await;
        }
        let kind = match &change {
            Change::Accept(_) => "accept",
            Change::Settle { notice: None, .. } => "settle",
            Change::Settle { notice: Some(_), .. } => "settle with notice",
            Change::Administer { .. } => "administer",
            Change::Remove { .. } => "remove",
        };
        self.seen.lock().unwrap().push(kind.to_owned());
        if let Change::Remove { id } = &change {
            self.damaged.lock().unwrap().retain(|damaged| damaged != id);
        }
        // What is written and what is known in memory differ for a moment, as they do on a disk.
        let result = self.inner.commit(change).await;
        tokio::task::yield_now().await;
        result
    }
    fn load(&self, id: MessageId) -> Result<Entry, SpoolError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        if self.damaged.lock().unwrap().contains(&id) {
            return Err(SpoolError::Damaged(id, "torn".into()));
        }
        self.inner.load(id)
    }
    fn content(&self, id: MessageId) -> Result<Box<dyn Content>, SpoolError> {
        self.inner.content(id)
    }
    fn ids(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<MessageId>, SpoolError> {
        self.inner.ids(after, limit)
    }
    fn highest_id(&self) -> u64 {
        self.inner.highest_id()
    }
    fn incoming(&self) -> PathBuf {
        self.inner.incoming()
    }
    fn accepting(&self, now: Timestamp) -> Result<(), SpoolError> {
        self.inner.accepting(now)
    }
    fn ledger(&self) -> Option<&dyn waypost_mail::Ledger> {
        self.inner.ledger()
    }
}

pub(crate) struct House {
    pub(crate) queue: Arc<Queue>,
    pub(crate) spool: Arc<SlowSpool>,
    pub(crate) clock: Arc<TestClock>,
}

pub(crate) async fn house(config: Config) -> House {
    house_on(Arc::default(), config).await
}

pub(crate) async fn house_on(spool: Arc<SlowSpool>, config: Config) -> House {
    house_by(TestClock::new(), spool, config).await
}

pub(crate) async fn house_by(
    clock: Arc<TestClock>,
    spool: Arc<SlowSpool>,
    config: Config,
) -> House {
    let queue = Queue::open(spool.clone(), config, clock.clone(), 1).await.unwrap();
    House { queue, spool, clock }
}

impl House {
    pub(crate) async fn commit(&self, entry: Entry) {
        self.queue.commit(prepared(entry)).await.unwrap();
    }

    pub(crate) async fn next(&self) -> Ticket {
        timeout(SOON, self.queue.next()).await.expect("something is due").unwrap()
    }

    pub(crate) async fn next_after(&self, longest: Duration) -> Ticket {
        timeout(longest, self.queue.next()).await.expect("in time").unwrap()
    }

    pub(crate) async fn quiet(&self) {
        assert!(timeout(SOON, self.queue.next()).await.is_err(), "nothing is due");
    }

    pub(crate) async fn settle_all(
        &self,
        ticket: Ticket,
        settled: Settled,
    ) -> Result<(), SpoolError> {
        let states = all(&ticket, settled);
        self.queue.settle(ticket, Settlement { states, ..Settlement::default() }).await
    }

    pub(crate) fn standing(&self) -> (usize, usize, usize) {
        let metrics = self.queue.metrics();
        let shown = [&metrics.waiting, &metrics.held, &metrics.leased].map(|g| g.get() as usize);
        let standing = self.standing_now();
        assert_eq!(shown, [standing.0, standing.1, standing.2], "metrics say the same");
        standing
    }

    /// While others change it: the metrics may already say something else.
    pub(crate) fn standing_now(&self) -> (usize, usize, usize) {
        let status = self.queue.status();
        (status.waiting, status.held, status.leased)
    }

    pub(crate) fn state(&self, id: u64, recipient: usize) -> RecipientState {
        self.queue.show(MessageId(id)).unwrap().recipients[recipient].state.clone()
    }
}

pub(crate) fn all(ticket: &Ticket, settled: Settled) -> Vec<(u32, Settled)> {
    ticket.recipients.iter().map(|r| (r.recipient.id, settled.clone())).collect()
}

pub(crate) fn ids(recipients: &[RecipientEntry]) -> Vec<u32> {
    recipients.iter().map(|r| r.recipient.id).collect()
}

pub(crate) fn delivered() -> Settled {
    let hop = "mx.example[192.0.2.1]:25".to_owned();
    Settled::Done(Outcome::Delivered {
        hop,
        reply: Reply::fixed(250, (2, 0, 0), "ok"),
        security: waypost_mail::Security::CLEAR,
    })
}

pub(crate) fn why() -> Why {
    Why::NoAddress("a.example".into())
}

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
