//! Ways on which we send too much: nothing goes there for a while, whichever message it is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use waypost_mail::Timestamp;

/// The first rest where the rule says nothing.
const FIRST: Duration = Duration::from_secs(300);
/// The longest rest, unless a rule asks for a longer one.
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);
/// Ways remembered at once. There are as many as providers and destinations that complain.
pub(crate) const MOST: usize = 10_000;

/// A way: from which of our addresses to whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Way {
    /// The address, where the route chooses one.
    pub(crate) source: Option<IpAddr>,
    /// The provider, or the destination when none is known.
    pub(crate) to: String,
}

/// How long a way rests, and why so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Restraint {
    pub(crate) until: Timestamp,
    /// Complaints, each after a rest.
    pub(crate) strikes: u32,
}

/// What a complaint led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Restrained {
    pub(crate) restraint: Restraint,
    /// The rest began with it.
    pub(crate) anew: bool,
}

/// All ways that rest.
#[derive(Debug, Default)]
pub(crate) struct Restraints(Mutex<HashMap<Way, Restraint>>);

impl Restraints {
    /// There was a complaint. The way rests for as long as `asked`, or for 5 minutes, and twice as long after each
    /// further complaint, to an hour.
    pub(crate) fn restrain(&self, way: Way, asked: Option<Duration>, now: Timestamp) -> Restrained {
        let mut ways = self.ways();
        if ways.len() >= MOST {
            ways.retain(|_, restraint| restraint.until > now);
        }
        let first = asked.unwrap_or(FIRST);
        if ways.len() >= MOST && !ways.contains_key(&way) {
            let restraint = Restraint { until: now.after(first), strikes: 1 };
            return Restrained { restraint, anew: false };
        }
        let restraint = ways.entry(way).or_insert(Restraint { until: now, strikes: 0 });
        // What was under way when the rest began tells nothing new.
        let anew = restraint.until <= now;
        if anew {
            let wait = first.saturating_mul(1 << restraint.strikes.min(10));
            restraint.until = now.after(wait.min(LONGEST.max(first)));
            restraint.strikes = restraint.strikes.saturating_add(1);
        }
        Restrained { restraint: *restraint, anew }
    }

    /// A rest that was kept.
    pub(crate) fn recall(&self, way: Way, restraint: Restraint) {
        self.ways().insert(way, restraint);
    }

    /// Until when the way rests, if it does.
    pub(crate) fn until(&self, way: &Way, now: Timestamp) -> Option<Timestamp> {
        let ways = self.ways();
        ways.get(way).map(|restraint| restraint.until).filter(|until| *until > now)
    }

    /// Something was delivered that way after its rest: it is well. Answers whether it had rested.
    pub(crate) fn delivered(&self, way: &Way, now: Timestamp) -> bool {
        let mut ways = self.ways();
        let over =
            !ways.is_empty() && ways.get(way).is_some_and(|restraint| restraint.until <= now);
        if over {
            ways.remove(way);
        }
        over
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
            let begun = restraints.restrain(way("big"), None, now);
            let until = begun.restraint.until;
            assert_eq!((until, begun.anew), (now.after(minutes(expected)), true));
            let meanwhile = restraints.restrain(way("big"), None, now.after(minutes(1)));
            let same = Restrained { anew: false, ..begun };
            assert_eq!(meanwhile, same, "complaints during the rest are the same one");
            assert_eq!(restraints.until(&way("small"), now), None);
            assert!(!restraints.delivered(&way("big"), now));
            assert_eq!(restraints.until(&way("big"), now), Some(until), "it was under way before");
            now = until;
        }
        assert!(restraints.delivered(&way("big"), now));
        let long = restraints.restrain(way("big"), Some(minutes(120)), now).restraint;
        assert_eq!(long.until, now.after(minutes(120)));
        let other = Restraints::default();
        other.recall(way("big"), long);
        assert_eq!(other.until(&way("big"), now), Some(long.until), "also after a restart");
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
