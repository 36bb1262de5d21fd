//! Changes that wait for the writer.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::SpoolError;
use crate::job::Job;

/// Jobs that wait for the writer.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    asleep: bool,
    closed: bool,
}

impl Queue {
    pub(crate) fn push(&self, job: Job) -> Result<(), SpoolError> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(SpoolError::Failed("the spool is closed".into()));
        }
        waiting.jobs.push_back(job);
        if waiting.asleep {
            waiting.asleep = false;
            self.changed.notify_one();
        }
        Ok(())
    }

    /// All that waits, after at most `idle`; absent when there will be nothing more.
    pub(crate) fn take(&self, idle: Duration) -> Option<Vec<Job>> {
        let mut waiting = self.lock();
        if waiting.jobs.is_empty() && !waiting.closed {
            waiting.asleep = true;
            let woken = self.changed.wait_timeout(waiting, idle);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
            waiting.asleep = false;
        }
        let jobs: Vec<Job> = std::mem::take(&mut waiting.jobs).into();
        (!jobs.is_empty() || !waiting.closed).then_some(jobs)
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
