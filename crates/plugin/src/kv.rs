//! Small mutable state of plugins, by namespace: in memory, and written to the ledger behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tracing::warn;
use waypost_mail::{Clock, Ledger, LedgerError, Timestamp};

/// Longest key and value, in octets.
pub(crate) const MAX_KEY: usize = 200;
pub(crate) const MAX_VALUE: usize = 4096 - HEAD;
/// Most octets of one namespace, keys and values together.
const MAX_NAMESPACE: usize = 16 * 1024 * 1024;
/// Expiry in front of a stored value.
const HEAD: usize = 8;
/// How long a change may stay unwritten.
const BEHIND: Duration = Duration::from_secs(2);
/// A full namespace is searched for what has expired this often: searching takes milliseconds, in
/// which nobody else reads or writes.
const SWEEP: Duration = Duration::from_secs(1);
/// Written in one go.
const BATCH: usize = 500;
/// What a row costs besides key and value.
const ROW: usize = 96;
const PREFIX: &str = "plugin-kv/";

/// Why a value was not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KvError {
    /// Key or value is too long.
    TooLong,
    /// The namespace is full.
    Full,
    /// `add` found something that is no number.
    NotANumber,
}

/// All namespaces.
#[derive(Debug)]
pub(crate) struct Store {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    namespaces: BTreeMap<String, Namespace>,
    /// Keys whose present state is not in the ledger yet.
    unwritten: BTreeSet<(String, String)>,
}

#[derive(Debug, Default)]
struct Namespace {
    rows: BTreeMap<String, Row>,
    octets: usize,
    /// When what has expired was looked for last.
    swept: Timestamp,
}

#[derive(Debug, Clone)]
struct Row {
    value: Bytes,
    expires: Option<Timestamp>,
}

impl Row {
    fn lives(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| expires > now)
    }
}

impl Namespace {
    fn put(&mut self, key: &str, row: Row, now: Timestamp) -> Result<(), KvError> {
        let cost = |key: &str, row: &Row| key.len() + row.value.len() + ROW;
        let old = self.rows.get(key).map_or(0, |row| cost(key, row));
        let new = cost(key, &row);
        if self.octets - old + new > MAX_NAMESPACE && now.since(self.swept) >= SWEEP {
            self.sweep(now);
        }
        let old = self.rows.get(key).map_or(0, |row| cost(key, row));
        if self.octets - old + new > MAX_NAMESPACE {
            return Err(KvError::Full);
        }
        self.octets = self.octets - old + new;
        self.rows.insert(key.to_owned(), row);
        Ok(())
    }

    fn remove(&mut self, key: &str) {
        if let Some(row) = self.rows.remove(key) {
            self.octets -= key.len() + row.value.len() + ROW;
        }
    }

    /// Forgets what has expired.
    fn sweep(&mut self, now: Timestamp) {
        self.swept = now;
        let dead: Vec<String> =
            self.rows.iter().filter(|(_, row)| !row.lives(now)).map(|(k, _)| k.clone()).collect();
        dead.iter().for_each(|key| self.remove(key));
    }
}

impl Store {
    /// What the ledger remembers.
    pub(crate) async fn load(
        ledger: &dyn Ledger,
        clock: Arc<dyn Clock>,
    ) -> Result<Store, LedgerError> {
        let now = clock.now();
        let mut state = State::default();
        for (key, stored) in ledger.list(PREFIX, usize::MAX, now).await? {
            let name = key.strip_prefix(PREFIX).and_then(|name| name.split_once('/'));
            let (Some((namespace, key)), Some(row)) = (name, read_row(&stored)) else { continue };
            let namespace = state.namespaces.entry(namespace.to_owned()).or_default();
            // What does not fit any more is forgotten.
            let _ = namespace.put(key, row, now);
        }
        Ok(Store { clock, state: Mutex::new(state) })
    }

    pub(crate) fn get(&self, namespace: &str, key: &str) -> Option<Bytes> {
        let now = self.clock.now();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let row = state.namespaces.get(namespace)?.rows.get(key)?;
        row.lives(now).then(|| row.value.clone())
    }

    pub(crate) fn set(
        &self,
        namespace: &str,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<(), KvError> {
        check(key, &value)?;
        self.change(namespace, key, |_, now| {
            Ok((Some(Row { value, expires: ttl.map(|ttl| now.after(ttl)) }), ()))
        })
    }

    pub(crate) fn remove(&self, namespace: &str, key: &str) -> Result<(), KvError> {
        self.change(namespace, key, |_, _| Ok((None, ())))
    }

    /// Adds to a number and answers the sum, which stops at the ends of the range.
    pub(crate) fn add(
        &self,
        namespace: &str,
        key: &str,
        by: i64,
        ttl: Option<Duration>,
    ) -> Result<i64, KvError> {
        check(key, &Bytes::new())?;
        self.change(namespace, key, |row, now| {
            let (old, expires) = match row {
                None => (0, ttl.map(|ttl| now.after(ttl))),
                Some(row) => {
                    let octets = row.value[..].try_into().map_err(|_| KvError::NotANumber)?;
                    (i64::from_le_bytes(octets), row.expires)
                }
            };
            let sum = old.saturating_add(by);
            let value = Bytes::copy_from_slice(&sum.to_le_bytes());
            Ok((Some(Row { value, expires }), sum))
        })
    }

    /// Sets `new` when the present value is `old`.
    pub(crate) fn swap(
        &self,
        namespace: &str,
        key: &str,
        old: Option<&[u8]>,
        new: Bytes,
        ttl: Option<Duration>,
    ) -> Result<bool, KvError> {
        check(key, &new)?;
        self.change(namespace, key, |row, now| {
            if row.as_ref().map(|row| &row.value[..]) != old {
                return Ok((row, false));
            }
            Ok((Some(Row { value: new, expires: ttl.map(|ttl| now.after(ttl)) }), true))
        })
    }

    /// Puts what `decide` makes of the living row in its place.
    fn change<T>(
        &self,
        namespace: &str,
        key: &str,
        decide: impl FnOnce(Option<Row>, Timestamp) -> Result<(Option<Row>, T), KvError>,
    ) -> Result<T, KvError> {
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let space = state.namespaces.entry(namespace.to_owned()).or_default();
        let living = space.rows.get(key).filter(|row| row.lives(now)).cloned();
        let (row, answer) = decide(living, now)?;
        match row {
            Some(row) => space.put(key, row, now)?,
            None => space.remove(key),
        }
        state.unwritten.insert((namespace.to_owned(), key.to_owned()));
        Ok(answer)
    }

    /// Writes what is unwritten every two seconds, until the future is dropped.
    pub(crate) async fn write_behind(&self, ledger: &dyn Ledger) {
        loop {
            tokio::time::sleep(BEHIND).await;
            if let Err(error) = self.write(ledger).await {
                warn!(%error, "what plugins keep (kv) is not on disk; it is tried again");
            }
        }
    }

    /// Writes what is unwritten.
    pub(crate) async fn write(&self, ledger: &dyn Ledger) -> Result<(), LedgerError> {
        loop {
            let batch = self.batch();
            if batch.is_empty() {
                return Ok(());
            }
            for (index, (namespace, key, row)) in batch.iter().enumerate() {
                let name = format!("{PREFIX}{namespace}/{key}");
                let written = match row {
                    Some(row) => ledger.put(&name, stored(row), row.expires).await,
                    None => ledger.remove(&name).await,
                };
                if written == Err(LedgerError::TooLong) {
                    warn!(row = name, "a value of a plugin is too long to be kept on disk");
                } else if let Err(error) = written {
                    let left = batch[index..].iter().map(|(n, k, _)| (n.clone(), k.clone()));
                    let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                    state.unwritten.extend(left);
                    return Err(error);
                }
            }
        }
    }

    fn batch(&self) -> Vec<(String, String, Option<Row>)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some((namespace, key)) = state.unwritten.pop_first()
        {
            let row = state.namespaces.get(&namespace).and_then(|n| n.rows.get(&key)).cloned();
            batch.push((namespace, key, row));
        }
        batch
    }
}

fn check(key: &str, value: &Bytes) -> Result<(), KvError> {
    let fits = !key.is_empty() && key.len() <= MAX_KEY && value.len() <= MAX_VALUE;
    fits.then_some(()).ok_or(KvError::TooLong)
}

fn stored(row: &Row) -> Bytes {
    let expires = row.expires.map_or(0, |expires| expires.0);
    [&expires.to_le_bytes()[..], &row.value[..]].concat().into()
}

fn read_row(stored: &Bytes) -> Option<Row> {
    let (head, _) = stored.split_first_chunk::<HEAD>()?;
    let expires = u64::from_le_bytes(*head);
    let expires = (expires > 0).then_some(Timestamp(expires));
    Some(Row { value: stored.slice(HEAD..), expires })
}

#[cfg(test)]
mod tests {
    use waypost_mail::ManualClock;

    use super::*;
    use crate::testing::MemoryLedger;

    fn store(clock: &Arc<ManualClock>) -> Store {
        Store { clock: clock.clone(), state: Mutex::default() }
    }

    #[test]
    fn values_live_as_long_as_they_should() {
        let clock = Arc::new(ManualClock::at(Timestamp(1000)));
        let store = store(&clock);
        let second = Some(Duration::from_secs(1));
        store.set("n", "k", Bytes::from_static(b"v"), second).unwrap();
        assert_eq!(store.get("n", "k").as_deref(), Some(&b"v"[..]));
        assert_eq!(store.get("other", "k"), None);
        clock.set(Timestamp(2000));
        assert_eq!(store.get("n", "k"), None);
        assert_eq!(store.swap("n", "k", None, Bytes::from_static(b"w"), None), Ok(true));
        assert_eq!(store.swap("n", "k", None, Bytes::from_static(b"x"), None), Ok(false));
    }

    #[test]
    fn sums_stop_at_the_ends_and_keep_their_first_expiry() {
        let clock = Arc::new(ManualClock::at(Timestamp(0)));
        let store = store(&clock);
        let second = Some(Duration::from_secs(1));
        assert_eq!(store.add("n", "k", i64::MAX, second), Ok(i64::MAX));
        clock.set(Timestamp(900));
        assert_eq!(store.add("n", "k", 5, second), Ok(i64::MAX));
        clock.set(Timestamp(1000));
        assert_eq!(store.add("n", "k", -5, None), Ok(-5));
        store.set("n", "text", Bytes::from_static(b"abc"), None).unwrap();
        assert_eq!(store.add("n", "text", 1, None), Err(KvError::NotANumber));
    }

    #[test]
    fn a_namespace_has_an_end() {
        let clock = Arc::new(ManualClock::at(Timestamp(0)));
        let store = store(&clock);
        let value = Bytes::from(vec![0; MAX_VALUE]);
        let mut full = Ok(());
        for index in 0..5000 {
            full = store.set("n", &index.to_string(), value.clone(), None);
            if full.is_err() {
                break;
            }
        }
        assert_eq!(full, Err(KvError::Full));
        store.set("other", "k", value, None).unwrap();
        let long = "k".repeat(MAX_KEY + 1);
        assert_eq!(store.set("other", &long, Bytes::new(), None), Err(KvError::TooLong));
    }

    #[tokio::test]
    async fn what_was_written_is_there_after_a_restart() {
        let clock = Arc::new(ManualClock::at(Timestamp(1000)));
        let ledger = MemoryLedger::default();
        let before = store(&clock);
        before.set("n", "k/1", Bytes::from_static(b"v"), None).unwrap();
        before.set("n", "gone", Bytes::from_static(b"v"), None).unwrap();
        before.write(&ledger).await.unwrap();
        before.remove("n", "gone").unwrap();
        before.write(&ledger).await.unwrap();
        before.set("n", "lost", Bytes::from_static(b"v"), None).unwrap();
        let after = Store::load(&ledger, clock.clone()).await.unwrap();
        assert_eq!(after.get("n", "k/1").as_deref(), Some(&b"v"[..]));
        assert_eq!((after.get("n", "gone"), after.get("n", "lost")), (None, None));
    }
}
