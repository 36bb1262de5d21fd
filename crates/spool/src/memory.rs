//! A spool in memory, for tests that pause time: no thread, no disk, no waiting.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use waypost_mail::ledger::{MAX_KEY, MAX_VALUE};
use waypost_mail::{Body, Entry, Ledger, LedgerError, MessageId, Timestamp};

use crate::{Arrival, Change, Content, Detours, Spool, SpoolError, advance};

/// Keeps everything until it is dropped. Behaves like `LogSpool` but for
/// durability, and never awaits, so that paused tokio time stays exact.
#[derive(Debug, Default)]
pub struct MemorySpool {
    state: Mutex<State>,
    incoming: OnceLock<PathBuf>,
}

#[derive(Debug, Default)]
struct State {
    messages: BTreeMap<MessageId, Stored>,
    facts: BTreeMap<String, (Bytes, Option<Timestamp>)>,
    highest: u64,
    failures: VecDeque<SpoolError>,
    full: bool,
    commits: u64,
}

#[derive(Debug)]
struct Stored {
    entry: Entry,
    bytes: Bytes,
}

impl MemorySpool {
    /// An empty spool.
    pub fn new() -> MemorySpool {
        MemorySpool::default()
    }

    /// The next change of a message fails with `error` and changes nothing. Several calls queue up.
    pub fn fail_next(&self, error: SpoolError) {
        self.state().failures.push_back(error);
    }

    /// Makes the spool full, or not: a full one refuses new mail and settles what it has.
    pub fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    /// How many changes of messages were committed.
    pub fn commits(&self) -> u64 {
        self.state().commits
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Spool for MemorySpool {
    async fn commit(&self, change: Change) -> Result<(), SpoolError> {
        let mut state = self.state();
        if let Some(error) = state.failures.pop_front() {
            return Err(error);
        }
        match change {
            Change::Accept(_) if state.full => return Err(SpoolError::NoSpace),
            Change::Accept(arrival) => state.accept(*arrival)?,
            Change::Settle { id, states, detours, notice } => {
                let stored = state.messages.get_mut(&id).ok_or(SpoolError::Unknown(id))?;
                advance(&mut stored.entry, &states, &detours);
                if stored.entry.is_done() {
                    state.messages.remove(&id);
                }
                if let Some(notice) = notice {
                    state.accept(*notice)?;
                }
            }
            Change::Administer { id, states } => {
                let stored = state.messages.get_mut(&id).ok_or(SpoolError::Unknown(id))?;
                advance(&mut stored.entry, &states, &Detours::default());
                if stored.entry.is_done() {
                    state.messages.remove(&id);
                }
            }
            Change::Remove { id } => {
                state.messages.remove(&id).ok_or(SpoolError::Unknown(id))?;
            }
        }
        state.commits += 1;
        Ok(())
    }

    fn load(&self, id: MessageId) -> Result<Entry, SpoolError> {
        let state = self.state();
        state.messages.get(&id).map(|s| s.entry.clone()).ok_or(SpoolError::Unknown(id))
    }

    fn content(&self, id: MessageId) -> Result<Box<dyn Content>, SpoolError> {
        let state = self.state();
        let stored = state.messages.get(&id).ok_or(SpoolError::Unknown(id))?;
        Ok(Box::new(MemoryContent(stored.bytes.clone())))
    }

    fn ids(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<MessageId>, SpoolError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.state();
        Ok(state.messages.range((from, Bound::Unbounded)).map(|(id, _)| *id).take(limit).collect())
    }

    fn highest_id(&self) -> u64 {
        self.state().highest
    }

    /// A directory of its own, made at the first call and removed with the spool.
    fn incoming(&self) -> PathBuf {
        let make = || {
            let temporary = std::env::temp_dir();
            nix::unistd::mkdtemp(&temporary.join("waypost-XXXXXX")).unwrap_or(temporary)
        };
        self.incoming.get_or_init(make).clone()
    }

    fn accepting(&self, _now: Timestamp) -> Result<(), SpoolError> {
        if self.state().full { Err(SpoolError::NoSpace) } else { Ok(()) }
    }

    fn ledger(&self) -> Option<&dyn Ledger> {
        Some(self)
    }
}

impl State {
    fn accept(&mut self, arrival: Arrival) -> Result<(), SpoolError> {
        let Arrival { entry, header, body, facts } = arrival;
        let mut bytes = BytesMut::from(&header[..]);
        bytes.extend_from_slice(&body_bytes(body).map_err(|e| SpoolError::Failed(e.into()))?);
        self.highest = self.highest.max(entry.id.0);
        let facts = facts.into_iter().map(|fact| (fact.key, (fact.value, fact.expires)));
        self.facts.extend(facts);
        self.messages.insert(entry.id, Stored { entry, bytes: bytes.freeze() });
        Ok(())
    }
}

fn body_bytes(body: Body) -> Result<Bytes, String> {
    match body {
        Body::Memory(bytes) => Ok(bytes),
        Body::File { file, offset, len } => {
            let whole = std::fs::read(file.path()).map_err(|e| e.to_string())?;
            let end = (offset + len) as usize;
            let part = whole.get(offset as usize..end).ok_or("the incoming file is too short")?;
            Ok(Bytes::copy_from_slice(part))
        }
    }
}

impl Drop for MemorySpool {
    fn drop(&mut self) {
        if let Some(path) = self.incoming.get().filter(|path| **path != std::env::temp_dir()) {
            // The system cleans its temporary directory when we cannot.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// A message's bytes in memory.
#[derive(Debug)]
pub(crate) struct MemoryContent(pub(crate) Bytes);

impl Content for MemoryContent {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, max: usize) -> Result<Bytes, SpoolError> {
        let start = offset.min(self.len()) as usize;
        Ok(self.0.slice(start..self.0.len().min(start.saturating_add(max))))
    }
}

#[async_trait]
impl Ledger for MemorySpool {
    async fn get(&self, key: &str, now: Timestamp) -> Result<Option<Bytes>, LedgerError> {
        let state = self.state();
        let fact = state.facts.get(key).filter(|(_, expires)| expires.is_none_or(|e| e > now));
        Ok(fact.map(|(value, _)| value.clone()))
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expires: Option<Timestamp>,
    ) -> Result<(), LedgerError> {
        if key.len() > MAX_KEY || value.len() > MAX_VALUE {
            return Err(LedgerError::TooLong);
        }
        let mut state = self.state();
        state.facts.insert(key.to_owned(), (value, expires));
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<(), LedgerError> {
        self.state().facts.remove(key);
        Ok(())
    }

    async fn list(
        &self,
        prefix: &str,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<(String, Bytes)>, LedgerError> {
        let state = self.state();
        let begun = state.facts.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        Ok(begun
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(_, (_, expires))| expires.is_none_or(|e| e > now))
            .map(|(key, (value, _))| (key.clone(), value.clone()))
            .take(limit)
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use waypost_mail::{Outcome, RecipientState};

    #[tokio::test]
    async fn a_message_lives_until_all_its_recipients_are_done() {
        let spool = MemorySpool::new();
        let id = MessageId(7);
        spool.commit(samples::accept(7, 2, b"\r\nhello\r\n")).await.unwrap();
        assert_eq!(spool.content(id).unwrap().read_at(0, 5).unwrap(), "Subje");
        let done = |recipient| Change::Settle {
            id,
            states: vec![(recipient, RecipientState::Done(Outcome::Deleted))],
            detours: Detours::default(),
            notice: None,
        };
        spool.commit(done(0)).await.unwrap();
        assert!(spool.load(id).unwrap().recipients[0].state.is_done());
        spool.commit(done(1)).await.unwrap();
        assert!(matches!(spool.load(id), Err(SpoolError::Unknown(_))));
        assert_eq!(spool.ids(None, 10).unwrap(), []);
        assert_eq!(spool.highest_id(), 7);
    }

    #[tokio::test]
    async fn failures_come_as_ordered() {
        let spool = MemorySpool::new();
        spool.fail_next(SpoolError::NoSpace);
        let refused = spool.commit(samples::accept(1, 1, b"")).await;
        assert!(matches!(refused, Err(SpoolError::NoSpace)));
        assert!(spool.load(MessageId(1)).is_err());
        spool.commit(samples::accept(1, 1, b"")).await.unwrap();
    }
}
