//! Thousands of seeds, each a storm of its own.
//!
//! `WAYPOST_SEED=7 cargo test -p waypost-simulation --test storms` runs one and tells its story;
//! `WAYPOST_SEEDS=100000` runs more.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use waypost_simulation::storm::{Outcome, run};

/// Run where nobody asks for more.
const SEEDS: u64 = 2000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.trim().parse().ok()
}

/// A panic of the code under test is a violation like any other.
fn guarded(seed: u64, whole: bool) -> Result<Outcome, String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, whole)));
    let outcome = outcome.map_err(|_| format!("seed {seed} panics"))?;
    match &outcome.violation {
        Some(violation) => Err(format!("{}\nseed {seed}: {violation}", outcome.story)),
        None => Ok(outcome),
    }
}

#[test]
fn no_storm_breaks_a_law() {
    if let Some(seed) = number("WAYPOST_SEED") {
        let outcome = guarded(seed, true).unwrap_or_else(|failure| panic!("{failure}"));
        println!("{}seed {seed}: {} messages accepted", outcome.story, outcome.accepted);
        return;
    }
    let seeds = number("WAYPOST_SEEDS").unwrap_or(SEEDS);
    let (next, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let (accepted, deliveries, restarts) =
        (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failures.lock().unwrap().len() > 2 {
                        return;
                    }
                    match guarded(seed, false) {
                        Ok(outcome) => {
                            accepted.fetch_add(outcome.accepted, Ordering::Relaxed);
                            deliveries.fetch_add(outcome.deliveries as usize, Ordering::Relaxed);
                            restarts.fetch_add(outcome.restarts, Ordering::Relaxed);
                        }
                        Err(failure) => {
                            eprintln!("{failure}");
                            failures.lock().unwrap().push(failure);
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{}\nreplay: WAYPOST_SEED=<seed> cargo test -p waypost-simulation --test storms",
        failures.iter().filter_map(|failure| failure.lines().last()).collect::<Vec<_>>().join("\n")
    );
    println!(
        "{seeds} seeds: {accepted:?} messages, {deliveries:?} deliveries, {restarts:?} restarts"
    );
    // A storm in which nothing happens proves nothing.
    assert!(accepted.into_inner() as u64 > seeds && restarts.into_inner() as u64 > seeds);
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in 0..20 {
        let (first, second) = (run(seed, true), run(seed, true));
        assert_eq!(first.story, second.story, "seed {seed}");
        assert_eq!(first.hash, second.hash, "seed {seed}");
    }
}
