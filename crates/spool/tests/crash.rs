//! The process ends at any moment, or between any two steps: what was acknowledged is there, what
//! was finished stays away.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::*;
use tokio::time::Instant;
use waypost_mail::ledger::Fact;
use waypost_mail::{Ledger, RecipientState};
use waypost_spool::{Arrival, Change, Config, FaultPoint, Faults, LogSpool, Spool};

const DIRECTORY: &str = "WAYPOST_CRASH_DIRECTORY";
const FIRST_ID: &str = "WAYPOST_CRASH_FIRST_ID";
const FAULT: &str = "WAYPOST_CRASH_FAULT";

/// How long a child may say nothing new.
const PATIENCE: Duration = Duration::from_secs(300);

const POINTS: [FaultPoint; 12] = [
    FaultPoint::Roll,
    FaultPoint::Digest,
    FaultPoint::Digested,
    FaultPoint::Append,
    FaultPoint::Appended,
    FaultPoint::Sync,
    FaultPoint::Synced,
    FaultPoint::Applied,
    FaultPoint::Given,
    FaultPoint::Flushed,
    FaultPoint::RemoveSegment,
    FaultPoint::BodyMoved,
];

fn small(path: &Path) -> Config {
    let mut config = config(path);
    config.segment_size = 64 * 1024;
    config
}

/// Works until it is killed, and says what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of the other tests, useless alone"]
async fn child() {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let first: u64 = std::env::var(FIRST_ID).unwrap().parse().unwrap();
    let mut config = small(&directory);
    if let Ok(fault) = std::env::var(FAULT) {
        let (point, count) = fault.split_once(':').unwrap();
        let (point, left) = (point.to_owned(), AtomicU64::new(count.parse().unwrap()));
        config.faults = Faults::new(move |at| {
            if format!("{at:?}") == point && left.fetch_sub(1, Ordering::SeqCst) == 0 {
                std::process::abort();
            }
            Ok(())
        });
    }
    let (spool, _) = open(&config);
    let tasks: Vec<_> =
        (0..4).map(|writer| tokio::spawn(work(spool.clone(), first + writer * 100_000))).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

async fn work(spool: Arc<LogSpool>, first: u64) {
    for id in first.. {
        let size = if id % 50 == 7 { 8 * 1024 * 1024 + 1 } else { (id % 40 * 100) as usize };
        spool.commit(keyed(id, vec![id as u8; size])).await.unwrap();
        say("accepted", id);
        match id % 5 {
            0 => {
                spool.commit(administer(id, 0, held())).await.unwrap();
                say("held", id);
            }
            1 => {
                spool.commit(settle(id, &[1])).await.unwrap();
                say("half", id);
            }
            _ => {
                spool.commit(settle(id, &[0])).await.unwrap();
                say("settling", id);
                spool.commit(settle(id, &[1])).await.unwrap();
                say("settled", id);
            }
        }
        if id % 7 == 0 {
            spool.put(&format!("test/{id}"), "kept".into(), None).await.unwrap();
            say("fact", id);
        }
        if id >= 8 && id % 5 == 3 {
            // Old held mail goes too, or the log would only grow.
            let _ = spool.commit(settle(id - 8, &[0, 1])).await;
            say("over", id - 8);
        }
    }
}

/// A message that brings two facts, of which one says so.
fn keyed(id: u64, body: Vec<u8>) -> Change {
    let fact = |key| Fact { key, value: Bytes::from_static(b"came"), expires: None };
    let facts = vec![fact(format!("with/{id}")), fact(format!("also/{id}"))];
    Change::Accept(Box::new(Arrival { facts, ..arrival(id, 2, body) }))
}

fn say(word: &str, id: u64) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n=={word} {id}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// The last word said about each message, and all facts.
#[derive(Default)]
struct Said {
    messages: BTreeMap<u64, String>,
    facts: BTreeSet<u64>,
}

/// Runs a child until it dies or has said so many `words`; answers the signal that ended it.
fn run(
    directory: &Path,
    first: u64,
    fault: Option<&str>,
    words: usize,
    said: &mut Said,
) -> Option<i32> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(DIRECTORY, directory).env(FIRST_ID, first.to_string());
    if let Some(fault) = fault {
        command.env(FAULT, fault);
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let heard = Arc::new(AtomicUsize::new(0));
    let counted = heard.clone();
    let reader = std::thread::spawn(move || {
        let words = out.lines().map_while(Result::ok).filter(|line| line.starts_with("=="));
        words.inspect(|_| _ = counted.fetch_add(1, Ordering::SeqCst)).collect::<Vec<_>>()
    });
    let end = Instant::now() + PATIENCE;
    while heard.load(Ordering::SeqCst) < words && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "the child says nothing any more");
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = child.kill();
    let status = child.wait().unwrap();
    for line in reader.join().unwrap() {
        let Some((word, id)) = line.strip_prefix("==").and_then(|line| line.split_once(' ')) else {
            continue;
        };
        let id = id.parse().unwrap();
        if word == "fact" {
            said.facts.insert(id);
        } else if said.messages.get(&id).is_none_or(|word| word != "over") {
            said.messages.insert(id, word.to_owned());
        }
    }
    status.signal()
}

/// What the spool has is what was said, or one unacknowledged step further.
async fn check(directory: &Path, said: &Said) {
    let (spool, report) = open(&small(directory));
    assert_eq!((report.quarantined, report.damaged), (0, 0), "{report:?}");
    let there: BTreeSet<u64> = ids(&*spool).into_iter().collect();
    for (id, word) in &said.messages {
        let present = there.contains(id);
        let state = |recipient| state(&*spool, *id, recipient);
        match word.as_str() {
            "settled" | "over" => assert!(!present, "{id} is back after {word}"),
            // The next step may have been made and not said.
            "settling" | "held" | "half" if !present => {}
            "settling" => assert!(state(0).is_done()),
            "held" => assert!(!matches!(state(0), RecipientState::Waiting { .. }), "{id}"),
            "half" => assert!(state(1).is_done()),
            _ => assert!(present, "{id} is lost after {word}"),
        }
    }
    for id in &there {
        let size = if id % 50 == 7 { 8 * 1024 * 1024 + 1 } else { (id % 40 * 100) as usize };
        let expected = [HEADER, &vec![*id as u8; size]].concat();
        assert!(bytes_of(&*spool, *id) == expected, "content of {id}");
    }
    // Some that are said to be over never were.
    let came = said.messages.iter().filter(|(_, word)| *word != "over").map(|(id, _)| id);
    for id in there.iter().chain(came) {
        // Acknowledged or found all the same: what came with it came, and is kept when it is gone.
        for key in [format!("with/{id}"), format!("also/{id}")] {
            assert_eq!(spool.get(&key, NOW).await.unwrap().unwrap(), "came", "{key}");
        }
    }
    for id in &said.facts {
        assert_eq!(spool.get(&format!("test/{id}"), NOW).await.unwrap().unwrap(), "kept");
    }
    let bodies = std::fs::read_dir(directory.join("spool/bodies")).unwrap().count();
    assert_eq!(bodies, there.iter().filter(|id| *id % 50 == 7).count(), "body files");
}

#[tokio::test]
async fn kill_minus_nine() {
    let directory = tempfile::tempdir().unwrap();
    let mut said = Said::default();
    for round in 0..10 {
        let first = 1_000_000 * (round + 1);
        let words = 60 + round as usize * 37 % 90;
        let signal = run(directory.path(), first, None, words, &mut said);
        assert_eq!(signal, Some(nix::libc::SIGKILL));
        if round % 4 == 3 {
            std::fs::remove_dir_all(directory.path().join("spool/index")).unwrap();
        }
        check(directory.path(), &said).await;
    }
    assert!(said.messages.len() > 100 && !said.facts.is_empty());
}

#[tokio::test]
async fn an_end_between_any_two_steps() {
    for point in POINTS {
        let directory = tempfile::tempdir().unwrap();
        let mut said = Said::default();
        for (round, count) in [0, 2, 5].into_iter().enumerate() {
            let fault = format!("{point:?}:{count}");
            let first = 1_000_000 * (round as u64 + 1);
            let signal = run(directory.path(), first, Some(&fault), usize::MAX, &mut said);
            assert_eq!(signal, Some(nix::libc::SIGABRT), "{fault}");
            check(directory.path(), &said).await;
        }
        assert!(!said.messages.is_empty() || point == FaultPoint::Append, "{point:?}");
    }
}
