//! The one thread that writes, and what it does when the disk does not let it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing::{info, warn};
use waypost_mail::Timestamp;

use crate::Config;
use crate::files::{self, MAGIC, START, Sound};
use crate::index::{self, Entry};
use crate::note::{About, Note, Told};
use crate::pen::{Batch, Desk, Lost};
use crate::record;

/// The largest a segment gets, and the smallest that one is when it is full.
const LARGEST: u64 = 8 * 1024 * 1024;
const SMALLEST: u64 = 64 * 1024;
/// So many segments make up the whole, so that little goes at a time.
const PARTS: u32 = 16;
/// After a failure the disk is left alone for so long.
const PAUSE: Duration = Duration::from_secs(5);

/// What the history counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    /// Notes written.
    pub(crate) written: Counter,
    /// Notes lost, because they came faster than they are written, or the disk failed.
    pub(crate) lost: Counter,
    /// Octets of all files.
    pub(crate) octets: Gauge,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("waypost_history");
        registry.register("notes_written", "Notes written", self.written.clone());
        let help = "Notes lost: they came faster than they are written, or the disk failed";
        registry.register("notes_lost", help, self.lost.clone());
        registry.register("octets", "Octets of all files of the history", self.octets.clone());
    }
}

/// The thread's own.
#[derive(Debug)]
pub(crate) struct Writer {
    config: Config,
    desk: Arc<Desk>,
    /// Finished segments, oldest first; nothing until the directory was looked at.
    sealed: Option<Vec<Sealed>>,
    open: Option<Open>,
    lost: Option<Lost>,
    /// The disk failed: it is left alone until then.
    pause: Option<Timestamp>,
}

/// A segment to which nothing is added.
#[derive(Debug)]
struct Sealed {
    number: u64,
    octets: u64,
    newest: Timestamp,
}

/// The segment that is written.
#[derive(Debug)]
struct Open {
    number: u64,
    file: File,
    length: u64,
    entries: Vec<Entry>,
    began: Timestamp,
    newest: Timestamp,
}

impl Writer {
    pub(crate) fn new(config: Config, desk: Arc<Desk>) -> Writer {
        Writer { config, desk, sealed: None, open: None, lost: None, pause: None }
    }

    /// Writes until the desk is closed.
    pub(crate) fn run(&mut self) {
        loop {
            let batch = self.desk.next();
            let (asked, last) = (batch.asked(), batch.last);
            self.write(batch);
            self.desk.done(asked);
            if last {
                self.seal();
                return;
            }
        }
    }

    fn write(&mut self, batch: Batch) {
        let now = self.desk.clock.now();
        if let Some(lost) = batch.lost {
            Lost::add(&mut self.lost, lost.count, lost.since);
        }
        let left_alone = self.pause.is_some_and(|until| now < until) && !batch.last;
        if left_alone {
            batch.notes.iter().for_each(|waiting| self.lose(waiting.at));
            return;
        }
        let mut page = Page::default();
        let earlier = self.lost.take();
        if let Some(Lost { count, since }) = earlier {
            page.add(Told { at: now, about: About::Relay, note: Note::Lost { count, since } });
        }
        for waiting in batch.notes {
            let (about, at) = (waiting.about, waiting.at);
            if !page.add(Told { at, about, note: (waiting.note)() }) {
                self.lose(at);
            }
        }
        if batch.last {
            page.add(Told { at: now, about: About::Relay, note: Note::Ended });
        }
        let (written, ended) = self.put(&page);
        self.desk.metrics.written.inc_by(written as u64);
        match ended {
            Ok(()) => self.recover(earlier),
            Err(failure) => {
                let told = usize::from(earlier.is_some());
                let earlier = earlier.filter(|_| written < told);
                earlier.iter().for_each(|lost| Lost::add(&mut self.lost, lost.count, lost.since));
                page.notes[written.max(told)..].iter().for_each(|(_, at, _)| self.lose(*at));
                self.fail(&failure, now);
            }
        }
        self.prune(now);
    }

    fn recover(&mut self, lost: Option<Lost>) {
        if self.pause.take().is_some() {
            let lost = lost.map_or(0, |lost| lost.count);
            info!(lost, "the history is written again");
        }
    }

    fn lose(&mut self, at: Timestamp) {
        Lost::add(&mut self.lost, 1, at);
        self.desk.metrics.lost.inc();
    }

    /// Writes a page, into as many segments as it takes. Gives how many of its notes are written.
    fn put(&mut self, page: &Page) -> (usize, io::Result<()>) {
        let mut written = 0;
        while written < page.notes.len() {
            match self.put_some(page, written) {
                Ok(count) => written += count,
                Err(failure) => return (written, Err(failure)),
            }
        }
        (written, Ok(()))
    }

    /// Writes notes from this one on until the segment is full.
    fn put_some(&mut self, page: &Page, from: usize) -> io::Result<usize> {
        let full = self.segment_size();
        let open = self.open()?;
        let begin = page.start(from);
        let room = full.saturating_sub(open.length);
        let fits = page.notes[from..].iter().take_while(|(_, _, end)| (end - begin) as u64 <= room);
        // One at least, into however small a segment.
        let count = fits.count().max(usize::from(open.entries.is_empty()));
        if count > 0 {
            open.append(page, from..from + count)?;
        }
        if from + count < page.notes.len() || open.length >= full {
            self.seal();
        }
        Ok(count)
    }

    /// The segment to write to; a new one when there is none, or it is so old that its notes would
    /// outlive their time.
    fn open(&mut self) -> io::Result<&mut Open> {
        let now = self.desk.clock.now();
        let old = self.config.age / PARTS;
        if self.open.as_ref().is_some_and(|open| now.since(open.began) >= old) {
            self.seal();
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let last = self.sealed()?.last().map_or(0, |sealed| sealed.number);
                Open::create(&self.config.directory, last + 1, now)?
            }
        };
        Ok(self.open.insert(open))
    }

    /// The finished segments. What an earlier run left is looked at first: its last segment may have a torn
    /// end, which is cut off.
    fn sealed(&mut self) -> io::Result<&mut Vec<Sealed>> {
        let sealed = match self.sealed.take() {
            Some(sealed) => sealed,
            None => {
                let directory = &self.config.directory;
                make_private(directory)?;
                let numbers = files::numbers(directory)?;
                let found = numbers.into_iter().map(|number| Sealed::find(directory, number));
                found.collect::<io::Result<Vec<Sealed>>>()?
            }
        };
        Ok(self.sealed.insert(sealed))
    }

    /// Nothing more is added to the present segment.
    fn seal(&mut self) {
        let Some(open) = self.open.take() else { return };
        let Open { number, length, entries, newest, .. } = open;
        let path = files::index(&self.config.directory, number);
        if let Err(failure) = index::write(&path, entries, newest, length) {
            warn!(%failure, path = %path.display(), "a segment of the history has no index, it is read whole");
        }
        if let Some(sealed) = &mut self.sealed {
            sealed.push(Sealed { number, octets: length, newest });
        }
    }

    /// Takes away what is too old or too much. The present segment stays.
    fn prune(&mut self, now: Timestamp) {
        let open = self.open.as_ref().map_or(0, |open| open.length);
        let Some(sealed) = &mut self.sealed else { return };
        let mut octets = open + sealed.iter().map(|sealed| sealed.octets).sum::<u64>();
        let mut gone = 0;
        for old in sealed.iter() {
            if octets <= self.config.size && now.since(old.newest) < self.config.age {
                break;
            }
            let directory = &self.config.directory;
            let _ = fs::remove_file(files::index(directory, old.number));
            if let Err(failure) = fs::remove_file(files::segment(directory, old.number))
                && failure.kind() != io::ErrorKind::NotFound
            {
                warn!(%failure, number = old.number, "an old segment of the history cannot be removed");
                break;
            }
            octets -= old.octets;
            gone += 1;
        }
        sealed.drain(..gone);
        self.desk.metrics.octets.set(i64::try_from(octets).unwrap_or(i64::MAX));
    }

    /// The directory is looked at again when it is tried again: what is torn of the last segment is cut off
    /// then.
    fn fail(&mut self, failure: &io::Error, now: Timestamp) {
        if self.pause.is_none() {
            let directory = self.config.directory.display();
            warn!(%failure, %directory, "the history cannot be written: mail goes on, what is told of it is lost and counted");
        }
        (self.open, self.sealed) = (None, None);
        self.pause = Some(now.after(PAUSE));
    }

    fn segment_size(&self) -> u64 {
        (self.config.size / u64::from(PARTS)).clamp(SMALLEST, LARGEST)
    }
}

/// Notes as they are written: whom each is about, when it was told, where it ends.
#[derive(Debug, Default)]
struct Page {
    octets: Vec<u8>,
    notes: Vec<(About, Timestamp, usize)>,
}

impl Page {
    /// False when the note is too long to be kept.
    fn add(&mut self, told: Told) -> bool {
        let (about, at) = (told.about, told.at);
        let added = record::encode(told, &mut self.octets).is_ok();
        if added {
            self.notes.push((about, at, self.octets.len()));
        }
        added
    }

    fn start(&self, note: usize) -> usize {
        note.checked_sub(1).and_then(|before| self.notes.get(before)).map_or(0, |note| note.2)
    }
}

impl Open {
    fn create(directory: &Path, number: u64, now: Timestamp) -> io::Result<Open> {
        make_private(directory)?;
        let path = files::segment(directory, number);
        let mut file = private().create_new(true).append(true).open(path)?;
        file.write_all(&MAGIC)?;
        let length = START as u64;
        Ok(Open { number, file, length, entries: Vec::new(), began: now, newest: now })
    }

    fn append(&mut self, page: &Page, notes: Range<usize>) -> io::Result<()> {
        let begin = page.start(notes.start);
        let octets = &page.octets[begin..page.start(notes.end)];
        self.file.write_all(octets)?;
        for note in notes {
            let at = self.length as usize + page.start(note) - begin;
            let (about, moment, _) = page.notes[note];
            self.entries.push(Entry::new(about, at));
            self.newest = self.newest.max(moment);
        }
        self.length += octets.len() as u64;
        Ok(())
    }
}

impl Sealed {
    /// A segment that an earlier run left. One without an index that belongs to it is read whole, cut where
    /// it is torn, and gets one.
    fn find(directory: &Path, number: u64) -> io::Result<Sealed> {
        let (path, index) = (files::segment(directory, number), files::index(directory, number));
        let octets = fs::metadata(&path)?.len();
        if let Some(known) = index::read(&index, octets) {
            return Ok(Sealed { number, octets, newest: known.newest });
        }
        let Sound { entries, newest, end } = files::survey(&files::octets(&path)?);
        if end < octets {
            info!(path = %path.display(), octets = octets - end, "the torn end of a segment of the history is cut off");
            private().write(true).open(&path)?.set_len(end)?;
        }
        index::write(&index, entries, newest, end)?;
        Ok(Sealed { number, octets: end, newest })
    }
}

/// Who may read mail's addresses is who runs the relay.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn make_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

#[cfg(test)]
mod tests;
