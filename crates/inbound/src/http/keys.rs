//! Idempotency keys: a request that is sent again, because its answer was lost, makes no second message.
//!
//! A key belongs to the user who sends it. It is kept in the spool's ledger with the digest of the request
//! and the answer to it, and becomes durable in the record of its message: after a crash both are there,
//! or neither, and the message may be long delivered. After a while it is forgotten. A message that nobody
//! takes, or that policy drops, leaves no key: the same request is carried out anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedMutexGuard;
use tracing::error;
use waypost_mail::ledger::{Fact, MAX_VALUE};
use waypost_mail::{Clock, Ledger, Timestamp};

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
    /// The answer was kept in so many pieces of text.
    pieces: usize,
}

/// A key while its request is under way: another request with it waits.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) place: String,
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

    /// The answer that was given; absent when the key has just expired.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub(super) async fn answer(
        &self,
        turn: &Turn,
        record: &Record,
    ) -> Result<Option<Accepted>, Problem> {
        let mut text = Vec::new();
        for number in 0..record.pieces {
            match self.get(&piece(&turn.place, number)).await? {
                Some(bytes) => text.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
        Ok(serde_json::from_slice(&text).ok())
    }

    /// When what is kept from now on is forgotten.
    pub(super) fn expiry(&self, lifetime: Duration) -> Timestamp {
        self.clock.now().after(lifetime)
    }

    async fn get(&self, place: &str) -> Result<Option<Bytes>, Problem> {
        self.ledger.get(place, self.clock.now()).await.map_err(|failure| {
            error!(%failure, "idempotency keys cannot be read");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the key cannot be looked up now")
        })
    }
}

/// What is kept of a key and the answer to its request.
pub(super) fn facts(
    place: &str,
    digest: &str,
    accepted: &Accepted,
    expires: Timestamp,
) -> Vec<Fact> {
    // Neither fails: they are text and numbers.
    let text = Bytes::from(serde_json::to_vec(accepted).unwrap_or_default());
    let pieces = text.chunks(MAX_VALUE).map(|piece| text.slice_ref(piece));
    let mut values: Vec<(String, Bytes)> =
        pieces.enumerate().map(|(number, text)| (piece(place, number), text)).collect();
    let record = Record { digest: digest.to_owned(), pieces: values.len() };
    values.push((place.to_owned(), Bytes::from(serde_json::to_vec(&record).unwrap_or_default())));
    let fact = |(key, value)| Fact { key, value, expires: Some(expires) };
    values.into_iter().map(fact).collect()
}

fn piece(place: &str, number: usize) -> String {
    format!("{place}/{number}")
}

pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
