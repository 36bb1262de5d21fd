//! Power fails at any moment: what was acknowledged is there, whole; what was finished or refused
//! stays away. Told from the system calls of a real process, sled's among them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail like tests"
)]

mod common;
mod power;
#[path = "power/world.rs"]
#[allow(unreachable_pub, reason = "a module of this program alone")]
mod world;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::{accept, arrival, clock, done};
use power::recorder::{Call, record};
use power::{Recording, no_failures, say, scratch};
use waypost_mail::{Ledger, MessageId, RecipientState, Timestamp};
use waypost_spool::{Change, Detours, FaultPoint, Faults, LogSpool, Spool};
use world::{FACTS, REASON, World, body, config};

const DIRECTORY: &str = "WAYPOST_POWER_DIRECTORY";
const FIRST_ID: &str = "WAYPOST_POWER_FIRST_ID";
const WRITERS: &str = "WAYPOST_POWER_WRITERS";
/// Answer before the log is synced.
const EARLY: &str = "WAYPOST_POWER_EARLY";
/// Messages of each writer.
const ROUNDS: u64 = 70;

#[test]
fn what_was_acknowledged_survives() {
    let empty = scratch();
    let first = record_spool(empty.path(), 1, 6, false);
    eprintln!("{} system calls, {} words", first.trace.calls.len(), first.trace.said());
    let ranges = first.trace.calls.iter().any(|call| matches!(call, Call::SyncRange { .. }));
    assert!(!ranges, "sled's flush does not reach the override");
    let gone = first.trace.calls.iter().filter(
        |call| matches!(call, Call::Unlink { path } if path.extension().is_some_and(|e| e == "log")),
    );
    assert!(gone.count() > 2, "no segments were removed: the test does not see their order");
    let (nothing, digests) = (World::default(), Digests::default());
    no_failures(&first.replay(150, &|path, said| {
        digests.count(path);
        check(path, &nothing, said)
    }));
    digests.are_of_all_kinds();

    // A second life, which begins with the repair of what a power loss has left.
    let (left, before) = (first.one_state(), scratch());
    power::copy(left.path(), before.path());
    let (world, _) = block_on(World::found(before.path())).unwrap();
    let second = record_spool(left.path(), 10_000_001, 6, false);
    no_failures(&second.replay(80, &|path, said| check(path, &world, said)));
}

/// Nobody syncs digests: a power loss leaves some that are whole and some that are not.
#[derive(Debug, Default)]
struct Digests {
    whole: AtomicU64,
    torn: AtomicU64,
    absent: AtomicU64,
}

impl Digests {
    /// Of finished segments.
    fn count(&self, path: &Path) {
        let Ok(files) = std::fs::read_dir(path.join("spool/log")) else { return };
        let files = files.map(|file| file.unwrap().path());
        let mut segments: Vec<_> =
            files.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
        segments.sort();
        segments.pop();
        for segment in segments {
            let kind = match std::fs::read(segment.with_extension("digest")) {
                Ok(bytes) if is_whole(&bytes) => &self.whole,
                Ok(_) => &self.torn,
                Err(_) => &self.absent,
            };
            kind.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn are_of_all_kinds(&self) {
        eprintln!("{self:?}");
        for kind in [&self.whole, &self.torn, &self.absent] {
            assert!(kind.load(Ordering::Relaxed) > 0, "some are never seen: {self:?}");
        }
    }
}

fn is_whole(digest: &[u8]) -> bool {
    let (bytes, crc) = digest.split_at(digest.len().saturating_sub(4));
    crc32c::crc32c(bytes).to_le_bytes() == crc
}

#[test]
fn the_override_makes_the_flush_of_sled_durable() {
    let (failures, ranges) = power::bare::losses(40);
    assert_eq!(ranges, 0, "sync_file_range reached the kernel");
    no_failures(&failures);
}

/// Negative control: who answers between append and sync loses what was acknowledged.
#[test]
fn an_answer_before_the_sync_is_seen() {
    let empty = scratch();
    let mut recording = record_spool(empty.path(), 1, 1, true);
    recording.keep = false;
    let nothing = World::default();
    let failures = recording.replay(40, &|path, said| check(path, &nothing, said));
    let lost = failures.iter().filter(|failure| failure.why.contains("acknowledged"));
    assert!(lost.count() > 3, "the replay does not see it");
}

/// Negative controls: no sync of the spool is one too many. Each kind in turn is taken for a
/// sync_file_range, as sled's would be without the override.
#[test]
fn every_sync_is_needed() {
    let empty = scratch();
    let mut recording = record_spool(empty.path(), 1, 6, false);
    recording.keep = false;
    let spool = recording.root.join("spool");
    let nothing = World::default();
    for name in ["log", "index/db", "bodies", "log/*", "bodies/*"] {
        let concerned = |path: &Path| match name.strip_suffix("/*") {
            Some(dir) => path.parent() == Some(&spool.join(dir)),
            None => path == spool.join(name),
        };
        let weakened = recording.without_sync(concerned);
        let failures = weakened.replay(60, &|path, said| check(path, &nothing, said));
        assert!(!failures.is_empty(), "the replay does not need the syncs of {name}");
    }
}

/// A settlement and the end of its message are one group. Where the first is torn, the second
/// alone would lose the notice; once both were acknowledged, what is left of them counts.
#[tokio::test]
async fn half_a_group_is_worse_than_nothing() {
    let (before, after) = (scratch(), scratch());
    let (spool, _) = LogSpool::open(config(before.path()), clock()).unwrap();
    spool.commit(accept(1, 2, body(1))).await.unwrap();
    drop(spool);
    power::copy(before.path(), after.path());
    let (spool, _) = LogSpool::open(config(after.path()), clock()).unwrap();
    let notice = Some(Box::new(arrival(2, 2, body(2))));
    let states = vec![(0, done()), (1, done())];
    spool
        .commit(Change::Settle { id: MessageId(1), states, detours: Detours::default(), notice })
        .await
        .unwrap();
    drop(spool);

    let segment = "spool/log/0000000001.log";
    let begins = std::fs::read(before.path().join(segment)).unwrap().len();
    let mut log = std::fs::read(after.path().join(segment)).unwrap();
    log[begins + 60..begins + 100].fill(0);
    for path in [before.path(), after.path()] {
        std::fs::write(path.join(segment), &log).unwrap();
    }

    let (world, report) = World::found(before.path()).await.unwrap();
    assert_eq!(world.messages, [(1, ['w', 'w'])].into());
    assert!(report.torn > 0 && report.damaged == 0, "{report:?}");
    let (spool, report) = LogSpool::open(config(after.path()), clock()).unwrap();
    assert_eq!(common::ids(&*spool), [2], "the index knows that this was acknowledged");
    assert_eq!((report.quarantined, report.torn), (1, 0), "{report:?}");
}

/// What a child does in a spool that begins as `start` is.
fn record_spool(start: &Path, first_id: u64, writers: u64, early: bool) -> Recording {
    let root = scratch();
    let path = root.path().canonicalize().unwrap();
    power::copy(start, &path);
    let mut environment = vec![
        (DIRECTORY, path.to_str().unwrap().to_owned()),
        (FIRST_ID, first_id.to_string()),
        (WRITERS, writers.to_string()),
    ];
    if early {
        environment.push((EARLY, "1".to_owned()));
    }
    let trace = record(&path, "child", &environment);
    Recording { trace, root: path, start: start.to_owned(), keep: true }
}

fn check(path: &Path, before: &World, said: &[&str]) -> Result<(), String> {
    let (world, open) = before.told(said);
    if said.contains(&"open") {
        index_alone(path, before, said)?;
    }
    let (found, report) = block_on(World::found(path))?;
    found.is(&world, &open).map_err(|why| format!("{why}\n{report:?}"))?;
    if said.contains(&"open") && (report.rebuilt.is_some() || report.quarantined > 0) {
        return Err(format!("an alarm for nothing: {report:?}"));
    }
    // What was repaired is as durable as all else.
    let (again, report) = block_on(World::found(path))?;
    if again != found || report.requeued + report.removed + report.torn + report.damaged > 0 {
        return Err(format!("the repair does not last: {report:?}"));
    }
    Ok(())
}

/// The rows as sled has them, before the log makes up for anything: what was acknowledged before the last
/// flush is there too. What was begun since may be there or not.
fn index_alone(path: &Path, before: &World, said: &[&str]) -> Result<(), String> {
    let flushed = said.iter().rposition(|word| *word == "flushed").map_or(0, |at| at + 1);
    let (world, mut open) = before.told(&said[..flushed]);
    open.extend(said[flushed..].iter().filter_map(|words| words.strip_prefix("begin ")));
    let config = sled::Config::new().path(path.join("spool/index")).segment_size(512 * 1024);
    let db = config.cache_capacity(8 << 20).open().map_err(|error| format!("sled: {error}"))?;
    let is_open = |id: u64| open.iter().any(|words| words.split(' ').any(|w| w == id.to_string()));
    let mut rows = std::collections::BTreeSet::new();
    for item in db.scan_prefix(b"m|") {
        let (key, _) = item.map_err(|error| format!("sled: {error}"))?;
        rows.insert(u64::from_be_bytes(key[2..10].try_into().unwrap()));
    }
    let lost = world.messages.keys().filter(|id| !rows.contains(id) && !is_open(**id));
    let back = rows.iter().filter(|id| !world.messages.contains_key(id) && !is_open(**id));
    let (lost, back): (Vec<_>, Vec<_>) = (lost.collect(), back.collect());
    if lost.is_empty() && back.is_empty() {
        Ok(())
    } else {
        Err(format!("the index alone: acknowledged and lost {lost:?}, back {back:?}"))
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Works on a spool, and says what it asks for and what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of the other tests, useless alone"]
async fn child() {
    let number = |name| -> u64 { std::env::var(name).unwrap().parse().unwrap() };
    let mut config = config(&PathBuf::from(std::env::var_os(DIRECTORY).unwrap()));
    let asked: Asked = Arc::default();
    let early = std::env::var_os(EARLY).map(|_| asked.clone());
    config.faults = Faults::new(move |point| {
        match (point, &early) {
            (FaultPoint::Appended, Some(asked)) => acknowledge(asked),
            (FaultPoint::Flushed, _) => say("flushed"),
            _ => {}
        }
        Ok(())
    });
    let (spool, _) = LogSpool::open(config, clock()).unwrap();
    say("open");
    let (first, writers) = (number(FIRST_ID), number(WRITERS));
    let early = std::env::var_os(EARLY).map(|_| asked);
    let tasks = (0..writers).map(|writer| {
        let child = Child { spool: spool.clone(), early: early.clone() };
        tokio::spawn(async move { child.work(first + writer * 1_000_000, writer).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// The change asked for and not acknowledged, of a child that does so too early.
type Asked = Arc<Mutex<Option<String>>>;

fn acknowledge(asked: &Asked) {
    if let Some(words) = asked.lock().unwrap().take() {
        say(&format!("done {words}"));
    }
}

struct Child {
    spool: Arc<LogSpool>,
    early: Option<Asked>,
}

impl Child {
    async fn work(&self, first: u64, writer: u64) {
        for id in first..first + ROUNDS {
            self.commit(format!("accept {id}"), accept(id, 2, body(id))).await;
            match id % 6 {
                0 => self.commit(format!("hold {id}"), hold(id)).await,
                1 => self.commit(format!("finish {id}"), settle(id, &[0, 1])).await,
                2 => {
                    self.commit(format!("settle {id}"), settle(id, &[0])).await;
                    self.commit(format!("finish {id}"), settle(id, &[1])).await;
                }
                3 => self.bounce(id, id + 500_000).await,
                4 => self.refuse(id).await,
                _ => {}
            }
            self.fact(id, writer).await;
            if id >= first + 24 {
                self.end(id - 24).await;
            }
        }
    }

    /// A change with a notice, which become durable together.
    async fn bounce(&self, id: u64, notice: u64) {
        let states = vec![(0, done()), (1, done())];
        let arrival = Some(Box::new(arrival(notice, 2, body(notice))));
        let change = Change::Settle {
            id: MessageId(id),
            states,
            detours: Detours::default(),
            notice: arrival,
        };
        self.commit(format!("bounce {id} {notice}"), change).await;
        if notice.is_multiple_of(2) {
            self.commit(format!("remove {notice}"), remove(notice)).await;
        }
    }

    /// Another message of the same id.
    async fn refuse(&self, id: u64) {
        say(&format!("begin refuse {id}"));
        let result = self.spool.commit(accept(id, 2, vec![0; 2000])).await;
        assert!(result.is_err(), "{id} was accepted twice");
        say(&format!("done refuse {id}"));
    }

    async fn fact(&self, id: u64, writer: u64) {
        let key = format!("power/{writer}-{}", id % FACTS);
        let words = if id % 5 == 4 { format!("drop {key}") } else { format!("put {key} {id}") };
        self.ask(&words);
        if id % 5 == 4 {
            Ledger::remove(&*self.spool, &key).await.unwrap();
        } else {
            self.spool.put(&key, Bytes::from(id.to_string()), None).await.unwrap();
        }
        self.answered(&words);
    }

    /// What stayed from earlier goes, so that segments do too; one in twelve lives on.
    async fn end(&self, old: u64) {
        match old % 12 {
            0 => self.commit(format!("release {old}"), release(old)).await,
            4 | 5 | 6 | 10 => self.commit(format!("remove {old}"), remove(old)).await,
            _ => {}
        }
    }

    async fn commit(&self, words: String, change: Change) {
        self.ask(&words);
        self.spool.commit(change).await.unwrap();
        self.answered(&words);
    }

    fn ask(&self, words: &str) {
        say(&format!("begin {words}"));
        if let Some(asked) = &self.early {
            *asked.lock().unwrap() = Some(words.to_owned());
        }
    }

    fn answered(&self, words: &str) {
        match &self.early {
            Some(asked) => acknowledge(asked),
            None => say(&format!("done {words}")),
        }
    }
}

fn hold(id: u64) -> Change {
    let held = RecipientState::Held { tries: 0, reason: REASON.to_owned() };
    Change::Administer { id: MessageId(id), states: vec![(0, held.clone()), (1, held)] }
}

fn release(id: u64) -> Change {
    let fresh = RecipientState::fresh(Timestamp(2_000));
    Change::Administer { id: MessageId(id), states: vec![(0, fresh.clone()), (1, fresh)] }
}

fn settle(id: u64, recipients: &[u32]) -> Change {
    common::settle(id, recipients)
}

fn remove(id: u64) -> Change {
    Change::Remove { id: MessageId(id) }
}
