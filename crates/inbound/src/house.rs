//! What all sessions share, whatever the settings they began with.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use waypost_hooks::Hooks;
use waypost_intake::{Events, Intake, Shortage};
use waypost_mail::{Clock, Fetch, Ledger};

use crate::failures::Failures;
use crate::gate::Gate;
use crate::http::{Keys, Requests};
use crate::payers::Payers;
use crate::pressure::Pressure;
use crate::{Bans, Metrics, Settings};

/// What the doors stand on.
#[derive(Clone)]
pub struct Rooms {
    /// Where messages go.
    pub intake: Arc<Intake>,
    /// Policy.
    pub hooks: Arc<dyn Hooks>,
    /// Where what happened is told.
    pub events: Events,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Who is shut out.
    pub bans: Arc<Bans>,
    /// The web, for those who vouch for tokens.
    pub fetch: Arc<dyn Fetch>,
    /// Where idempotency keys are kept.
    pub ledger: Arc<dyn Ledger>,
}

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rooms")
    }
}

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) rooms: Rooms,
    pub(crate) metrics: Metrics,
    /// Passwords being checked.
    pub(crate) checks: Arc<Gate>,
    /// Logins that failed of late.
    pub(crate) failures: Failures,
    /// How often who sends.
    pub(crate) payers: Payers,
    pub(crate) pressure: Pressure,
    /// HTTP requests under way.
    pub(crate) requests: Requests,
    /// Idempotency keys of HTTP requests.
    pub(crate) keys: Keys,
}

impl House {
    pub(crate) fn new(rooms: Rooms, max_memory: Option<u64>) -> House {
        House {
            keys: Keys::new(rooms.ledger.clone(), rooms.clock.clone()),
            requests: Requests::default(),
            rooms,
            metrics: Metrics::default(),
            checks: Arc::default(),
            failures: Failures::new(),
            payers: Payers::default(),
            pressure: Pressure::new(max_memory),
        }
    }

    /// True when this peer is shut out. Networks of our own never are.
    pub(crate) fn shuts_out(&self, peer: IpAddr, settings: &Settings) -> bool {
        self.rooms.bans.on(peer).is_some() && !settings.is_trusted(peer)
    }

    /// How long a peer is still shut out, whoever's its network is.
    pub(crate) fn shut_out_for(&self, peer: IpAddr) -> Option<Duration> {
        let (ban, now) = (self.rooms.bans.on(peer)?, self.rooms.clock.now());
        Some(Duration::from_millis(ban.until.0.saturating_sub(now.0)))
    }

    /// Why no new mail can be taken, if so.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        self.pressure.shortage(&self.rooms.intake)
    }
}
