//! Fills the schedule again from the index when it had no room for all jobs.

use std::sync::Weak;

use crate::shared::Shared;

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
