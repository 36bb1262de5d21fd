//! Which of our own addresses a connection comes from, and who we say we are there.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;
use waypost_smtp::Domain;

use crate::Proxy;

/// How long an address is not used for a destination that refuses it, or when it cannot be used at all.
const REST: Duration = Duration::from_secs(900);
/// Pairs of address and destination that are remembered; past that, those whose rest ends first are
/// forgotten.
const REMEMBERED: usize = 10_000;

/// One source address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceAddress {
    /// An address of this machine, or of the proxy's.
    pub address: IpAddr,
    /// Who we say we are in EHLO from there; the relay's own name when absent.
    pub ehlo: Option<Domain>,
    /// Its part of the pool's mail; 0 counts as 1.
    pub weight: u16,
    /// Who has the address, if it is not this machine.
    pub proxy: Option<Proxy>,
}

impl SourceAddress {
    /// An address of this machine with nothing special about it.
    pub fn new(address: IpAddr) -> SourceAddress {
        SourceAddress { address, ehlo: None, weight: 1, proxy: None }
    }

    /// The address with the lowest lot is taken. Lots are waiting times of which the heavier draws the
    /// shorter ones.
    fn lot(&self, destination: &str, sender: &str) -> f64 {
        let mut hasher = DefaultHasher::new();
        (self.address, destination, sender).hash(&mut hasher);
        let chance = ((hasher.finish() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        -chance.ln() / f64::from(self.weight.max(1))
    }
}

/// Pools of source addresses by name.
pub type Sources = HashMap<String, Vec<SourceAddress>>;

/// Why no address can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoSource {
    #[error("the configuration has no source pool named {0:?} in [policy.sources]")]
    Unknown(String),
    #[error("the source pool {0:?} has no address of the next hop's family")]
    Family(String),
}

/// Addresses that a destination refused, or that could not be used, lately.
#[derive(Debug, Default)]
pub(crate) struct Resting(Mutex<HashMap<(IpAddr, String), Instant>>);

impl Resting {
    /// The address is not used for this destination for a while.
    pub(crate) fn rest(&self, address: IpAddr, destination: &str, why: &str) {
        warn!(%address, destination, why, "this source rests, others of its pool take over");
        let mut all = self.all();
        let now = Instant::now();
        if all.len() >= REMEMBERED {
            all.retain(|_, until| *until > now);
        }
        if all.len() >= REMEMBERED {
            let first = all.iter().min_by_key(|(_, until)| **until).map(|(key, _)| key.clone());
            first.map(|key| all.remove(&key));
        }
        all.insert((address, destination.to_owned()), now + REST);
    }

    fn has(&self, address: IpAddr, destination: &str) -> bool {
        let all = self.all();
        !all.is_empty()
            && all
                .get(&(address, destination.to_owned()))
                .is_some_and(|until| *until > Instant::now())
    }

    fn all(&self) -> MutexGuard<'_, HashMap<(IpAddr, String), Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address of `pool` for mail of `sender` to `target`. It stays the same from attempt to attempt, and
/// when an address comes to the pool, leaves it or rests, only mail that it takes over or gave away moves
/// (highest random weight). Where all rest, rest does not count.
pub(crate) fn choose<'a>(
    sources: &'a Sources,
    resting: &Resting,
    pool: &str,
    destination: &str,
    sender: &str,
    target: SocketAddr,
) -> Result<&'a SourceAddress, NoSource> {
    let all = sources.get(pool).ok_or_else(|| NoSource::Unknown(pool.to_owned()))?;
    let order = |source: &&SourceAddress| {
        (resting.has(source.address, destination), source.lot(destination, sender))
    };
    all.iter()
        .filter(|source| source.address.is_ipv4() == target.is_ipv4())
        .map(|source| (order(&source), source))
        .min_by(|((rests, lot), _), ((other_rests, other), _)| {
            rests.cmp(other_rests).then(lot.total_cmp(other))
        })
        .map(|(_, source)| source)
        .ok_or_else(|| NoSource::Family(pool.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(addresses: &[(&str, u16)]) -> Sources {
        let source = |(text, weight): &(&str, u16)| SourceAddress {
            weight: *weight,
            ..SourceAddress::new(text.parse().unwrap())
        };
        HashMap::from([("p".to_owned(), addresses.iter().map(source).collect())])
    }

    fn chosen(sources: &Sources, resting: &Resting, sender: usize) -> IpAddr {
        let (target, sender) = ("192.0.2.1:25".parse().unwrap(), format!("s{sender}@example.net"));
        choose(sources, resting, "p", "example.org", &sender, target).unwrap().address
    }

    const THREE: [(&str, u16); 3] = [("127.0.0.2", 1), ("127.0.0.3", 1), ("127.0.0.4", 1)];

    #[test]
    fn a_sender_stays_where_it_is_when_the_pool_grows() {
        let (three, well) = (sources(&THREE), Resting::default());
        let four = sources(&[&THREE[..], &[("127.0.0.5", 1)]].concat());
        let new: IpAddr = "127.0.0.5".parse().unwrap();
        let mut moved = 0;
        for sender in 0..400 {
            let (before, after) = (chosen(&three, &well, sender), chosen(&four, &well, sender));
            assert!(after == before || after == new);
            moved += usize::from(after == new);
        }
        assert!((50..150).contains(&moved), "{moved} of 400 moved to the fourth address");
    }

    #[test]
    fn a_heavier_address_gets_more() {
        let (pool, well) = (sources(&[("127.0.0.2", 9), ("127.0.0.3", 1)]), Resting::default());
        let heavy: IpAddr = "127.0.0.2".parse().unwrap();
        let count = (0..400).filter(|sender| chosen(&pool, &well, *sender) == heavy).count();
        assert!((330..390).contains(&count), "{count} of 400");
    }

    #[tokio::test(start_paused = true)]
    async fn mail_of_a_resting_address_goes_to_the_others_and_comes_back() {
        let (pool, resting) = (sources(&THREE), Resting::default());
        let ill: IpAddr = "127.0.0.3".parse().unwrap();
        let all = |resting: &Resting| -> Vec<IpAddr> {
            (0..100).map(|sender| chosen(&pool, resting, sender)).collect()
        };
        let before = all(&resting);
        resting.rest(ill, "example.org", "refused");
        for (now, then) in all(&resting).into_iter().zip(&before) {
            assert!(now != ill && (now == *then || *then == ill), "only its own mail moved");
        }
        let elsewhere = "192.0.2.1:25".parse().unwrap();
        let other = |sender: usize| {
            let sender = format!("s{sender}@example.net");
            choose(&pool, &resting, "p", "example.com", &sender, elsewhere).unwrap().address
        };
        assert!((0..100).any(|sender| other(sender) == ill), "another destination is no matter");
        for (address, _) in THREE {
            resting.rest(address.parse().unwrap(), "example.org", "refused");
        }
        assert_eq!(all(&resting), before, "where all rest, none does");
        tokio::time::advance(REST).await;
        assert_eq!(all(&resting), before);
        for n in 0..REMEMBERED + 10 {
            resting.rest(ill, &n.to_string(), "refused");
        }
        assert_eq!(resting.all().len(), REMEMBERED);
    }

    #[test]
    fn pools_that_do_not_fit_say_so() {
        let (sources, well) = (sources(&THREE), Resting::default());
        let target = "[2001:db8::1]:25".parse().unwrap();
        let family = choose(&sources, &well, "p", "d", "s", target);
        assert_eq!(family, Err(NoSource::Family("p".into())));
        let unknown = choose(&sources, &well, "q", "d", "s", target);
        assert_eq!(unknown, Err(NoSource::Unknown("q".into())));
    }
}
