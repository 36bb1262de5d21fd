//! Reads the spool once, at the start, and fills the schedule again from the index when it had no
//! room for all jobs.

use std::sync::{Arc, Weak};

use waypost_mail::{Entry, MessageId};
use waypost_spool::SpoolError;

use crate::shared::{Shared, whole};

/// Messages read before other tasks have their turn.
const CHUNK: usize = 64;

/// Counts, indexes and schedules everything in the spool. Retries that became overdue while no
/// program ran are spread, so that they do not come all at once.
pub(crate) async fn load(shared: &Arc<Shared>) -> Result<(), SpoolError> {
    let mut after = None;
    loop {
        let ids = shared.spool.ids(after, CHUNK)?;
        let Some(last) = ids.last() else { break };
        after = Some(*last);
        for id in ids {
            enter(shared, id)?;
        }
        tokio::task::yield_now().await;
    }
    let now = shared.clock.now();
    let mut state = shared.state();
    state.schedule.end_search(now);
    shared.publish(&state);
    let (waiting, held) = (state.counts.waiting, state.counts.held);
    let (messages, damaged) = (state.index.len(), state.damaged.len());
    tracing::info!(messages, waiting, held, damaged, "the queue is open");
    Ok(())
}

fn enter(shared: &Shared, id: MessageId) -> Result<(), SpoolError> {
    let loaded: Result<Entry, SpoolError> = shared.spool.load(id).and_then(whole);
    let now = shared.clock.now();
    let mut state = shared.state();
    match loaded {
        Ok(entry) => state.enter(&entry, now, |destination, _| shared.paced(destination)),
        Err(SpoolError::Unknown(_)) => {}
        Err(error @ SpoolError::Damaged(..)) => state.note_damage(id, &error),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Fills the schedule whenever it wants that, until the queue is gone.
pub(crate) async fn keep_filled(shared: Weak<Shared>) {
    let Some(wanted) = shared.upgrade().map(|shared| shared.search.clone()) else { return };
    loop {
        wanted.notified().await;
        let Some(shared) = shared.upgrade() else { return };
        if !shared.state().schedule.wants_search(shared.clock.now()) {
            continue;
        }
        shared.state().schedule.begin_search();
        let mut after = None;
        loop {
            after = shared.state().refill(after, shared.clock.now());
            if after.is_none() {
                break;
            }
            tokio::task::yield_now().await;
        }
        shared.state().schedule.end_search(shared.clock.now());
        shared.due.notify_one();
    }
}
