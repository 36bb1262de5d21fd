//! How often, how long and how much at once.

use std::time::Duration;

use rand::Rng;

use crate::classes::{Class, Doubt, Rate, Tenancy};

/// The queue's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// When a recipient is tried again after a failure that may pass.
    pub retry: RetryCurve,
    /// How long a message is tried before what is left of it bounces (RFC 5321 §4.5.4.1: at least
    /// 4 to 5 days). Whoever makes an entry sets [`waypost_mail::Entry::expires`] by it.
    pub lifetime: Duration,
    /// How long after its arrival the sender is told that a message is late (RFC 5321 §4.5.4.1 leaves it
    /// to the relay), once for each of these. Empty: never.
    pub delay_notices: Vec<Duration>,
    /// Leases out at once for one destination, and for all destinations of one [`crate::Site`] together, where
    /// that says nothing else.
    pub per_destination: usize,
    /// The same while nothing is known of how a destination, or its site, fares: successes widen it,
    /// trouble narrows it.
    pub first_per_destination: usize,
    /// Leases for one destination, or one site, begun in a time; any number when absent.
    pub rate_per_destination: Option<Rate>,
    /// Leases out at once in all.
    pub in_flight: usize,
    /// Recipients one ticket covers at most (RFC 5321 §4.5.3.1.8: every server takes 100).
    pub recipients_per_transaction: usize,
    /// How long a destination that could not be reached is left alone.
    pub resting: RestCurve,
    /// Fresh messages whose entry stays in memory until they are first settled, so that they are
    /// delivered without a read. One with many recipients counts as several.
    pub ready_cache: usize,
    /// Schedule items kept in memory, those nearest due; the rest is found again in the spool. May
    /// be passed by a sixty-fourth for a moment.
    pub scheduled: usize,
    /// Classes of mail that is treated in another way, in the order in which they are asked whether a
    /// recipient is theirs; at most [`crate::MAX_CLASSES`].
    pub classes: Vec<Class>,
    /// What counts as a tenant.
    pub tenancy: Tenancy,
    /// What becomes of mail when nobody knows whether it was delivered.
    pub doubt: Doubt,
    /// Each recipient gets a copy of its own, whose sender says for whom it is.
    pub verp: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            retry: RetryCurve::default(),
            lifetime: Duration::from_secs(5 * 86_400),
            delay_notices: vec![Duration::from_secs(4 * 3600)],
            per_destination: 20,
            first_per_destination: 5,
            rate_per_destination: None,
            in_flight: 1000,
            recipients_per_transaction: 100,
            resting: RestCurve::default(),
            ready_cache: 16_384,
            scheduled: 200_000,
            classes: Vec::new(),
            tenancy: Tenancy::default(),
            doubt: Doubt::default(),
            verp: false,
        }
    }
}

/// Waits between the attempts for one recipient: growing ones, or a list.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryCurve {
    /// One wait after the other, the last again and again. While there are none, they grow as the next
    /// three say.
    pub steps: Vec<Duration>,
    /// After the first attempt.
    pub first: Duration,
    /// Each wait is this many times the one before.
    pub factor: f64,
    /// No wait is longer, jitter aside.
    pub max: Duration,
    /// Each wait is moved at random by up to this fraction of itself in either direction, so that
    /// what failed together is not tried together.
    pub jitter: f64,
}

/// 5 minutes, 10, 20, 40, then every hour, each give or take a tenth: early enough for greylisting,
/// and on average at least the half hour of RFC 5321 §4.5.4.1 from then on.
impl Default for RetryCurve {
    fn default() -> RetryCurve {
        RetryCurve {
            steps: Vec::new(),
            first: Duration::from_secs(300),
            factor: 2.0,
            max: Duration::from_secs(3600),
            jitter: 0.1,
        }
    }
}

impl RetryCurve {
    /// The wait after `tries` attempts; none counts as one.
    pub fn wait(&self, tries: u32, random: &mut impl Rng) -> Duration {
        let step = (tries.max(1) as usize - 1).min(self.steps.len().saturating_sub(1));
        let grown = || grown(self.first, self.factor, self.max, tries);
        let wait = self.steps.get(step).copied().unwrap_or_else(grown);
        let jitter = self.jitter.clamp(0.0, 1.0);
        wait.mul_f64(1.0 + jitter * random.random_range(-1.0..=1.0))
    }

    /// No wait is longer, jitter included.
    pub fn longest(&self) -> Duration {
        let longest = self.steps.iter().copied().max().unwrap_or(self.max);
        longest.mul_f64(1.0 + self.jitter.clamp(0.0, 1.0))
    }

    /// The wait after the first attempt, jitter aside.
    pub fn shortest(&self) -> Duration {
        self.steps.first().copied().unwrap_or(self.first)
    }
}

/// Growing rests of a destination that cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RestCurve {
    /// After the first failure.
    pub first: Duration,
    /// Each rest is this many times the one before.
    pub factor: f64,
    /// No rest is longer.
    pub max: Duration,
}

/// 1 minute, 2, 4, 8, 16, then 30.
impl Default for RestCurve {
    fn default() -> RestCurve {
        RestCurve { first: Duration::from_secs(60), factor: 2.0, max: Duration::from_secs(1800) }
    }
}

impl RestCurve {
    /// The rest after so many failures in a row; none counts as one.
    pub fn rest(&self, failures: u32) -> Duration {
        grown(self.first, self.factor, self.max, failures)
    }
}

/// `first` times `factor` to the power of one less than `count`, at most `max`.
fn grown(first: Duration, factor: f64, max: Duration, count: u32) -> Duration {
    let power = i32::try_from(count.saturating_sub(1)).unwrap_or(i32::MAX);
    let seconds = first.as_secs_f64() * factor.max(1.0).powi(power);
    Duration::try_from_secs_f64(seconds).unwrap_or(max).min(max)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn minutes(count: u64) -> Duration {
        Duration::from_secs(60 * count)
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let curve = RetryCurve { jitter: 0.0, ..RetryCurve::default() };
        let mut random = StdRng::seed_from_u64(1);
        let waits: Vec<_> = (0..7).map(|tries| curve.wait(tries, &mut random)).collect();
        assert_eq!(waits, [5, 5, 10, 20, 40, 60, 60].map(minutes));
        assert_eq!(curve.wait(u32::MAX, &mut random), minutes(60));
    }

    #[test]
    fn a_list_is_followed_to_its_end_and_its_last_wait_stays() {
        let steps = vec![minutes(1), minutes(30), minutes(10)];
        let curve = RetryCurve { jitter: 0.0, steps, ..RetryCurve::default() };
        let mut random = StdRng::seed_from_u64(1);
        let waits: Vec<_> = (0..6).map(|tries| curve.wait(tries, &mut random)).collect();
        assert_eq!(waits, [1, 1, 30, 10, 10, 10].map(minutes));
        assert_eq!((curve.shortest(), curve.longest()), (minutes(1), minutes(30)));
        assert_eq!(curve.wait(u32::MAX, &mut random), minutes(10));
    }

    #[test]
    fn jitter_stays_in_its_bounds_and_uses_them() {
        let curve = RetryCurve { jitter: 0.25, ..RetryCurve::default() };
        let mut random = StdRng::seed_from_u64(7);
        let waits: Vec<_> = (0..2000).map(|_| curve.wait(1, &mut random).as_secs_f64()).collect();
        assert!(waits.iter().all(|wait| (225.0..=375.0).contains(wait)));
        assert!(waits.iter().any(|wait| *wait < 235.0));
        assert!(waits.iter().any(|wait| *wait > 365.0));
    }

    #[test]
    fn the_same_seed_gives_the_same_waits() {
        let series = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            (1..20).map(|n| RetryCurve::default().wait(n, &mut random)).collect::<Vec<_>>()
        };
        assert_eq!(series(3), series(3));
        assert_ne!(series(3), series(4));
    }

    #[test]
    fn strange_factors_do_no_harm() {
        let max = minutes(60);
        for factor in [0.0, -3.0, 1e300, f64::INFINITY, f64::NAN] {
            assert!(grown(minutes(5), factor, max, 1000) <= max);
        }
        let wild = RetryCurve { jitter: 50.0, ..RetryCurve::default() };
        let mut random = StdRng::seed_from_u64(1);
        assert!((0..100).all(|_| wild.wait(9, &mut random) <= 2 * max));
    }

    #[test]
    fn rests_grow_up_to_the_longest() {
        let curve = RestCurve::default();
        assert_eq!([1, 2, 3, 9].map(|n| curve.rest(n)), [1, 2, 4, 30].map(minutes));
    }
}
