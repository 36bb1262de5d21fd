//! Ways on which we send too much: nothing goes there for a while, whichever message it is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use waypost_mail::Timestamp;

/// The first rest where the rule says nothing.
const FIRST: Duration = Duration::from_secs(300);
/// The longest rest, unless a rule asks for a longer one.
const LONGEST: Duration = Duration::from_secs(3600);
/// Ways remembered at once. There are as many as providers and destinations that complain.
const MOST: usize = 10_000;

/// A way: from which of our addresses to whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Way {
    /// The address, where the route chooses one.
    pub(crate) source: Option<IpAddr>,
    /// The provider, or the destination when none is known.
    pub(crate) to: String,
}

#[derive(Debug)]
struct Restraint {
    until: Timestamp,
    /// Complaints, each after a rest.
    strikes: u32,
}

/// All ways that rest. In memory only: after a restart a provider may have to say it again.
#[derive(Debug, Default)]
pub(crate) struct Restraints(Mutex<HashMap<Way, Restraint>>);

impl Restraints {
    /// There was a complaint. The way rests for as long as `asked`, or for 5 minutes, and twice as long after each
    /// further complaint, to an hour. Answers until when.
    pub(crate) fn restrain(&self, way: Way, asked: Option<Duration>, now: Timestamp) -> Timestamp {
        let mut ways = self.ways();
        if ways.len() >= MOST {
            ways.retain(|_, restraint| restraint.until > now);
        }
        let first = asked.unwrap_or(FIRST);
        if ways.len() >= MOST && !ways.contains_key(&way) {
            return now.after(first);
        }
        let restraint = ways.entry(way).or_insert(Restraint { until: now, strikes: 0 });
        // What was under way when the rest began tells nothing new.
        if restraint.until <= now {
            let wait = first.saturating_mul(1 << restraint.strikes.min(10));
            restraint.until = now.after(wait.min(LONGEST.max(first)));
            restraint.strikes = restraint.strikes.saturating_add(1);
        }
        restraint.until
    }

    /// Until when the way rests, if it does.
    pub(crate) fn until(&self, way: &Way, now: Timestamp) -> Option<Timestamp> {
        let ways = self.ways();
        ways.get(way).map(|restraint| restraint.until).filter(|until| *until > now)
    }

    /// Something was delivered that way after its rest: it is well.
    pub(crate) fn delivered(&self, way: &Way, now: Timestamp) {
        let mut ways = self.ways();
        if !ways.is_empty() && ways.get(way).is_some_and(|restraint| restraint.until <= now) {
            ways.remove(way);
        }
    }

    fn ways(&self) -> MutexGuard<'_, HashMap<Way, Restraint>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(to: &str) -> Way {
        Way { source: None, to: to.to_owned() }
    }

    fn minutes(count: u64) -> Duration {
        Duration::from_secs(60 * count)
    }

    #[test]
    fn rests_grow_with_each_complaint_and_end_with_a_delivery() {
        let restraints = Restraints::default();
        let mut now = Timestamp(1_000_000);
        for expected in [5, 10, 20, 40, 60, 60] {
            let until = restraints.restrain(way("big"), None, now);
            assert_eq!(until, now.after(minutes(expected)));
            let meanwhile = restraints.restrain(way("big"), None, now.after(minutes(1)));
            assert_eq!(meanwhile, until, "complaints during the rest are the same one");
            assert_eq!(restraints.until(&way("small"), now), None);
            restraints.delivered(&way("big"), now);
            assert_eq!(restraints.until(&way("big"), now), Some(until), "it was under way before");
            now = until;
        }
        restraints.delivered(&way("big"), now);
        let until = restraints.restrain(way("big"), Some(minutes(120)), now);
        assert_eq!(until, now.after(minutes(120)));
    }

    #[test]
    fn memory_is_bounded() {
        let restraints = Restraints::default();
        let now = Timestamp(0);
        for number in 0..2 * MOST {
            restraints.restrain(way(&number.to_string()), None, now);
        }
        assert_eq!(restraints.ways().len(), MOST);
        restraints.restrain(way("late"), None, now.after(minutes(6)));
        assert_eq!(restraints.ways().len(), 1);
    }
}
