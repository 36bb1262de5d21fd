//! A start reads digests of finished segments instead of the segments, and is told the same by both.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod common;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::Poll;
use std::time::Duration;

use common::*;
use waypost_mail::{Ledger, MessageId, RecipientState, Timestamp};
use waypost_spool::{
    Config, Disk, DiskFile, LogSpool, RealDisk, Report, Rows, RowsError, RowsPlace, Spool,
    SpoolError,
};

/// The machine's disk, which counts what is read of segments that are finished.
#[derive(Debug, Default, Clone)]
struct Counting(Arc<Mutex<BTreeMap<PathBuf, Arc<AtomicU64>>>>, Arc<Gate>);

#[derive(Debug)]
struct Counted(Arc<dyn DiskFile>, Arc<AtomicU64>, Option<Arc<Gate>>);

/// Reads of the first segment wait as long as it is shut.
#[derive(Debug, Default)]
struct Gate {
    shut: Mutex<bool>,
    moved: Condvar,
    waited: AtomicBool,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.moved.notify_all();
    }

    fn pass(&self) {
        let mut shut = self.shut.lock().unwrap();
        while *shut {
            self.waited.store(true, Ordering::SeqCst);
            shut = self.moved.wait(shut).unwrap();
        }
    }
}

impl Counting {
    fn counted(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let gate = path.ends_with("log/0000000001.log").then(|| self.1.clone());
        Arc::new(Counted(file, self.counter(path), gate))
    }

    fn counter(&self, path: &Path) -> Arc<AtomicU64> {
        self.0.lock().unwrap().entry(path.to_owned()).or_default().clone()
    }

    /// Octets read of all segments but the youngest, since the last time.
    fn read(&self) -> u64 {
        let counters = self.0.lock().unwrap();
        let segments: Vec<_> = counters
            .iter()
            .filter(|(path, _)| path.extension().is_some_and(|e| e == "log"))
            .collect();
        let finished = segments.split_last().map_or(&[][..], |(_, finished)| finished);
        let read = finished.iter().map(|(_, count)| count.load(Ordering::SeqCst)).sum();
        counters.values().for_each(|count| count.store(0, Ordering::SeqCst));
        read
    }
}

impl Disk for Counting {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.counted(path, RealDisk.open(path)?))
    }
    fn extend(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.counted(path, RealDisk.extend(path)?))
    }
    fn create(&self, path: &Path, new: bool) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.counted(path, RealDisk.create(path, new)?))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.lock().unwrap().remove(path);
        RealDisk.remove(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.link(from, to)
    }
    fn names(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        RealDisk.names(dir)
    }
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.make_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn free(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free(dir)
    }
}

impl DiskFile for Counted {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.2.iter().for_each(|gate| gate.pass());
        let read = self.0.read_at(bytes, offset)?;
        self.1.fetch_add(read as u64, Ordering::SeqCst);
        Ok(read)
    }
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

const SEGMENT: u64 = 32 * 1024;

fn counting(path: &Path) -> (Config, Counting) {
    let disk = Counting::default();
    let config =
        Config { segment_size: SEGMENT, disk: Arc::new(disk.clone()), reserve: 0, ..config(path) };
    (config, disk)
}

fn body(id: u64) -> Vec<u8> {
    vec![id as u8; 1500]
}

/// Several segments with mail that waits, is held, half done and gone, and facts.
async fn fill(spool: &LogSpool, ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        spool.commit(accept(id, 2, body(id))).await.unwrap();
        match id % 4 {
            0 => spool.commit(administer(id - 2, 0, held())).await.unwrap(),
            1 if id > 4 => spool.commit(settle(id - 3, &[1])).await.unwrap(),
            2 if id > 8 => spool.commit(settle(id - 7, &[0, 1])).await.unwrap(),
            _ => spool.put(&format!("test/{}", id % 16), "kept".into(), None).await.unwrap(),
        }
    }
}

type World = (BTreeMap<u64, Vec<RecipientState>>, Vec<String>);

/// All there is, with every octet of it looked at.
async fn world(spool: &LogSpool) -> World {
    let mut messages = BTreeMap::new();
    for id in ids(spool) {
        let entry = spool.load(MessageId(id)).unwrap();
        assert_eq!(bytes_of(spool, id), [HEADER, &body(id)].concat());
        messages.insert(id, entry.recipients.into_iter().map(|r| r.state).collect());
    }
    let facts = spool.list("test/", 100, NOW).await.unwrap();
    (messages, facts.into_iter().map(|(key, _)| key).collect())
}

fn named(config: &Config, end: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(config.path.join("log")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == end));
    files.sort();
    files
}

fn nothing_special(report: &Report, what: &str) {
    let found = (report.quarantined, report.requeued, report.removed, report.damaged);
    assert_eq!(found, (0, 0, 0, 0), "{what}: {report:?}");
    assert_eq!(report.rebuilt, None, "{what}");
}

/// Keys and values.
type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// An index that loses in a crash whatever was not flushed.
#[derive(Debug, Default, Clone)]
struct Forgetful {
    seen: Arc<Mutex<Map>>,
    flushed: Arc<Mutex<Map>>,
}

impl RowsPlace for Forgetful {
    fn exists(&self) -> bool {
        true
    }
    fn open(&self) -> Result<Arc<dyn Rows>, RowsError> {
        *self.seen.lock().unwrap() = self.flushed.lock().unwrap().clone();
        Ok(Arc::new(self.clone()))
    }
    fn set_aside(&self, _: Timestamp) -> io::Result<String> {
        panic!("nothing is wrong with it")
    }
}

impl Rows for Forgetful {
    fn apply(&self, writes: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), String> {
        let mut seen = self.seen.lock().unwrap();
        for (key, value) in writes {
            match value {
                Some(value) => seen.insert(key, value),
                None => seen.remove(&key),
            };
        }
        Ok(())
    }
    fn flush(&self) -> Result<(), String> {
        *self.flushed.lock().unwrap() = self.seen.lock().unwrap().clone();
        Ok(())
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Ok(self.seen.lock().unwrap().get(key).cloned())
    }
    fn range(&self, from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), String> {
        let seen = self.seen.lock().unwrap().clone();
        seen.range(from.to_vec()..).take_while(|(key, value)| each(key, value)).for_each(drop);
        Ok(())
    }
}

/// Time stands still, so that the index is flushed when the log makes it necessary and not else: what it
/// then lacks after a crash is in the segment that is being written.
#[tokio::test(start_paused = true)]
async fn a_crash_between_two_flushes_makes_no_start_read_finished_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (config, disk) = counting(dir.path());
    let index = Forgetful::default();
    let opened = || LogSpool::open_driven(&config, clock(), &index, 7, &mut ()).unwrap();
    let (spool, mut driver, _) = opened();
    {
        let mut filling = std::pin::pin!(fill(&spool, 1..=200));
        while !is_over(filling.as_mut()).await {
            driver.step();
            tokio::task::yield_now().await;
        }
    }
    let before = world(&spool).await;
    drop((spool, driver));
    let finished = (named(&config, "log").len() as u64 - 1) * SEGMENT;
    assert!(finished > 5 * SEGMENT, "{finished}");
    disk.read();
    let (spool, _, report) = opened();
    let read = disk.read();
    assert!(report.requeued + report.removed > 1, "the crash cost the index nothing: {report:?}");
    assert_eq!((report.quarantined, report.damaged), (0, 0), "{report:?}");
    assert!(read < finished / 2, "{read} of {finished} octets were read");
    assert_eq!(world(&spool).await, before);
}

/// Lets a future go on, and says whether it came to its end.
async fn is_over(mut future: std::pin::Pin<&mut impl Future>) -> bool {
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await
}

#[tokio::test]
async fn a_start_reads_them_instead_of_their_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (config, disk) = counting(dir.path());
    let (spool, _) = open(&config);
    fill(&spool, 1..=200).await;
    let before = world(&spool).await;
    drop(spool);
    let segments = named(&config, "log");
    assert!(segments.len() > 5, "{segments:?}");
    assert_eq!(named(&config, "digest").len(), segments.len() - 1);
    disk.read();
    let (spool, report) = open(&config);
    let read = disk.read();
    nothing_special(&report, "a start with digests");
    assert!(read < 1000 * segments.len() as u64, "{read} octets of finished segments were read");
    assert_eq!(world(&spool).await, before);
    drop(spool);
    // Nobody needs them, and who looks from outside does not believe them.
    for digest in named(&config, "digest") {
        fs::remove_file(digest).unwrap();
    }
    disk.read();
    let (spool, report) = open(&config);
    let read = disk.read();
    nothing_special(&report, "a start without");
    assert!(read > SEGMENT * (segments.len() as u64 - 2), "{read} octets were read");
    assert_eq!(world(&spool).await, before);
    drop(spool);
    assert_eq!(named(&config, "digest").len(), segments.len() - 1, "they are written again");
    disk.read();
    waypost_spool::Inspector::open(&config).unwrap();
    assert!(disk.read() > SEGMENT * (segments.len() as u64 - 2));
}

#[tokio::test]
async fn one_that_is_not_as_it_was_written_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (config, disk) = counting(dir.path());
    let (spool, _) = open(&config);
    fill(&spool, 1..=60).await;
    let before = world(&spool).await;
    drop(spool);
    let digests = named(&config, "digest");
    let (mine, other) = (&digests[0], fs::read(&digests[1]).unwrap());
    let whole = fs::read(mine).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let (foreign, _) = counting(elsewhere.path());
    let (spool, _) = open(&foreign);
    fill(&spool, 1..=60).await;
    drop(spool);
    let mut wrong = vec![
        ("empty".to_owned(), Vec::new()),
        ("half".to_owned(), whole[..whole.len() / 2].to_vec()),
        ("longer".to_owned(), [&whole[..], &[0; 9]].concat()),
        ("zeros".to_owned(), vec![0; whole.len()]),
        ("another segment's".to_owned(), other),
        ("another spool's".to_owned(), fs::read(&named(&foreign, "digest")[0]).unwrap()),
    ];
    for at in (0..whole.len()).step_by(7) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        wrong.push((format!("flipped at {at}"), flipped));
    }
    for (what, bytes) in wrong {
        fs::write(mine, bytes).unwrap();
        disk.read();
        let (spool, report) = open(&config);
        assert!(disk.read() >= SEGMENT, "{what}: believed");
        nothing_special(&report, &what);
        assert_eq!(world(&spool).await, before, "{what}");
        drop(spool);
        assert!(fs::read(mine).unwrap() == whole, "{what}: not written again");
    }
}

/// A segment that was finished and goes on, because the one after it is gone, or is another one now.
#[tokio::test]
async fn one_of_a_segment_that_is_another_now_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (config, disk) = counting(dir.path());
    let (spool, _) = open(&config);
    fill(&spool, 1..=40).await;
    drop(spool);
    let (segment, stale) = (named(&config, "log")[0].clone(), named(&config, "digest")[0].clone());
    let (bytes, digest) = (fs::read(&segment).unwrap(), fs::read(&stale).unwrap());
    // Another spool of the same seal, whose first segment is shorter, longer, or ends with another record.
    for (what, other) in [
        ("shorter", bytes[..bytes.len() - 1].to_vec()),
        ("longer", [&bytes[..], &bytes[64..64 + 52]].concat()),
        ("with another end", {
            let mut other = bytes.clone();
            let at = memchr::memmem::rfind(&other, &bytes[64..64 + 12]).unwrap();
            other[at + 40] ^= 1;
            // A sound header, of another record.
            let crc = crc32c::crc32c(&other[at..at + 44]);
            other[at + 44..at + 48].copy_from_slice(&crc.to_le_bytes());
            other
        }),
    ] {
        fs::write(&segment, other).unwrap();
        fs::write(&stale, &digest).unwrap();
        disk.read();
        let (_, report) = open(&config);
        assert!(disk.read() >= SEGMENT, "{what}: believed");
        // What stands in a message is looked at when somebody wants it.
        assert!(report.damaged > 0 || what == "with another end", "{what}: {report:?}");
        fs::write(&segment, &bytes).unwrap();
    }
}

/// An index from before: it knows nothing of what finished segments say.
#[tokio::test]
async fn what_the_index_does_not_know_is_read_in_the_log_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (config, disk) = counting(dir.path());
    let (spool, _) = open(&config);
    fill(&spool, 1..=60).await;
    drop(spool);
    let copy = dir.path().join("index");
    copied(&config.path.join("index"), &copy);
    let (spool, _) = open(&config);
    fill(&spool, 61..=160).await;
    let before = world(&spool).await;
    drop(spool);
    copied(&copy, &config.path.join("index"));
    let segments = named(&config, "log").len() as u64;
    disk.read();
    let mut heard = Heard::default();
    let (spool, report) = LogSpool::open_before(config.clone(), clock(), &mut heard).unwrap();
    assert!(disk.read() > SEGMENT * (segments - 2), "digests were believed: {report:?}");
    assert_eq!(heard.ids(), ids(&*spool), "each was told of once");
    assert_eq!((report.quarantined, report.damaged), (0, 0), "{report:?}");
    assert!(report.requeued > 0 && report.removed > 0, "{report:?}");
    assert_eq!(world(&spool).await, before);
}

#[tokio::test]
async fn they_go_with_their_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (config, _) = counting(dir.path());
    let (spool, _) = open(&config);
    for id in 1..=200 {
        spool.commit(accept(id, 1, body(id))).await.unwrap();
        // The first ones stay, and move.
        if id > 3 {
            spool.commit(settle(id, &[0])).await.unwrap();
        }
    }
    let first = config.path.join("log/0000000001.log");
    for round in 0.. {
        if !first.exists() {
            break;
        }
        assert!(round < 2000, "nothing is tidied");
        spool.put("test/round", format!("{round}").into(), None).await.unwrap();
    }
    drop(spool);
    let stems = |end| named(&config, end).iter().map(|p| p.with_extension("")).collect::<Vec<_>>();
    let (mut segments, digests) = (stems("log"), stems("digest"));
    segments.pop();
    assert_eq!(digests, segments);
    // One that stayed behind goes at the next start.
    fs::write(config.path.join("log/0000000001.digest"), "left").unwrap();
    let (spool, report) = open(&config);
    nothing_special(&report, "after tidying");
    assert_eq!(ids(&*spool), [1, 2, 3]);
    drop(spool);
    assert_eq!(stems("digest"), segments);
}

#[tokio::test]
async fn damage_in_a_finished_segment_is_found_and_told_and_the_rest_flows() {
    let dir = tempfile::tempdir().unwrap();
    let (config, _) = counting(dir.path());
    let (spool, _) = open(&config);
    for id in 1..=100 {
        spool.commit(accept(id, 1, body(id))).await.unwrap();
    }
    drop(spool);
    let segment = config.path.join("log/0000000001.log");
    let mut bytes = fs::read(&segment).unwrap();
    let at = memchr::memmem::find(&bytes, &[3; 100]).unwrap();
    bytes[at + 50] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let (spool, report) = open(&config);
    nothing_special(&report, "the start does not look there");
    // By itself, within seconds.
    let metrics = spool.metrics();
    until(|| metrics.damaged.get() > 0, "nobody told of it").await;
    assert_eq!(metrics.damaged.get(), 1);
    // And by whoever wants the message.
    assert!(matches!(spool.content(MessageId(3)), Err(SpoolError::Damaged(..))));
    for id in (1..=100).filter(|id| *id != 3) {
        assert_eq!(bytes_of(&*spool, id), [HEADER, &body(id)].concat());
        spool.commit(settle(id, &[0])).await.unwrap();
    }
    spool.commit(administer(3, 0, held())).await.unwrap();
    drop(spool);
    let survey = waypost_spool::Survey::of(&config).unwrap();
    assert!(survey.problems.iter().any(|p| p.message == Some(MessageId(3))), "{survey:?}");
}

async fn until(happened: impl Fn() -> bool, what: &str) {
    for _ in 0..600 {
        if happened() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}");
}

/// One gap is read to its end, and a disk may take as long as it likes for each sector that it cannot read.
#[tokio::test]
async fn a_disk_that_is_stuck_in_an_old_segment_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (config, disk) = counting(dir.path());
    let (spool, _) = open(&config);
    for id in 1..=60 {
        spool.commit(accept(id, 1, body(id))).await.unwrap();
    }
    drop(spool);
    let segment = config.path.join("log/0000000001.log");
    let mut bytes = fs::read(&segment).unwrap();
    let (half, last) = (bytes.len() / 2, memchr::memmem::rfind(&bytes, &bytes[64..76]).unwrap());
    bytes[half..last].fill(0);
    fs::write(&segment, bytes).unwrap();
    let finished: u64 = named(&config, "log")
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .rev()
        .skip(1)
        .sum();
    let heads = 64 * (named(&config, "log").len() as u64 - 1);
    let (spool, report) = open(&config);
    nothing_special(&report, "the start does not look there");
    disk.1.set(true);
    until(|| disk.1.waited.load(Ordering::SeqCst), "nobody looks at it").await;
    let mail = tokio::time::timeout(Duration::from_secs(20), async {
        spool.commit(accept(61, 1, body(61))).await.unwrap();
        spool.commit(settle(60, &[0])).await.unwrap();
        spool.put("test/fact", "kept".into(), None).await.unwrap();
    });
    let mail = mail.await;
    disk.1.set(false);
    assert!(mail.is_ok(), "nobody is answered while the disk is stuck");
    let metrics = spool.metrics();
    until(|| metrics.scrubbed.get() >= finished - heads, "not all of it is looked at").await;
    // The record that the gap begins in, and the gap.
    assert_eq!(metrics.damaged.get(), 2);
}

#[tokio::test]
async fn a_segment_is_deleted_and_the_rest_flows() {
    for (rebuild, digests) in [(false, true), (false, false), (true, true)] {
        let dir = tempfile::tempdir().unwrap();
        let (config, _) = counting(dir.path());
        let (spool, _) = open(&config);
        for id in 1..=100 {
            spool.commit(accept(id, 1, body(id))).await.unwrap();
            if id > 20 {
                spool.commit(settle(id - 20, &[0])).await.unwrap();
            }
            // Something of the first segment stays for ever.
            if id == 1 {
                spool.commit(accept(500, 1, body(500))).await.unwrap();
            }
        }
        let there = ids(&*spool);
        drop(spool);
        let segments = named(&config, "log");
        let lost = &segments[segments.len() - 2];
        fs::remove_file(lost).unwrap();
        if rebuild {
            fs::remove_dir_all(config.path.join("index")).unwrap();
        }
        if !digests {
            named(&config, "digest").iter().for_each(|digest| fs::remove_file(digest).unwrap());
        }
        let what = format!("index deleted: {rebuild}, digests: {digests}");
        let (spool, report) = open(&config);
        assert!(report.damaged > 0 && report.quarantined > 0, "{what}: {report:?}");
        for id in ids(&*spool) {
            let waits = matches!(state(&*spool, id, 0), RecipientState::Waiting { .. });
            assert!(!waits || there.contains(&id), "{what}: {id} is done and would be sent again");
            assert!(!waits || spool.content(MessageId(id)).is_ok(), "{what}: {id}");
        }
        if !rebuild {
            let sound = there.iter().filter(|id| spool.content(MessageId(**id)).is_ok()).count();
            assert!(sound > 0, "{what}: nothing flows");
            assert!(there.iter().all(|id| ids(&*spool).contains(id)), "{what}: unknown now");
        }
        spool.commit(accept(600, 1, "new")).await.unwrap();
    }
}
