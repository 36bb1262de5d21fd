//! Changes that wait for the writer.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::SpoolError;
use crate::job::{Job, Work};

/// How long settlements alone are kept waiting for company. Nobody outside waits for one, and the
/// next message of a lone submitter comes within this time: the two then share their syncs.
const COMPANY: Duration = Duration::from_millis(1);

/// Jobs that wait for the writer.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// How many of them somebody outside waits for.
    urgent: usize,
    /// The writer sleeps until this comes.
    asleep: Option<Until>,
    closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Any job.
    Work,
    /// One that somebody outside waits for.
    Urgent,
}

impl Queue {
    pub(crate) fn push(&self, job: Job) -> Result<(), SpoolError> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(SpoolError::Failed("the spool is closed".into()));
        }
        let urgent = !matches!(job.work, Work::Settle { .. });
        waiting.urgent += usize::from(urgent);
        waiting.jobs.push_back(job);
        if waiting.asleep.take_if(|until| urgent || *until == Until::Work).is_some() {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// All that waits, after at most `idle` and a moment; absent when there will be nothing more.
    pub(crate) fn take(&self, idle: Duration) -> Option<Vec<Job>> {
        let mut waiting = self.lock();
        if waiting.jobs.is_empty() && !waiting.closed {
            waiting = self.sleep(waiting, Until::Work, idle);
        }
        let until = Instant::now() + COMPANY;
        while waiting.urgent == 0 && !waiting.jobs.is_empty() && !waiting.closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            waiting = self.sleep(waiting, Until::Urgent, left);
        }
        waiting.urgent = 0;
        let jobs: Vec<Job> = std::mem::take(&mut waiting.jobs).into();
        (!jobs.is_empty() || !waiting.closed).then_some(jobs)
    }

    /// All that waits now.
    pub(crate) fn take_now(&self) -> Vec<Job> {
        let mut waiting = self.lock();
        waiting.urgent = 0;
        std::mem::take(&mut waiting.jobs).into()
    }

    fn sleep<'w>(
        &self,
        mut waiting: MutexGuard<'w, Waiting>,
        until: Until,
        at_most: Duration,
    ) -> MutexGuard<'w, Waiting> {
        waiting.asleep = Some(until);
        let woken = self.changed.wait_timeout(waiting, at_most);
        let mut waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        waiting.asleep = None;
        waiting
    }

    /// There will be nothing more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Drops what waits; who asked is told by that.
    pub(crate) fn clear(&self) {
        self.lock().jobs.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
