//! Memory for bodies that come in, shared by all of them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Octets that are handed out together.
const UNIT: usize = 4 * 1024;

/// What all bodies together may take.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

/// What one body may take, and has taken. What it has is given back when its bytes are gone.
#[derive(Debug)]
pub(crate) struct Room {
    budget: Budget,
    most: usize,
    bytes: BytesMut,
    permit: Option<OwnedSemaphorePermit>,
}

/// Bytes and their share of the budget.
struct Held {
    bytes: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Budget {
    pub(crate) fn new(octets: usize) -> Budget {
        Budget(Arc::new(Semaphore::new((octets / UNIT).min(Semaphore::MAX_PERMITS))))
    }

    /// For one body of at most `most` octets.
    pub(crate) fn room(&self, most: usize) -> Room {
        Room { budget: self.clone(), most, bytes: BytesMut::new(), permit: None }
    }
}

impl Room {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the chunk in, unless there is no room for it.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> bool {
        let wanted = self.bytes.len() + chunk.len();
        if wanted > self.most {
            return false;
        }
        if wanted > self.bytes.capacity() {
            // As much again as there is, so that a large body is not copied for each chunk.
            let capacity = wanted.max(2 * self.bytes.capacity()).min(self.most);
            if !self.extend_to(capacity) {
                return false;
            }
            self.bytes.reserve(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(chunk);
        true
    }

    /// What is there, with its share of the budget.
    pub(crate) fn freeze(self) -> Bytes {
        let held = Held { bytes: self.bytes.freeze(), _permit: self.permit };
        Bytes::from_owner(held)
    }

    /// What is there, which gives its share back.
    pub(crate) fn take(&mut self) -> BytesMut {
        self.permit = None;
        std::mem::take(&mut self.bytes)
    }

    fn extend_to(&mut self, capacity: usize) -> bool {
        let has = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = capacity.div_ceil(UNIT).saturating_sub(has);
        let Ok(more) = u32::try_from(more) else { return false };
        match self.budget.0.clone().try_acquire_many_owned(more) {
            Ok(permit) => match &mut self.permit {
                Some(held) => held.merge(permit),
                None => self.permit = Some(permit),
            },
            Err(_) => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bodies_share_it_and_it_comes_back_with_the_last_of_the_bytes() {
        let budget = Budget::new(10 * UNIT);
        let chunk = vec![b'x'; UNIT];
        let mut first = budget.room(100 * UNIT);
        for _ in 0..4 {
            assert!(first.push(&chunk));
        }
        let mut second = budget.room(100 * UNIT);
        let taken = (0..100).take_while(|_| second.push(&chunk)).count();
        assert!((4..=6).contains(&taken), "{taken}");
        let bytes = first.freeze();
        assert_eq!(bytes.len(), 4 * UNIT);
        let part = bytes.slice(5..6);
        drop(bytes);
        assert!(!budget.room(5 * UNIT).push(&vec![0; 5 * UNIT]));
        drop((part, second));
        assert_eq!(budget.0.available_permits(), 10);
    }

    #[test]
    fn one_body_has_its_own_limit() {
        let mut room = Budget::new(usize::MAX).room(10);
        assert!(room.push(b"0123456789") && !room.push(b"x"));
        assert_eq!((room.len(), &room.take()[..]), (10, &b"0123456789"[..]));
    }
}
