//! Log and index are not of the same time, or one of them cannot be read: nothing that is finished is sent again,
//! and what can flow flows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::*;
use tempfile::TempDir;
use tokio::task::JoinSet;
use waypost_mail::{Ledger, MessageId, RecipientState, Timestamp};
use waypost_spool::{
    Config, FaultPoint, Faults, LogSpool, OpenError, Report, Rows, RowsError, RowsPlace, SledRows,
    Spool, Writes,
};

const SMALL: u64 = 32 * 1024;
const LARGE: u64 = 4 << 20;

fn sized(path: &Path, segment_size: u64) -> Config {
    Config { segment_size, reserve: 0, ..config(path) }
}

fn at(path: PathBuf, config: &Config) -> Config {
    Config { path, ..config.clone() }
}

fn body(id: u64) -> Vec<u8> {
    vec![id as u8; 1500]
}

async fn accept_all(spool: &Arc<LogSpool>, ids: impl Iterator<Item = u64>, len: usize) {
    let mut commits = JoinSet::new();
    for id in ids {
        let spool = spool.clone();
        commits.spawn(async move { spool.commit(accept(id, 1, vec![id as u8; len])).await });
    }
    while let Some(done) = commits.join_next().await {
        done.unwrap().unwrap();
    }
}

fn waits(spool: &LogSpool, id: u64) -> bool {
    let recipients = spool.load(MessageId(id)).map_or(Vec::new(), |entry| entry.recipients);
    recipients.iter().any(|r| matches!(r.state, RecipientState::Waiting { .. }))
}

/// Messages that wait in finished segments, the first of which is done, and a fact that is forgotten, in a part of
/// the log that is lost; there were many more messages too.
const EARLY: std::ops::RangeInclusive<u64> = 1..=60;
const LATE: std::ops::RangeInclusive<u64> = 1001..=1600;
const DONE: u64 = 1;

/// `size` is that of the segments that are lost: many, or one that is continued.
async fn behind(size: u64) -> (TempDir, Config) {
    let dir = tempfile::tempdir().unwrap();
    let early = sized(dir.path(), SMALL);
    let (spool, _) = open(&early);
    spool.put("test/forgotten", "not yet".into(), None).await.unwrap();
    for id in EARLY {
        spool.commit(accept(id, 1, body(id))).await.unwrap();
    }
    drop(spool);
    let backup = dir.path().join("backup");
    copied(&early.path.join("log"), &backup);
    let late = sized(dir.path(), size);
    let (spool, _) = open(&late);
    spool.commit(settle(DONE, &[0])).await.unwrap();
    spool.remove("test/forgotten").await.unwrap();
    accept_all(&spool, LATE, 10).await;
    drop(spool);
    copied(&backup, &late.path.join("log"));
    (dir, late)
}

async fn nothing_returns(spool: &LogSpool, what: &str) {
    assert!(!waits(spool, DONE), "{what}: what is done would be sent again");
    assert_eq!(spool.get("test/forgotten", NOW).await.unwrap(), None, "{what}");
    for id in EARLY.filter(|id| *id != DONE) {
        assert!(waits(spool, id), "{what}: {id} does not flow");
        assert!(bytes_of(spool, id) == [HEADER, &body(id)].concat(), "{what}: {id}");
    }
    for id in LATE {
        assert!(spool.load(MessageId(id)).is_ok(), "{what}: {id} is unknown now");
        assert!(!waits(spool, id), "{what}: {id} has no octets and would be sent");
    }
}

#[tokio::test]
async fn what_was_done_in_a_lost_part_of_the_log_stays_done() {
    for size in [SMALL, LARGE] {
        let (_dir, config) = behind(size).await;
        let mut heard = Heard::default();
        let (spool, report) = LogSpool::open_before(config.clone(), clock(), &mut heard).unwrap();
        assert_eq!(heard.ids(), ids(&*spool), "each was told of once");
        assert_eq!(report.quarantined, LATE.count() as u64 + 1, "{report:?}");
        assert!(report.damaged > 0 && report.rebuilt.is_none(), "{report:?}");
        nothing_returns(&spool, "at once").await;
        drop(spool);
        let (spool, report) = open(&config);
        let found = (report.quarantined, report.requeued, report.removed, report.damaged);
        assert_eq!(found, (0, 0, 0, 0), "it does not last: {report:?}");
        nothing_returns(&spool, "afterwards").await;
    }
}

/// A start that finds records lost ends before it has done what there is to do about it.
#[tokio::test]
async fn nor_does_it_return_when_the_start_that_finds_out_is_killed() {
    for size in [SMALL, LARGE] {
        let (dir, whole) = behind(size).await;
        let mut killed = 0;
        for point in [FaultPoint::Synced, FaultPoint::Given, FaultPoint::Flushed] {
            for groups in 1.. {
                let what = format!("segments of {size}, ended at the {groups}. {point:?}");
                let config = at(dir.path().join("copy"), &whole);
                copied(&whole.path, &config.path);
                let left = AtomicU64::new(groups);
                let faults = Faults::new(move |at| {
                    match at == point && left.fetch_sub(1, Ordering::SeqCst) == 1 {
                        true => Err(io::Error::other("killed")),
                        false => Ok(()),
                    }
                });
                let first = LogSpool::open(Config { faults, ..config.clone() }, clock());
                let ended = first.is_err();
                drop(first);
                killed += u32::from(ended);
                let (spool, _) = open(&config);
                nothing_returns(&spool, &what).await;
                if !ended {
                    break;
                }
            }
        }
        assert!(killed > 2, "{killed} starts were killed: nothing is shown");
    }
}

#[tokio::test]
async fn nor_when_the_index_cannot_be_read_for_once() {
    let (dir, whole) = behind(SMALL).await;
    let mut unread = 0;
    for reads in [0, 1, 2, 300, 900].into_iter().chain(658..672) {
        let config = at(dir.path().join("copy"), &whole);
        copied(&whole.path, &config.path);
        let place = Failing::new(&config, reads, 1);
        let mut heard = Heard::default();
        let (spool, driver, report) =
            LogSpool::open_driven(&config, clock(), &place, 7, &mut heard).unwrap();
        unread += u32::from(place.opened.load(Ordering::SeqCst) > 1);
        if place.opened.load(Ordering::SeqCst) == 1 {
            // It would fail now.
            continue;
        }
        assert_eq!(report.rebuilt, None, "after {reads} reads");
        assert_eq!(heard.ids(), ids(&*spool), "after {reads} reads: each was told of once");
        nothing_returns(&spool, &format!("after {reads} reads")).await;
        assert_eq!(report.quarantined, LATE.count() as u64 + 1, "{reads}: {report:?}");
        drop((spool, driver));
    }
    assert!(unread > 8, "{unread} indexes failed");
}

/// A start goes over log and index twice: what it reports is what it has done in all.
#[tokio::test]
async fn what_all_passes_do_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (small, large) = (sized(dir.path(), SMALL), sized(dir.path(), LARGE));
    let (spool, _) = open(&small);
    accept_all(&spool, 1..=5, 10).await;
    drop(spool);
    let (index, old) = (small.path.join("index"), dir.path().join("old"));
    copied(&index, &old);
    let (spool, _) = open(&small);
    // In finished segments: they make it doubt, when those before them are done with.
    for id in 5000..=5040 {
        spool.commit(accept(id, 1, body(id))).await.unwrap();
    }
    drop(spool);
    let (spool, _) = open(&large);
    accept_all(&spool, 2000..=3099, 10).await;
    drop(spool);
    copied(&old, &index);
    let mut heard = Heard::default();
    let (spool, report) = LogSpool::open_before(large, clock(), &mut heard).unwrap();
    assert_eq!(ids(&*spool).len(), 5 + 41 + 1100);
    assert_eq!(heard.ids(), ids(&*spool), "each was told of once");
    assert_eq!(report.requeued, 41 + 1100, "{report:?}");
}

/// sled that fails after so many reads, in the first few times that it is opened.
#[derive(Debug)]
struct Failing {
    dir: PathBuf,
    reads: u64,
    times: u64,
    opened: AtomicU64,
    /// It does not fail: rows of messages seem absent instead when they are asked for by their keys.
    blind: bool,
}

#[derive(Debug)]
struct FailingRows {
    rows: SledRows,
    left: Option<AtomicU64>,
    blind: bool,
}

impl Failing {
    fn new(config: &Config, reads: u64, times: u64) -> Failing {
        let (dir, opened) = (config.path.join("index"), AtomicU64::new(0));
        Failing { dir, reads, times, opened, blind: false }
    }

    fn aside(&self) -> PathBuf {
        self.dir.with_file_name(format!("index.damaged-{}", NOW.0))
    }
}

impl FailingRows {
    fn read(&self) -> Result<(), String> {
        let left = self.left.as_ref().map(|left| {
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |l| l.checked_sub(1))
        });
        match left {
            Some(Err(_)) => Err("sled: Input/output error (os error 5)".to_owned()),
            _ => Ok(()),
        }
    }
}

impl RowsPlace for Failing {
    fn exists(&self) -> bool {
        self.dir.join("db").exists()
    }
    fn open(&self) -> Result<Arc<dyn Rows>, RowsError> {
        let rows = SledRows::open(&self.dir, 1 << 20, Duration::from_secs(10))?;
        let fails = self.opened.fetch_add(1, Ordering::SeqCst) < self.times;
        let left = (fails && !self.blind).then(|| AtomicU64::new(self.reads));
        Ok(Arc::new(FailingRows { rows, left, blind: fails && self.blind }))
    }
    fn set_aside(&self, now: Timestamp) -> io::Result<String> {
        let aside = self.dir.with_file_name(format!("index.damaged-{}", now.0));
        fs::rename(&self.dir, &aside)?;
        Ok(aside.display().to_string())
    }
}

impl Rows for FailingRows {
    fn apply(&self, writes: Writes) -> Result<(), String> {
        self.rows.apply(writes)
    }
    fn flush(&self) -> Result<(), String> {
        self.rows.flush()
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.read()?;
        if self.blind && key.starts_with(b"m|") {
            return Ok(None);
        }
        self.rows.get(key)
    }
    fn range(&self, from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), String> {
        self.read()?;
        let mut failed = Ok(());
        self.rows.range(from, &mut |key, value| {
            failed = self.read();
            failed.is_ok() && each(key, value)
        })?;
        failed
    }
}

type World = (BTreeMap<u64, Vec<RecipientState>>, Option<bytes::Bytes>);

async fn world(spool: &LogSpool) -> World {
    let mut messages = BTreeMap::new();
    for id in ids(spool) {
        let entry = spool.load(MessageId(id)).unwrap();
        messages.insert(id, entry.recipients.into_iter().map(|r| r.state).collect());
        assert_eq!(bytes_of(spool, id), [HEADER, &body(id)].concat());
    }
    (messages, spool.get("test/fact", NOW).await.unwrap())
}

/// Several segments with mail that waits, is held, half done and gone, and a fact.
async fn fill(config: &Config) -> World {
    let (spool, _) = open(config);
    spool.put("test/fact", "kept".into(), None).await.unwrap();
    for id in 1..=40 {
        spool.commit(accept(id, 2, body(id))).await.unwrap();
        match id % 4 {
            0 => spool.commit(administer(id - 2, 0, held())).await.unwrap(),
            1 if id > 4 => spool.commit(settle(id - 3, &[1])).await.unwrap(),
            2 if id > 8 => spool.commit(settle(id - 7, &[0, 1])).await.unwrap(),
            _ => {}
        }
    }
    world(&spool).await
}

fn undamaged(report: &Report, what: &str) {
    assert_eq!((report.quarantined, report.damaged), (0, 0), "{what}: {report:?}");
}

#[tokio::test]
async fn an_index_that_cannot_be_read_any_more_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let config = sized(dir.path(), SMALL);
    let before = fill(&config).await;
    let mut rebuilt = 0;
    for reads in (0..36).step_by(3) {
        let what = format!("after {reads} reads");
        let place = Failing::new(&config, reads, 1);
        let mut heard = Heard::default();
        let (spool, driver, report) =
            LogSpool::open_driven(&config, clock(), &place, 7, &mut heard).unwrap();
        undamaged(&report, &what);
        let told: Vec<u64> = before.0.keys().copied().collect();
        assert_eq!(heard.ids(), told, "{what}: each is told of once");
        assert_eq!(report.messages, before.0.len() as u64, "{what}");
        let anew = report.rebuilt.is_some();
        rebuilt += u32::from(anew);
        if anew {
            assert_eq!(world(&spool).await, before, "{what}");
        }
        drop((spool, driver));
        assert_eq!(place.aside().exists(), anew, "{what}");
        if anew {
            fs::remove_dir_all(place.aside()).unwrap();
        }
        let (spool, report) = open(&config);
        undamaged(&report, &what);
        assert_eq!(world(&spool).await, before, "{what}, afterwards");
    }
    assert!(rebuilt > 8, "{rebuilt} failed reads");
}

/// Where the log is damaged, the rows are what lets mail flow whose end may have stood there.
#[tokio::test]
async fn an_index_that_knows_more_than_a_damaged_log_is_not_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let config = sized(dir.path(), SMALL);
    let before = fill(&config).await;
    let segment = config.path.join("log/0000000001.log");
    let mut bytes = fs::read(&segment).unwrap();
    let content = memchr::memmem::find(&bytes, &[3; 100]).unwrap();
    let record = memchr::memmem::rfind(&bytes[..content], &bytes[64..76]).unwrap();
    bytes[record..record + 12].fill(0);
    fs::write(&segment, bytes).unwrap();
    for reads in [0, 1, 20] {
        let place = Failing::new(&config, reads, 2);
        let refused = LogSpool::open_driven(&config, clock(), &place, 7, &mut ());
        let Err(OpenError::Index(why)) = refused else { panic!("{reads}: {refused:?}") };
        assert!(why.contains("spool repair --index"), "{reads}: {why}");
        assert!(!place.aside().exists() && place.exists(), "{reads}");
    }
    for reads in [20, 1, 0] {
        let what = format!("after {reads} reads");
        let place = Failing::new(&config, reads, 1);
        let mut heard = Heard::default();
        let (spool, driver, report) =
            LogSpool::open_driven(&config, clock(), &place, 7, &mut heard).unwrap();
        assert_eq!(report.rebuilt, None, "{what}");
        assert!(!place.aside().exists(), "{what}");
        assert!(report.damaged > 0, "{what}: {report:?}");
        let told: Vec<u64> = before.0.keys().copied().collect();
        assert_eq!(heard.ids(), told, "{what}: each is told of once");
        for (id, states) in &before.0 {
            let found = spool.load(MessageId(*id)).unwrap().recipients;
            let found: Vec<_> = found.into_iter().map(|r| r.state).collect();
            assert!(*id == 3 || found == *states, "{what}: {id}: {found:?}");
        }
        assert!(!waits(&spool, 3), "{what}: it has no octets");
        drop((spool, driver));
    }
}

/// What a start has written to the index is not there when it asks for it.
#[tokio::test]
async fn a_row_that_cannot_be_read_again_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = sized(dir.path(), SMALL);
    let before = fill(&config).await;
    fs::remove_dir_all(config.path.join("index")).unwrap();
    let place = Failing { blind: true, ..Failing::new(&config, 0, 1) };
    let mut heard = Heard::default();
    let (spool, _driver, report) =
        LogSpool::open_driven(&config, clock(), &place, 7, &mut heard).unwrap();
    undamaged(&report, "an index that forgets");
    assert_eq!(heard.ids(), ids(&*spool), "each was told of once");
    assert_eq!(world(&spool).await, before);
    assert_eq!(place.opened.load(Ordering::SeqCst), 2);
}
