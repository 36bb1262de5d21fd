//! How often new connections are made to a site.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use waypost_queue::Rate;

/// An attempt waits for its connection no longer; it is made later then.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Sites remembered. One is forgotten once its rate gives all it can.
const REMEMBERED: usize = 50_000;

/// For each site the moment at which all leave given so far would be used up, were it used evenly.
#[derive(Debug, Default)]
pub(crate) struct Dials(Mutex<HashMap<Arc<str>, Instant>>);

/// Whether a connection may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// After this wait, which may be none. It counts.
    In(Duration),
    /// Not while the attempt waits: not before this has passed.
    NotBefore(Duration),
}

impl Dials {
    /// Asks for leave to connect to the site once. Who must wait stands in line: each is told to wait a little
    /// longer.
    pub(crate) fn ask(&self, site: &str, rate: Rate, now: Instant) -> Leave {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(site).copied().unwrap_or(now);
        let wait = wait(known, rate, now);
        if wait > LONGEST_WAIT {
            return Leave::NotBefore(wait);
        }
        let used = known.max(now) + interval(rate);
        if all.len() >= REMEMBERED && !all.contains_key(site) {
            all.retain(|_, used| *used > now);
        }
        if all.len() < REMEMBERED || all.contains_key(site) {
            all.insert(site.into(), used);
        }
        Leave::In(wait)
    }
}

/// Time for one.
fn interval(rate: Rate) -> Duration {
    rate.per / rate.count.max(1)
}

/// How long until there is leave for one more.
fn wait(used: Instant, rate: Rate, now: Instant) -> Duration {
    let burst = rate.per.saturating_sub(interval(rate));
    used.saturating_duration_since(now).saturating_sub(burst)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    const RATE: Rate = Rate { count: 5, per: seconds(10) };

    fn ask(dials: &Dials, site: &str) -> Leave {
        dials.ask(site, RATE, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_go_at_once_and_the_others_one_after_the_other() {
        let dials = Dials::default();
        for _ in 0..5 {
            assert_eq!(ask(&dials, "a"), Leave::In(seconds(0)));
        }
        assert_eq!(ask(&dials, "a"), Leave::In(seconds(2)));
        assert_eq!(ask(&dials, "a"), Leave::In(seconds(4)));
        assert_eq!(ask(&dials, "b"), Leave::In(seconds(0)), "another site");
        advance(seconds(4)).await;
        assert_eq!(ask(&dials, "a"), Leave::In(seconds(2)));
        advance(seconds(1000)).await;
        let count = (0..20).filter(|_| ask(&dials, "a") == Leave::In(seconds(0))).count();
        assert_eq!(count, 5, "leave is not saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_long_and_who_would_does_not_count() {
        let dials = Dials::default();
        let waits: Vec<Leave> = (0..100).map(|_| ask(&dials, "a")).collect();
        let last = waits.iter().rposition(|leave| matches!(leave, Leave::In(_))).unwrap();
        assert_eq!(waits[last], Leave::In(LONGEST_WAIT));
        assert_eq!(waits[99], Leave::NotBefore(LONGEST_WAIT + seconds(2)));
        advance(seconds(2)).await;
        assert_eq!(ask(&dials, "a"), Leave::In(LONGEST_WAIT));
    }

    #[tokio::test(start_paused = true)]
    async fn in_any_ten_seconds_there_are_five_and_the_burst() {
        let (dials, began) = (Dials::default(), Instant::now());
        let mut made = 0;
        while began.elapsed() < seconds(100) {
            match ask(&dials, "a") {
                Leave::In(wait) => advance(wait).await,
                Leave::NotBefore(_) => break,
            }
            made += 1;
        }
        assert!((50..=56).contains(&made), "{made} in 100 s");
    }

    #[tokio::test(start_paused = true)]
    async fn sites_are_forgotten_when_their_time_is_over() {
        let dials = Dials::default();
        for n in 0..REMEMBERED + 10 {
            ask(&dials, &n.to_string());
        }
        assert_eq!(dials.0.lock().unwrap().len(), REMEMBERED);
        advance(seconds(100)).await;
        ask(&dials, "new");
        assert_eq!(dials.0.lock().unwrap().len(), 1);
    }
}
