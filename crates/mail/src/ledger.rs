//! Small durable facts of any room, by key: bans, suspensions, idempotency keys.

use async_trait::async_trait;
use bytes::Bytes;

use crate::Timestamp;

/// Longest key in octets.
pub const MAX_KEY: usize = 256;
/// Longest value in octets; larger ones do not belong in the index (see the queue's design).
pub const MAX_VALUE: usize = 4096;

/// Why a fact could not be kept or found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The caller's key or value is too long.
    #[error("a ledger key has at most {MAX_KEY} octets and a value {MAX_VALUE}")]
    TooLong,
    /// Storage failed; nothing is promised about the write.
    #[error("the ledger's storage failed: {0}")]
    Storage(String),
}

/// A fact that becomes durable together with something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// `room/…`, at most [`MAX_KEY`] octets.
    pub key: String,
    /// At most [`MAX_VALUE`] octets.
    pub value: Bytes,
    /// When it is forgotten.
    pub expires: Option<Timestamp>,
}

impl Fact {
    /// True when it is too long to be kept.
    pub fn is_too_long(&self) -> bool {
        self.key.len() > MAX_KEY || self.value.len() > MAX_VALUE
    }
}

/// Durable values with an optional end of life. Keys are `room/…`, so that rooms cannot collide.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// The value, unless it is absent or expired.
    async fn get(&self, key: &str, now: Timestamp) -> Result<Option<Bytes>, LedgerError>;
    /// Keeps the value; durable when this returns.
    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expires: Option<Timestamp>,
    ) -> Result<(), LedgerError>;
    /// Forgets the value; durable when this returns.
    async fn remove(&self, key: &str) -> Result<(), LedgerError>;
    /// Keys and values that begin with `prefix`, at most `limit` of them, in order of keys.
    async fn list(
        &self,
        prefix: &str,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<(String, Bytes)>, LedgerError>;
    /// The same with the keys behind `after` alone, whether it is there or not: the next page.
    async fn list_after(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<(String, Bytes)>, LedgerError> {
        let mut all = self.list(prefix, usize::MAX, now).await?;
        all.retain(|(key, _)| key.as_str() > after);
        all.truncate(limit);
        Ok(all)
    }
}
