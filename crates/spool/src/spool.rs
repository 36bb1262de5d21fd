//! The spool: a log, sled beside it, and one thread that writes both.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot, watch};
use waypost_mail::ledger::{MAX_KEY, MAX_VALUE};
use waypost_mail::{Clock, Entry, Ledger, LedgerError, MessageId, Timestamp};

use crate::config::{Config, OpenError, Report};
use crate::content::{Stored, Unreadable};
use crate::dirs::Dirs;
use crate::disk::Disk;
use crate::fault::Faults;
use crate::fresh::{Fresh, Pieces};
use crate::index::{FactRow, Index};
use crate::job::{Encoded, Encoder, Job, Work};
use crate::lock::Lock;
use crate::log::Readers;
use crate::memory::MemoryContent;
use crate::metrics::Metrics;
use crate::opening::Opening;
use crate::record::Fact;
use crate::row;
use crate::rows::RowsPlace;
use crate::sled_rows::SledPlace;
use crate::space::Space;
use crate::waiting::Queue;
use crate::writer::Writer;
use crate::{Audience, Change, Content, Spool, SpoolError};

/// Durable storage on one file system of one machine.
///
/// Dropping it waits until what was begun is written, and frees the spool for another program.
#[derive(Debug)]
pub struct LogSpool {
    shared: Arc<Shared>,
    /// Room for bodies that are read from their files into records, in KiB.
    read: Semaphore,
    fresh: Fresh,
    thread: Option<JoinHandle<()>>,
    // After everything that uses the directory.
    _lock: Option<Lock>,
}

/// What the writer and everybody else share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) index: Index,
    pub(crate) readers: Arc<Readers>,
    pub(crate) seal: u64,
    pub(crate) queue: Queue,
    pub(crate) space: Space,
    pub(crate) metrics: Metrics,
    pub(crate) faults: Faults,
    pub(crate) log_dir: PathBuf,
    pub(crate) bodies: PathBuf,
    pub(crate) incoming: PathBuf,
    pub(crate) highest: AtomicU64,
    pub(crate) failure: watch::Sender<Option<Arc<str>>>,
}

/// Bodies that are in memory while they are committed, in KiB, all together. Those that come from
/// files wait for room; each has at most 8 MiB.
const READ_AT_ONCE: usize = 32 * 1024;

/// A share of [`READ_AT_ONCE`]; never more than there is.
fn units(octets: u64) -> u32 {
    let most = u32::try_from(READ_AT_ONCE).unwrap_or(u32::MAX);
    u32::try_from(octets.div_ceil(1024)).map_or(most, |units| units.clamp(1, most))
}

impl LogSpool {
    /// Opens the spool in `config.path`, or makes one. The log is replayed against the index
    /// first, which is rebuilt when it cannot be used; what was found is reported.
    pub fn open(
        config: Config,
        clock: Arc<dyn Clock>,
    ) -> Result<(Arc<LogSpool>, Report), OpenError> {
        LogSpool::open_before(config, clock, &mut ())
    }

    /// As [`LogSpool::open`], with somebody who hears of every message on the way: that is much
    /// quicker than to ask for them afterwards.
    ///
    /// # Errors
    /// As [`LogSpool::open`].
    pub fn open_before(
        config: Config,
        clock: Arc<dyn Clock>,
        audience: &mut dyn Audience,
    ) -> Result<(Arc<LogSpool>, Report), OpenError> {
        let (mut writer, report, lock) = LogSpool::prepare_alone(&config, clock, audience)?;
        let apart = writer.scrub_apart();
        apart.map_err(OpenError::io("starting a thread for", &config.path))?;
        let thread = std::thread::Builder::new().name("spool-writer".to_owned());
        let shared = writer.shared.clone();
        let ending = Ending(shared.clone());
        let thread = thread.spawn(move || {
            let _ending = ending;
            writer.run();
        });
        let thread = thread.map_err(OpenError::io("starting a thread for", &config.path))?;
        let spool = LogSpool {
            shared,
            read: Semaphore::new(READ_AT_ONCE),
            fresh: Fresh::default(),
            thread: Some(thread),
            _lock: Some(lock),
        };
        Ok((Arc::new(spool), report))
    }

    /// The writer of the spool in `config.path`, without its thread.
    pub(crate) fn prepare_alone(
        config: &Config,
        clock: Arc<dyn Clock>,
        audience: &mut dyn Audience,
    ) -> Result<(Writer, Report, Lock), OpenError> {
        let dirs = Dirs::make(config.disk.clone(), &config.path)?;
        let lock = Lock::take(&config.path)?;
        let place = SledPlace {
            dir: dirs.index.clone(),
            cache: config.cache,
            timeout: config.open_timeout,
        };
        let seal = rand::random();
        let opening = Opening { config, dirs, clock, place: &place, seal };
        let (writer, report) = opening.run(audience)?;
        Ok((writer, report, lock))
    }

    /// As [`LogSpool::open`], but for the thread, the lock and sled: the caller has the writer in
    /// hand and the index at `place`, and nothing is written but by [`Driver::step`]. `seal` marks
    /// the records of a new spool. For simulations, in which everything happens in one thread.
    ///
    /// # Errors
    /// As [`LogSpool::open`].
    pub fn open_driven(
        config: &Config,
        clock: Arc<dyn Clock>,
        place: &dyn RowsPlace,
        seal: u64,
        audience: &mut dyn Audience,
    ) -> Result<(Arc<LogSpool>, Driver, Report), OpenError> {
        let dirs = Dirs::make(config.disk.clone(), &config.path)?;
        let (mut writer, report) = Opening { config, dirs, clock, place, seal }.run(audience)?;
        writer.eager = false;
        let shared = writer.shared.clone();
        let driver = Driver { writer, _ending: Ending(shared.clone()) };
        let read = Semaphore::new(READ_AT_ONCE);
        let spool = LogSpool { shared, read, fresh: Fresh::default(), thread: None, _lock: None };
        Ok((Arc::new(spool), driver, report))
    }

    /// Waits until storage fails, and says how. Afterwards nothing is acknowledged any more, and
    /// only a new start helps.
    pub async fn failed(&self) -> Arc<str> {
        let mut failure = self.shared.failure.subscribe();
        loop {
            if let Some(text) = failure.borrow_and_update().clone() {
                return text;
            }
            // The sender lives as long as we do.
            let _ = failure.changed().await;
        }
    }

    /// How storage failed, if it did.
    pub fn failure(&self) -> Option<Arc<str>> {
        self.shared.failure()
    }

    /// What is counted here.
    pub fn metrics(&self) -> Metrics {
        self.shared.metrics.clone()
    }

    async fn submit(&self, encoded: Encoded) -> Result<(), SpoolError> {
        let (work, record, body) = encoded;
        let (answer, answered) = oneshot::channel();
        self.shared.queue.push(Job { work, record: Some(record), body, answer })?;
        match answered.await {
            Ok(result) => result,
            Err(_) => {
                let text = self.shared.failure();
                Err(SpoolError::Failed(text.unwrap_or_else(|| "the writer has ended".into())))
            }
        }
    }
}

impl Drop for LogSpool {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the spool's writer panicked");
        }
    }
}

/// However the writer ends, nobody waits for it in vain.
#[derive(Debug)]
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("its writer panicked");
        }
        self.0.queue.close();
        self.0.queue.clear();
    }
}

/// The writer of a spool, in the hand of whoever calls it.
#[derive(Debug)]
pub struct Driver {
    writer: Writer,
    _ending: Ending,
}

impl Driver {
    /// One turn of the writer: all that waits becomes durable together and is answered, then a
    /// little is tidied.
    pub fn step(&mut self) {
        let jobs = self.writer.shared.queue.take_now();
        self.writer.turn(jobs);
    }
}

impl Shared {
    pub(crate) fn highest(&self) -> u64 {
        self.highest.load(Ordering::Relaxed)
    }

    pub(crate) fn saw(&self, id: u64) {
        self.highest.fetch_max(id, Ordering::Relaxed);
    }

    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        self.failure.borrow().clone()
    }

    /// Nothing is acknowledged from now on.
    pub(crate) fn fail(&self, text: &str) {
        let first = self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert_with(|| text.into());
            first
        });
        if first {
            self.metrics.failures.inc();
            tracing::error!(error = text, "the spool failed and takes no more changes; restart");
        }
    }

    fn check(&self) -> Result<(), SpoolError> {
        self.failure().map_or(Ok(()), |text| Err(SpoolError::Failed(text)))
    }

    /// sled's errors last: after one, nothing it says is believed.
    fn sane<T>(&self, result: Result<T, String>) -> Result<T, SpoolError> {
        result.map_err(|text| {
            self.fail(&text);
            SpoolError::Failed(text.into())
        })
    }

    pub(crate) fn encoder(&self) -> Encoder {
        let (seal, now) = (self.seal, self.clock.now());
        let (bodies, faults) = (self.bodies.clone(), self.faults.clone());
        Encoder { seal, now, disk: self.disk.clone(), bodies, faults }
    }
}

#[async_trait]
impl Spool for LogSpool {
    async fn commit(&self, change: Change) -> Result<(), SpoolError> {
        self.shared.check()?;
        let encoder = self.shared.encoder();
        if matches!(change, Change::Accept(_)) {
            self.accepting(encoder.now)?;
        }
        // Held until the record is written, which has the body in memory.
        let _room = match Encoder::reads(&change) {
            0 => None,
            octets => self.read.acquire_many(units(octets)).await.ok(),
        };
        let fresh = Pieces::of(&change);
        let encoded = if Encoder::is_quick(&change) {
            encoder.encode(change)
        } else {
            let encoding = tokio::task::spawn_blocking(move || encoder.encode(change)).await;
            encoding.unwrap_or_else(|error| Err(SpoolError::Failed(error.to_string().into())))
        };
        if let Err(SpoolError::Failed(text)) = &encoded {
            self.shared.fail(text);
        }
        self.submit(encoded?).await?;
        if let Some((id, pieces)) = fresh {
            self.fresh.keep(id, pieces);
        }
        Ok(())
    }

    fn load(&self, id: MessageId) -> Result<Entry, SpoolError> {
        match self.shared.sane(self.shared.index.message(id))? {
            Some(Ok(kept)) => Ok(kept.entry),
            Some(Err(())) => {
                let why = "its values in the index do not fit together; restart to repair it";
                Err(SpoolError::Damaged(id, why.to_owned()))
            }
            None => Err(SpoolError::Unknown(id)),
        }
    }

    fn content(&self, id: MessageId) -> Result<Box<dyn Content>, SpoolError> {
        let shared = &self.shared;
        // A message may move to another segment between the two looks.
        for _ in 0..10 {
            let value = shared.sane(shared.index.get(&row::row_key(id)))?;
            let value = value.ok_or(SpoolError::Unknown(id))?;
            if let Some(bytes) = self.fresh.take(id) {
                return Ok(Box::new(MemoryContent(bytes)));
            }
            let place = row::place_in(&value);
            let place = place
                .ok_or_else(|| SpoolError::Damaged(id, "its row in the index is damaged".into()))?;
            let stored = Stored::read(&shared.readers, shared.seal, id, place);
            match stored.and_then(|stored| stored.into_content(&*shared.disk, &shared.bodies)) {
                Ok(content) => return Ok(Box::new(content)),
                Err(Unreadable::Gone) => {}
                Err(Unreadable::NotNow(why)) => return Err(SpoolError::NotNow(id, why)),
                Err(Unreadable::Damaged(why, _)) => {
                    shared.metrics.damaged.inc();
                    tracing::error!(message = %id, why, "a message cannot be read from the spool");
                    return Err(SpoolError::Damaged(id, why));
                }
            }
        }
        Err(SpoolError::Damaged(id, "its segment is gone".to_owned()))
    }

    fn ids(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<MessageId>, SpoolError> {
        let mut from = after.map_or_else(|| b"m|".to_vec(), row::row_key);
        if after.is_some() {
            from.push(0);
        }
        let mut ids = Vec::new();
        if limit > 0 {
            let scan = self.shared.index.scan(b"m|", &from, |key, _| {
                ids.extend(row::number_in(key, 2).map(MessageId));
                ids.len() < limit
            });
            self.shared.sane(scan)?;
        }
        Ok(ids)
    }

    fn highest_id(&self) -> u64 {
        self.shared.highest()
    }

    fn incoming(&self) -> PathBuf {
        self.shared.incoming.clone()
    }

    fn accepting(&self, now: Timestamp) -> Result<(), SpoolError> {
        self.shared.check()?;
        if self.shared.space.suffices(now) {
            return Ok(());
        }
        self.shared.metrics.refused.inc();
        Err(SpoolError::NoSpace)
    }

    fn ledger(&self) -> Option<&dyn Ledger> {
        Some(self)
    }
}

#[async_trait]
impl Ledger for LogSpool {
    async fn get(&self, key: &str, now: Timestamp) -> Result<Option<Bytes>, LedgerError> {
        let row = self.shared.sane(self.shared.index.fact(key)).map_err(ledger_error)?;
        Ok(row.filter(|row| is_fresh(row, now)).map(|row| row.value))
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expires: Option<Timestamp>,
    ) -> Result<(), LedgerError> {
        self.keep(Fact { key: key.to_owned(), value: Some(value), expires }).await
    }

    async fn remove(&self, key: &str) -> Result<(), LedgerError> {
        self.keep(Fact { key: key.to_owned(), value: None, expires: None }).await
    }

    async fn list(
        &self,
        prefix: &str,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<(String, Bytes)>, LedgerError> {
        self.facts(prefix, &row::fact_key(prefix), limit, now)
    }

    async fn list_after(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<(String, Bytes)>, LedgerError> {
        let mut from = row::fact_key(after);
        from.push(0);
        self.facts(prefix, &from, limit, now)
    }
}

impl LogSpool {
    /// Fresh facts from the row `from` on.
    fn facts(
        &self,
        prefix: &str,
        from: &[u8],
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<(String, Bytes)>, LedgerError> {
        let prefix = row::fact_key(prefix);
        let mut found = Vec::new();
        if limit > 0 {
            let scan = self.shared.index.scan(&prefix, from.max(&prefix), |key, value| {
                let name = std::str::from_utf8(&key[2..]).ok();
                let row = FactRow::decode(value).filter(|row| is_fresh(row, now));
                if let (Some(name), Some(row)) = (name, row) {
                    found.push((name.to_owned(), row.value));
                }
                found.len() < limit
            });
            self.shared.sane(scan).map_err(ledger_error)?;
        }
        Ok(found)
    }

    async fn keep(&self, fact: Fact) -> Result<(), LedgerError> {
        let value = fact.value.as_ref().map_or(0, Bytes::len);
        if fact.key.len() > MAX_KEY || value > MAX_VALUE {
            return Err(LedgerError::TooLong);
        }
        self.shared.check().map_err(ledger_error)?;
        let record = self.shared.encoder().fact(&fact).ok_or(LedgerError::TooLong)?;
        self.submit((Work::Keep(fact), record, None)).await.map_err(ledger_error)
    }
}

fn is_fresh(row: &FactRow, now: Timestamp) -> bool {
    row.expires.is_none_or(|expires| expires > now)
}

fn ledger_error(error: SpoolError) -> LedgerError {
    LedgerError::Storage(error.to_string())
}
