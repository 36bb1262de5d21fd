//! Every system call that changes a file fails once, or from then on for ever, the log's and sled's alike:
//! after a restart what was acknowledged is there, and what was refused is not. (On a disk that takes nothing
//! at all any more, refused mail cannot be taken back: there it may be; on one that is full to the last octet
//! it may be held.)

#![cfg(all(target_os = "linux", target_pointer_width = "64"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod calls;
mod common;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use calls::{Account, Failing, Which};
use common::*;
use nix::libc::{EIO, EMFILE, ENOSPC};
use waypost_mail::{Ledger, MessageId, RecipientState};
use waypost_spool::{Change, Config, LogSpool, Spool, SpoolError};

/// The failing calls are the whole program's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One change that a test asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Accept(u64),
    Hold(u64),
    Half(u64),
    Finish(u64),
    Remember,
}
use Deed::*;

/// What is done, in this order.
const DEEDS: [Deed; 14] = [
    Accept(1),
    Accept(2),
    Half(1),
    Accept(3),
    Hold(2),
    Remember,
    Accept(4),
    Finish(3),
    Accept(5),
    Accept(6),
    Half(6),
    Finish(1),
    Accept(7),
    Accept(8),
];

fn change(deed: Deed) -> Option<Change> {
    Some(match deed {
        Accept(id) => accept(id, 2, vec![id as u8; 1500]),
        Hold(id) => {
            Change::Administer { id: MessageId(id), states: vec![(0, held()), (1, held())] }
        }
        Half(id) => settle(id, &[1]),
        Finish(id) => settle(id, &[0, 1]),
        Remember => return None,
    })
}

/// Syncs that reach a disk would take most of the time, and what is tested is what follows when they fail.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Segments so small that several are begun, and removed.
fn small(path: &Path) -> Config {
    let mut config = config(path);
    (config.segment_size, config.reserve, config.keep_free) = (4096, 0, 0);
    config
}

/// With little patience for a sled that hangs after a failure.
fn hasty(path: &Path) -> Config {
    Config { open_timeout: std::time::Duration::from_secs(2), ..small(path) }
}

/// What came of a deed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Well,
    Failed,
    Refused,
}

/// What came of each deed, in order; none when the spool could not be opened.
type Done = Vec<(Deed, Came)>;

async fn work(config: &Config) -> Done {
    let Ok((spool, _)) = LogSpool::open(config.clone(), clock()) else { return Vec::new() };
    let mut done = Vec::new();
    for (number, deed) in DEEDS.into_iter().enumerate() {
        if number % 3 == 2 {
            flushed(&spool).await;
        }
        let came = match change(deed) {
            Some(change) => match spool.commit(change).await {
                Ok(()) => Came::Well,
                Err(SpoolError::Failed(_)) => Came::Failed,
                Err(_) => Came::Refused,
            },
            None => match spool.put("test/fact", "kept".into(), None).await {
                Ok(()) => Came::Well,
                Err(_) => Came::Failed,
            },
        };
        done.push((deed, came));
    }
    done
}

/// Waits until what was done so far is in sled and on the disk, or the spool has failed; not for long, as nothing
/// may be left to flush.
async fn flushed(spool: &LogSpool) {
    let flushes = || spool.metrics().syncs.get().saturating_sub(spool.metrics().groups.get());
    let before = flushes();
    for _ in 0..100 {
        if flushes() != before || spool.failure().is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

/// The run of [`one`], in a process of its own: a sled that hangs keeps its files locked, and threads
/// that the next one would want, until its program ends. What came of it stands in the file `done`.
#[tokio::test]
#[ignore = "started by the tests of this file"]
async fn child() {
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let path = std::path::PathBuf::from(std::env::var_os("FAILING_PATH").unwrap());
    let (errno, lasting) = (number("FAILING_ERRNO") as i32, number("FAILING_LASTING") == 1);
    let which = if errno == ENOSPC { Which::Room } else { Which::Changes };
    let failing = Failing::after(number("FAILING_LEFT"), &path.join("of"), which, errno, lasting);
    let done = work(&hasty(&path.join("of"))).await;
    let account = failing.end();
    let letters: String = done.iter().map(|(_, came)| letter(*came)).collect();
    let first = account.first.unwrap_or_default();
    let text = format!("{} {} {letters}\n{first}", account.seen, account.failed);
    std::fs::write(path.join("done"), text).unwrap();
    // Not even what hangs is waited for.
    std::process::exit(0);
}

fn letter(came: Came) -> char {
    match came {
        Came::Well => 'w',
        Came::Failed => 'f',
        Came::Refused => 'r',
    }
}

fn came(letter: char) -> Came {
    [Came::Well, Came::Failed, Came::Refused]
        .into_iter()
        .find(|c| self::letter(*c) == letter)
        .unwrap()
}

/// Has [`child`] work, and reads what it left.
fn elsewhere(path: &Path, left: u64, errno: i32, lasting: bool) -> (Done, Account) {
    std::fs::create_dir(path.join("of")).unwrap();
    let ended = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env("FAILING_PATH", path)
        .env("FAILING_LEFT", left.to_string())
        .env("FAILING_ERRNO", errno.to_string())
        .env("FAILING_LASTING", u8::from(lasting).to_string())
        .output()
        .unwrap();
    let Ok(text) = std::fs::read_to_string(path.join("done")) else {
        panic!("no end of call {left}: {}", String::from_utf8_lossy(&ended.stderr));
    };
    let (line, first) = text.split_once('\n').unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let account = Account {
        seen: words[0].parse().unwrap(),
        failed: words[1].parse().unwrap(),
        first: Some(first.to_owned()),
    };
    (DEEDS.into_iter().zip(words[2].chars().map(came)).collect(), account)
}

/// Everything acknowledged is so, nothing refused is.
async fn check(config: &Config, done: &Done, (errno, lasting): (i32, bool), what: &str) {
    let (spool, report) = open(config);
    let (dead, full) = (errno == EIO && lasting, errno == ENOSPC && lasting);
    if !full {
        assert_eq!((report.quarantined, report.damaged), (0, 0), "{what}: {report:?}");
    }
    let well = |deed| done.contains(&(deed, Came::Well));
    let tried = |deed| done.iter().any(|(d, _)| *d == deed);
    let there = ids(&*spool);
    for id in 1..=8 {
        let finished = well(Finish(id)) || (tried(Finish(id)) && !there.contains(&id));
        let failed = done.contains(&(Accept(id), Came::Failed));
        let waits = |at| matches!(state(&*spool, id, at), RecipientState::Waiting { .. });
        if full && failed && there.contains(&id) {
            assert!(!waits(0) && !waits(1), "{what}: message {id} would be delivered");
        } else if !(dead && failed) {
            assert_eq!(there.contains(&id), well(Accept(id)) && !finished, "{what}: message {id}");
        }
        if !there.contains(&id) || !well(Accept(id)) {
            continue;
        }
        assert!(bytes_of(&*spool, id) == [HEADER, &vec![id as u8; 1500]].concat(), "{what}: {id}");
        if well(Hold(id)) {
            assert_eq!(state(&*spool, id, 0), held(), "{what}: {id}");
        } else if !tried(Hold(id)) {
            assert!(waits(0), "{what}: {id}");
        }
        if well(Half(id)) {
            assert!(state(&*spool, id, 1).is_done(), "{what}: {id}");
        }
    }
    if well(Remember) {
        let fact = spool.get("test/fact", NOW).await.unwrap();
        assert_eq!(fact.unwrap(), "kept", "{what}");
    }
    // And it takes mail again.
    spool.commit(accept(100, 1, "after")).await.unwrap();
}

/// One run in which a call fails; answers what the shim saw.
async fn one(left: u64, errno: i32, lasting: bool) -> Account {
    let dir = scratch();
    let (done, account) = elsewhere(dir.path(), left, errno, lasting);
    let what = format!("errno {errno}, lasting {lasting}, call {left}: {:?}", account.first);
    check(&small(&dir.path().join("of")), &done, (errno, lasting), &what).await;
    account
}

async fn every_call(errno: i32, lasting: bool) {
    let calm = one(u64::MAX, errno, lasting).await;
    assert_eq!(calm.failed, 0);
    assert!(calm.seen > 100, "only {} calls: the stand-ins are not called", calm.seen);
    let mut met = 0;
    let mut left = 0;
    loop {
        let account = one(left, errno, lasting).await;
        if account.failed == 0 {
            break;
        }
        met += 1;
        left += 1;
    }
    assert!(met > 60, "only {met} failures");
}

#[tokio::test]
#[expect(
    clippy::await_holding_lock,
    reason = "the lock keeps other tests out, and nobody waits for it here"
)]
async fn a_disk_that_fails_once_at_any_call() {
    let _alone = alone();
    every_call(EIO, false).await;
}

#[tokio::test]
#[expect(
    clippy::await_holding_lock,
    reason = "the lock keeps other tests out, and nobody waits for it here"
)]
async fn a_disk_that_is_full_from_any_call_on() {
    let _alone = alone();
    every_call(ENOSPC, true).await;
}

#[tokio::test]
#[expect(
    clippy::await_holding_lock,
    reason = "the lock keeps other tests out, and nobody waits for it here"
)]
async fn a_disk_that_is_dead_from_any_call_on() {
    let _alone = alone();
    every_call(EIO, true).await;
}

/// No descriptors for a while: segments are not begun, and nothing fails by that.
#[tokio::test]
#[expect(
    clippy::await_holding_lock,
    reason = "the lock keeps other tests out, and nobody waits for it here"
)]
async fn a_want_of_descriptors_fails_nothing() {
    let _alone = alone();
    let dir = scratch();
    let config = small(dir.path());
    let (spool, _) = open(&config);
    for id in 1..=4 {
        spool.commit(accept(id, 1, vec![7; 1500])).await.unwrap();
    }
    let failing = Failing::after(0, dir.path(), Which::Descriptors, EMFILE, true);
    for id in 5..=12 {
        spool.commit(accept(id, 1, vec![7; 1500])).await.unwrap();
    }
    for id in 1..=6 {
        spool.commit(settle(id, &[0])).await.unwrap();
    }
    assert!(failing.end().failed > 0, "no segment was wanted");
    assert!(spool.failure().is_none());
    for id in 13..=20 {
        spool.commit(accept(id, 1, vec![7; 1500])).await.unwrap();
    }
    drop(spool);
    let (spool, report) = open(&config);
    assert_eq!((report.quarantined, report.damaged, report.torn), (0, 0, 0));
    assert_eq!(ids(&*spool), (7..=20).collect::<Vec<_>>());
}

/// A sector of the log cannot be read any more: the start goes on, the rest is as it was, and what
/// was there is held or refused, never sent.
#[tokio::test]
#[expect(
    clippy::await_holding_lock,
    reason = "the lock keeps other tests out, and nobody waits for it here"
)]
async fn a_sector_that_cannot_be_read_stops_nothing() {
    let _alone = alone();
    let dir = scratch();
    let mut config = small(dir.path());
    config.segment_size = 1024 * 1024;
    let (spool, _) = open(&config);
    for id in 1..=40 {
        spool.commit(accept(id, 1, vec![id as u8; 1500])).await.unwrap();
    }
    drop(spool);
    let log = config.path.join("log");
    for (lost, sector) in [(4, 0), (8, 4096), (12, 5 * 4096)] {
        let which = Which::Reads { from: sector, to: sector + 4096 };
        let failing = Failing::after(0, &log, which, EIO, true);
        let (spool, report) = open(&config);
        assert_eq!(report.messages, 40, "at {sector}");
        let whole = |id: &u64| match spool.content(MessageId(*id)) {
            Ok(content) => content.read_at(0, 10_000).unwrap().ends_with(&[*id as u8; 1500]),
            Err(SpoolError::Damaged(..)) => false,
            Err(error) => panic!("{error}"),
        };
        let sound = (1..=40).filter(whole).count();
        assert!(
            (40 - lost..40).contains(&sound),
            "{sound} are sound without the sector at {sector}"
        );
        assert!(failing.end().failed > 0, "the sector at {sector} was never read");
        drop(spool);
    }
}
