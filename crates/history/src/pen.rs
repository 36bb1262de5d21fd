//! What rooms tell, on its way to the thread that writes it. Telling never waits.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use waypost_mail::{Clock, Timestamp};

use crate::Dialogue;
use crate::note::{About, Note};
use crate::writer::Metrics;

/// Notes that may wait to be written; more are lost and counted.
const MOST: usize = 16 * 1024;
/// Octets of notes that may wait, as their rooms weigh them.
const HEAVIEST: usize = 16 * 1024 * 1024;
/// How long a note waits for company.
const COMPANY: Duration = Duration::from_millis(250);
/// How long somebody who reads waits for what was told before.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where rooms tell what happened. Cheap to clone; an idle one forgets everything.
#[derive(Debug, Clone, Default)]
pub struct Pen(Option<Arc<Desk>>);

impl Pen {
    /// One that writes nothing.
    pub fn idle() -> Pen {
        Pen(None)
    }

    pub(crate) fn at(desk: Arc<Desk>) -> Pen {
        Pen(Some(desk))
    }

    /// True when nothing is written: what only a note would need need not be gathered.
    pub fn is_idle(&self) -> bool {
        self.0.is_none()
    }

    /// Which dialogues are wanted.
    pub fn dialogue(&self) -> Dialogue {
        self.0.as_ref().map_or(Dialogue::None, |desk| desk.dialogue)
    }

    /// Tells that something happened now. `note` is called when it is written, by the thread that writes;
    /// until then it takes about `octets` of memory.
    pub fn tell(&self, about: About, octets: usize, note: impl FnOnce() -> Note + Send + 'static) {
        if let Some(desk) = &self.0 {
            let at = desk.clock.now();
            desk.take(Waiting { about, at, octets, note: Box::new(note) });
        }
    }
}

/// A note that is not written yet.
pub(crate) struct Waiting {
    pub(crate) about: About,
    pub(crate) at: Timestamp,
    octets: usize,
    pub(crate) note: Box<dyn FnOnce() -> Note + Send>,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("about", &self.about).finish_non_exhaustive()
    }
}

/// Where notes wait.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    dialogue: Dialogue,
    heap: Mutex<Heap>,
    /// There is something to write, or enough of it.
    coming: Condvar,
    /// All that was told before somebody asked is written, or lost.
    written: Condvar,
}

#[derive(Debug, Default)]
struct Heap {
    notes: Vec<Waiting>,
    octets: usize,
    /// Notes that found no room, and when the first of them was told.
    lost: Option<Lost>,
    /// Somebody wants to read what was told so far.
    asked: u64,
    answered: u64,
    closed: bool,
}

/// Notes that were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) count: u64,
    pub(crate) since: Timestamp,
}

impl Lost {
    /// One more.
    pub(crate) fn add(lost: &mut Option<Lost>, count: u64, since: Timestamp) {
        let known = lost.get_or_insert(Lost { count: 0, since });
        known.count += count;
        known.since = known.since.min(since);
    }
}

/// What the writer takes at once.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) notes: Vec<Waiting>,
    pub(crate) lost: Option<Lost>,
    /// Who asked before may be answered when this is written.
    asked: u64,
    /// Nothing more comes.
    pub(crate) last: bool,
}

impl Desk {
    pub(crate) fn new(dialogue: Dialogue, clock: Arc<dyn Clock>) -> Desk {
        Desk {
            clock,
            metrics: Metrics::default(),
            dialogue,
            heap: Mutex::default(),
            coming: Condvar::new(),
            written: Condvar::new(),
        }
    }

    pub(crate) fn began(&self, version: &str) {
        let version = version.to_owned();
        let note = Box::new(move || Note::Started { version });
        self.take(Waiting { about: About::Relay, at: self.clock.now(), octets: 0, note });
    }

    fn take(&self, waiting: Waiting) {
        let mut heap = self.heap();
        if heap.closed {
            return;
        }
        if heap.notes.len() >= MOST || heap.octets >= HEAVIEST {
            Lost::add(&mut heap.lost, 1, waiting.at);
            self.metrics.lost.inc();
            return;
        }
        heap.octets += waiting.octets;
        heap.notes.push(waiting);
        let (count, octets) = (heap.notes.len(), heap.octets);
        drop(heap);
        if count == 1 || count == MOST / 2 || octets >= HEAVIEST / 2 {
            self.coming.notify_one();
        }
    }

    /// Waits until there is something to write, and a little longer for company.
    pub(crate) fn next(&self) -> Batch {
        let mut heap = self.heap();
        while heap.is_quiet() {
            heap = self.coming.wait(heap).unwrap_or_else(PoisonError::into_inner);
        }
        if !heap.is_pressing() {
            let waited = self.coming.wait_timeout_while(heap, COMPANY, |heap| !heap.is_pressing());
            heap = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        heap.octets = 0;
        Batch {
            notes: std::mem::take(&mut heap.notes),
            lost: heap.lost.take(),
            asked: heap.asked,
            last: heap.closed,
        }
    }

    /// The batch is written, or lost.
    pub(crate) fn done(&self, asked: u64) {
        self.heap().answered = asked;
        self.written.notify_all();
    }

    /// Waits until all that was told so far is written, but not for ever.
    pub(crate) fn flush(&self) {
        let mut heap = self.heap();
        if heap.closed {
            return;
        }
        heap.asked += 1;
        let mine = heap.asked;
        self.coming.notify_one();
        let waits = |heap: &mut Heap| heap.answered < mine && !heap.closed;
        drop(self.written.wait_timeout_while(heap, PATIENCE, waits));
    }

    pub(crate) fn close(&self) {
        self.heap().closed = true;
        self.coming.notify_one();
        self.written.notify_all();
    }

    fn heap(&self) -> MutexGuard<'_, Heap> {
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heap {
    fn is_quiet(&self) -> bool {
        self.notes.is_empty() && self.lost.is_none() && !self.is_pressing()
    }

    fn is_pressing(&self) -> bool {
        self.closed
            || self.asked > self.answered
            || self.notes.len() >= MOST / 2
            || self.octets >= HEAVIEST / 2
    }
}

impl Batch {
    /// Whom to answer when this is written; see [`Desk::done`].
    pub(crate) fn asked(&self) -> u64 {
        self.asked
    }
}

#[cfg(test)]
mod tests {
    use waypost_mail::{ManualClock, MessageId};

    use super::*;

    fn note() -> Note {
        Note::Ended
    }

    #[test]
    fn what_finds_no_room_is_lost_and_counted() {
        let desk = Arc::new(Desk::new(Dialogue::All, Arc::new(ManualClock::at(Timestamp(5)))));
        let pen = Pen::at(desk.clone());
        for id in 0..MOST as u64 + 3 {
            pen.tell(About::Message(MessageId(id)), 1, note);
        }
        assert_eq!(desk.metrics.lost.get(), 3);
        let batch = desk.next();
        assert_eq!(batch.notes.len(), MOST);
        assert_eq!(batch.lost, Some(Lost { count: 3, since: Timestamp(5) }));
        pen.tell(About::Relay, HEAVIEST, note);
        pen.tell(About::Relay, 1, note);
        let batch = desk.next();
        assert_eq!((batch.notes.len(), batch.lost.map(|lost| lost.count)), (1, Some(1)));
        desk.close();
        pen.tell(About::Relay, 1, note);
        let batch = desk.next();
        assert!(batch.notes.is_empty() && batch.last);
    }

    #[test]
    fn an_idle_pen_asks_nobody() {
        let pen = Pen::idle();
        pen.tell(About::Relay, 1, || unreachable!("nobody writes"));
        assert!(pen.is_idle());
        assert_eq!(pen.dialogue(), Dialogue::None);
    }
}
