//! How many connections to a provider are open at once, those that wait for their next message among them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The connections that a provider bears, whatever lane or route they are for. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Seats {
    free: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// Leave for one connection, as long as it lives.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Seats,
    _permit: OwnedSemaphorePermit,
}

impl Seats {
    /// So many, at least one.
    pub(crate) fn new(most: usize) -> Seats {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Seats { free: Arc::new(Semaphore::new(most)), waiting: Arc::default() }
    }

    /// A free one, if nobody waits for it.
    pub(crate) fn take(&self) -> Option<Seat> {
        self.free.clone().try_acquire_owned().ok().map(|permit| self.seat(permit))
    }

    /// Somebody wants one, as long as the answer lives: to be had before idle connections are looked for, so
    /// that none becomes idle unseen and keeps its seat.
    pub(crate) fn claim(&self) -> Claim<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Claim(self)
    }

    fn seat(&self, permit: OwnedSemaphorePermit) -> Seat {
        Seat { seats: self.clone(), _permit: permit }
    }
}

impl Seat {
    /// It is one of these.
    pub(crate) fn is_of(&self, seats: &Seats) -> bool {
        Arc::ptr_eq(&self.seats.free, &seats.free)
    }

    /// Somebody has a claim to one like it.
    pub(crate) fn is_wanted(&self) -> bool {
        self.seats.waiting.load(Ordering::Relaxed) > 0
    }
}

/// Somebody who wants a seat.
#[derive(Debug)]
pub(crate) struct Claim<'a>(&'a Seats);

impl Claim<'_> {
    /// A seat as soon as there is one; who came first has it first. Nothing when there will be none.
    pub(crate) async fn wait(&self) -> Option<Seat> {
        let seats = self.0;
        seats.free.clone().acquire_owned().await.ok().map(|permit| seats.seat(permit))
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn there_are_so_many_and_who_waits_is_known() {
        let (seats, others) = (Seats::new(2), Seats::new(0));
        let (one, two) = (seats.take().unwrap(), seats.take().unwrap());
        assert!(seats.take().is_none() && others.take().is_some_and(|seat| !seat.is_of(&seats)));
        assert!(one.is_of(&seats) && !one.is_wanted());
        let cut_off = {
            let claim = seats.claim();
            assert!(one.is_wanted(), "before anybody waits");
            timeout(Duration::from_secs(1), claim.wait()).await
        };
        assert!(cut_off.is_err() && !one.is_wanted(), "nobody waits any more");
        let waiting = tokio::spawn({
            let seats = seats.clone();
            async move { seats.claim().wait().await }
        });
        tokio::task::yield_now().await;
        assert!(one.is_wanted());
        drop(two);
        let third = waiting.await.unwrap().unwrap();
        assert!(third.is_of(&seats) && !one.is_wanted() && seats.take().is_none());
    }
}
