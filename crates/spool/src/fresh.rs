//! The bytes of mail that was just taken, for its first attempt: that need not read back from the disk what was
//! written a moment ago.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use waypost_mail::{Body, MessageId};

use crate::Change;

/// Octets of a message that is kept here, at most.
const SMALL: usize = 64 * 1024;
/// Octets of all of them; the oldest make room.
const ROOM: usize = 4 * 1024 * 1024;

/// Small messages, until somebody asks for them once.
#[derive(Debug, Default)]
pub(crate) struct Fresh(Mutex<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    messages: BTreeMap<MessageId, Pieces>,
    octets: usize,
}

/// A message, header and body.
#[derive(Debug, Clone)]
pub(crate) struct Pieces {
    header: Bytes,
    body: Bytes,
}

impl Pieces {
    /// Of a small message that a change brings.
    pub(crate) fn of(change: &Change) -> Option<(MessageId, Pieces)> {
        let Change::Accept(arrival) = change else { return None };
        let Body::Memory(body) = &arrival.body else { return None };
        let pieces = Pieces { header: arrival.header.clone(), body: body.clone() };
        (pieces.len() <= SMALL).then_some((arrival.entry.id, pieces))
    }

    fn len(&self) -> usize {
        self.header.len() + self.body.len()
    }
}

impl Fresh {
    /// Keeps a message that is durable.
    pub(crate) fn keep(&self, id: MessageId, pieces: Pieces) {
        let mut shelf = self.lock();
        shelf.octets += pieces.len();
        shelf.messages.insert(id, pieces);
        while shelf.octets > ROOM {
            let Some((_, oldest)) = shelf.messages.pop_first() else { break };
            shelf.octets -= oldest.len();
        }
    }

    /// All of a message, once.
    pub(crate) fn take(&self, id: MessageId) -> Option<Bytes> {
        let pieces = {
            let mut shelf = self.lock();
            let pieces = shelf.messages.remove(&id)?;
            shelf.octets -= pieces.len();
            pieces
        };
        Some(Bytes::from([pieces.header, pieces.body].concat()))
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn pieces(id: u64, octets: usize) -> Option<(MessageId, Pieces)> {
        Pieces::of(&samples::accept(id, 1, &vec![b'x'; octets]))
    }

    #[test]
    fn a_message_is_had_whole_and_once() {
        let fresh = Fresh::default();
        let (id, kept) = pieces(7, 10).unwrap();
        fresh.keep(id, kept);
        assert_eq!(fresh.take(id).unwrap(), [samples::HEADER, b"xxxxxxxxxx"].concat());
        assert_eq!(fresh.take(id), None);
        assert_eq!(fresh.lock().octets, 0);
    }

    #[test]
    fn large_ones_are_not_kept_and_the_oldest_make_room() {
        assert!(pieces(1, SMALL).is_none());
        let fresh = Fresh::default();
        let len = SMALL / 2;
        for number in 0..1000 {
            let (id, kept) = pieces(number, len).unwrap();
            fresh.keep(id, kept);
            assert!(fresh.lock().octets <= ROOM);
        }
        assert_eq!(fresh.take(MessageId(0)), None);
        assert!(fresh.take(MessageId(999)).is_some());
    }
}
