//! Addresses that are shut out for a while, kept so that a restart does not let them in.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tracing::{info, warn};
use waypost_mail::{Clock, Ledger, LedgerError, Network, Timestamp};

use crate::gate::neighbourhood;

/// Where they are in the ledger.
const PREFIX: &str = "inbound/ban/";
/// How many there are at most; of more, those that end first are lifted.
const MAX_BANS: usize = 10_000;

/// An address, or an IPv6 /64, that is shut out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban {
    /// Who.
    pub network: Network,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

/// All of them.
pub struct Bans {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    active: RwLock<HashMap<IpAddr, Ban>>,
}

impl fmt::Debug for Bans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bans").field("active", &self.active).finish_non_exhaustive()
    }
}

impl Bans {
    /// Those that `ledger` keeps.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn open(ledger: Arc<dyn Ledger>, clock: Arc<dyn Clock>) -> Result<Bans, LedgerError> {
        let kept = ledger.list(PREFIX, MAX_BANS, clock.now()).await?;
        let bans = kept.iter().filter_map(|(key, value)| read(key, value));
        let active = bans.map(|ban| (ban.network.address(), ban)).collect();
        Ok(Bans { ledger, clock, active: RwLock::new(active) })
    }

    /// The ban that `peer` is under.
    pub fn on(&self, peer: IpAddr) -> Option<Ban> {
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        // Nearly always there is none, and then nobody has to ask the clock.
        let ban = active.get(&neighbourhood(peer)).copied()?;
        (ban.until > self.clock.now()).then_some(ban)
    }

    /// Shuts the peer's address, or its /64, out for so long. Counts at once, and after a restart
    /// too, unless the disk fails.
    pub async fn ban(&self, peer: IpAddr, how_long: Duration) -> Ban {
        let now = self.clock.now();
        let network = network_of(peer);
        let ban = Ban { network, since: now, until: now.after(how_long) };
        let over = {
            let mut active = self.active.write().unwrap_or_else(PoisonError::into_inner);
            let over = make_room(&mut active, now);
            active.insert(network.address(), ban);
            over
        };
        for network in over {
            self.forget(network).await;
        }
        let value = Bytes::from(format!("{} {}", ban.since.0, ban.until.0));
        if let Err(error) = self.ledger.put(&key(network), value, Some(ban.until)).await {
            warn!(%network, %error, "a ban is not kept: it ends with this run of the program");
        }
        ban
    }

    /// Those in force, by address.
    pub fn list(&self) -> Vec<Ban> {
        let now = self.clock.now();
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        let mut bans: Vec<Ban> = active.values().filter(|ban| ban.until > now).copied().collect();
        bans.sort_by_key(|ban| ban.network.address());
        bans
    }

    /// Lets in again who is within `network`, or has it within; how many bans that ends.
    ///
    /// # Errors
    /// When the disk fails: they could be in force again after a restart.
    pub async fn lift(&self, network: Network) -> Result<usize, LedgerError> {
        let now = self.clock.now();
        let met = |ban: &Ban| {
            network.contains(ban.network.address()) || ban.network.contains(network.address())
        };
        let lifted: Vec<Ban> = {
            let mut active = self.active.write().unwrap_or_else(PoisonError::into_inner);
            let lifted = active.extract_if(|_, ban| met(ban)).map(|(_, ban)| ban);
            lifted.filter(|ban| ban.until > now).collect()
        };
        for ban in &lifted {
            self.ledger.remove(&key(ban.network)).await?;
            info!(network = %ban.network, "ban lifted");
        }
        Ok(lifted.len())
    }

    async fn forget(&self, network: Network) {
        if let Err(error) = self.ledger.remove(&key(network)).await {
            warn!(%network, %error, "a ban cannot be taken out of the spool; it ends by itself");
        }
    }
}

/// Drops what has ended and, where that is not enough, what ends first; gives what had not ended.
fn make_room(active: &mut HashMap<IpAddr, Ban>, now: Timestamp) -> Vec<Network> {
    if active.len() < MAX_BANS {
        return Vec::new();
    }
    active.retain(|_, ban| ban.until > now);
    let mut by_end: Vec<Ban> = active.values().copied().collect();
    by_end.sort_by_key(|ban| ban.until);
    let surplus = (active.len() + 1).saturating_sub(MAX_BANS);
    let over: Vec<Network> = by_end.iter().take(surplus).map(|ban| ban.network).collect();
    active.retain(|_, ban| !over.contains(&ban.network));
    over
}

fn network_of(peer: IpAddr) -> Network {
    let prefix = if peer.to_canonical().is_ipv4() { 32 } else { 64 };
    Network::around(peer, prefix)
}

fn key(network: Network) -> String {
    format!("{PREFIX}{network}")
}

fn read(key: &str, value: &[u8]) -> Option<Ban> {
    let network = key.strip_prefix(PREFIX)?.parse().ok()?;
    let (since, until) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    let moment = |text: &str| text.parse().ok().map(Timestamp);
    Some(Ban { network, since: moment(since)?, until: moment(until)? })
}

#[cfg(test)]
mod tests {
    use waypost_mail::ManualClock;
    use waypost_spool::MemorySpool;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    #[tokio::test]
    async fn a_ban_counts_until_its_end_also_after_a_restart() {
        let (ledger, clock) = (Arc::new(MemorySpool::new()), Arc::new(ManualClock::default()));
        let bans = Bans::open(ledger.clone(), clock.clone()).await.unwrap();
        bans.ban(at("192.0.2.1"), HOUR).await;
        bans.ban(at("2001:db8:0:1::5"), HOUR * 2).await;
        assert!(bans.on(at("192.0.2.2")).is_none() && bans.on(at("2001:db8:0:2::5")).is_none());
        let again = Bans::open(ledger, clock.clone()).await.unwrap();
        for bans in [bans, again] {
            clock.set(Timestamp(0));
            assert!(bans.on(at("::ffff:192.0.2.1")).is_some());
            assert!(bans.on(at("2001:db8:0:1:ffff::")).is_some(), "the same /64");
            clock.advance(HOUR);
            assert!(bans.on(at("192.0.2.1")).is_none());
            let networks: Vec<_> = bans.list().iter().map(|b| b.network.to_string()).collect();
            assert_eq!(networks, ["2001:db8:0:1::/64"]);
        }
    }

    #[tokio::test]
    async fn what_is_lifted_stays_lifted() {
        let (ledger, clock) = (Arc::new(MemorySpool::new()), Arc::new(ManualClock::default()));
        let bans = Bans::open(ledger.clone(), clock.clone()).await.unwrap();
        for address in ["192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1"] {
            bans.ban(at(address), HOUR).await;
        }
        let lift = async |network: &str| bans.lift(network.parse().unwrap()).await.unwrap();
        assert_eq!(lift("192.0.2.0/24").await, 2);
        assert_eq!(lift("2001:db8::7").await, 1, "an address within its /64");
        assert_eq!(lift("203.0.113.1").await, 0);
        let again = Bans::open(ledger, clock).await.unwrap();
        assert_eq!(again.list().len(), 1);
        assert!(again.on(at("198.51.100.1")).is_some());
    }

    #[test]
    fn of_too_many_those_that_end_first_go() {
        let mut active = HashMap::new();
        for n in 0..MAX_BANS as u32 {
            let network = network_of(IpAddr::V4(n.into()));
            let until = Timestamp(u64::from(n) + 1);
            active.insert(network.address(), Ban { network, since: Timestamp(0), until });
        }
        assert_eq!(make_room(&mut active, Timestamp(0)), [network_of(at("0.0.0.0"))]);
        assert_eq!(active.len(), MAX_BANS - 1);
        assert!(make_room(&mut active, Timestamp(100)).is_empty());
    }
}
