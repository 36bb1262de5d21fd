//! Names for messages and sessions: short, sortable by time, unique within one spool.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::{Clock, Timestamp};

/// Milliseconds stand above these bits.
const RANDOM_BITS: u32 = 20;
/// Crockford's base 32: no letter that is read as another.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LENGTH: usize = 13;

/// Names a message from its MAIL command on; the id in "250 … queued as".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "IdText", try_from = "IdText")]
pub struct MessageId(pub u64);

/// Names one connection of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "IdText", try_from = "IdText")]
pub struct SessionId(pub u64);

/// What is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id has 13 characters of 0-9 and a-z without i, l, o and u")]
pub struct IdError;

macro_rules! id {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&encode(self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&encode(self.0))
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                decode(text).map($name).ok_or(IdError)
            }
        }
        impl From<$name> for IdText {
            fn from(id: $name) -> IdText {
                IdText(encode(id.0))
            }
        }
        impl TryFrom<IdText> for $name {
            type Error = IdError;
            fn try_from(text: IdText) -> Result<Self, IdError> {
                text.0.parse()
            }
        }
    };
}
id!(MessageId);
id!(SessionId);

#[derive(Serialize, Deserialize)]
struct IdText(String);

/// Gives out ids that rise, even when the clock does not.
#[derive(Debug, Clone)]
pub struct IdSource {
    clock: Arc<dyn Clock>,
    last: Arc<AtomicU64>,
    /// Low bits are random, so that ids cannot be guessed.
    noise: bool,
}

impl IdSource {
    /// A source whose ids are above `highest`, the highest one the spool has seen.
    pub fn above(highest: u64, clock: Arc<dyn Clock>) -> IdSource {
        IdSource { clock, last: Arc::new(AtomicU64::new(highest)), noise: true }
    }

    /// A source whose ids follow from the clock and `highest` alone: for runs that must repeat.
    pub fn without_noise(highest: u64, clock: Arc<dyn Clock>) -> IdSource {
        IdSource { noise: false, ..IdSource::above(highest, clock) }
    }

    /// The next message id.
    pub fn message(&self) -> MessageId {
        MessageId(self.next())
    }

    /// The next session id.
    pub fn session(&self) -> SessionId {
        SessionId(self.next())
    }

    fn next(&self) -> u64 {
        let Timestamp(ms) = self.clock.now();
        let noise = match self.noise {
            true => u64::from(rand::random::<u32>() >> (32 - RANDOM_BITS + 1)),
            false => 0,
        };
        let fresh = (ms << RANDOM_BITS) | noise;
        let step = |last: u64| Some(fresh.max(last + 1));
        let update = self.last.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step);
        update.map_or(fresh, |last| fresh.max(last + 1))
    }
}

fn encode(id: u64) -> String {
    (0..LENGTH).rev().map(|place| char::from(ALPHABET[(id >> (5 * place)) as usize & 31])).collect()
}

fn decode(text: &str) -> Option<u64> {
    if text.len() != LENGTH {
        return None;
    }
    text.bytes().try_fold(0u64, |id, b| {
        let digit = ALPHABET.iter().position(|a| *a == b.to_ascii_lowercase())? as u64;
        id.checked_mul(32)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;

    #[test]
    fn ids_rise_when_the_clock_falls() {
        let clock = Arc::new(ManualClock::at(Timestamp(1_000_000)));
        let ids = IdSource::above(0, clock.clone());
        let first = ids.message();
        clock.set(Timestamp(5));
        let second = ids.message();
        assert!(second > first);
        assert!(IdSource::above(second.0, clock).message() > second);
    }

    #[test]
    fn text_form_sorts_and_reads_back() {
        for id in [0, 1, 31, 32, u64::MAX / 3, u64::MAX] {
            assert_eq!(MessageId(id).to_string().parse(), Ok(MessageId(id)));
        }
        assert!(MessageId(7).to_string() < MessageId(8).to_string());
        for bad in ["", "zzzzzzzzzzzzz", "000000000000u", "00000000000000"] {
            assert!(bad.parse::<MessageId>().is_err(), "{bad}");
        }
    }
}
