//! The log: segments one after another, written at the end and removed at the beginning.
//!
//! Segments go in order of age only. A DONE or TOMB stands in the segment of its message or in a
//! later one, so what is gone can never come back; and as nearly every segment begins with the end
//! of mail from the one before, tracking references segment by segment would free nothing more.
//! What still lives in an old segment is written anew when too much around it is dead.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use waypost_mail::Timestamp;

use crate::digest::{self, Draft};
use crate::disk::{Appender, Disk, DiskFile};
use crate::fault::{FaultPoint, Faults};
use crate::record::Record;
use crate::segment::{self, Place, Position, START, SegmentHeader};
use waypost_mutant::planted;

/// Pieces smaller than this are gathered before they are written.
const BUFFER: usize = 256 * 1024;
/// Octets after which no segment is ever continued.
const MOST: u64 = 2 << 30;
/// Segments kept open for reading.
const OPEN: usize = 64;

/// The end of the log, where records are appended, and what is known of its segments.
#[derive(Debug)]
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    seal: u64,
    segment_size: u64,
    faults: Faults,
    readers: Arc<Readers>,
    segments: BTreeMap<u32, Usage>,
    current: u32,
    out: BufWriter<Appender>,
    len: u64,
    /// The present segment is of an earlier format.
    old: bool,
    /// What is in the present segment.
    draft: Draft,
}

/// What is in a segment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Octets of the file.
    pub(crate) len: u64,
    /// Records that are somebody's present truth.
    pub(crate) live: u64,
    /// Their octets.
    pub(crate) live_len: u64,
    /// Something in it could not be read: it is set aside, not removed.
    pub(crate) damaged: bool,
}

impl Log {
    /// The log in `dir`, appending to the youngest of `segments`, or to a first one.
    #[expect(clippy::too_many_arguments, reason = "each says something else")]
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        seal: u64,
        segment_size: u64,
        segments: BTreeMap<u32, Usage>,
        (draft, old): (Draft, bool),
        highest: u64,
        now: Timestamp,
        faults: Faults,
    ) -> io::Result<Log> {
        let readers = Arc::new(Readers::new(disk.clone(), dir.clone()));
        let (current, len, file) = match segments.last_key_value() {
            Some((number, usage)) => {
                let file = disk.extend(&segment::file_of(&dir, *number))?;
                // It was full once, and the next one stillborn.
                remove_digest(&*disk, &dir, *number)?;
                // A program that was killed may have left what can be seen and is not durable: the
                // name of the segment, and records in it. From here on they are relied upon.
                file.sync_all()?;
                disk.sync_dir(&dir)?;
                (*number, usage.len, file)
            }
            None => (1, START, create(&*disk, &dir, 1, seal, highest, now)?),
        };
        let out = BufWriter::with_capacity(BUFFER, Appender(file));
        let mut log = Log {
            disk,
            dir,
            seal,
            segment_size,
            faults,
            readers,
            segments,
            current,
            out,
            len,
            old,
            draft,
        };
        log.segments.entry(current).or_default().len = len;
        Ok(log)
    }

    pub(crate) fn seal(&self) -> u64 {
        self.seal
    }

    pub(crate) fn readers(&self) -> Arc<Readers> {
        self.readers.clone()
    }

    /// Where the record after `ahead` octets would stand.
    pub(crate) fn position(&self, ahead: u64) -> Position {
        Position { segment: self.current, offset: (self.len + ahead) as u32 }
    }

    /// The present segment is not to be continued.
    pub(crate) fn is_full(&self) -> bool {
        self.len >= self.segment_size || self.old
    }

    /// Begins another segment when the present one is full.
    pub(crate) fn roll(&mut self, highest: u64, now: Timestamp) -> io::Result<()> {
        if !self.is_full() {
            return Ok(());
        }
        self.faults.hit(FaultPoint::Roll)?;
        let file = create(&*self.disk, &self.dir, self.current + 1, self.seal, highest, now)?;
        self.write_digest();
        self.current += 1;
        (self.len, self.old) = (START, false);
        self.out = BufWriter::with_capacity(BUFFER, Appender(file));
        self.segments.insert(self.current, Usage { len: START, ..Usage::default() });
        Ok(())
    }

    /// The present segment is full: says beside it what is in it. It is only slower to find out without.
    fn write_digest(&mut self) {
        let (full, segment) = (std::mem::take(&mut self.draft), self.current);
        let written = self.faults.hit(FaultPoint::Digest);
        let of = (segment, self.seal, self.len);
        let written = written.and_then(|()| full.write(&*self.disk, &self.dir, of));
        if let Err(error) = written.and_then(|()| self.faults.hit(FaultPoint::Digested)) {
            tracing::warn!(%error, segment, "the digest of a segment cannot be written");
        }
    }

    /// Octets that live in a segment.
    pub(crate) fn live_in(&self, number: u32) -> u64 {
        self.segments.get(&number).map_or(0, |usage| usage.live_len)
    }

    /// The present segment is not continued: [`Log::roll`] begins another.
    pub(crate) fn close_segment(&mut self) {
        self.old = true;
    }

    /// A full segment can still grow: offsets have 32 bits.
    pub(crate) fn has_room(&self) -> bool {
        self.len < MOST
    }

    /// Appends records, unsynced. When that fails the log is as it was before, unless the second
    /// error says that even this was not possible.
    pub(crate) fn append(
        &mut self,
        records: &[(Option<usize>, Record)],
    ) -> Result<(), (io::Error, Option<io::Error>)> {
        let written = self
            .faults
            .hit(FaultPoint::Append)
            .and_then(|()| {
                records.iter().try_for_each(|(_, record)| record.write_to(&mut self.out))
            })
            .and_then(|()| self.out.flush())
            .and_then(|()| self.faults.hit(FaultPoint::Appended));
        if let Err(error) = written {
            let stays = planted!("a failed append stays in the log");
            return Err((error, if stays { None } else { self.cut().err() }));
        }
        for (_, record) in records {
            let (header, note) = record.noted(self.len as u32);
            self.draft.push(header, &note);
            self.len += note.len;
        }
        self.segments.entry(self.current).or_default().len = self.len;
        Ok(())
    }

    /// Takes everything from a position in the present segment on back.
    pub(crate) fn take_back(&mut self, to: Position) -> io::Result<()> {
        self.len = self.len.min(u64::from(to.offset));
        self.draft.spoil();
        self.cut()
    }

    /// Takes back what a failed append has written, for good: whole records among it would come
    /// back with the power, after their senders were told that they were refused.
    fn cut(&mut self) -> io::Result<()> {
        let file = self.out.get_ref().0.clone();
        file.set_len(self.len)?;
        file.sync_all()?;
        // The old writer still holds what it could not write, and must not try again.
        let old =
            std::mem::replace(&mut self.out, BufWriter::with_capacity(BUFFER, Appender(file)));
        drop(old.into_parts());
        Ok(())
    }

    /// What was appended is on the disk when this returns.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.faults.hit(FaultPoint::Sync)?;
        self.out.get_ref().0.sync_data()?;
        self.faults.hit(FaultPoint::Synced)
    }

    pub(crate) fn born(&mut self, place: Place) {
        if let Some(usage) = self.segments.get_mut(&place.at.segment) {
            usage.live += 1;
            usage.live_len += place.len;
        }
    }

    pub(crate) fn died(&mut self, place: Place) {
        if let Some(usage) = self.segments.get_mut(&place.at.segment) {
            usage.live = usage.live.saturating_sub(1);
            usage.live_len = usage.live_len.saturating_sub(place.len);
        }
    }

    /// Nothing that can be found lives in a segment any more.
    pub(crate) fn empty(&mut self, number: u32) {
        if let Some(usage) = self.segments.get_mut(&number) {
            (usage.live, usage.live_len) = (0, 0);
        }
    }

    /// Something in a segment could not be read.
    pub(crate) fn mark_damaged(&mut self, number: u32) {
        if let Some(usage) = self.segments.get_mut(&number) {
            usage.damaged = true;
        }
    }

    /// The oldest segment, unless it is being written.
    pub(crate) fn oldest(&self) -> Option<(u32, Usage)> {
        let (number, usage) = self.segments.first_key_value()?;
        (*number != self.current).then_some((*number, *usage))
    }

    /// Numbers of the finished segments; some between them may be gone.
    pub(crate) fn finished(&self) -> Range<u32> {
        let first = self.segments.first_key_value().map_or(self.current, |(first, _)| *first);
        first..self.current
    }

    /// Octets of all segments and of what lives in them.
    pub(crate) fn totals(&self) -> (u64, u64) {
        self.segments.values().fold((0, 0), |(len, live), u| (len + u.len, live + u.live_len))
    }

    pub(crate) fn segment_size(&self) -> u64 {
        self.segment_size
    }

    /// Removes the oldest segment; one with damage goes to `damaged/` beside the log, for a person
    /// to look at. The directory is synced before the next one can go: order is what keeps the
    /// dead from returning.
    pub(crate) fn remove_oldest(&mut self) -> io::Result<()> {
        let Some((number, usage)) = self.oldest() else { return Ok(()) };
        self.faults.hit(FaultPoint::RemoveSegment)?;
        let path = segment::file_of(&self.dir, number);
        let removed = if usage.damaged {
            let aside = self.dir.with_file_name("damaged");
            self.disk.make_dir(&aside)?;
            self.disk.rename(&path, &aside.join(format!("segment-{number:010}.log")))
        } else {
            self.disk.remove(&path)
        };
        match removed {
            // It went before, and the directory could not be synced then.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
        remove_digest(&*self.disk, &self.dir, number)?;
        self.disk.sync_dir(&self.dir)?;
        self.segments.remove(&number);
        self.readers.forget(number);
        Ok(())
    }
}

/// A digest without its segment is of no use to anybody.
fn remove_digest(disk: &dyn Disk, dir: &Path, number: u32) -> io::Result<()> {
    match disk.remove(&digest::file_of(dir, number)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// A new segment, synced with its directory. One of that number can only be the remains of a crash
/// right here, with nothing in it.
fn create(
    disk: &dyn Disk,
    dir: &Path,
    number: u32,
    seal: u64,
    highest: u64,
    now: Timestamp,
) -> io::Result<Arc<dyn DiskFile>> {
    let path = segment::file_of(dir, number);
    let file = disk.create(&path, false)?;
    let header = SegmentHeader { format: segment::FORMAT, number, seal, created: now, highest };
    let made = file.append_all(&header.encode()).and_then(|()| file.sync_all());
    let named = || match planted!("a new segment is not in its directory") {
        true => Ok(()),
        false => disk.sync_dir(dir),
    };
    if let Err(error) = made.and_then(|()| named()) {
        let _ = disk.remove(&path);
        return Err(error);
    }
    Ok(file)
}

/// Open segments for reading.
#[derive(Debug)]
pub(crate) struct Readers {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    open: Mutex<HashMap<u32, Arc<dyn DiskFile>>>,
}

impl Readers {
    /// Readers of the segments in `dir`, whether a log is written there or not.
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Readers {
        Readers { disk, dir, open: Mutex::default() }
    }

    /// The file of a segment. It can be read to its end even when it is removed meanwhile.
    pub(crate) fn file(&self, number: u32) -> io::Result<Arc<dyn DiskFile>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&number) {
            return Ok(file.clone());
        }
        let file = self.disk.open(&segment::file_of(&self.dir, number))?;
        if open.len() >= OPEN {
            open.clear();
        }
        open.insert(number, file.clone());
        Ok(file)
    }

    /// `len` octets at `offset` of a segment.
    pub(crate) fn read(&self, number: u32, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.file(number)?.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn forget(&self, number: u32) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }
}
