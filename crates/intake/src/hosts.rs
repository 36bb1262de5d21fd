//! Hosts that stand in for each other: which of them a message goes to first, which next.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use waypost_mail::{MessageId, NextHop};

/// Hosts of one way, with the share of the mail that each is to get.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts(Vec<Share>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The host.
    pub hop: NextHop,
    /// Those with the lowest number are tried first.
    pub priority: u16,
    /// Among those of one priority it gets the first try of so many parts of the mail; 0 counts as 1.
    pub weight: u16,
}

impl Hosts {
    /// Hosts with priorities and weights.
    pub fn new(shares: Vec<Share>) -> Hosts {
        Hosts(shares)
    }

    /// The hosts with their shares, as they were given.
    pub fn shares(&self) -> &[Share] {
        &self.0
    }

    /// The hosts in the order in which this message tries them. It is the same whenever it is asked, and
    /// when a host comes or goes, only messages move that it takes over or gave away (highest random
    /// weight).
    pub fn in_turn(&self, message: MessageId) -> Vec<NextHop> {
        let mut drawn: Vec<(u16, f64, &NextHop)> =
            self.0.iter().map(|share| (share.priority, share.lot(message), &share.hop)).collect();
        drawn.sort_by(|(rank, lot, _), (other_rank, other, _)| {
            rank.cmp(other_rank).then(lot.total_cmp(other))
        });
        drawn.into_iter().map(|(_, _, hop)| hop.clone()).collect()
    }
}

impl From<Vec<NextHop>> for Hosts {
    /// One after the other.
    fn from(hops: Vec<NextHop>) -> Hosts {
        let share = |(priority, hop)| Share { hop, priority, weight: 1 };
        Hosts((0..=u16::MAX).zip(hops).map(share).collect())
    }
}

impl Share {
    /// The host with the lowest lot is first. Lots are waiting times of which the heavier draws the
    /// shorter ones, so that each is first as often as its weight says.
    fn lot(&self, message: MessageId) -> f64 {
        let mut hasher = DefaultHasher::new();
        (message, &self.hop).hash(&mut hasher);
        let chance = ((hasher.finish() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        -chance.ln() / f64::from(self.weight.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(host: &str, priority: u16, weight: u16) -> Share {
        let hop = NextHop::Host { host: host.into(), port: 25, implicit_tls: false };
        Share { hop, priority, weight }
    }

    fn orders(shares: Vec<Share>) -> Vec<Vec<String>> {
        let hosts = Hosts::new(shares);
        let order = |id| hosts.in_turn(MessageId(id)).iter().map(ToString::to_string).collect();
        (1..=1000).map(order).collect()
    }

    #[test]
    fn mail_is_shared_by_weight_and_the_others_stand_behind() {
        let orders = orders(vec![share("last", 20, 100), share("a", 10, 3), share("b", 10, 1)]);
        let first = |host: &str| orders.iter().filter(|order| order[0] == host).count();
        assert!((680..820).contains(&first("a:25")), "{} of 1000 go to a", first("a:25"));
        assert_eq!(first("a:25") + first("b:25"), 1000);
        assert!(orders.iter().all(|order| order.len() == 3 && order[2] == "last:25"));
    }

    #[test]
    fn a_message_moves_only_to_a_host_that_is_new() {
        let two = || vec![share("a", 0, 1), share("b", 0, 1)];
        let before = orders(two());
        assert_eq!(before, orders(two()), "the same when asked again");
        let after = orders([two(), vec![share("c", 0, 1)]].concat());
        let moved = before.iter().zip(&after).filter(|(old, new)| old[0] != new[0]);
        let to: Vec<&String> = moved.map(|(_, new)| &new[0]).collect();
        assert!((250..420).contains(&to.len()), "{} moved", to.len());
        assert!(to.iter().all(|host| *host == "c:25"));
    }

    #[test]
    fn hosts_without_shares_come_one_after_the_other() {
        let hops = ["a", "b", "c"].map(|host| share(host, 0, 1).hop).to_vec();
        let hosts = Hosts::from(hops.clone());
        assert!((0..50).all(|id| hosts.in_turn(MessageId(id)) == hops));
    }
}
