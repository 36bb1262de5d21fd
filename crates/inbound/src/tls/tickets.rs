//! Keys for session tickets, which are replaced as time goes (RFC 8446 §4.6.1, RFC 5077).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;
use tokio::time::Instant;
use tracing::warn;

/// Seals tickets with a key of its own, and with another one every `period`. Tickets of the key
/// before are still taken, so one is good for at least `period` and at most two of them.
#[derive(Debug)]
pub(super) struct Tickets {
    period: Duration,
    keys: Mutex<Keys>,
}

#[derive(Debug)]
struct Keys {
    current: Arc<dyn ProducesTickets>,
    previous: Option<Arc<dyn ProducesTickets>>,
    since: Instant,
}

impl Tickets {
    /// Fresh keys: no ticket there is can be opened by them.
    pub(super) fn new(period: Duration) -> Result<Tickets, rustls::Error> {
        let keys = Keys { current: Ticketer::new()?, previous: None, since: Instant::now() };
        Ok(Tickets { period, keys: Mutex::new(keys) })
    }

    pub(super) fn period(&self) -> Duration {
        self.period
    }

    /// The keys in force now.
    fn keys(&self) -> (Arc<dyn ProducesTickets>, Option<Arc<dyn ProducesTickets>>) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let age = keys.since.elapsed();
        if age >= self.period {
            match Ticketer::new() {
                Ok(fresh) => {
                    let old = std::mem::replace(&mut keys.current, fresh);
                    keys.previous = Some(old).filter(|_| age < 2 * self.period);
                    keys.since = Instant::now();
                }
                Err(error) => warn!(%error, "the key for session tickets is not replaced"),
            }
        }
        (keys.current.clone(), keys.previous.clone())
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    /// Seconds that clients may keep a ticket: they are told to give it up when its key goes.
    fn lifetime(&self) -> u32 {
        u32::try_from(2 * self.period.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys().0.encrypt(plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (current, previous) = self.keys();
        current.decrypt(ticket).or_else(|| previous?.decrypt(ticket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_good_for_one_period_and_never_for_more_than_two() {
        let period = Duration::from_secs(3600);
        let tickets = Tickets::new(period).unwrap();
        let ticket = tickets.encrypt(b"session").unwrap();
        assert_eq!(tickets.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        tokio::time::advance(period).await;
        let later = tickets.encrypt(b"later").unwrap();
        assert_eq!(tickets.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        tokio::time::advance(period).await;
        assert_eq!(tickets.decrypt(&ticket), None);
        assert_eq!(tickets.decrypt(&later).as_deref(), Some(&b"later"[..]));
        tokio::time::advance(2 * period).await;
        assert_eq!(tickets.decrypt(&later), None);
    }

    #[tokio::test]
    async fn fresh_keys_open_nothing_old() {
        let period = Duration::from_secs(3600);
        let ticket = Tickets::new(period).unwrap().encrypt(b"session").unwrap();
        assert_eq!(Tickets::new(period).unwrap().decrypt(&ticket), None);
    }
}
