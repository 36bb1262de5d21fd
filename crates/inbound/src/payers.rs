//! How many messages each user, and each address, sends in a time.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use waypost_mail::Facts;

use crate::Limits;
use crate::rates::Rates;

/// Users and addresses that are remembered.
const REMEMBERED: usize = 100_000;

/// Whom a message is counted for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Payer {
    User(String),
    Address(IpAddr),
}

/// What everybody has sent.
#[derive(Debug)]
pub(crate) struct Payers {
    began: Instant,
    rates: Mutex<Rates<Payer>>,
}

impl Default for Payers {
    fn default() -> Payers {
        Payers { began: Instant::now(), rates: Mutex::new(Rates::new(REMEMBERED)) }
    }
}

impl Payers {
    /// Counts one message for whoever sends it: the user, or the address of a peer that
    /// may not send to everybody.
    ///
    /// # Errors
    /// How long until there is room for another one.
    pub(crate) fn pay(&self, peer: &Facts, limits: &Limits) -> Result<(), Duration> {
        let (payer, rates) = match &peer.identity {
            Some(user) => (Payer::User(user.clone()), &limits.message_rates_per_user),
            None if peer.may_relay => return Ok(()),
            None => {
                let (address, _) = limits.places(peer.client.ip());
                (Payer::Address(address), &limits.message_rates_per_address)
            }
        };
        if rates.is_empty() {
            return Ok(());
        }
        let mut all = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        all.take(&payer, rates, self.began.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use waypost_mail::SessionId;

    use super::*;
    use crate::Rate;

    #[tokio::test(start_paused = true)]
    async fn users_are_told_apart_from_their_addresses_and_our_networks_are_spared() {
        let one = |seconds| vec![Rate { count: 1, per: Duration::from_secs(seconds) }];
        let limits = Limits {
            message_rates_per_user: one(60),
            message_rates_per_address: one(60),
            ..Limits::default()
        };
        let payers = Payers::default();
        let stranger = Facts { identity: None, may_relay: false, ..Facts::internal(SessionId(1)) };
        let user = |name: &str| Facts { identity: Some(name.into()), ..stranger.clone() };
        assert!(payers.pay(&stranger, &limits).is_ok());
        assert!(payers.pay(&stranger, &limits).is_err());
        for name in ["alice", "bob"] {
            assert!(payers.pay(&user(name), &limits).is_ok());
            assert!(payers.pay(&user(name), &limits).is_err());
        }
        let listed = Facts { may_relay: true, ..stranger.clone() };
        for _ in 0..10 {
            assert!(payers.pay(&listed, &limits).is_ok());
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(payers.pay(&user("alice"), &limits).is_ok());
    }
}
