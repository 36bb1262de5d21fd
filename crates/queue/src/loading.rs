//! A queue before it opens: it hears of every message that is kept.

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use waypost_mail::{Clock, Entry, MessageId};
use waypost_spool::{Audience, Spool, SpoolError};

use crate::pace::Pace;
use crate::shared::{Shared, whole};
use crate::state::State;
use crate::{Config, Queue, clock};

/// Messages read before other tasks have their turn.
const CHUNK: usize = 64;

/// Counts, indexes and schedules every message it is shown, while the spool is opened. Retries that became
/// overdue while no program ran are spread, so that they do not come all at once.
#[derive(Debug)]
pub struct Loading {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: StdRng,
    pub(crate) pace: Pace,
    pub(crate) state: State,
}

impl Loading {
    /// Nothing was shown yet. `seed` feeds the jitter of retries.
    pub fn new(config: Config, clock: Arc<dyn Clock>, seed: u64) -> Loading {
        let (pace, state) = (Pace::new(config.per_destination), State::new(&config));
        Loading { config, clock, random: StdRng::seed_from_u64(seed), pace, state }
    }

    /// The queue of the spool whose messages were all shown. Everything that was in flight when the last
    /// run ended is due again. The clock is held against what that run saw of it.
    pub async fn open(mut self, spool: Arc<dyn Spool>) -> Arc<Queue> {
        self.state.schedule.end_search(self.clock.now());
        let (counts, damaged) = (self.state.counts, self.state.damaged.len());
        let messages = self.state.index.len();
        let (waiting, held) = (counts.waiting, counts.held);
        tracing::info!(messages, waiting, held, damaged, "the queue is open");
        let shared = Arc::new(Shared::new(spool, self));
        clock::resume(&shared).await;
        shared.publish(&shared.state());
        Queue::of(shared)
    }

    /// Reads every message of a spool that is open already.
    pub(crate) async fn read(&mut self, spool: &dyn Spool) -> Result<(), SpoolError> {
        let mut after = None;
        loop {
            let ids = spool.ids(after, CHUNK)?;
            let Some(last) = ids.last() else { return Ok(()) };
            after = Some(*last);
            for id in ids {
                match spool.load(id) {
                    Ok(entry) => self.message(entry),
                    Err(SpoolError::Unknown(_)) => {}
                    Err(error @ SpoolError::Damaged(..)) => self.damaged(id, &error),
                    Err(error) => return Err(error),
                }
            }
            tokio::task::yield_now().await;
        }
    }

    fn damaged(&mut self, id: MessageId, error: &SpoolError) {
        self.state.note_damage(id, error);
    }
}

impl Audience for Loading {
    fn begin(&mut self) {
        self.state = State::new(&self.config);
        self.pace = Pace::new(self.config.per_destination);
    }

    fn message(&mut self, entry: Entry) {
        let id = entry.id;
        let entry = match whole(entry) {
            Ok(entry) => entry,
            Err(error) => return self.damaged(id, &error),
        };
        let now = self.clock.now();
        let Loading { random, pace, state, .. } = self;
        state.enter(&entry, now, |destination, _| pace.due(destination, now, random));
    }
}
