//! Power loss, replayed: a child works under a recorder; then the disk is rebuilt as it may be
//! after a power loss at many points of what was recorded, and looked at.
//!
//! `WAYPOST_POWER_POINTS` chooses how many points are tried, `WAYPOST_POWER_SEED` which (of what
//! was recorded: threads never run twice alike). What failed is kept, and its path is printed.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "shared by several test programs, each of which uses a part"
)]

pub mod bare;
pub mod disk;
pub mod recorder;

use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use disk::Disk;
use recorder::{Call, Step, Trace};

/// Looks at what is left in a directory, with what the child had said.
pub type Check<'a> = &'a (dyn Fn(&Path, &[&str]) -> Result<(), String> + Sync);

/// What was recorded, where, and what was there before.
#[derive(Debug)]
pub struct Recording {
    pub trace: Trace,
    pub root: PathBuf,
    pub start: PathBuf,
    /// Whether what a check refuses stays for a person to look at.
    pub keep: bool,
}

/// A point at which the check was not content.
#[derive(Debug)]
pub struct Failure {
    pub point: usize,
    pub why: String,
    pub kept: Option<PathBuf>,
}

/// One state of the disk to be checked.
struct Job {
    point: usize,
    dir: TempDir,
    said: usize,
}

const WORKERS: usize = 2;

impl Recording {
    /// Lets power fail at `count` points, and answers where that did harm.
    pub fn replay(&self, count: usize, check: Check<'_>) -> Vec<Failure> {
        let seed = seed();
        let count = std::env::var("WAYPOST_POWER_POINTS").map_or(count, |n| n.parse().unwrap());
        eprintln!("{count} points of {}, WAYPOST_POWER_SEED={seed}", self.trace.steps.len());
        let mut rng = StdRng::seed_from_u64(seed);
        let points = self.points(count, &mut rng);
        let said = self.said();
        let failures = Mutex::new(Vec::new());
        let (jobs, queue) = mpsc::sync_channel::<Job>(WORKERS);
        let queue = Mutex::new(queue);
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    loop {
                        let job = queue.lock().unwrap().recv();
                        let Ok(job) = job else { return };
                        let failure = self.look(job, &said, check);
                        failures.lock().unwrap().extend(failure);
                    }
                });
            }
            self.play(&points, &mut rng, |job| jobs.send(job).unwrap());
            drop(jobs);
        });
        failures.into_inner().unwrap()
    }

    /// The same, had some syncs been none.
    pub fn without_sync(&self, concerned: impl Fn(&Path) -> bool) -> Recording {
        let calls = self.trace.calls.iter().map(|call| match call {
            Call::Sync { path } if concerned(path) => Call::SyncRange { path: path.clone() },
            other => other.clone(),
        });
        let trace = Trace { calls: calls.collect(), steps: self.trace.steps.clone() };
        let (root, start) = (self.root.clone(), self.start.clone());
        Recording { trace, root, start, keep: self.keep }
    }

    /// What may be left of the second half of the recording.
    pub fn one_state(&self) -> TempDir {
        let mut rng = StdRng::seed_from_u64(seed());
        let steps = self.trace.steps.len();
        let state = scratch();
        self.play(&[rng.random_range(steps / 2..steps)], &mut rng, |job| {
            copy(&job.dir.path().join("before"), state.path());
        });
        state
    }

    /// A third of them anywhere, a third right after an acknowledgement, a third before the end of a
    /// sync, when most is at stake.
    fn points(&self, count: usize, rng: &mut StdRng) -> Vec<usize> {
        let (mut acknowledged, mut syncing) = (Vec::new(), Vec::new());
        for (at, step) in self.trace.steps.iter().enumerate() {
            match step {
                Step::Begin(call) => {
                    if matches!(&self.trace.calls[*call], Call::Say(line) if line.starts_with("done"))
                    {
                        acknowledged.push(at + 1);
                    }
                }
                Step::End(call) => {
                    if matches!(&self.trace.calls[*call], Call::Sync { .. }) {
                        syncing.push(at);
                    }
                }
            }
        }
        let mut points: Vec<usize> = (0..count)
            .map(|number| match number % 3 {
                0 => rng.random_range(0..=self.trace.steps.len()),
                1 => acknowledged[rng.random_range(0..acknowledged.len())],
                _ => syncing[rng.random_range(0..syncing.len())],
            })
            .collect();
        points.sort_unstable();
        points
    }

    fn play(&self, points: &[usize], rng: &mut StdRng, mut send: impl FnMut(Job)) {
        let mut disk = Disk::new(&self.root, &self.start);
        let (mut at, mut said) = (0, 0);
        for point in points {
            for step in &self.trace.steps[at..*point] {
                disk.step(&self.trace, *step);
                if let Step::Begin(call) = step {
                    said += usize::from(matches!(self.trace.calls[*call], Call::Say(_)));
                }
            }
            at = *point;
            let dir = scratch();
            disk.after_power_loss(&dir.path().join("before"), rng);
            send(Job { point: *point, dir, said });
        }
    }

    /// What the child said, in the order in which it began to say it.
    pub fn said(&self) -> Vec<&str> {
        let begun = self.trace.steps.iter().filter_map(|step| match step {
            Step::Begin(call) => Some(&self.trace.calls[*call]),
            Step::End(_) => None,
        });
        begun
            .filter_map(|call| match call {
                Call::Say(line) => Some(line.as_str()),
                _ => None,
            })
            .collect()
    }

    fn look(&self, job: Job, said: &[&str], check: Check<'_>) -> Option<Failure> {
        let after = job.dir.path().join("after");
        copy(&job.dir.path().join("before"), &after);
        let said = &said[..job.said];
        let checked = catch_unwind(AssertUnwindSafe(|| check(&after, said)));
        let why = match checked {
            Ok(result) => result.err()?,
            Err(panic) => format!("panic: {:?}", panic.downcast_ref::<String>()),
        };
        let kept = self.keep.then(|| {
            fs::write(job.dir.path().join("said"), said.join("\n")).unwrap();
            job.dir.keep()
        });
        Some(Failure { point: job.point, why, kept })
    }
}

/// Panics when there is anything in the list.
pub fn no_failures(failures: &[Failure]) {
    for Failure { point, why, kept } in failures {
        eprintln!("power lost at {point}, kept in {kept:?}:\n{why}");
    }
    assert!(failures.is_empty(), "{} states are not as they must be", failures.len());
}

/// A directory in memory if there is room: what is rebuilt there need not survive anything.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let free =
        nix::sys::statvfs::statvfs(memory).map_or(0, |v| v.blocks_available() * v.fragment_size());
    if free > 1 << 30 {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &target);
        } else {
            fs::copy(file.path(), target).unwrap();
        }
    }
}

/// A line for the recorder: one write, so that it stands in its place among the others.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n=={line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn seed() -> u64 {
    std::env::var("WAYPOST_POWER_SEED")
        .map_or_else(|_| rand::random(), |seed| seed.parse().unwrap())
}
