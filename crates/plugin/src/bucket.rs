//! Token buckets, one for each key of each name in the configuration.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use waypost_mail::Timestamp;

use crate::Bucket;

/// Most keys of one bucket; past them those that are full again are forgotten, then the fullest
/// tenth.
const MAX_KEYS: usize = 100_000;
/// Tokens are counted in millionths, so that slow rates add up.
const WHOLE: u128 = 1_000_000;

/// The levels of all buckets. They outlive generations; each of those takes by its own settings.
#[derive(Debug, Default)]
pub(crate) struct Buckets(Mutex<HashMap<String, HashMap<String, Level>>>);

#[derive(Debug, Clone, Copy)]
struct Level {
    millionths: u128,
    at: Timestamp,
}

/// What came of taking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) allowed: bool,
    pub(crate) remaining: u64,
    pub(crate) retry_after_ms: u64,
}

impl Buckets {
    /// Forgets the levels of buckets that are not there any more.
    pub(crate) fn keep_only(&self, settings: &BTreeMap<String, Bucket>) {
        let mut levels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        levels.retain(|name, _| settings.contains_key(name));
    }

    /// Takes `tokens` for `key` from the bucket of this name and these settings, all or none.
    pub(crate) fn take(
        &self,
        (name, bucket): (&str, &Bucket),
        key: &str,
        tokens: u32,
        now: Timestamp,
    ) -> Taken {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = all.entry(name.to_owned()).or_default();
        if keys.len() >= MAX_KEYS && !keys.contains_key(key) {
            make_room(keys, bucket, now);
        }
        let full = Level { millionths: u128::from(bucket.burst) * WHOLE, at: now };
        let level = keys.entry(key.to_owned()).or_insert(full);
        level.take(bucket, tokens, now)
    }
}

impl Level {
    fn refill(&mut self, bucket: &Bucket, now: Timestamp) {
        let per = bucket.per.as_millis().max(1);
        let passed = u128::from(now.0.saturating_sub(self.at.0));
        let gained = passed * u128::from(bucket.tokens) * WHOLE / per;
        self.millionths = (self.millionths + gained).min(u128::from(bucket.burst) * WHOLE);
        self.at = now;
    }

    fn take(&mut self, bucket: &Bucket, tokens: u32, now: Timestamp) -> Taken {
        self.refill(bucket, now);
        let wanted = u128::from(tokens) * WHOLE;
        let allowed = wanted <= self.millionths;
        let mut retry_after_ms = 0;
        if allowed {
            self.millionths -= wanted;
        } else if tokens > bucket.burst || bucket.tokens == 0 {
            retry_after_ms = u64::MAX;
        } else {
            let rate = u128::from(bucket.tokens) * WHOLE;
            let missing = (wanted - self.millionths) * bucket.per.as_millis().max(1);
            retry_after_ms = u64::try_from(missing.div_ceil(rate)).unwrap_or(u64::MAX);
        }
        let remaining = u64::try_from(self.millionths / WHOLE).unwrap_or(u64::MAX);
        Taken { allowed, remaining, retry_after_ms }
    }
}

fn make_room(keys: &mut HashMap<String, Level>, bucket: &Bucket, now: Timestamp) {
    let full = u128::from(bucket.burst) * WHOLE;
    keys.retain(|_, level| {
        level.refill(bucket, now);
        level.millionths < full
    });
    if keys.len() <= MAX_KEYS - MAX_KEYS / 10 {
        return;
    }
    // A tenth at once, so that a flood of keys does not look through all of them for each.
    let mut levels: Vec<(u128, String)> =
        keys.iter().map(|(key, level)| (level.millionths, key.clone())).collect();
    levels.sort_unstable_by(|one, other| other.cmp(one));
    let over = keys.len() - (MAX_KEYS - MAX_KEYS / 10);
    for (_, key) in levels.iter().take(over) {
        keys.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn bucket(tokens: u32, burst: u32) -> Bucket {
        Bucket { tokens, per: Duration::from_secs(60), burst }
    }

    #[test]
    fn fills_up_with_time_and_no_further() {
        let (buckets, bucket) = (Buckets::default(), bucket(60, 2));
        let take = |tokens, at| buckets.take(("b", &bucket), "k", tokens, Timestamp(at));
        assert!(take(2, 1000).allowed);
        let refused = take(1, 1000);
        assert_eq!((refused.allowed, refused.retry_after_ms), (false, 1000));
        assert!(!take(1, 1999).allowed && take(1, 2000).allowed);
        assert_eq!(take(0, 1_000_000).remaining, 2);
        assert_eq!(take(3, 1_000_000).retry_after_ms, u64::MAX);
    }

    #[test]
    fn many_small_steps_add_up_and_the_clock_may_go_back() {
        let (buckets, bucket) = (Buckets::default(), bucket(1, 1));
        let take = |tokens, at| buckets.take(("b", &bucket), "k", tokens, Timestamp(at));
        assert!(take(1, 100_000).allowed);
        for step in 1..60 {
            assert!(!take(1, 100_000 + step * 1000).allowed);
        }
        assert!(!take(1, 50_000).allowed);
        assert!(take(1, 50_000 + 60_000).allowed);
    }

    #[test]
    fn keys_and_names_are_apart() {
        let (buckets, bucket) = (Buckets::default(), bucket(1, 1));
        for (name, key) in [("b", "one"), ("b", "two"), ("c", "one")] {
            assert!(buckets.take((name, &bucket), key, 1, Timestamp(0)).allowed);
        }
    }

    #[test]
    fn generations_share_levels_and_not_settings() {
        let (buckets, wide, narrow) = (Buckets::default(), bucket(60, 10), bucket(60, 2));
        let take = |bucket, tokens| buckets.take(("b", bucket), "k", tokens, Timestamp(0));
        assert_eq!(take(&wide, 3).remaining, 7);
        assert!(!take(&narrow, 3).allowed, "one may not take more than its own burst");
        assert_eq!(take(&wide, 0).remaining, 2, "what both took is gone for both");
        buckets.keep_only(&BTreeMap::new());
        assert_eq!(take(&wide, 0).remaining, 10);
    }
}
