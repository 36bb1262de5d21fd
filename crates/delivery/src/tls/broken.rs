//! Hosts whose STARTTLS does not work.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a host whose STARTTLS failed is spoken to in clear text.
const CLEAR_TEXT_FOR: Duration = Duration::from_secs(3600);
/// Most such hosts remembered; more are simply tried with STARTTLS again.
const MAX_CLEAR_TEXT: usize = 4096;

/// Hosts that offer STARTTLS and fail at it: where TLS is optional they are spoken to in clear text
/// for a while, so that each message does not fail first.
#[derive(Debug, Default)]
pub(crate) struct BrokenStartTls {
    until: Mutex<HashMap<SocketAddr, Instant>>,
}

impl BrokenStartTls {
    pub(crate) fn contains(&self, host: SocketAddr) -> bool {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.get(&host).is_some_and(|until| *until > Instant::now())
    }

    pub(crate) fn remember(&self, host: SocketAddr) {
        let now = Instant::now();
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.len() >= MAX_CLEAR_TEXT {
            until.retain(|_, until| *until > now);
        }
        if until.len() < MAX_CLEAR_TEXT {
            until.insert(host, now + CLEAR_TEXT_FOR);
        }
    }
}
