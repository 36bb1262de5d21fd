//! What is remembered of a domain's policy, and what follows when it is asked for. No clock and no network.

use std::time::Duration;

use waypost_mail::Timestamp;

use super::{Mode, Policy};

/// A policy is fetched again ahead of its end, at the latest after this time.
const REFRESH_AFTER: Duration = Duration::from_secs(86_400);
/// A policy host that failed is left alone for so long (RFC 8461 §3.3).
const LEFT_ALONE: Duration = Duration::from_secs(300);
/// A policy of a domain that gets no mail for so long is not refreshed any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(90 * 86_400);

/// A policy as it was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// What its TXT record called it.
    pub(crate) id: String,
    pub(crate) policy: Policy,
    pub(crate) fetched: Timestamp,
    /// When mail last asked for it.
    pub(crate) used: Timestamp,
}

/// What DNS says about a domain's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Announced {
    /// There is one, of this id.
    Id(String),
    /// There is none.
    Nothing,
    /// DNS did not answer.
    Unknown,
}

/// What to do for mail that is about to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The known policy is good.
    Use,
    /// It is good, and to be fetched again beside.
    UseAndRefresh,
    /// There is none that is known: it must be fetched before mail leaves. The known one, if it is still
    /// good, stands in when that fails.
    Fetch,
    /// There is no policy.
    None,
}

impl Known {
    /// When it ends.
    pub(crate) fn expires(&self) -> Timestamp {
        self.fetched.after(self.policy.max_age)
    }

    /// True until it ends, whatever DNS says meanwhile (RFC 8461 §5.1).
    pub(crate) fn is_good(&self, now: Timestamp) -> bool {
        now < self.expires()
    }

    /// True when it should be fetched again so that it does not end while its host is away
    /// (RFC 8461 §10.2): after a day, or half of its time.
    pub(crate) fn is_stale(&self, now: Timestamp) -> bool {
        now.since(self.fetched) >= REFRESH_AFTER.min(self.policy.max_age / 2)
    }

    /// True when nobody asks for it any more.
    pub(crate) fn is_forgotten(&self, now: Timestamp) -> bool {
        now.since(self.used) >= FORGOTTEN_AFTER
    }

    /// As it is kept in the ledger.
    pub(crate) fn write(&self) -> String {
        format!("{} {} {}\n{}", self.fetched.0, self.used.0, self.id, self.policy)
    }

    /// What [`Known::write`] has written.
    pub(crate) fn read(text: &[u8]) -> Option<Known> {
        let text = std::str::from_utf8(text).ok()?;
        let (first, policy) = text.split_once('\n')?;
        let mut words = first.split(' ');
        let fetched = Timestamp(words.next()?.parse().ok()?);
        let used = Timestamp(words.next()?.parse().ok()?);
        let id = words.next()?.to_owned();
        let policy = Policy::parse(policy.as_bytes()).ok()?;
        Some(Known { id, policy, fetched, used })
    }
}

/// True when the policy host failed so lately that it is not asked again.
pub(crate) fn is_left_alone(failed: Timestamp, now: Timestamp) -> bool {
    now.since(failed) < LEFT_ALONE
}

/// What to do, from what is known, what DNS says, and when fetching failed last.
pub(crate) fn step(
    known: Option<&Known>,
    announced: &Announced,
    failed: Option<Timestamp>,
    now: Timestamp,
) -> Step {
    let known = known.filter(|known| known.is_good(now));
    let left_alone = failed.is_some_and(|failed| is_left_alone(failed, now));
    match (known, announced) {
        (Some(known), Announced::Id(id)) if known.id != *id && !left_alone => Step::Fetch,
        (Some(known), Announced::Id(_)) if known.is_stale(now) && !left_alone => {
            Step::UseAndRefresh
        }
        // Whoever can hide the record must not be able to turn the policy off.
        (Some(_), _) => Step::Use,
        (None, Announced::Id(_)) if !left_alone => Step::Fetch,
        (None, _) => Step::None,
    }
}

/// The mode in which a known policy is used; none where it says that there is none.
pub(crate) fn in_force(known: &Known) -> Option<&Policy> {
    (known.policy.mode != Mode::None).then_some(&known.policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const START: Timestamp = Timestamp(1_800_000_000_000);

    fn known(max_age: Duration) -> Known {
        let policy = Policy { mode: Mode::Enforce, max_age, mx: vec!["mx.example".into()] };
        Known { id: "1".into(), policy, fetched: START, used: START }
    }

    fn id(text: &str) -> Announced {
        Announced::Id(text.to_owned())
    }

    #[test]
    fn a_policy_is_used_refreshed_replaced_and_ends() {
        let week = known(168 * HOUR);
        let at = |hours: u32, announced: &Announced| {
            step(Some(&week), announced, None, START.after(HOUR * hours))
        };
        assert_eq!(at(1, &id("1")), Step::Use);
        assert_eq!(at(24, &id("1")), Step::UseAndRefresh);
        assert_eq!(at(1, &id("2")), Step::Fetch);
        // The record may vanish, by mistake or by an attacker: the policy stays.
        assert_eq!(at(1, &Announced::Nothing), Step::Use);
        assert_eq!(at(167, &Announced::Unknown), Step::Use);
        assert_eq!(at(168, &Announced::Nothing), Step::None);
        assert_eq!(at(168, &Announced::Unknown), Step::None);
        assert_eq!(at(168, &id("1")), Step::Fetch);
    }

    #[test]
    fn a_host_that_failed_is_left_alone_for_five_minutes() {
        let week = known(168 * HOUR);
        let failed = Some(START);
        for (seconds, known, announced, expected) in [
            (299, None, "1", Step::None),
            (300, None, "1", Step::Fetch),
            (299, Some(&week), "2", Step::Use),
            (300, Some(&week), "2", Step::Fetch),
        ] {
            let now = START.after(Duration::from_secs(seconds));
            assert_eq!(step(known, &id(announced), failed, now), expected, "{seconds} {announced}");
        }
    }

    #[test]
    fn short_policies_are_refreshed_at_half_time() {
        let short = known(2 * HOUR);
        assert!(!short.is_stale(START.after(HOUR / 2)) && short.is_stale(START.after(HOUR)));
        assert!(!short.is_forgotten(START.after(24 * 89 * HOUR)));
        assert!(short.is_forgotten(START.after(24 * 90 * HOUR)));
        assert!(known(Duration::ZERO).is_stale(START) && !known(Duration::ZERO).is_good(START));
    }

    #[test]
    fn without_a_record_there_is_no_policy() {
        for announced in [Announced::Nothing, Announced::Unknown] {
            assert_eq!(step(None, &announced, None, START), Step::None);
        }
        assert_eq!(step(None, &id("1"), None, START), Step::Fetch);
        let mut none = known(HOUR);
        assert!(in_force(&none).is_some());
        none.policy.mode = Mode::None;
        assert!(in_force(&none).is_none());
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let known = known(HOUR);
        assert_eq!(Known::read(known.write().as_bytes()), Some(known));
        for bad in [
            "",
            "1 2 3",
            "1 2 x\nversion: STSv1\n",
            "a b c\nversion: STSv1\nmode: none\nmax_age: 1",
        ] {
            assert_eq!(Known::read(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
