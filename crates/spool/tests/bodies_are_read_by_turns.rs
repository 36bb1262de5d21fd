//! Many large bodies are committed at once: only so many of them are in memory together.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod common;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use common::*;
use waypost_mail::{Body, IncomingFile};
use waypost_spool::{Arrival, Change, Disk, DiskFile, RealDisk, Spool};

const BODY: usize = 8 * 1024 * 1024;
const MEMORY: usize = 32 * 1024 * 1024;
const MESSAGES: u64 = 10;

/// Files of bodies that were opened to be read wait here until all may go on.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    open: bool,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.open).unwrap());
    }

    /// Waits until so many are here, and answers how many are a while later.
    fn gather(&self, count: usize) -> usize {
        let state = self.state.lock().unwrap();
        let few = |state: &mut State| state.waiting < count;
        let patience = Duration::from_secs(20);
        let (state, waited) = self.changed.wait_timeout_while(state, patience, few).unwrap();
        assert!(!waited.timed_out(), "only {} are read at once", state.waiting);
        let more = |state: &mut State| state.waiting == count;
        let grace = Duration::from_millis(500);
        self.changed.wait_timeout_while(state, grace, more).unwrap().0.waiting
    }

    fn open(&self) {
        self.state.lock().unwrap().open = true;
        self.changed.notify_all();
    }
}

#[derive(Debug)]
struct Gated {
    bodies: PathBuf,
    gate: Arc<Gate>,
}

impl Disk for Gated {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if path.starts_with(&self.bodies) {
            self.gate.pass();
        }
        RealDisk.open(path)
    }

    fn extend(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.extend(path)
    }

    fn create(&self, path: &Path, new: bool) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.create(path, new)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_than_fit() {
    let dir = tempfile::tempdir().unwrap();
    let bodies = dir.path().join("bodies");
    std::fs::create_dir(&bodies).unwrap();
    let gate = Arc::new(Gate::default());
    let mut config = config(dir.path());
    config.disk = Arc::new(Gated { bodies: bodies.clone(), gate: gate.clone() });
    let (spool, _) = open(&config);
    let mut commits = tokio::task::JoinSet::new();
    for id in 1..=MESSAGES {
        let path = bodies.join(id.to_string());
        std::fs::write(&path, vec![b'x'; BODY]).unwrap();
        let body = Body::File { file: IncomingFile::new(path), offset: 0, len: BODY as u64 };
        let header = Bytes::from_static(HEADER);
        let arrival = Arrival { entry: entry(id, 1, BODY), header, body, facts: Vec::new() };
        let spool = spool.clone();
        commits.spawn(async move { spool.commit(Change::Accept(Box::new(arrival))).await });
    }
    // Small changes do not wait for them.
    spool.commit(accept(100, 1, "small")).await.unwrap();
    let counting = gate.clone();
    let most = MEMORY / BODY;
    let there = tokio::task::spawn_blocking(move || counting.gather(most)).await.unwrap();
    assert_eq!(there, most);
    gate.open();
    while let Some(done) = commits.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(ids(&*spool).len() as u64, MESSAGES + 1);
}
