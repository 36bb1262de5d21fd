//! Logins that failed: who guesses is slowed down, and shut out by address.
//!
//! What slows down is counted by address and user together, and what shuts out by address alone:
//! whoever hammers at a user's name from one place changes nothing for that user at another.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use waypost_mail::Network;

use crate::gate::neighbourhood;

/// Pairs of address and user that are remembered.
const MAX_PAIRS: usize = 50_000;
/// Addresses that are remembered.
const MAX_ADDRESSES: usize = 50_000;

/// What failed logins lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureRules {
    /// How long the next login of the same user from the same address (an IPv6 /64) waits after one
    /// that failed; twice as long after each further one.
    pub delay: Duration,
    /// The longest wait. Who would have to wait longer, because others wait already, is put off.
    pub max_delay: Duration,
    /// So many failures of one address within `window` shut it out; 0 never does.
    pub ban_after: u32,
    /// How long failures count.
    pub window: Duration,
    /// How long an address is shut out.
    pub ban: Duration,
    /// These are never shut out, and neither are the networks that may relay.
    pub never_ban: Vec<Network>,
}

impl Default for FailureRules {
    fn default() -> FailureRules {
        FailureRules {
            delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(16),
            ban_after: 20,
            window: Duration::from_secs(600),
            ban: Duration::from_secs(3600),
            never_ban: Vec::new(),
        }
    }
}

/// Failures of late. Takes a bounded room: of too many, those that are longest ago are forgotten.
#[derive(Debug)]
pub(crate) struct Failures {
    names: RandomState,
    recent: Mutex<Recent>,
}

#[derive(Debug)]
struct Recent {
    pairs: Bounded<(IpAddr, u64), Guessing>,
    addresses: Bounded<IpAddr, Count>,
}

/// A user's logins from one address.
#[derive(Debug, Clone, Copy)]
struct Guessing {
    failures: u32,
    last: Instant,
    /// When the next one may be checked.
    next: Instant,
}

/// An address's failures since then.
#[derive(Debug, Clone, Copy)]
struct Count {
    failures: u32,
    since: Instant,
}

impl Failures {
    pub(crate) fn new() -> Failures {
        Failures::of_at_most(MAX_PAIRS, MAX_ADDRESSES)
    }

    fn of_at_most(pairs: usize, addresses: usize) -> Failures {
        let recent = Recent { pairs: Bounded::new(pairs), addresses: Bounded::new(addresses) };
        Failures { names: RandomState::new(), recent: Mutex::new(recent) }
    }

    /// How long a login of this user from there has to wait; `None` when too many wait already.
    /// Each that waits makes the next one wait longer, so that many at once gain nothing.
    pub(crate) fn wait(
        &self,
        peer: IpAddr,
        user: &str,
        rules: &FailureRules,
        now: Instant,
    ) -> Option<Duration> {
        let key = self.key(peer, user);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(guessing) = recent.pairs.get_mut(&key) else { return Some(Duration::ZERO) };
        if now.duration_since(guessing.last) >= rules.window {
            recent.pairs.remove(&key);
            return Some(Duration::ZERO);
        }
        let begins = guessing.next.max(now);
        let wait = begins.duration_since(now);
        if wait > rules.max_delay {
            return None;
        }
        guessing.next = begins + rules.delay_after(guessing.failures);
        Some(wait)
    }

    /// How long it is until a login of this user from there may be tried again, for doors that send
    /// home who comes too early instead of keeping them.
    pub(crate) fn early(
        &self,
        peer: IpAddr,
        user: &str,
        rules: &FailureRules,
        now: Instant,
    ) -> Duration {
        let key = self.key(peer, user);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let guessing = recent.pairs.get_mut(&key);
        let counts = |guessing: &&mut Guessing| now.duration_since(guessing.last) < rules.window;
        guessing.filter(counts).map_or(Duration::ZERO, |guessing| guessing.next.duration_since(now))
    }

    /// Notes that a login failed. True when the address has gone too far and is to be shut out.
    pub(crate) fn failed(
        &self,
        peer: IpAddr,
        user: &str,
        rules: &FailureRules,
        now: Instant,
    ) -> bool {
        let key = self.key(peer, user);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let first = Guessing { failures: 0, last: now, next: now };
        let guessing = recent.pairs.touch(key, first);
        guessing.failures = guessing.failures.saturating_add(1);
        guessing.last = now;
        guessing.next = guessing.next.max(now + rules.delay_after(guessing.failures));
        let count = recent.addresses.touch(key.0, Count { failures: 0, since: now });
        if now.duration_since(count.since) >= rules.window {
            *count = Count { failures: 0, since: now };
        }
        count.failures = count.failures.saturating_add(1);
        let too_far = rules.ban_after > 0 && count.failures >= rules.ban_after;
        if too_far {
            recent.addresses.remove(&key.0);
        }
        too_far
    }

    /// The user is in: nobody there has to wait any more. The address's failures stay, or one known
    /// password would be enough to guess others for ever.
    pub(crate) fn succeeded(&self, peer: IpAddr, user: &str) {
        let key = self.key(peer, user);
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).pairs.remove(&key);
    }

    /// Names of strangers are not kept, only what tells them apart.
    fn key(&self, peer: IpAddr, user: &str) -> (IpAddr, u64) {
        (neighbourhood(peer), self.names.hash_one(user))
    }
}

impl FailureRules {
    fn delay_after(&self, failures: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
        self.delay.saturating_mul(factor).min(self.max_delay)
    }
}

/// A map with a bounded number of entries. The one that was touched longest ago makes room.
#[derive(Debug)]
struct Bounded<K, V> {
    most: usize,
    entries: HashMap<K, (V, u64)>,
    /// Keys by the order in which they were touched.
    order: BTreeMap<u64, K>,
    touches: u64,
}

impl<K: Copy + Eq + Hash, V> Bounded<K, V> {
    fn new(most: usize) -> Bounded<K, V> {
        Bounded { most, entries: HashMap::new(), order: BTreeMap::new(), touches: 0 }
    }

    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(value, _)| value)
    }

    /// The value, which is `first` where there is none.
    fn touch(&mut self, key: K, first: V) -> &mut V {
        if !self.entries.contains_key(&key)
            && self.entries.len() >= self.most
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.touches += 1;
        let (value, touched) = self.entries.entry(key).or_insert((first, 0));
        self.order.remove(touched);
        *touched = self.touches;
        self.order.insert(self.touches, key);
        value
    }

    fn remove(&mut self, key: &K) {
        if let Some((_, touched)) = self.entries.remove(key) {
            self.order.remove(&touched);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    fn seconds(wait: Option<Duration>) -> Option<u64> {
        wait.map(|wait| wait.as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn each_failure_doubles_the_wait_of_that_user_from_there_alone() {
        let (failures, rules, mut now) = (Failures::new(), FailureRules::default(), Instant::now());
        let here = at("192.0.2.1");
        assert_eq!(failures.wait(here, "alice", &rules, now), Some(Duration::ZERO));
        for expected in [1, 2, 4, 8, 16, 16] {
            failures.failed(here, "alice", &rules, now);
            let wait = failures.wait(here, "alice", &rules, now).unwrap();
            assert_eq!(wait, SECOND * expected);
            now += wait;
        }
        assert_eq!(failures.wait(at("192.0.2.2"), "alice", &rules, now), Some(Duration::ZERO));
        assert_eq!(failures.wait(here, "bob", &rules, now), Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn many_at_once_wait_in_a_row_and_some_are_put_off() {
        let (failures, rules, now) = (Failures::new(), FailureRules::default(), Instant::now());
        let here = at("2001:db8::1");
        let wait = |from: &str| seconds(failures.wait(at(from), "alice", &rules, now));
        (0..3).for_each(|_| assert!(!failures.failed(here, "alice", &rules, now)));
        let waits: Vec<_> = (0..6).map(|_| wait("2001:db8::2")).collect();
        assert_eq!(waits, [Some(4), Some(8), Some(12), Some(16), None, None], "the same /64");
        failures.succeeded(here, "alice");
        assert_eq!(wait("2001:db8::1"), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_forgotten_after_a_while() {
        let (failures, rules, now) = (Failures::new(), FailureRules::default(), Instant::now());
        let here = at("192.0.2.1");
        failures.failed(here, "alice", &rules, now);
        let later = now + rules.window;
        assert_eq!(failures.wait(here, "alice", &rules, later), Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_goes_too_far_is_shut_out_whatever_users_it_names() {
        let (failures, now) = (Failures::new(), Instant::now());
        let rules = FailureRules { ban_after: 3, ..FailureRules::default() };
        let fail = |from: &str, user: &str, now| failures.failed(at(from), user, &rules, now);
        assert!(!fail("192.0.2.1", "a", now) && !fail("192.0.2.1", "b", now));
        assert!(!fail("192.0.2.2", "a", now), "another address");
        failures.succeeded(at("192.0.2.1"), "c");
        assert!(fail("192.0.2.1", "c", now));
        assert!(!fail("192.0.2.1", "c", now), "and begins anew");
        let later = now + rules.window;
        assert!(!fail("192.0.2.2", "a", later) && !fail("192.0.2.2", "a", later));
        assert!(fail("192.0.2.2", "a", later));
        let never = FailureRules { ban_after: 0, ..FailureRules::default() };
        assert!((0..100).all(|_| !failures.failed(at("192.0.2.3"), "a", &never, now)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_room_is_bounded_and_the_oldest_make_room() {
        let (failures, now) = (Failures::of_at_most(2, 2), Instant::now());
        let rules = FailureRules { ban_after: 3, ..FailureRules::default() };
        for address in ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.3"] {
            failures.failed(at(address), "alice", &rules, now);
        }
        let recent = failures.recent.lock().unwrap();
        let kept = |address: &str| recent.addresses.entries.contains_key(&at(address));
        assert!(kept("192.0.2.1") && !kept("192.0.2.2") && kept("192.0.2.3"));
        assert_eq!((recent.pairs.entries.len(), recent.pairs.order.len()), (2, 2));
    }
}
