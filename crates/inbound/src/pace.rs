//! How slowly a message may come in.

use std::time::Duration;

/// The patience that is left with a message. Waiting spends it, octets earn it again, and it never
/// grows beyond what it was: who sends fast at first may not drip for hours afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    rate: u64,
    whole: Duration,
    left: Duration,
}

impl Pace {
    /// Wants `rate` octets a second over any stretch of `whole`; with 0 any rate will do.
    pub(crate) fn new(rate: u64, whole: Duration) -> Pace {
        Pace { rate, whole, left: whole }
    }

    /// How long the next octets may take.
    pub(crate) fn left(&self) -> Duration {
        self.left
    }

    /// So many octets came after `waited`.
    pub(crate) fn took(&mut self, octets: usize, waited: Duration) {
        if self.rate == 0 {
            return;
        }
        let nanos = u128::from(octets as u64) * 1_000_000_000 / u128::from(self.rate);
        let earned = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.left = self.left.saturating_sub(waited).saturating_add(earned).min(self.whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_keeps_the_rate_goes_on_for_ever() {
        let mut pace = Pace::new(100, 10 * SECOND);
        for _ in 0..1000 {
            pace.took(500, 5 * SECOND);
            assert_eq!(pace.left(), 10 * SECOND);
        }
    }

    #[test]
    fn who_drips_runs_out_of_patience_whatever_came_before() {
        let mut pace = Pace::new(100, 10 * SECOND);
        pace.took(50_000_000, SECOND);
        for _ in 0..9 {
            pace.took(1, SECOND);
        }
        assert!(pace.left() < 2 * SECOND && !pace.left().is_zero());
        pace.took(1, 2 * SECOND);
        assert!(pace.left() < SECOND);
    }

    #[test]
    fn without_a_rate_patience_stays() {
        let mut pace = Pace::new(0, SECOND);
        pace.took(1, SECOND);
        assert_eq!(pace.left(), SECOND);
    }
}
