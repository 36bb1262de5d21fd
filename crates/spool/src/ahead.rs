//! Rows that are written and not given to the index on the disk yet. Most mail is gone again before it would be,
//! and the disk never hears of it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use waypost_mutant::planted;

use crate::row::Writes;
use crate::rows::Rows;

/// Octets of keys and values after which it is time to give them away.
const MANY: usize = 4 * 1024 * 1024;

/// What is ahead of the rows on the disk. Read by many, written by one.
#[derive(Debug, Default)]
pub(crate) struct Ahead(RwLock<Arc<Written>>);

/// The newest value of each key, or that it is removed.
#[derive(Debug, Default, Clone)]
struct Written {
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    octets: usize,
}

impl Ahead {
    pub(crate) fn write(&self, writes: Writes) {
        let mut written = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Whoever reads a range keeps what it began with.
        let written = Arc::make_mut(&mut written);
        for (key, value) in writes {
            written.octets += key.len() + value.as_ref().map_or(0, Vec::len);
            written.rows.insert(key, value);
        }
    }

    /// True when so much was written that it should not become more.
    pub(crate) fn is_heavy(&self) -> bool {
        self.now(|written| written.octets >= MANY)
    }

    /// All of it in one batch, and it is ahead of nothing any more. What it has stays readable here until the
    /// rows have it, and when they do not take it.
    pub(crate) fn give(&self, rows: &dyn Rows) -> Result<(), String> {
        let given = self.snapshot();
        if given.rows.is_empty() {
            return Ok(());
        }
        rows.apply(given.rows.iter().map(|(key, value)| (key.clone(), value.clone())).collect())?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::default();
        Ok(())
    }

    /// The value under a key, `Some(None)` when it was removed, `None` when nothing is known here.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        if planted!("what sled was not given yet is not there") {
            return None;
        }
        self.now(|written| written.rows.get(key).cloned())
    }

    /// Keys and values of `rows` as they are with this, from `from` on, until `each` answers false.
    pub(crate) fn range(
        &self,
        rows: &dyn Rows,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), String> {
        let written = self.snapshot();
        let bounds = (Bound::Included(from), Bound::Unbounded);
        let mut ahead = written.rows.range::<[u8], _>(bounds).peekable();
        let mut goes_on = true;
        rows.range(from, &mut |key, value| {
            while let Some((new, newer)) = ahead.next_if(|(new, _)| new.as_slice() < key) {
                goes_on = newer.as_ref().is_none_or(|newer| each(new, newer));
                if !goes_on {
                    return false;
                }
            }
            goes_on = match ahead.next_if(|(new, _)| new.as_slice() == key) {
                Some((_, newer)) => newer.as_ref().is_none_or(|newer| each(key, newer)),
                None => each(key, value),
            };
            goes_on
        })?;
        let _ = goes_on
            && ahead.all(|(new, newer)| newer.as_ref().is_none_or(|newer| each(new, newer)));
        Ok(())
    }

    fn now<T>(&self, look: impl FnOnce(&Written) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn snapshot(&self) -> Arc<Written> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bolero::check;

    use super::*;

    /// A map, and how many batches it was given.
    #[derive(Debug, Default)]
    struct Map(Mutex<Given>);

    type Given = (BTreeMap<Vec<u8>, Vec<u8>>, usize);

    impl Rows for Map {
        fn apply(&self, writes: Writes) -> Result<(), String> {
            let mut map = self.0.lock().unwrap();
            map.1 += 1;
            for (key, value) in writes {
                match value {
                    Some(value) => map.0.insert(key, value),
                    None => map.0.remove(&key),
                };
            }
            Ok(())
        }

        fn flush(&self) -> Result<(), String> {
            Ok(())
        }

        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
            Ok(self.0.lock().unwrap().0.get(key).cloned())
        }

        fn range(
            &self,
            from: &[u8],
            each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
        ) -> Result<(), String> {
            let map = self.0.lock().unwrap();
            let _ = map.0.range(from.to_vec()..).all(|(key, value)| each(key, value));
            Ok(())
        }
    }

    fn seen(ahead: &Ahead, rows: &Map, from: u8, most: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut seen = Vec::new();
        let mut each = |key: &[u8], value: &[u8]| {
            seen.push((key.to_vec(), value.to_vec()));
            seen.len() < most
        };
        ahead.range(rows, &[from], &mut each).unwrap();
        seen
    }

    #[test]
    fn what_is_ahead_reads_as_if_it_had_been_written_at_once() {
        /// A key is written, removed, or all of it is given away.
        type Deed = (u8, Option<u8>, bool);
        check!().with_type::<(Vec<Deed>, u8, u8)>().for_each(|(deeds, from, most)| {
            let (ahead, late, at_once) = (Ahead::default(), Map::default(), Map::default());
            for (key, value, gives) in deeds {
                let writes = vec![(vec![key % 16], value.map(|value| vec![value]))];
                at_once.apply(writes.clone()).unwrap();
                ahead.write(writes);
                if *gives {
                    ahead.give(&late).unwrap();
                }
            }
            let most = usize::from(most % 20).max(1);
            let expected = at_once.0.lock().unwrap().0.clone();
            let expected = expected.range(vec![from % 16]..).take(most);
            let expected: Vec<_> =
                expected.map(|(key, value)| (key.clone(), value.clone())).collect();
            assert_eq!(seen(&ahead, &late, from % 16, most), expected);
            for key in 0..16 {
                let key = vec![key];
                let value = ahead.get(&key).unwrap_or_else(|| late.get(&key).unwrap());
                assert_eq!(value, at_once.get(&key).unwrap());
            }
        });
    }

    #[test]
    fn much_that_is_written_is_given_in_one_batch() {
        let (ahead, rows) = (Ahead::default(), Map::default());
        for number in 0..100 {
            ahead.write(vec![(vec![number], Some(vec![0; MANY / 100]))]);
        }
        assert!(ahead.is_heavy());
        ahead.give(&rows).unwrap();
        ahead.give(&rows).unwrap();
        assert!(!ahead.is_heavy());
        assert_eq!(rows.0.lock().unwrap().1, 1);
    }

    #[test]
    fn whoever_reads_a_range_keeps_what_it_began_with() {
        let (ahead, rows) = (Ahead::default(), Map::default());
        ahead.write((0..4).map(|key| (vec![key], Some(vec![key]))).collect());
        let mut seen = 0;
        let mut each = |_: &[u8], _: &[u8]| {
            seen += 1;
            ahead.write((0..4).map(|key| (vec![key], None)).collect());
            true
        };
        ahead.range(&rows, &[0], &mut each).unwrap();
        assert_eq!(seen, 4);
        assert_eq!(ahead.get(&[0]), Some(None));
    }
}
