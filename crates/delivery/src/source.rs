//! Which of our own addresses a connection comes from, and who we say we are there.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};

use waypost_smtp::Domain;

/// One source address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceAddress {
    /// An address of this machine.
    pub address: IpAddr,
    /// Who we say we are in EHLO from there; the relay's own name when absent.
    pub ehlo: Option<Domain>,
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

/// The address of `pool` for mail of `sender` to `target`. It stays the same from attempt to attempt, and
/// when an address comes to the pool or leaves it, only mail that it takes over or gave away moves
/// (highest random weight).
pub(crate) fn choose<'a>(
    sources: &'a Sources,
    pool: &str,
    destination: &str,
    sender: &str,
    target: SocketAddr,
) -> Result<&'a SourceAddress, NoSource> {
    let all = sources.get(pool).ok_or_else(|| NoSource::Unknown(pool.to_owned()))?;
    let weight = |source: &&SourceAddress| {
        let mut hasher = DefaultHasher::new();
        (source.address, destination, sender).hash(&mut hasher);
        hasher.finish()
    };
    all.iter()
        .filter(|source| source.address.is_ipv4() == target.is_ipv4())
        .max_by_key(weight)
        .ok_or_else(|| NoSource::Family(pool.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(addresses: &[&str]) -> Sources {
        let source = |text: &&str| SourceAddress { address: text.parse().unwrap(), ehlo: None };
        HashMap::from([("p".to_owned(), addresses.iter().map(source).collect())])
    }

    fn chosen(sources: &Sources, sender: &str) -> IpAddr {
        let target = "192.0.2.1:25".parse().unwrap();
        choose(sources, "p", "example.org", sender, target).unwrap().address
    }

    #[test]
    fn a_sender_stays_where_it_is_when_the_pool_grows() {
        let three = sources(&["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
        let four = sources(&["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]);
        let new: IpAddr = "127.0.0.5".parse().unwrap();
        let mut moved = 0;
        for sender in 0..400 {
            let sender = format!("s{sender}@example.net");
            let (before, after) = (chosen(&three, &sender), chosen(&four, &sender));
            assert!(after == before || after == new);
            moved += usize::from(after == new);
        }
        assert!((50..150).contains(&moved), "{moved} of 400 moved to the fourth address");
    }

    #[test]
    fn pools_that_do_not_fit_say_so() {
        let sources = sources(&["127.0.0.2"]);
        let target = "[2001:db8::1]:25".parse().unwrap();
        let family = choose(&sources, "p", "d", "s", target);
        assert_eq!(family, Err(NoSource::Family("p".into())));
        let unknown = choose(&sources, "q", "d", "s", target);
        assert_eq!(unknown, Err(NoSource::Unknown("q".into())));
    }
}
