//! A message brings facts of the ledger: they are there when it is, also when only a part of the write
//! reached the disk, and they outlive it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod common;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use common::*;
use waypost_mail::ledger::{Fact, MAX_VALUE};
use waypost_mail::{Ledger, MessageId, Timestamp};
use waypost_spool::{Arrival, Change, Config, FaultPoint, Faults, LogSpool, MemorySpool, Spool};

const KEYS: [&str; 2] = ["test/first", "test/second"];

fn keyed(id: u64) -> Change {
    let fact = |key: &str| Fact {
        key: key.to_owned(),
        value: Bytes::from(vec![b'v'; MAX_VALUE]),
        expires: Some(Timestamp(5_000_000)),
    };
    let facts = KEYS.map(fact).to_vec();
    Change::Accept(Box::new(Arrival { facts, ..arrival(id, 1, "body") }))
}

async fn facts(spool: &impl Ledger) -> usize {
    let mut found = 0;
    for key in KEYS {
        found += usize::from(spool.get(key, NOW).await.unwrap().is_some());
    }
    found
}

fn segment(config: &Config) -> PathBuf {
    config.path.join("log/0000000001.log")
}

/// Without the index, as if nothing of the group had reached it.
fn open_the_log_alone(config: &Config) -> Arc<LogSpool> {
    fs::remove_dir_all(config.path.join("index")).unwrap();
    open(config).0
}

#[tokio::test]
async fn whole_or_not_at_all_wherever_the_write_ends() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (spool, _) = open(&config);
    spool.commit(accept(1, 1, "another")).await.unwrap();
    let before = fs::metadata(segment(&config)).unwrap().len() as usize;
    spool.commit(keyed(2)).await.unwrap();
    drop(spool);
    let whole = fs::read(segment(&config)).unwrap();
    let (mut with, mut without) = (0, 0);
    for end in (before..whole.len()).step_by(997).chain([whole.len()]) {
        fs::write(segment(&config), &whole[..end]).unwrap();
        let spool = open_the_log_alone(&config);
        match ids(&*spool).contains(&2) {
            true => with += 1,
            false => without += 1,
        }
        let expected = if ids(&*spool).contains(&2) { KEYS.len() } else { 0 };
        assert_eq!(facts(&*spool).await, expected, "cut at {end} of {}", whole.len());
    }
    assert!(with > 5 && without > 5, "{with} {without}: the cuts tell nothing");
}

#[tokio::test]
async fn and_outlive_it_until_they_expire() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (spool, _) = open(&config);
    spool.commit(keyed(2)).await.unwrap();
    spool.commit(settle(2, &[0])).await.unwrap();
    drop(spool);
    for alone in [false, true] {
        let spool = if alone { open_the_log_alone(&config) } else { open(&config).0 };
        assert!(spool.load(MessageId(2)).is_err());
        assert_eq!(facts(&*spool).await, KEYS.len());
        assert_eq!(spool.get(KEYS[0], Timestamp(5_000_001)).await.unwrap(), None);
    }
    open(&config).0.remove(KEYS[0]).await.unwrap();
    assert_eq!(facts(&*open_the_log_alone(&config)).await, 1, "what is forgotten stays so");
}

/// What a power loss may leave: the message, last in a full segment, without the records of its facts. The start
/// that would write them is killed, twice, when it has gone over so many messages that it began another segment.
#[tokio::test]
async fn also_when_a_start_is_killed_before_it_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (spool, _) = open(&config);
    let mut commits = tokio::task::JoinSet::new();
    // With the last one so many as a start goes over at once.
    for id in 1..1000 {
        let spool = spool.clone();
        commits.spawn(async move { spool.commit(accept(id, 1, "another")).await });
    }
    while let Some(done) = commits.join_next().await {
        done.unwrap().unwrap();
    }
    spool.commit(keyed(1000)).await.unwrap();
    drop(spool);
    let mut log = fs::read(segment(&config)).unwrap();
    // Its facts are in its own record, then in records of their own.
    let marks: Vec<usize> = memchr::memmem::find_iter(&log, &log[64..76]).collect();
    log.truncate(marks[marks.len() - KEYS.len()]);
    fs::write(segment(&config), log).unwrap();
    fs::remove_dir_all(config.path.join("index")).unwrap();
    let full = Config { segment_size: 4096, ..config.clone() };
    let second = config.path.join("log/0000000002.log");
    for start in ["the first", "the second"] {
        let begun = second.clone();
        let faults =
            Faults::new(move |point| match point == FaultPoint::Append && begun.exists() {
                true => Err(io::Error::other("killed")),
                false => Ok(()),
            });
        let killed = LogSpool::open(Config { faults, ..full.clone() }, clock());
        assert!(killed.is_err() && second.exists(), "{start} start had nothing to write");
    }
    let digest = config.path.join("log/0000000001.digest");
    assert!(!digest.exists(), "a digest does not tell of what is promised");
    let (spool, _) = open(&full);
    assert_eq!(ids(&*spool).len(), 1000);
    assert_eq!(facts(&*spool).await, KEYS.len());
    assert!(digest.exists(), "nothing is promised any more");
}

/// The record is written and its sync fails: the sender is told that nothing was taken.
#[tokio::test]
async fn and_go_with_mail_that_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let breaks = broken.clone();
    let mut failing = config(dir.path());
    failing.faults = Faults::new(move |point| {
        match point == FaultPoint::Sync && breaks.swap(false, Ordering::SeqCst) {
            true => Err(io::Error::other("the disk")),
            false => Ok(()),
        }
    });
    let (spool, _) = open(&failing);
    broken.store(true, Ordering::SeqCst);
    assert!(spool.commit(keyed(2)).await.is_err());
    drop(spool);
    let spool = open_the_log_alone(&config(dir.path()));
    assert!(ids(&*spool).is_empty());
    assert_eq!(facts(&*spool).await, 0);
}

#[tokio::test]
async fn in_memory_too_and_none_that_is_too_long() {
    let spool = MemorySpool::new();
    spool.commit(keyed(2)).await.unwrap();
    assert_eq!(facts(&spool).await, KEYS.len());
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(&config(dir.path()));
    let value = Bytes::from(vec![0; MAX_VALUE + 1]);
    let facts = vec![Fact { key: "test/long".to_owned(), value, expires: None }];
    let change = Change::Accept(Box::new(Arrival { facts, ..arrival(3, 1, "body") }));
    assert!(spool.commit(change).await.is_err());
    assert!(ids(&*spool).is_empty() && spool.failure().is_none());
}
