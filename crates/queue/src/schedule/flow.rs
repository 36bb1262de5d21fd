//! The jobs of one tenant and class for one destination, in order of time.

use std::collections::BTreeSet;

use waypost_mail::Timestamp;

use super::Job;
use super::held::Diary;
use super::share::{ShareId, stride};

#[derive(Debug)]
pub(super) struct Flow {
    pub(super) place: usize,
    pub(super) share: ShareId,
    pub(super) due: BTreeSet<(Timestamp, Job)>,
    pub(super) expiry: BTreeSet<(Timestamp, Job)>,
    pub(super) missing: Option<Missing>,
    pub(super) timer: Option<Timestamp>,
    pub(super) stage: Stage,
    /// How far each place in line moves its share back: the less, the more it weighs.
    pub(super) stride: u64,
    /// Its place in line, while it stands there: the lowest is next.
    pub(super) pass: u64,
    /// What held it back.
    pub(super) diary: Diary,
}

/// What a flow waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// For a time, or for a job.
    Idle,
    /// For a slot of its destination.
    Queued,
    /// For its class, which may not go on now.
    HeldBack,
    /// For its turn; it has a slot of its destination, and leave of its class where that was needed.
    Offered {
        /// Its class counts this attempt.
        admitted: bool,
    },
    /// For attempts of its share to end.
    Parked,
}

/// The earliest moments among the jobs that are only in the spool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Missing {
    pub(super) due: Timestamp,
    pub(super) expiry: Timestamp,
}

impl Flow {
    pub(super) fn new(place: usize, share: ShareId, weight: u32) -> Flow {
        Flow {
            place,
            share,
            due: BTreeSet::new(),
            expiry: BTreeSet::new(),
            missing: None,
            timer: None,
            stage: Stage::Idle,
            stride: stride(weight),
            pass: 0,
            diary: Diary::default(),
        }
    }

    /// What to hand out now. While the destination rests, or the class may not go on, only what is over.
    pub(super) fn pick(&self, now: Timestamp, only_over: bool) -> Option<Job> {
        let order = if only_over { &self.expiry } else { &self.due };
        order.first().filter(|(time, _)| *time <= now).map(|(_, job)| *job)
    }

    /// Something in it is over.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.expiry.first().is_some_and(|(time, _)| *time <= now)
    }

    /// When there is something to hand out from memory.
    pub(super) fn next(&self, only_over: bool) -> Option<Timestamp> {
        let order = if only_over { &self.expiry } else { &self.due };
        order.first().map(|(time, _)| *time)
    }

    /// When something that is only in the spool is due.
    pub(super) fn next_missing(&self, only_over: bool) -> Option<Timestamp> {
        self.missing.map(|missing| if only_over { missing.expiry } else { missing.due })
    }

    pub(super) fn is_idle(&self) -> bool {
        self.due.is_empty() && self.missing.is_none() && self.stage == Stage::Idle
    }
}
