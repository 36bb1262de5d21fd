//! Idempotency keys: a request that is sent again, because its answer was lost, makes no second message.
//!
//! A key belongs to the user who sends it. Before a message is committed the key is kept with the
//! digest of the request and the message's id; afterwards with the answer. Both are durable (the
//! spool's ledger), and forgotten after a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedMutexGuard;
use tracing::{error, warn};
use waypost_mail::ledger::MAX_VALUE;
use waypost_mail::{Clock, Ledger, MessageId};

use super::answer::{Accepted, Problem};

/// Longest key in octets.
const MAX_KEY: usize = 255;

/// The keys under way and those that are kept.
pub(crate) struct Keys {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    under_way: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

/// What a key was used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// SHA-256 of envelope and body, in hex.
    pub(super) digest: String,
    pub(super) state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    /// The message may have been committed.
    Begun(MessageId),
    /// It was, and this was answered, in so many pieces of text.
    Done(usize),
}

/// A key while its request is under way: another request with it waits.
#[derive(Debug)]
pub(super) struct Turn {
    place: String,
    _alone: OwnedMutexGuard<()>,
}

/// The key of a request, if it has one.
///
/// # Errors
/// When it is too long or not printable.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let legal = |key: &&str| (1..=MAX_KEY).contains(&key.len());
    let key = value.to_str().ok().filter(legal).ok_or_else(|| {
        let detail = format!("an Idempotency-Key has 1 to {MAX_KEY} printable characters");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })?;
    Ok(Some(key))
}

impl Keys {
    pub(crate) fn new(ledger: Arc<dyn Ledger>, clock: Arc<dyn Clock>) -> Keys {
        Keys { ledger, clock, under_way: Mutex::default() }
    }

    /// Waits until no other request of this user with this key is under way.
    pub(super) async fn enter(&self, user: &str, key: &str) -> Turn {
        let digest = Sha256::new().chain_update(user).chain_update([0]).chain_update(key);
        let place = format!("http/{}", hex(&digest.finalize()));
        let lock = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            under_way.retain(|_, lock| lock.strong_count() > 0);
            let there = under_way.get(&place).and_then(Weak::upgrade);
            let lock = there.unwrap_or_default();
            under_way.insert(place.clone(), Arc::downgrade(&lock));
            lock
        };
        Turn { place, _alone: lock.lock_owned().await }
    }

    /// What is known of the key.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub(super) async fn known(&self, turn: &Turn) -> Result<Option<Record>, Problem> {
        let found = self.get(&turn.place).await?;
        // What cannot be read was written by another version, and is as good as forgotten.
        Ok(found.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// The answer that was given.
    pub(super) async fn answer(
        &self,
        turn: &Turn,
        pieces: usize,
    ) -> Result<Option<Accepted>, Problem> {
        let mut text = Vec::new();
        for number in 0..pieces {
            match self.get(&piece(turn, number)).await? {
                Some(bytes) => text.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
        Ok(serde_json::from_slice(&text).ok())
    }

    /// Keeps that a message is about to be committed.
    ///
    /// # Errors
    /// When that is not durable: then nothing may be committed.
    pub(super) async fn begin(
        &self,
        turn: &Turn,
        digest: &str,
        id: MessageId,
        lifetime: Duration,
    ) -> Result<(), Problem> {
        let record = Record { digest: digest.to_owned(), state: State::Begun(id) };
        self.put(&turn.place, &record, lifetime).await.map_err(|failure| {
            error!(failure, "an idempotency key cannot be kept, so its message is not taken");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the key cannot be kept now")
        })
    }

    /// Keeps the answer. The message is committed already: what cannot be kept is told in the log.
    pub(super) async fn finish(
        &self,
        turn: &Turn,
        digest: &str,
        accepted: &Accepted,
        lifetime: Duration,
    ) {
        let text = serde_json::to_vec(accepted).unwrap_or_default();
        let pieces = text.chunks(MAX_VALUE);
        let record = Record { digest: digest.to_owned(), state: State::Done(pieces.len()) };
        let expires = Some(self.clock.now().after(lifetime));
        for (number, text) in pieces.enumerate() {
            let kept =
                self.ledger.put(&piece(turn, number), Bytes::copy_from_slice(text), expires).await;
            if let Err(failure) = kept {
                return warn!(%failure, message = accepted.id, "the answer to an idempotency key is not kept");
            }
        }
        if let Err(failure) = self.put(&turn.place, &record, lifetime).await {
            warn!(failure, message = accepted.id, "the answer to an idempotency key is not kept");
        }
    }

    /// Nothing was committed: the key is free again.
    pub(super) async fn forget(&self, turn: &Turn) {
        if let Err(failure) = self.ledger.remove(&turn.place).await {
            warn!(%failure, "an idempotency key whose message was refused stays in use");
        }
    }

    async fn put(&self, place: &str, record: &Record, lifetime: Duration) -> Result<(), String> {
        let value = serde_json::to_vec(record).map_err(|error| error.to_string())?;
        let expires = Some(self.clock.now().after(lifetime));
        self.ledger.put(place, Bytes::from(value), expires).await.map_err(|error| error.to_string())
    }

    async fn get(&self, place: &str) -> Result<Option<Bytes>, Problem> {
        self.ledger.get(place, self.clock.now()).await.map_err(|failure| {
            error!(%failure, "idempotency keys cannot be read");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the key cannot be looked up now")
        })
    }
}

fn piece(turn: &Turn, number: usize) -> String {
    format!("{}/{number}", turn.place)
}

pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
