//! The index and the state in use: what the rows mean.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use waypost_mail::{MessageId, Timestamp};

use crate::ahead::Ahead;
use crate::row::{self, Kept, Writes};
use crate::rows::Rows;
use crate::segment::{Place, Position};

const CHECKPOINT: &[u8] = b"c|";
const LOST: &[u8] = b"b|";

/// The index: rows, and what is ahead of them.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    rows: Arc<dyn Rows>,
    ahead: Arc<Ahead>,
}

/// A fact of the ledger in the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FactRow {
    pub(crate) place: Place,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) value: bytes::Bytes,
}

/// The log was found to be behind the index, and the two are not of one opinion yet: what is written on the way
/// there moves the checkpoint, and must not make the next start forget it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lost {
    /// Where records are lost that were acknowledged.
    pub(crate) from: Position,
    /// The index is being made anew; why.
    pub(crate) rebuilt: Option<String>,
}

impl Index {
    pub(crate) fn new(rows: Arc<dyn Rows>) -> Index {
        Index { rows, ahead: Arc::default() }
    }

    /// Writes, for readers at once; the rows have it after [`Index::give`].
    pub(crate) fn apply(&self, writes: Writes) {
        self.ahead.write(writes);
    }

    /// True when so much was applied that it is time to flush it.
    pub(crate) fn is_heavy(&self) -> bool {
        self.ahead.is_heavy()
    }

    /// Gives what was applied to the rows, all or nothing, not yet flushed.
    pub(crate) fn give(&self) -> Result<(), String> {
        self.ahead.give(&*self.rows)
    }

    /// What was given is on the disk when this returns.
    pub(crate) fn flush(&self) -> Result<(), String> {
        self.rows.flush()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.ahead.get(key).map_or_else(|| self.rows.get(key), Ok)
    }

    /// A message, absent when it has no row; `Some(Err)` when its rows do not fit together.
    pub(crate) fn message(&self, id: MessageId) -> Result<Option<Result<Kept, ()>>, String> {
        // A reader may come between the values of a change: it then sees checksums that do not
        // match, and looks again.
        for _ in 0..100 {
            let Some(value) = self.get(&row::row_key(id))? else { return Ok(None) };
            if let Some(kept) = self.read(id, &value) {
                return Ok(Some(Ok(kept)));
            }
            std::thread::yield_now();
        }
        Ok(Some(Err(())))
    }

    /// The message of a row.
    pub(crate) fn read(&self, id: MessageId, value: &[u8]) -> Option<Kept> {
        let get = |key: &[u8]| self.get(key).ok().flatten();
        Kept::read(id, value, &get)
    }

    /// Keys and values from `from` on that begin with `prefix`, until `each` answers false.
    pub(crate) fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), String> {
        let mut each = |key: &[u8], value: &[u8]| key.starts_with(prefix) && each(key, value);
        self.ahead.range(&*self.rows, from, &mut each)
    }

    /// Everything in the log before this was in the index when it was last flushed.
    pub(crate) fn checkpoint(&self) -> Result<Option<Position>, String> {
        let value = self.get(CHECKPOINT)?;
        Ok(value.and_then(|value| postcard::from_bytes(&value).ok()))
    }

    /// Present from when a start finds records lost until it has done what there is to do.
    pub(crate) fn lost(&self) -> Result<Option<Lost>, String> {
        let value = self.get(LOST)?;
        value.map(|value| postcard::from_bytes(&value).map_err(|e| e.to_string())).transpose()
    }

    /// Says that records are lost, for all starts until one forgets it ([`forget_lost`]).
    pub(crate) fn keep_lost(&self, lost: &Lost) -> Result<(), String> {
        let value = postcard::to_stdvec(lost).map_err(|error| error.to_string())?;
        self.apply(vec![(LOST.to_vec(), Some(value))]);
        self.give()?;
        self.flush()
    }

    /// The fact under a key, expired or not.
    pub(crate) fn fact(&self, key: &str) -> Result<Option<FactRow>, String> {
        let value = self.get(&row::fact_key(key))?;
        Ok(value.and_then(|value| FactRow::decode(&value)))
    }
}

/// What moves the checkpoint, in the same batch as what it vouches for.
pub(crate) fn checkpoint(end: Position) -> (Vec<u8>, Option<Vec<u8>>) {
    (CHECKPOINT.to_vec(), postcard::to_stdvec(&end).ok())
}

/// What says that nothing is left to be done about lost records, in the last batch of that.
pub(crate) fn forget_lost() -> (Vec<u8>, Option<Vec<u8>>) {
    (LOST.to_vec(), None)
}

impl FactRow {
    pub(crate) fn decode(value: &[u8]) -> Option<FactRow> {
        postcard::from_bytes(value).ok()
    }
}
