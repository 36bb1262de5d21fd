//! sled alone, without a log that would make up for what it loses: what its flush is worth depends
//! on whether the program has the override of the spool.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::recorder::{Call, record};
use super::{Failure, Recording, say, scratch};

const DIRECTORY: &str = "WAYPOST_POWER_BARE";
const WRITERS: u64 = 3;
const ROUNDS: u64 = 150;

/// Records sled, and lets power fail at `points`. Answers what it lost, and how many
/// sync_file_range reached the kernel.
pub fn losses(points: usize) -> (Vec<Failure>, usize) {
    let (root, start) = (scratch(), scratch());
    let path = root.path().canonicalize().unwrap();
    let directory = path.to_str().unwrap().to_owned();
    let trace = record(&path, "power::bare::child", &[(DIRECTORY, directory)]);
    let ranges = trace.calls.iter().filter(|call| matches!(call, Call::SyncRange { .. })).count();
    let recording = Recording { trace, root: path, start: start.path().to_owned(), keep: false };
    (recording.replay(points, &check), ranges)
}

#[test]
#[ignore = "the child of the other tests, useless alone"]
fn child() {
    let db = open(&PathBuf::from(std::env::var_os(DIRECTORY).unwrap())).unwrap();
    say("open");
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let db = &db;
            scope.spawn(move || write(db, writer * 1_000_000));
        }
    });
}

fn write(db: &sled::Db, first: u64) {
    for id in first..first + ROUNDS {
        say(&format!("begin put {id}"));
        db.insert(id.to_be_bytes(), value(id)).unwrap();
        db.flush().unwrap();
        say(&format!("done put {id}"));
        if id % 3 == 0 {
            say(&format!("begin drop {id}"));
            db.remove(id.to_be_bytes()).unwrap();
            db.flush().unwrap();
            say(&format!("done drop {id}"));
        }
    }
}

fn value(id: u64) -> Vec<u8> {
    vec![id as u8; 100 + (id * 37 % 900) as usize]
}

/// As the spool opens it, synced where sled forgets to.
fn open(dir: &Path) -> sled::Result<sled::Db> {
    let config = sled::Config::new().path(dir).cache_capacity(8 << 20);
    let db = config.flush_every_ms(Some(500)).segment_size(512 * 1024).open()?;
    for name in ["conf", "db", "blobs", "."] {
        File::open(dir.join(name))?.sync_all()?;
    }
    Ok(db)
}

fn check(dir: &Path, said: &[&str]) -> Result<(), String> {
    if !said.contains(&"open") {
        // Nothing was promised, and the spool's index is made anew.
        return Ok(());
    }
    compare(dir, said)
}

fn compare(dir: &Path, said: &[&str]) -> Result<(), String> {
    let db = open(dir).map_err(|error| error.to_string())?;
    // By key: the last word said.
    let mut last = BTreeMap::new();
    for line in said {
        if let Some((words, id)) = line.rsplit_once(' ') {
            last.insert(id.parse::<u64>().unwrap(), words);
        }
    }
    for (id, words) in last {
        let found = db.get(id.to_be_bytes()).map_err(|error| error.to_string())?;
        match (words, found) {
            ("done put", None) => return Err(format!("{id} is lost")),
            ("done drop", Some(_)) => return Err(format!("{id} is back")),
            (_, Some(found)) if found != value(id) => return Err(format!("{id} is changed")),
            _ => {}
        }
    }
    Ok(())
}
