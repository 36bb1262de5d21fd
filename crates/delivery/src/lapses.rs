//! Hosts that offer something and fail at it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a host goes without what failed.
const WITHOUT_FOR: Duration = Duration::from_secs(3600);
/// Most such hosts remembered; with more it is simply tried again.
const REMEMBERED: usize = 4096;

/// Hosts that failed at one thing which they offer, such as STARTTLS or BDAT. For a while they are not asked
/// for it, so that each message does not fail first.
#[derive(Debug, Default)]
pub(crate) struct Lapses {
    until: Mutex<HashMap<SocketAddr, Instant>>,
}

impl Lapses {
    pub(crate) fn contains(&self, host: SocketAddr) -> bool {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.get(&host).is_some_and(|until| *until > Instant::now())
    }

    pub(crate) fn remember(&self, host: SocketAddr) {
        let now = Instant::now();
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.len() >= REMEMBERED {
            until.retain(|_, until| *until > now);
        }
        if until.len() < REMEMBERED {
            until.insert(host, now + WITHOUT_FOR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, (number >> 8) as u8, number as u8], 25))
    }

    #[tokio::test(start_paused = true)]
    async fn they_are_forgiven_after_a_while_and_memory_is_bounded() {
        let lapses = Lapses::default();
        lapses.remember(host(1));
        assert!(lapses.contains(host(1)) && !lapses.contains(host(2)));
        tokio::time::advance(WITHOUT_FOR).await;
        assert!(!lapses.contains(host(1)));
        (0..2 * REMEMBERED).for_each(|number| lapses.remember(host(number)));
        assert_eq!(lapses.until.lock().unwrap().len(), REMEMBERED);
    }
}
