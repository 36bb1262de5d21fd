//! How many logins are being checked, or proxies are about to say for whom they come: in all and from
//! each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use waypost_mail::network::masked;

/// Counts what peers have under way.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Why a peer may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// Too many sessions in all.
    House,
    /// Too many from this address.
    Address,
}

/// The right to one of them; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    address: IpAddr,
}

impl Gate {
    /// Lets a peer in, unless there are `all` already, or `each` from its address.
    pub(crate) fn enter(
        self: &Arc<Gate>,
        peer: IpAddr,
        all: usize,
        each: usize,
    ) -> Result<Pass, Full> {
        let address = neighbourhood(peer);
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if inside.total >= all {
            return Err(Full::House);
        }
        let here = inside.by_address.get(&address).copied().unwrap_or_default();
        if here >= each {
            return Err(Full::Address);
        }
        inside.total += 1;
        inside.by_address.insert(address, here + 1);
        Ok(Pass { gate: self.clone(), address })
    }
}

impl Inside {
    fn leave(&mut self, address: IpAddr) {
        if let Some(here) = self.by_address.get_mut(&address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inside = self.gate.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.total = inside.total.saturating_sub(1);
        inside.leave(self.address);
    }
}

/// One customer has a whole /64 of IPv6.
pub(crate) fn neighbourhood(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        v6 @ IpAddr::V6(_) => masked(v6, 64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_counts_all_and_each() {
        let gate = Arc::new(Gate::default());
        let enter = |peer: &str| gate.enter(peer.parse().unwrap(), 3, 2);
        let first = enter("2001:db8::1").unwrap();
        let second = enter("2001:db8::2").unwrap();
        assert_eq!(enter("2001:db8::3").unwrap_err(), Full::Address);
        let third = enter("192.0.2.1").unwrap();
        assert_eq!(enter("192.0.2.2").unwrap_err(), Full::House);
        drop((first, second));
        let ours: Vec<_> =
            (0..2).map(|_| gate.enter("192.0.2.1".parse().unwrap(), 3, usize::MAX)).collect();
        assert!(ours.iter().all(Result::is_ok));
        assert_eq!(enter("2001:db8::3").unwrap_err(), Full::House);
        drop(ours);
        let again = enter("2001:db8::3").unwrap();
        drop((third, again));
        assert!(gate.inside.lock().unwrap().by_address.is_empty());
    }
}
