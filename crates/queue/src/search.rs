//! Reads the spool from one end to the other: at the start, and when memory had no room for all jobs.

use std::sync::{Arc, Weak};

use waypost_mail::{Entry, MessageId};
use waypost_spool::SpoolError;

use crate::shared::{Shared, whole};

/// Messages read before other tasks have their turn.
const CHUNK: usize = 64;

/// Counts and schedules everything in the spool.
pub(crate) async fn load(shared: &Arc<Shared>) -> Result<(), SpoolError> {
    search(shared, true).await?;
    let now = shared.clock.now();
    let mut state = shared.state();
    state.schedule.end_search(now);
    shared.publish(&state);
    let (waiting, held) = (state.counts.waiting, state.counts.held);
    tracing::info!(waiting, held, damaged = state.damaged.len(), "the queue is open");
    Ok(())
}

/// Searches the spool whenever the schedule wants it, until the queue is gone.
pub(crate) async fn keep_filled(shared: Weak<Shared>) {
    let Some(wanted) = shared.upgrade().map(|shared| shared.search.clone()) else { return };
    loop {
        wanted.notified().await;
        let Some(shared) = shared.upgrade() else { return };
        if !shared.state().schedule.wants_search(shared.clock.now()) {
            continue;
        }
        shared.state().schedule.begin_search();
        if let Err(error) = search(&shared, false).await {
            tracing::error!(%error, "part of the queue waits until the program is started anew");
        }
        shared.state().schedule.end_search(shared.clock.now());
        shared.due.notify_one();
    }
}

async fn search(shared: &Shared, fresh: bool) -> Result<(), SpoolError> {
    let mut after = None;
    loop {
        let ids = shared.spool.ids(after, CHUNK)?;
        let Some(last) = ids.last() else { return Ok(()) };
        after = Some(*last);
        for id in ids {
            enter(shared, id, fresh)?;
        }
        tokio::task::yield_now().await;
    }
}

/// Schedules one message, but for what is in somebody's hand: that is entered when it comes back.
fn enter(shared: &Shared, id: MessageId, fresh: bool) -> Result<(), SpoolError> {
    let loaded: Result<Entry, SpoolError> = shared.spool.load(id).and_then(whole);
    let now = shared.clock.now();
    let mut state = shared.state();
    match loaded {
        Ok(entry) if !state.arriving.contains(&id) => state.enter(&entry, now, fresh),
        Ok(_) | Err(SpoolError::Unknown(_)) => {}
        Err(error @ SpoolError::Damaged(..)) => state.note_damage(id, &error),
        Err(error) => return Err(error),
    }
    Ok(())
}
