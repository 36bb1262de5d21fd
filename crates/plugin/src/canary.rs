//! Is the new generation worse than the old one? Counts in, a verdict out; no clock.

use std::time::Duration;

use crate::tally::Counts;

/// Fewest calls on the new side before anything is concluded but from faults.
const ENOUGH: u64 = 200;
/// Fewest faults that are more than an accident.
const FAULTS: u64 = 3;
/// Share of calls that may fail.
const FAULT_SHARE: f64 = 0.01;
/// How much slower the 99th percentile may be, and what is fast enough whatever the ratio.
const SLOWER: f64 = 3.0;
const FAST_ENOUGH: Duration = Duration::from_millis(4);
/// How much more often it may refuse, tempfail, drop or hold: twice, and five points.
const RATIO: f64 = 2.0;
const POINTS: f64 = 0.05;
/// Two-sided test at about one in a thousand.
const SIGNIFICANT: f64 = 3.29;

/// Why a canary is rolled back, in words; nothing while there is no reason to.
pub(crate) fn breach(old: &Counts, new: &Counts) -> Option<String> {
    let calls = new.calls();
    if calls == 0 {
        return None;
    }
    let share = new.failed as f64 / calls as f64;
    if new.failed >= FAULTS && share > FAULT_SHARE {
        return Some(format!("{} of {calls} calls failed", new.failed));
    }
    if calls < ENOUGH || old.calls() < ENOUGH {
        return None;
    }
    let rates = [
        ("refused", old.refused, new.refused),
        ("refused for now", old.later, new.later),
        ("dropped or held", old.taken, new.taken),
    ];
    let changed = rates.into_iter().find_map(|(what, before, after)| {
        worse((before, old.answered), (after, new.answered)).then(|| {
            let percent = |part: u64, of: u64| 100.0 * part as f64 / of.max(1) as f64;
            format!(
                "{what}: {:.1} % of answers, before it was {:.1} %",
                percent(after, new.answered),
                percent(before, old.answered)
            )
        })
    });
    let (slow, usual) = (new.quantile(0.99), old.quantile(0.99));
    let slower = slow > FAST_ENOUGH && slow.as_secs_f64() > SLOWER * usual.as_secs_f64();
    // What it decides is its own; how long it takes may be the machine's doing.
    changed.or_else(|| {
        slower.then(|| format!("99 of 100 calls take up to {slow:?}, before it was {usual:?}"))
    })
}

/// True when the new share is clearly larger, and by more than the guard rails allow.
fn worse((before, of): (u64, u64), (after, new_of): (u64, u64)) -> bool {
    if of == 0 || new_of == 0 {
        return false;
    }
    let (p, q) = (before as f64 / of as f64, after as f64 / new_of as f64);
    if q <= RATIO * p + POINTS {
        return false;
    }
    let pooled = (before + after) as f64 / (of + new_of) as f64;
    let spread = (pooled * (1.0 - pooled) * (1.0 / of as f64 + 1.0 / new_of as f64)).sqrt();
    spread == 0.0 || (q - p) / spread > SIGNIFICANT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::{Tally, Verdict};

    fn counts(calls: u64, failed: u64, refused: u64, took: Duration) -> Counts {
        let tally = Tally::default();
        (0..calls).for_each(|call| tally.count(call >= failed, took));
        (0..refused).for_each(|_| tally.judge(Verdict::Refused));
        tally.counts()
    }

    const QUICK: Duration = Duration::from_micros(10);

    #[test]
    fn faults_are_seen_early() {
        let old = counts(1000, 0, 0, QUICK);
        assert_eq!(breach(&old, &counts(2, 2, 0, QUICK)), None);
        assert!(breach(&old, &counts(3, 3, 0, QUICK)).is_some());
        assert_eq!(breach(&old, &counts(1000, 5, 0, QUICK)), None);
    }

    #[test]
    fn a_generation_that_refuses_everything_is_seen() {
        let old = counts(10_000, 0, 500, QUICK);
        assert!(breach(&old, &counts(200, 0, 200, QUICK)).unwrap().contains("refused"));
        assert_eq!(breach(&old, &counts(200, 0, 12, QUICK)), None);
        assert_eq!(breach(&old, &counts(199, 0, 199, QUICK)), None, "too few to tell");
    }

    #[test]
    fn slowness_counts_when_it_matters() {
        let old = counts(1000, 0, 0, QUICK);
        assert!(breach(&old, &counts(200, 0, 0, Duration::from_millis(40))).is_some());
        assert_eq!(breach(&old, &counts(200, 0, 0, Duration::from_micros(100))), None);
    }
}
