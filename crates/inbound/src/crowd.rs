//! The sessions there are: how many in all, from each address and each network, and who has to leave
//! when there is room for no more.
//!
//! A flood of connections that say nothing must not keep mail out. When the house is full, those who
//! are of no use to anybody are sent home to let a newcomer in: first who has never said a word, then
//! who has not said one for a while outside a transaction; of these, those from the most crowded
//! network first, and then those who have been silent longest. Nobody leaves for a newcomer whose own
//! network is as crowded, so that a flood cannot drive others out. Peers in our own networks, users
//! who logged in, and who is sending a message are never sent home.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use waypost_mail::network::masked;
use waypost_mutant::planted;

use crate::Limits;
use crate::rates::Rates;

/// Silence is nothing strange for so long: an answer may be on its way.
const SILENT: Duration = Duration::from_secs(1);
/// Nor is it between two messages.
const IDLE: Duration = Duration::from_secs(10);
/// Part of all sessions that is sent home in one go, so that a flood does not make us look at
/// everybody for each connection.
const SHARE: usize = 64;
/// Addresses and networks whose rates are remembered.
const REMEMBERED: usize = 65_536;

/// Why a peer may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// Too many sessions in all.
    House,
    /// Too many from this address.
    Address,
    /// Too many from this network.
    Network,
    /// Too many new ones from this address.
    AddressRate,
    /// Too many new ones from this network.
    NetworkRate,
    /// Too many logins from this address failed.
    ShutOut,
}

/// What a session is good for at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Use {
    /// It has not said anything yet.
    Silent,
    /// It has, and is not sending a message.
    Idle,
    /// It may stay.
    Busy,
}

/// Everybody who is here.
#[derive(Debug)]
pub(crate) struct Crowd {
    began: Instant,
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    next: u64,
    guests: HashMap<u64, Place>,
    addresses: HashMap<IpAddr, usize>,
    networks: HashMap<IpAddr, usize>,
    address_rates: Rates<IpAddr>,
    network_rates: Rates<IpAddr>,
}

/// A guest, and for whom it counts.
#[derive(Debug)]
struct Place {
    address: IpAddr,
    network: IpAddr,
    guest: Arc<Guest>,
}

#[derive(Debug)]
struct Guest {
    /// A [`Use`].
    use_of: AtomicU8,
    /// In milliseconds since the crowd began.
    last_word: AtomicU64,
    sent_home: Notify,
}

/// The right to be here; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Pass {
    crowd: Arc<Crowd>,
    number: u64,
    guest: Arc<Guest>,
}

impl Default for Crowd {
    fn default() -> Crowd {
        let inside = Inside {
            next: 0,
            guests: HashMap::new(),
            addresses: HashMap::new(),
            networks: HashMap::new(),
            address_rates: Rates::new(REMEMBERED),
            network_rates: Rates::new(REMEMBERED),
        };
        Crowd { began: Instant::now(), inside: Mutex::new(inside) }
    }
}

impl Crowd {
    /// Lets a peer in, and sends others home for it if need be; how many were, comes with the pass.
    /// A `listed` peer is bound by the number of all sessions alone.
    pub(crate) fn enter(
        self: &Arc<Crowd>,
        peer: IpAddr,
        listed: bool,
        limits: &Limits,
    ) -> Result<(Pass, usize), Full> {
        let (address, network) = limits.places(peer);
        let now = self.began.elapsed();
        let mut inside = self.inside();
        if !listed {
            inside.admits(address, network, limits, now)?;
        }
        let mut left = 0;
        let most = limits.max_sessions + usize::from(planted!("a session too many"));
        if inside.guests.len() >= most {
            let crowded = if listed { 0 } else { count(&inside.networks, network) };
            left = inside.send_home(crowded, limits, now);
            if left == 0 {
                return Err(Full::House);
            }
        }
        let guest = Arc::new(Guest {
            use_of: AtomicU8::new(if listed { Use::Busy } else { Use::Silent } as u8),
            last_word: AtomicU64::new(millis(now)),
            sent_home: Notify::new(),
        });
        let number = inside.add(Place { address, network, guest: guest.clone() });
        Ok((Pass { crowd: self.clone(), number, guest }, left))
    }

    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    /// Holds the peer against the limits of its address and network.
    fn has_room(&self, address: IpAddr, network: IpAddr, limits: &Limits) -> Result<(), Full> {
        if count(&self.addresses, address) >= limits.max_sessions_per_address {
            return Err(Full::Address);
        }
        if count(&self.networks, network) >= limits.max_sessions_per_network {
            return Err(Full::Network);
        }
        Ok(())
    }

    /// Counts a new session.
    fn admits(
        &mut self,
        address: IpAddr,
        network: IpAddr,
        limits: &Limits,
        now: Duration,
    ) -> Result<(), Full> {
        self.has_room(address, network, limits)?;
        let (each, all) = (&limits.session_rate_per_address, &limits.session_rate_per_network);
        self.address_rates.take(&address, each.as_slice(), now).map_err(|_| Full::AddressRate)?;
        self.network_rates.take(&network, all.as_slice(), now).map_err(|_| Full::NetworkRate)
    }

    fn add(&mut self, place: Place) -> u64 {
        self.next += 1;
        self.put(self.next, place);
        self.next
    }

    fn put(&mut self, number: u64, place: Place) {
        *self.addresses.entry(place.address).or_default() += 1;
        *self.networks.entry(place.network).or_default() += 1;
        self.guests.insert(number, place);
    }

    fn remove(&mut self, number: u64) -> Option<Place> {
        let place = self.guests.remove(&number)?;
        less(&mut self.addresses, place.address);
        less(&mut self.networks, place.network);
        Some(place)
    }

    /// Sends home some of those who are of no use and come from networks with more than `crowded`
    /// sessions; how many.
    fn send_home(&mut self, crowded: usize, limits: &Limits, now: Duration) -> usize {
        let mut candidates: Vec<_> = self
            .guests
            .iter()
            .filter_map(|(number, place)| {
                let use_of = place.guest.useless_for(limits, now)?;
                let others = count(&self.networks, place.network);
                let last_word = place.guest.last_word.load(Ordering::Relaxed);
                let order = (use_of, std::cmp::Reverse(others), last_word, *number);
                (others > crowded).then_some(order)
            })
            .collect();
        let most = (limits.max_sessions / SHARE).max(1);
        if candidates.len() > most {
            candidates.select_nth_unstable(most);
            candidates.truncate(most);
        }
        for (.., number) in &candidates {
            if let Some(place) = self.remove(*number) {
                place.guest.sent_home.notify_one();
            }
        }
        candidates.len()
    }
}

impl Guest {
    /// Its use, when that is none and has been for long enough.
    fn useless_for(&self, limits: &Limits, now: Duration) -> Option<u8> {
        let use_of = self.use_of.load(Ordering::Relaxed);
        let borne = match use_of {
            use_of if use_of == Use::Silent as u8 => SILENT + limits.greet_pause,
            use_of if use_of == Use::Idle as u8 => IDLE,
            _ => return None,
        };
        let silent = millis(now).saturating_sub(self.last_word.load(Ordering::Relaxed));
        (silent >= millis(borne)).then_some(use_of)
    }
}

impl Pass {
    /// The peer said something, and is of this use now.
    pub(crate) fn spoke(&self, use_of: Use) {
        let now = millis(self.crowd.began.elapsed());
        self.guest.last_word.store(now, Ordering::Relaxed);
        self.guest.use_of.store(use_of as u8, Ordering::Relaxed);
    }

    /// The peer is somebody else than was thought: it counts for another address from now on.
    ///
    /// # Errors
    /// When there are enough sessions from there.
    pub(crate) fn readdress(
        &self,
        peer: IpAddr,
        listed: bool,
        limits: &Limits,
    ) -> Result<(), Full> {
        let (address, network) = limits.places(peer);
        let mut inside = self.crowd.inside();
        let Some(place) = inside.remove(self.number) else { return Ok(()) };
        let room = if listed { Ok(()) } else { inside.has_room(address, network, limits) };
        let place = match room {
            Ok(()) => Place { address, network, ..place },
            Err(_) => place,
        };
        inside.put(self.number, place);
        room
    }

    /// Waits until the peer has to leave for others.
    pub(crate) async fn sent_home(&self) {
        self.guest.sent_home.notified().await;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let _place = self.crowd.inside().remove(self.number);
    }
}

impl Limits {
    /// The address and the network that a peer counts for.
    pub(crate) fn places(&self, peer: IpAddr) -> (IpAddr, IpAddr) {
        let prefixes = &self.prefixes;
        match peer.to_canonical() {
            v4 @ IpAddr::V4(_) => (v4, masked(v4, prefixes.v4_network)),
            v6 @ IpAddr::V6(_) => {
                (masked(v6, prefixes.v6_address), masked(v6, prefixes.v6_network))
            }
        }
    }
}

fn count(counts: &HashMap<IpAddr, usize>, of: IpAddr) -> usize {
    counts.get(&of).copied().unwrap_or_default()
}

fn less(counts: &mut HashMap<IpAddr, usize>, of: IpAddr) {
    if let Some(count) = counts.get_mut(&of) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&of);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::Rate;

    fn limits() -> Limits {
        Limits {
            max_sessions: 4,
            max_sessions_per_address: 2,
            max_sessions_per_network: 3,
            ..Limits::default()
        }
    }

    fn enter(crowd: &Arc<Crowd>, peer: &str) -> Result<Pass, Full> {
        crowd.enter(peer.parse().unwrap(), false, &limits()).map(|(pass, _)| pass)
    }

    async fn is_sent_home(pass: &Pass) -> bool {
        tokio::time::timeout(Duration::ZERO, pass.sent_home()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_networks_and_the_house_have_room_for_so_many() {
        let crowd = Arc::<Crowd>::default();
        let _one = enter(&crowd, "2001:db8:1:1::1").unwrap();
        let two = enter(&crowd, "2001:db8:1:1::2").unwrap();
        assert_eq!(enter(&crowd, "2001:db8:1:1::3").unwrap_err(), Full::Address);
        let _three = enter(&crowd, "2001:db8:1:2::1").unwrap();
        assert_eq!(enter(&crowd, "2001:db8:1:3::1").unwrap_err(), Full::Network);
        let _four = enter(&crowd, "192.0.2.1").unwrap();
        assert_eq!(enter(&crowd, "192.0.2.2").unwrap_err(), Full::House);
        drop(two);
        let five = enter(&crowd, "192.0.2.2").unwrap();
        drop((_one, _three, _four, five));
        let inside = crowd.inside();
        assert!(inside.guests.is_empty() && inside.addresses.is_empty());
        assert!(inside.networks.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_listed_peer_is_bound_by_the_house_alone() {
        let crowd = Arc::<Crowd>::default();
        let enter = || crowd.enter("192.0.2.1".parse().unwrap(), true, &limits());
        let passes: Vec<_> = (0..4).map(|_| enter().unwrap()).collect();
        advance(Duration::from_secs(100)).await;
        // And nobody sends it home.
        assert_eq!(enter().unwrap_err(), Full::House);
        assert_eq!(count(&crowd.inside().networks, "192.0.2.0".parse().unwrap()), 4);
        drop(passes);
    }

    #[tokio::test(start_paused = true)]
    async fn the_silent_leave_before_the_idle_and_the_busy_never() {
        let crowd = Arc::<Crowd>::default();
        let silent = enter(&crowd, "192.0.2.1").unwrap();
        let idle = enter(&crowd, "192.0.2.2").unwrap();
        let busy = enter(&crowd, "198.51.100.1").unwrap();
        let again = enter(&crowd, "198.51.100.2").unwrap();
        idle.spoke(Use::Idle);
        for pass in [&busy, &again] {
            pass.spoke(Use::Busy);
        }
        assert_eq!(enter(&crowd, "203.0.113.1").unwrap_err(), Full::House);
        advance(SILENT).await;
        let newcomer = enter(&crowd, "203.0.113.1").unwrap();
        assert!(is_sent_home(&silent).await && !is_sent_home(&idle).await);
        newcomer.spoke(Use::Busy);
        assert_eq!(enter(&crowd, "203.0.113.2").unwrap_err(), Full::House);
        advance(IDLE).await;
        let _another = enter(&crowd, "203.0.114.2").unwrap();
        assert!(
            is_sent_home(&idle).await && !is_sent_home(&busy).await && !is_sent_home(&again).await
        );
        // A pass of somebody who was sent home takes nothing away when it is dropped.
        drop((silent, idle));
        assert_eq!(crowd.inside().guests.len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_leaves_for_others_and_nobody_for_a_crowd() {
        let crowd = Arc::<Crowd>::default();
        let lone = enter(&crowd, "203.0.113.1").unwrap();
        advance(Duration::from_millis(1)).await;
        let flood: Vec<_> =
            (1..4).map(|n| enter(&crowd, &format!("192.0.2.{n}")).unwrap()).collect();
        advance(SILENT).await;
        // It has its three, and may not have the place of another.
        assert_eq!(enter(&crowd, "192.0.2.4").unwrap_err(), Full::Network);
        let newcomer = enter(&crowd, "198.51.100.1").unwrap();
        assert!(
            is_sent_home(&flood[0]).await && !is_sent_home(&lone).await,
            "longest silent of the crowd"
        );
        assert_eq!(enter(&crowd, "203.0.113.2").map(drop), Ok(()));
        drop(newcomer);
    }

    #[tokio::test(start_paused = true)]
    async fn who_turns_out_to_be_another_counts_for_that_one() {
        let crowd = Arc::<Crowd>::default();
        let _there = [enter(&crowd, "192.0.2.1").unwrap(), enter(&crowd, "192.0.2.1").unwrap()];
        let pass = enter(&crowd, "203.0.113.1").unwrap();
        let readdress = |to: &str| pass.readdress(to.parse().unwrap(), false, &limits());
        assert_eq!(readdress("192.0.2.1"), Err(Full::Address));
        assert_eq!(readdress("203.0.113.1"), Ok(()));
        assert_eq!(readdress("192.0.2.2"), Ok(()));
        assert_eq!(count(&crowd.inside().networks, "192.0.2.0".parse().unwrap()), 3);
        drop(pass);
        assert_eq!(count(&crowd.inside().networks, "192.0.2.0".parse().unwrap()), 2);
        assert_eq!(crowd.inside().addresses.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn new_sessions_have_a_rate() {
        let crowd = Arc::<Crowd>::default();
        let two = |seconds| Some(Rate { count: 2, per: Duration::from_secs(seconds) });
        let limits = Limits {
            session_rate_per_address: two(60),
            session_rate_per_network: Some(Rate { count: 3, per: Duration::from_secs(60) }),
            ..Limits::default()
        };
        let enter = |peer: &str| crowd.enter(peer.parse().unwrap(), false, &limits).map(drop);
        assert_eq!(enter("192.0.2.1"), Ok(()));
        assert_eq!(enter("192.0.2.1"), Ok(()));
        assert_eq!(enter("192.0.2.1"), Err(Full::AddressRate));
        assert_eq!(enter("192.0.2.2"), Ok(()));
        assert_eq!(enter("192.0.2.3"), Err(Full::NetworkRate));
        assert_eq!(enter("198.51.100.1"), Ok(()));
        advance(Duration::from_secs(30)).await;
        assert_eq!(enter("192.0.2.1"), Ok(()));
    }
}
