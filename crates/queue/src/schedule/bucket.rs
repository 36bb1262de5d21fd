//! So many in a time: leave that comes little by little, and is not saved up.

use std::time::Duration;

use waypost_mail::Timestamp;

use crate::classes::Rate;

/// Attempts that may begin now.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    tokens: f64,
    since: Timestamp,
}

impl Bucket {
    pub(super) fn new(rate: Rate) -> Bucket {
        Bucket { rate, tokens: f64::from(rate.count), since: Timestamp(0) }
    }

    /// Takes this much leave, whether there is so much or not.
    pub(super) fn spend(&mut self, tokens: f64, now: Timestamp) {
        self.refill(now);
        self.tokens -= tokens;
    }

    /// When there is a token more than are promised, from `now` on. When no more can be promised, that
    /// is looked at again after a while.
    pub(super) fn next(&mut self, now: Timestamp, promised: f64) -> Timestamp {
        self.refill(now);
        let missing = 1.0 + promised - self.tokens;
        if missing <= 0.0 {
            return now;
        }
        let missing = if promised + 1.0 > self.most() { 1.0 } else { missing };
        self.after(now, missing)
    }

    /// When it is as full as a new one, from `now` on.
    pub(super) fn full(&mut self, now: Timestamp) -> Timestamp {
        self.refill(now);
        let missing = self.most() - self.tokens;
        if missing <= 0.0 { now } else { self.after(now, missing) }
    }

    fn refill(&mut self, now: Timestamp) {
        // A clock that fell gives nothing and takes nothing.
        let gained = now.since(self.since).as_secs_f64() / self.per_token();
        self.since = now;
        self.tokens = (self.tokens + gained).min(self.most());
    }

    fn after(&self, now: Timestamp, tokens: f64) -> Timestamp {
        let wait = Duration::from_secs_f64(tokens * self.per_token());
        now.after(wait + Duration::from_millis(1))
    }

    fn most(&self) -> f64 {
        f64::from(self.rate.count.max(1))
    }

    /// Seconds.
    fn per_token(&self) -> f64 {
        self.rate.per.as_secs_f64() / self.most()
    }
}
