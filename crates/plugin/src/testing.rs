//! Doubles at the seams, for the tests of this room.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use waypost_mail::{Ledger, LedgerError, Timestamp};

/// A ledger in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryLedger(Mutex<BTreeMap<String, (Bytes, Option<Timestamp>)>>);

#[async_trait]
impl Ledger for MemoryLedger {
    async fn get(&self, key: &str, now: Timestamp) -> Result<Option<Bytes>, LedgerError> {
        let rows = self.0.lock().unwrap();
        let row = rows.get(key).filter(|(_, expires)| expires.is_none_or(|e| e > now));
        Ok(row.map(|(value, _)| value.clone()))
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expires: Option<Timestamp>,
    ) -> Result<(), LedgerError> {
        self.0.lock().unwrap().insert(key.to_owned(), (value, expires));
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<(), LedgerError> {
        self.0.lock().unwrap().remove(key);
        Ok(())
    }

    async fn list(
        &self,
        prefix: &str,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<(String, Bytes)>, LedgerError> {
        let rows = self.0.lock().unwrap();
        let mine = rows.iter().filter(|(key, (_, expires))| {
            key.starts_with(prefix) && expires.is_none_or(|e| e > now)
        });
        Ok(mine.take(limit).map(|(key, (value, _))| (key.clone(), value.clone())).collect())
    }
}
