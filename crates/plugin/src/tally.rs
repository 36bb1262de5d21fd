//! What became of the calls of one plugin at one stage: counted without locks, since every call counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Durations are counted by powers of two of a microsecond.
const STEPS: usize = 32;

/// What an answer came to, for comparing generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// 4xx, or later.
    Later,
    /// 5xx, or a bounce.
    Refused,
    /// Dropped or held.
    Taken,
}

/// Counts of one plugin at one stage.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    answered: AtomicU64,
    failed: AtomicU64,
    later: AtomicU64,
    refused: AtomicU64,
    taken: AtomicU64,
    nanoseconds: AtomicU64,
    steps: [AtomicU64; STEPS],
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) later: u64,
    pub(crate) refused: u64,
    pub(crate) taken: u64,
    pub(crate) nanoseconds: u64,
    pub(crate) steps: [u64; STEPS],
}

impl Tally {
    /// A call took so long, and was answered or not.
    pub(crate) fn count(&self, answered: bool, took: Duration) {
        let counter = if answered { &self.answered } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        self.steps[step(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// The answer came to this.
    pub(crate) fn judge(&self, verdict: Verdict) {
        match verdict {
            Verdict::Later => _ = self.later.fetch_add(1, Ordering::Relaxed),
            Verdict::Refused => _ = self.refused.fetch_add(1, Ordering::Relaxed),
            Verdict::Taken => _ = self.taken.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The counts now.
    pub(crate) fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut steps = [0; STEPS];
        steps.iter_mut().zip(&self.steps).for_each(|(to, from)| *to = of(from));
        Counts {
            answered: of(&self.answered),
            failed: of(&self.failed),
            later: of(&self.later),
            refused: of(&self.refused),
            taken: of(&self.taken),
            nanoseconds: of(&self.nanoseconds),
            steps,
        }
    }
}

fn step(took: Duration) -> usize {
    let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    (64 - microseconds.leading_zeros() as usize).min(STEPS - 1)
}

impl Counts {
    /// All calls.
    pub(crate) fn calls(&self) -> u64 {
        self.answered + self.failed
    }

    /// Both together.
    pub(crate) fn and(mut self, other: &Counts) -> Counts {
        self.answered += other.answered;
        self.failed += other.failed;
        self.later += other.later;
        self.refused += other.refused;
        self.taken += other.taken;
        self.nanoseconds += other.nanoseconds;
        self.steps.iter_mut().zip(other.steps).for_each(|(to, from)| *to += from);
        self
    }

    /// What was counted since an earlier moment.
    pub(crate) fn since(mut self, earlier: &Counts) -> Counts {
        self.answered -= earlier.answered;
        self.failed -= earlier.failed;
        self.later -= earlier.later;
        self.refused -= earlier.refused;
        self.taken -= earlier.taken;
        self.nanoseconds -= earlier.nanoseconds;
        self.steps.iter_mut().zip(earlier.steps).for_each(|(to, from)| *to -= from);
        self
    }

    /// An upper bound of the time within which this share of the calls ended.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let wanted = (share * self.calls() as f64).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.steps.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Duration::from_micros(1 << index);
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_upper_bounds() {
        let tally = Tally::default();
        for _ in 0..99 {
            tally.count(true, Duration::from_micros(3));
        }
        tally.count(false, Duration::from_millis(100));
        tally.judge(Verdict::Refused);
        let counts = tally.counts();
        assert_eq!((counts.calls(), counts.failed, counts.refused), (100, 1, 1));
        assert_eq!(counts.quantile(0.5), Duration::from_micros(4));
        assert!(counts.quantile(1.0) >= Duration::from_millis(100));
        assert_eq!(counts.since(&counts).calls(), 0);
        assert_eq!(Counts::default().quantile(0.99), Duration::ZERO);
    }
}
