//! A slow look at what was written long ago. A start reads the digests of finished segments and not the segments
//! themselves, so that damage in one would stay unknown until somebody wants what is there.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::disk::Disk;
use crate::metrics::Metrics;
use crate::segment::{self, Health, Item, Scan};
use crate::spool::Shared;
use crate::writer::Writer;

/// Octets looked at in a second.
const STEP: u64 = 2 * 1024 * 1024;
/// Between two looks at the whole log.
const REST: Duration = Duration::from_secs(24 * 3600);

/// Who looks.
#[derive(Debug)]
pub(crate) enum Scrub {
    /// The writer, where everything happens in one thread.
    Here(Box<Look>),
    /// A thread of its own: a disk may take seconds for each sector that it cannot read, and nobody but that thread
    /// waits for it. It is told which segments are finished, and tells of the damaged ones.
    Apart { finished: SyncSender<Range<u32>>, damaged: Receiver<u32> },
}

impl Scrub {
    pub(crate) fn here(shared: &Shared) -> Scrub {
        Scrub::Here(Box::new(Look::new(shared)))
    }
}

impl Writer {
    /// From now on a thread of its own looks, which ends after the writer.
    pub(crate) fn scrub_apart(&mut self) -> io::Result<()> {
        let mut look = Look::new(&self.shared);
        // One more waits while it looks.
        let (finished, orders) = mpsc::sync_channel(1);
        let (tell, damaged) = mpsc::channel();
        let thread = thread::Builder::new().name("spool-scrub".to_owned());
        thread.spawn(move || {
            while let Ok(finished) = orders.recv() {
                for segment in look.step(&finished) {
                    // The writer may have ended.
                    let _ = tell.send(segment);
                }
            }
        })?;
        self.scrub = Scrub::Apart { finished, damaged };
        Ok(())
    }

    /// Has some more looked at. What is damaged is told and counted, nothing is changed: a message is held when its
    /// turn comes, and `spool repair` mends the rest.
    pub(crate) fn scrub(&mut self) {
        let finished = self.log.finished();
        let damaged: Vec<u32> = match &mut self.scrub {
            Scrub::Here(look) => look.step(&finished),
            Scrub::Apart { finished: orders, damaged } => {
                // Not heard while the disk is slow.
                let _ = orders.try_send(finished);
                damaged.try_iter().collect()
            }
        };
        damaged.into_iter().for_each(|segment| self.log.mark_damaged(segment));
    }
}

/// Where the look has come to.
#[derive(Debug)]
pub(crate) struct Look {
    disk: Arc<dyn Disk>,
    log: PathBuf,
    seal: u64,
    metrics: Metrics,
    /// The last segment that was begun.
    number: u32,
    scan: Option<Scan>,
    /// When all of the log had been looked at.
    ended: Option<Instant>,
}

impl Look {
    fn new(shared: &Shared) -> Look {
        let (disk, log, seal) = (shared.disk.clone(), shared.log_dir.clone(), shared.seal);
        let metrics = shared.metrics.clone();
        Look { disk, log, seal, metrics, number: 0, scan: None, ended: None }
    }

    /// Looks at some of the finished segments; answers where something is damaged.
    fn step(&mut self, finished: &Range<u32>) -> Vec<u32> {
        if self.ended.is_some_and(|ended| ended.elapsed() < REST) {
            return Vec::new();
        }
        let mut damaged = Vec::new();
        if let Err(error) = self.some(finished, &mut damaged) {
            let segment = self.number;
            tracing::warn!(segment, %error, "a segment of the log cannot be looked at now");
        }
        damaged
    }

    fn some(&mut self, finished: &Range<u32>, damaged: &mut Vec<u32>) -> io::Result<()> {
        let mut scan = match self.scan.take() {
            Some(scan) => scan,
            None => match self.next_scan(finished)? {
                Some(scan) => scan,
                None => return Ok(()),
            },
        };
        let mut looked = 0;
        while looked < STEP {
            let Some(item) = scan.next()? else { return Ok(()) };
            looked += self.look_at(&item, damaged);
        }
        self.scan = Some(scan);
        Ok(())
    }

    /// A scan of the next finished segment; absent when it is gone, and after the last.
    fn next_scan(&mut self, finished: &Range<u32>) -> io::Result<Option<Scan>> {
        let number = finished.start.max(self.number.saturating_add(1));
        if number >= finished.end {
            (self.number, self.ended) = (0, Some(Instant::now()));
            return Ok(None);
        }
        self.number = number;
        match self.disk.open(&segment::file_of(&self.log, number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => Scan::new(file?, number, self.seal, true).map(Some),
        }
    }

    /// Answers how many octets it takes.
    fn look_at(&self, item: &Item, damaged: &mut Vec<u32>) -> u64 {
        let (at, len, message) = match item {
            Item::Record { place, header, health, .. } => {
                (place.at, place.len, (*health != Health::Sound).then_some(header.id.0))
            }
            Item::Gap { from, len } => (*from, *len, Some(0)),
        };
        self.metrics.scrubbed.inc_by(len);
        if let Some(message) = message {
            let (segment, offset) = (at.segment, at.offset);
            self.metrics.damaged.inc();
            damaged.push(segment);
            tracing::error!(
                segment, offset, len, message = %waypost_mail::MessageId(message),
                "the log is damaged: stop the relay and run `waypost spool check`"
            );
        }
        len
    }
}
