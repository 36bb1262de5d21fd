//! How often something may happen, for each of many, in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// So many in such a time: all of them at once, and then one more whenever its share of the time has
/// passed. In memory only; a restart forgives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In which time.
    pub per: Duration,
}

impl Rate {
    /// The time that one of them takes.
    fn share(&self) -> Duration {
        self.per / self.count.max(1)
    }
}

/// When each key has paid for what it did, and nothing about keys that owe nothing. A moment is the
/// time since some beginning, which is an argument.
#[derive(Debug)]
pub(crate) struct Rates<K> {
    /// By key and place of the rate in its list: the moment from which on nothing is owed.
    debts: HashMap<(K, u8), Duration>,
    most: usize,
}

impl<K: Eq + Hash + Clone> Rates<K> {
    /// Keeps at most `most` debts: of more, those who owe least are forgiven first.
    pub(crate) fn new(most: usize) -> Rates<K> {
        Rates { debts: HashMap::new(), most: most.max(2) }
    }

    /// Counts one for `key` against all `rates`, or none of them.
    ///
    /// # Errors
    /// How long until there is room.
    pub(crate) fn take(&mut self, key: &K, rates: &[Rate], now: Duration) -> Result<(), Duration> {
        let mut places = Vec::with_capacity(rates.len());
        for (at, rate) in (0..u8::MAX).zip(rates) {
            let place = (key.clone(), at);
            let debt = self.debts.get(&place).copied().unwrap_or_default().max(now) + rate.share();
            if let Some(wait) = debt.checked_sub(now + rate.per).filter(|wait| !wait.is_zero()) {
                return Err(wait);
            }
            places.push((place, debt));
        }
        for (place, debt) in places {
            if self.debts.len() >= self.most && !self.debts.contains_key(&place) {
                self.forgive(now);
            }
            self.debts.insert(place, debt);
        }
        Ok(())
    }

    /// Makes room: for those that owe nothing, and if that is not enough for half of the others.
    fn forgive(&mut self, now: Duration) {
        self.debts.retain(|_, debt| *debt > now);
        if self.debts.len() < self.most {
            return;
        }
        let mut debts: Vec<Duration> = self.debts.values().copied().collect();
        let half = debts.len() / 2;
        let (_, middle, _) = debts.select_nth_unstable(half);
        let (middle, mut left) = (*middle, half);
        self.debts.retain(|_, debt| {
            let goes = *debt < middle || (*debt == middle && left > 0);
            left -= usize::from(goes && left > 0);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TEN: Rate = Rate { count: 10, per: Duration::from_secs(60) };

    #[test]
    fn all_at_once_and_then_one_whenever_its_share_has_passed() {
        let mut rates = Rates::new(100);
        for _ in 0..10 {
            assert_eq!(rates.take(&"a", &[TEN], SECOND), Ok(()));
        }
        assert_eq!(rates.take(&"a", &[TEN], SECOND), Err(6 * SECOND));
        assert_eq!(rates.take(&"b", &[TEN], SECOND), Ok(()));
        assert_eq!(rates.take(&"a", &[TEN], 7 * SECOND), Ok(()));
        assert_eq!(rates.take(&"a", &[TEN], 7 * SECOND), Err(6 * SECOND));
        for _ in 0..10 {
            assert_eq!(rates.take(&"a", &[TEN], 100 * SECOND), Ok(()));
        }
    }

    #[test]
    fn the_slower_of_two_rates_counts_and_a_refusal_costs_nothing() {
        let three = Rate { count: 3, per: 3600 * SECOND };
        let mut rates = Rates::new(100);
        for _ in 0..3 {
            assert!(rates.take(&1, &[TEN, three], SECOND).is_ok());
        }
        for _ in 0..50 {
            assert_eq!(rates.take(&1, &[TEN, three], SECOND), Err(1200 * SECOND));
        }
        // Seven of the ten are left.
        for _ in 0..7 {
            assert!(rates.take(&1, &[TEN], SECOND).is_ok());
        }
        assert!(rates.take(&1, &[TEN], SECOND).is_err());
    }

    #[test]
    fn memory_is_bounded_and_who_owes_most_is_forgiven_last() {
        let mut rates = Rates::new(1000);
        for _ in 0..10 {
            rates.take(&0, &[TEN], SECOND).unwrap();
        }
        for key in 1..100_000 {
            assert!(rates.take(&key, &[TEN], SECOND).is_ok());
            assert!(rates.debts.len() <= 1000);
        }
        assert!(rates.take(&0, &[TEN], SECOND).is_err());
    }

    #[test]
    fn nothing_is_kept_of_who_owes_nothing() {
        let mut rates = Rates::new(2);
        for key in 0..2 {
            rates.take(&key, &[TEN], SECOND).unwrap();
        }
        rates.take(&3, &[TEN], 100 * SECOND).unwrap();
        assert_eq!(rates.debts.len(), 1);
    }
}
