//! How many sessions there are, in all and from each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Limits;
use crate::relay::masked;

/// Counts sessions. One for the whole program.
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

/// The right to a session; dropping it ends the session for the count.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    address: IpAddr,
}

impl Gate {
    /// Lets a peer in, unless there are too many. One of our own networks may fill the house: an
    /// application server sends by many sessions at once.
    pub(crate) fn enter(
        self: &Arc<Gate>,
        peer: IpAddr,
        ours: bool,
        limits: &Limits,
    ) -> Result<Pass, Full> {
        let address = neighbourhood(peer);
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if inside.total >= limits.max_sessions {
            return Err(Full::House);
        }
        let here = inside.by_address.get(&address).copied().unwrap_or_default();
        if !ours && here >= limits.max_sessions_per_address {
            return Err(Full::Address);
        }
        inside.total += 1;
        inside.by_address.insert(address, here + 1);
        Ok(Pass { gate: self.clone(), address })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inside = self.gate.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.total = inside.total.saturating_sub(1);
        if let Some(here) = inside.by_address.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                inside.by_address.remove(&self.address);
            }
        }
    }
}

/// One customer has a whole /64 of IPv6.
fn neighbourhood(peer: IpAddr) -> IpAddr {
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
        let limits = Limits { max_sessions: 3, max_sessions_per_address: 2, ..Limits::default() };
        let gate = Arc::new(Gate::default());
        let enter = |peer: &str| gate.enter(peer.parse().unwrap(), false, &limits);
        let first = enter("2001:db8::1").unwrap();
        let second = enter("2001:db8::2").unwrap();
        assert_eq!(enter("2001:db8::3").unwrap_err(), Full::Address);
        let third = enter("192.0.2.1").unwrap();
        assert_eq!(enter("192.0.2.2").unwrap_err(), Full::House);
        drop((first, second));
        let ours: Vec<_> =
            (0..2).map(|_| gate.enter("192.0.2.1".parse().unwrap(), true, &limits)).collect();
        assert!(ours.iter().all(Result::is_ok));
        assert_eq!(enter("2001:db8::3").unwrap_err(), Full::House);
        drop(ours);
        let again = enter("2001:db8::3").unwrap();
        drop((third, again));
        assert!(gate.inside.lock().unwrap().by_address.is_empty());
    }
}
