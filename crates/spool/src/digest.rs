//! What a finished segment says, record by record, in a small file beside it, so that a start need
//! not read gigabytes of mail to know what became of it.
//!
//! ```text
//!  0  magic   8 octets
//!  8  Head    postcard: which segment, how long, its last record's header
//!  …  Note    postcard, one for each record, in order
//!  …  crc32c of all before
//! ```
//!
//! A digest is never needed and never synced. One is written when its segment is full, or when a start had to read
//! the segment and found it sound. It is believed only when it is whole, of this spool, of this segment, as long as
//! that is, ends with the record that the segment ends with, and leaves no octet of it out. In all other cases the
//! segment itself is read; so it is for all segments when the index is of another opinion than a digest.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crc32c::crc32c;
use serde::{Deserialize, Serialize};
use waypost_mail::{MessageId, Timestamp};

use crate::disk::{Disk, DiskFile};
use crate::record::{self, HEADER_LEN, Header};
use crate::segment::START;

const MAGIC: [u8; 8] = *b"wpdigest";
/// How heads and notes are encoded.
const FORMAT: u8 = 1;
const CRC_LEN: usize = 4;

/// What a record says, as far as a start needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Where the record begins.
    pub(crate) offset: u32,
    /// Octets of it.
    pub(crate) len: u64,
    pub(crate) id: MessageId,
    pub(crate) says: Says,
}

/// What became of the message, or of a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Says {
    /// It is here.
    Message,
    /// It changed, and caused a notice, perhaps, which is here.
    Change { notice: Option<MessageId> },
    /// It is gone.
    Gone,
    /// A fact of the ledger is here, or is forgotten.
    Fact { key: String, kept: bool, expires: Option<Timestamp> },
}

/// What a digest is about.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    format: u8,
    number: u32,
    seal: u64,
    /// Octets of the segment.
    len: u64,
    /// Notes that follow.
    count: u32,
    /// The header of the last record.
    last: Option<Header>,
}

/// The digest of a segment that is being written, or read.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    notes: Vec<u8>,
    count: u32,
    last: Option<Header>,
    end: u64,
    /// False once anything is in the segment that no note tells of.
    sound: bool,
}

impl Default for Draft {
    fn default() -> Draft {
        Draft { notes: Vec::new(), count: 0, last: None, end: START, sound: true }
    }
}

impl Draft {
    /// Another record follows.
    pub(crate) fn push(&mut self, header: Header, note: &Note) {
        self.sound &= u64::from(note.offset) == self.end;
        self.end += note.len;
        match postcard::to_extend(note, std::mem::take(&mut self.notes)) {
            Ok(notes) if self.sound => {
                (self.notes, self.last) = (notes, Some(header));
                self.count += 1;
            }
            _ => self.spoil(),
        }
    }

    /// The segment is to be read by whoever wants to know what is in it.
    pub(crate) fn spoil(&mut self) {
        (self.sound, self.notes) = (false, Vec::new());
    }

    /// Writes the digest of segment `number`, which is `len` octets long; nothing when it would not
    /// be true.
    pub(crate) fn write(
        self,
        disk: &dyn Disk,
        log: &Path,
        (number, seal, len): (u32, u64, u64),
    ) -> io::Result<()> {
        let Draft { notes, count, last, end, sound } = self;
        if !sound || end != len {
            return Ok(());
        }
        let head = Head { format: FORMAT, number, seal, len, count, last };
        let mut bytes = postcard::to_extend(&head, MAGIC.to_vec()).map_err(io::Error::other)?;
        bytes.extend_from_slice(&notes);
        bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
        let path = file_of(log, number);
        let written = disk.create(&path, false).and_then(|file| file.append_all(&bytes));
        if written.is_err() {
            // Half of one is believed by nobody, and takes room.
            let _ = disk.remove(&path);
        }
        written
    }
}

/// The file of the digest of segment `number` in the directory of the log.
pub(crate) fn file_of(log: &Path, number: u32) -> PathBuf {
    log.join(format!("{number:010}.digest"))
}

/// What the digest of a segment says, if there is one to be believed. `segment` is the file it is about.
pub(crate) fn read(
    disk: &dyn Disk,
    log: &Path,
    (number, seal): (u32, u64),
    segment: &dyn DiskFile,
) -> Option<Vec<Note>> {
    let file = disk.open(&file_of(log, number)).ok()?;
    let (len, most) = (file.len().ok()?, segment.len().ok()?);
    // A note is shorter than its record.
    let mut bytes = vec![0; usize::try_from(len.min(most + 128)).ok()?];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (bytes, crc) = bytes.split_at(bytes.len().checked_sub(CRC_LEN)?);
    if crc32c(bytes) != record::trailer(crc) {
        return None;
    }
    let (head, notes) = postcard::take_from_bytes::<Head>(bytes.strip_prefix(&MAGIC)?).ok()?;
    if (head.format, head.number, head.seal, head.len) != (FORMAT, number, seal, most) {
        return None;
    }
    let notes = whole(&head, notes)?;
    match (notes.last(), head.last) {
        (None, None) => Some(notes),
        (Some(note), Some(last)) => {
            let mut bytes = [0; HEADER_LEN];
            segment.read_exact_at(&mut bytes, u64::from(note.offset)).ok()?;
            (Header::parse(&bytes, seal) == Some(last)).then_some(notes)
        }
        _ => None,
    }
}

/// The notes, when they tell of each octet of the segment.
fn whole(head: &Head, mut bytes: &[u8]) -> Option<Vec<Note>> {
    let mut notes = Vec::with_capacity(bytes.len() / 12);
    let mut end = START;
    for _ in 0..head.count {
        let (note, rest) = postcard::take_from_bytes::<Note>(bytes).ok()?;
        if u64::from(note.offset) != end {
            return None;
        }
        end = end.checked_add(note.len)?;
        bytes = rest;
        notes.push(note);
    }
    (bytes.is_empty() && end == head.len).then_some(notes)
}

/// Removes digests of segments that are not among `finished`.
pub(crate) fn sweep(disk: &dyn Disk, log: &Path, finished: &[u32]) -> io::Result<()> {
    let finished: BTreeSet<PathBuf> = finished.iter().map(|number| file_of(log, *number)).collect();
    for name in disk.names(log)? {
        let path = log.join(name);
        if path.extension().is_some_and(|end| end == "digest") && !finished.contains(&path) {
            disk.remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::sync::{Arc, Mutex};

    use waypost_mail::{Entry, Ledger, ManualClock, Outcome, RecipientState};

    use super::*;
    use crate::disk::RealDisk;
    use crate::{
        Audience, Change, Config, Detours, Driver, LogSpool, Report, Rows, RowsError, RowsPlace,
        Spool, Writes, samples,
    };

    const NOW: Timestamp = Timestamp(1_000);

    /// Rows in memory: another test counts the flushes of sled.
    #[derive(Debug, Default, Clone)]
    struct Remembered(Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>);

    impl Rows for Remembered {
        fn apply(&self, writes: Writes) -> Result<(), String> {
            let mut rows = self.0.lock().unwrap();
            for (key, value) in writes {
                match value {
                    Some(value) => drop(rows.insert(key, value)),
                    None => drop(rows.remove(&key)),
                }
            }
            Ok(())
        }
        fn flush(&self) -> Result<(), String> {
            Ok(())
        }
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
            Ok(self.0.lock().unwrap().get(key).cloned())
        }
        fn range(
            &self,
            from: &[u8],
            each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
        ) -> Result<(), String> {
            let rows = self.0.lock().unwrap().clone();
            let _ = rows.range(from.to_vec()..).all(|(key, value)| each(key, value));
            Ok(())
        }
    }

    impl RowsPlace for Remembered {
        fn exists(&self) -> bool {
            !self.0.lock().unwrap().is_empty()
        }
        fn open(&self) -> Result<Arc<dyn Rows>, RowsError> {
            Ok(Arc::new(self.clone()))
        }
        fn set_aside(&self, _: Timestamp) -> io::Result<String> {
            panic!("nothing is wrong with it")
        }
    }

    #[derive(Debug, Default)]
    struct Heard(BTreeMap<u64, Entry>);

    impl Audience for Heard {
        fn begin(&mut self) {
            self.0.clear();
        }
        fn message(&mut self, entry: Entry) {
            assert!(self.0.insert(entry.id.0, entry).is_none(), "told of twice");
        }
    }

    type World = (BTreeMap<u64, Entry>, Vec<(String, bytes::Bytes)>, u64);

    fn open(
        config: &Config,
        rows: &Remembered,
        heard: &mut Heard,
    ) -> (Arc<LogSpool>, Driver, Report) {
        LogSpool::open_driven(config, Arc::new(ManualClock::at(NOW)), rows, 7, heard).unwrap()
    }

    async fn opened(config: &Config, rows: &Remembered) -> (World, Report) {
        let mut heard = Heard::default();
        let (spool, _driver, report) = open(config, rows, &mut heard);
        for (id, entry) in &heard.0 {
            assert_eq!(spool.load(MessageId(*id)).unwrap(), *entry);
            assert!(spool.content(MessageId(*id)).is_ok(), "{id}");
        }
        let facts = spool.list("test/", 100, NOW).await.unwrap();
        ((heard.0, facts, report.messages), report)
    }

    fn state(id: u64, state: RecipientState) -> Change {
        let (id, states, detours) = (MessageId(id), vec![(0, state)], Detours::default());
        Change::Settle { id, states, detours, notice: None }
    }

    async fn fill(config: &Config, rows: &Remembered) {
        let (spool, mut driver, _) = open(config, rows, &mut Heard::default());
        for id in 1..=12 {
            let held = RecipientState::Held { tries: 0, reason: "so".to_owned() };
            let next = async {
                match id % 4 {
                    0 => spool
                        .commit(state(id, RecipientState::Done(Outcome::Deleted)))
                        .await
                        .unwrap(),
                    1 => spool.commit(state(id, held)).await.unwrap(),
                    2 => spool.put(&format!("test/{}", id % 8), "kept".into(), None).await.unwrap(),
                    _ => spool.remove("test/6").await.unwrap(),
                }
            };
            let arrival = spool.commit(samples::accept(id, 1, &[id as u8; 200]));
            let (accepted, ()) = tokio::join!(arrival, async { driver.step() });
            accepted.unwrap();
            tokio::join!(next, async { driver.step() });
        }
    }

    /// A digest like `notes` but for one that is left out; the one before, or after it, takes its octets.
    fn without(notes: &[Note], at: usize) -> Vec<Note> {
        let mut forged = notes.to_vec();
        let gone = forged.remove(at);
        match at {
            0 => (forged[0].offset, forged[0].len) = (gone.offset, forged[0].len + gone.len),
            at => forged[at - 1].len += gone.len,
        }
        forged
    }

    /// Whole, of its spool and segment, with the right end, and not true: nothing about it tells, but that the index
    /// is of another opinion.
    #[tokio::test]
    async fn one_that_is_forged_is_doubted_and_the_segment_decides() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path().join("spool"));
        (config.keep_free, config.reserve, config.cache) = (1 << 20, 0, 8 << 20);
        config.segment_size = 4096;
        let rows = Remembered::default();
        fill(&config, &rows).await;
        let (before, _) = opened(&config, &rows).await;
        let log = config.path.join("log");
        let (path, segment) =
            (file_of(&log, 1), RealDisk.open(&crate::segment::file_of(&log, 1)).unwrap());
        let (whole, len) = (fs::read(&path).unwrap(), segment.len().unwrap());
        let mut head = [0; START as usize];
        segment.read_exact_at(&mut head, 0).unwrap();
        let seal = crate::segment::SegmentHeader::parse(&head).unwrap().unwrap().seal;
        let notes = read(&RealDisk, &log, (1, seal), &*segment).unwrap();
        let mut header = [0; HEADER_LEN];
        let last = u64::from(notes.last().unwrap().offset);
        segment.read_exact_at(&mut header, last).unwrap();
        let header = Header::parse(&header, seal).unwrap();
        let mut doubted = 0;
        // The end of the segment is looked at.
        for at in 0..notes.len() - 1 {
            let (what, forged) = (&notes[at], without(&notes, at));
            let mut draft = Draft::default();
            forged.iter().for_each(|note| draft.push(header, note));
            draft.write(&RealDisk, &log, (1, seal, len)).unwrap();
            let believed = read(&RealDisk, &log, (1, seal), &*segment);
            assert!(believed.is_some_and(|notes| notes == forged), "{what:?}: it tells by itself");
            let (world, report) = opened(&config, &rows).await;
            let found = (report.quarantined, report.requeued, report.removed, report.damaged);
            assert_eq!(
                (found, &report.rebuilt),
                ((0, 0, 0, 0), &None),
                "without {what:?}: {report:?}"
            );
            assert!(world == before, "without {what:?}: {world:?}");
            // Not so where later records say more.
            doubted += usize::from(fs::read(&path).unwrap() == whole);
            fs::write(&path, &whole).unwrap();
        }
        assert!(
            doubted > notes.len() / 2,
            "{doubted} of {} forged digests were doubted",
            notes.len()
        );
    }
}
