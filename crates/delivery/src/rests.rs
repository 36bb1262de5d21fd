//! Rests of ways over the end of the program: a provider does not have to say again that it is too much.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::task::JoinSet;
use tracing::{info, warn};
use waypost_mail::{Ledger, LedgerError, Timestamp};

use crate::Delivery;
use crate::restraint::{LONGEST, MOST, Restraint, Way};

/// Where rests are in the ledger.
const PREFIX: &str = "rest/";

/// Where rests are kept, from when it is known, and what is being written there.
#[derive(Default)]
pub(crate) struct Rests {
    ledger: OnceLock<Arc<dyn Ledger>>,
    writes: Mutex<JoinSet<()>>,
}

impl fmt::Debug for Rests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rests").field("kept", &self.ledger.get().is_some()).finish_non_exhaustive()
    }
}

impl Rests {
    /// Begins to keep a value, or to forget it.
    fn write(&self, key: String, value: Option<(Bytes, Timestamp)>) {
        let Some(ledger) = self.ledger.get().cloned() else { return };
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        while writes.try_join_next().is_some() {}
        writes.spawn(async move {
            let written = match value {
                Some((value, expires)) => ledger.put(&key, value, Some(expires)).await,
                None => ledger.remove(&key).await,
            };
            if let Err(error) = written {
                warn!(%error, key, "a rest is not kept as it is: a restart takes it for another");
            }
        });
    }

    /// Waits until everything is written.
    pub(crate) async fn end(&self) {
        let mut writes =
            std::mem::take(&mut *self.writes.lock().unwrap_or_else(PoisonError::into_inner));
        while writes.join_next().await.is_some() {}
    }
}

impl Delivery {
    /// Rests that an earlier run of the program began go on, and those that begin from now on are kept in
    /// `ledger`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn remember(&self, ledger: Arc<dyn Ledger>) -> Result<(), LedgerError> {
        let now = self.parts.clock.now();
        for (key, value) in ledger.list(PREFIX, MOST, now).await? {
            let Some((way, restraint)) = read(&key, &value) else { continue };
            if restraint.until > now {
                info!(to = way.to, source = ?way.source, until = %restraint.until, "the way goes on resting");
            }
            self.restraints.recall(way, restraint);
        }
        // Once for all.
        let _ = self.rests.ledger.set(ledger);
        Ok(())
    }

    /// Keeps a rest that began. Nobody waits for that: a crash at this moment forgets it.
    pub(crate) fn keep_rest(&self, way: &Way, restraint: Restraint) {
        // Complaints are counted together for as long as the longest rest.
        let expires = restraint.until.after(LONGEST);
        self.rests.write(key(way), Some((value(restraint), expires)));
    }

    /// Something was delivered that way: a rest that is over counts no more.
    pub(crate) fn way_is_well(&self, way: &Way) {
        if self.restraints.delivered(way, self.parts.clock.now()) {
            self.rests.write(key(way), None);
        }
    }
}

fn key(way: &Way) -> String {
    let source = way.source.map_or_else(|| "-".to_owned(), |source| source.to_string());
    format!("{PREFIX}{source} {}", way.to)
}

fn value(restraint: Restraint) -> Bytes {
    format!("{} {}", restraint.until.0, restraint.strikes).into()
}

fn read(key: &str, value: &[u8]) -> Option<(Way, Restraint)> {
    let (source, to) = key.strip_prefix(PREFIX)?.split_once(' ')?;
    let source: Option<IpAddr> = match source {
        "-" => None,
        source => Some(source.parse().ok()?),
    };
    let (until, strikes) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    let until = Timestamp(until.parse().ok()?);
    let way = Way { source, to: to.to_owned() };
    Some((way, Restraint { until, strikes: strikes.parse().ok()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_are_read_as_they_are_kept() {
        let restraint = Restraint { until: Timestamp(1_800_000_000_000), strikes: 3 };
        for source in
            [None, Some("192.0.2.1".parse().unwrap()), Some("2001:db8::1".parse().unwrap())]
        {
            let way = Way { source, to: "big provider".to_owned() };
            assert_eq!(read(&key(&way), &value(restraint)), Some((way, restraint)));
        }
        assert_eq!(read("rest/x y", b"1 1"), None);
        assert_eq!(read("rest/- y", b"soon"), None);
    }
}
