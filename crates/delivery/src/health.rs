//! Which hosts of a way failed lately: the others go before them, and now and then one attempt finds out
//! whether they are well again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;
use waypost_mail::{NextHop, Why};

/// How long a host comes last after its first failure, and at most.
const REST: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// Hosts that are remembered. Those that rest longest are known longest; one more forgets the one
/// that is due first.
const REMEMBERED: usize = 1000;

/// Hosts that failed, and until when they come last.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<HashMap<NextHop, Ill>>);

#[derive(Debug, Clone, Copy)]
struct Ill {
    failures: u32,
    until: Instant,
}

impl Health {
    /// The hops of a way in the order in which to try them: as they stand, but those that rest after
    /// a failure last. One whose rest is over has its place back for one attempt, and rests again
    /// for the others meanwhile.
    pub(crate) fn in_turn<'r>(&self, hops: &'r [NextHop]) -> Vec<&'r NextHop> {
        let mut ill = self.ill();
        let now = Instant::now();
        let mut rests = |at: usize, hop: &NextHop| match ill.get_mut(hop) {
            Some(ill) if ill.until > now => true,
            Some(ill) if at == 0 && hops.len() > 1 => {
                ill.until = now + ill.rest();
                false
            }
            _ => false,
        };
        let (resting, well): (Vec<_>, Vec<_>) =
            hops.iter().enumerate().partition(|(at, hop)| rests(*at, hop));
        well.into_iter().chain(resting).map(|(_, hop)| hop).collect()
    }

    /// No connection to this hop could be made ready for mail.
    pub(crate) fn failed(&self, hop: &NextHop, why: &Why) {
        let mut all = self.ill();
        if all.len() >= REMEMBERED && !all.contains_key(hop) {
            let first = all.iter().min_by_key(|(_, ill)| ill.until).map(|(hop, _)| hop.clone());
            first.map(|hop| all.remove(&hop));
        }
        let now = Instant::now();
        let ill = all.entry(hop.clone()).or_insert(Ill { failures: 0, until: now });
        ill.failures = ill.failures.saturating_add(1);
        let rest = ill.rest();
        ill.until = now + rest;
        info!(%hop, %why, ?rest, "this host failed, others come before it for a while");
    }

    /// This hop is ready for mail.
    pub(crate) fn answered(&self, hop: &NextHop) {
        if self.ill().remove(hop).is_some() {
            info!(%hop, "this host is well again");
        }
    }

    fn ill(&self) -> MutexGuard<'_, HashMap<NextHop, Ill>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ill {
    fn rest(self) -> Duration {
        let doubled = REST.0.saturating_mul(1 << self.failures.saturating_sub(1).min(16));
        doubled.min(REST.1)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn hop(host: &str) -> NextHop {
        NextHop::Host { host: host.into(), port: 25, implicit_tls: false }
    }

    fn order(health: &Health, hops: &[NextHop]) -> String {
        let order: Vec<String> = health.in_turn(hops).iter().map(ToString::to_string).collect();
        order.join(" ").replace(":25", "")
    }

    fn fail(health: &Health, host: &str) {
        health.failed(&hop(host), &Why::NoAddress(host.into()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_failed_comes_last_until_one_attempt_finds_it_well() {
        let (health, hops) = (Health::default(), ["a", "b", "c"].map(hop));
        assert_eq!(order(&health, &hops), "a b c");
        fail(&health, "a");
        assert_eq!(order(&health, &hops), "b c a");
        advance(REST.0).await;
        assert_eq!(order(&health, &hops), "a b c", "one attempt finds out");
        assert_eq!(order(&health, &hops), "b c a", "and no other meanwhile");
        fail(&health, "a");
        advance(REST.0).await;
        assert_eq!(order(&health, &hops), "b c a", "it rests longer the second time");
        advance(REST.0).await;
        assert_eq!(order(&health, &hops), "a b c");
        health.answered(&hops[0]);
        assert_eq!(order(&health, &hops), "a b c");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_and_the_only_hop_is_always_tried() {
        let health = Health::default();
        for n in 0..REMEMBERED * 2 {
            fail(&health, &format!("h{n}"));
            advance(Duration::from_millis(1)).await;
        }
        assert_eq!(health.ill().len(), REMEMBERED);
        let last = hop(&format!("h{}", REMEMBERED * 2 - 1));
        assert_eq!(health.in_turn(std::slice::from_ref(&last)), [&last]);
        for _ in 0..100 {
            fail(&health, "x");
        }
        let hops = ["x", "y"].map(hop);
        advance(REST.1).await;
        assert_eq!(order(&health, &hops), "x y", "no rest is longer than that");
    }
}
