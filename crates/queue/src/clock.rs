//! What one run tells the next of the clock.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::timeout;
use waypost_mail::{LedgerError, MessageId};

use crate::shared::Shared;
use crate::state::State;
use crate::timekeeper::Kept;

/// Under which the ledger keeps it.
const KEY: &str = "queue/clock";
/// So often the next run is told that this one was there.
const HEARTBEAT: Duration = Duration::from_secs(600);

/// Holds the clock against what the last run saw, and puts right what was loaded.
pub(crate) async fn resume(shared: &Shared) {
    let now = shared.clock.now();
    let kept = match shared.spool.ledger() {
        Some(ledger) => ledger.get(KEY, now).await.unwrap_or_else(|error| {
            tracing::error!(%error, "it is not known what the clock said before");
            None
        }),
        None => None,
    };
    let (kept, at) = (kept.and_then(Kept::parse), shared.even());
    let newest = MessageId(shared.spool.highest_id());
    let mut state = shared.state();
    let jump = state.time.resume(kept, newest, now, at);
    if let Some(jump) = jump {
        shared.note_jump(jump, now);
    }
    let latest = now.after(shared.classes.longest_wait());
    let State { time, index, schedule, .. } = &mut *state;
    index.put_right(time, latest);
    if time.lied() {
        schedule.start_anew(now);
        shared.search.notify_one();
    }
}

/// Tells the next run from time to time, and whenever the clock jumped, until the queue is gone.
pub(crate) async fn keep(shared: Weak<Shared>) {
    let Some(jumped) = shared.upgrade().map(|shared| shared.jumped.clone()) else { return };
    loop {
        let Some(queue) = shared.upgrade() else { return };
        if let Err(error) = tell(&queue).await {
            tracing::warn!(%error, "the next start will not know what the clock says now");
        }
        drop(queue);
        // Either way it is time to tell.
        let _ = timeout(HEARTBEAT, jumped.notified()).await;
    }
}

async fn tell(shared: &Arc<Shared>) -> Result<(), LedgerError> {
    let Some(ledger) = shared.spool.ledger() else { return Ok(()) };
    let kept = {
        let mut state = shared.state();
        let now = shared.look_at_clock(&mut state);
        state.time.kept(state.index.oldest(), now)
    };
    ledger.put(KEY, kept.to_bytes(), None).await
}

#[cfg(test)]
mod tests;
