//! Plants one bug after another and runs seeds until a law is broken. Every bug must be caught, by a seed
//! that breaks the same law in the same way when it is run again, and the code without bugs must pass
//! all seeds that were needed. With an argument, only the bugs in whose
//! name it occurs.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the table is for who started it")]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use waypost_mutant::plant;
use waypost_simulation::mutants::{MUTANTS, Mutant, PREFIX};
use waypost_simulation::storm::run;

/// A bug that so many seeds do not find is a hole in the simulation.
const PATIENCE: u64 = 1000;

/// In place of a law: another run of the same seed ended in another way.
const UNSTEADY: &str = "ANOTHER STORY WHEN REPLAYED";

/// The first seed that finds the bug, and how.
type Caught = Option<(u64, String)>;

fn main() -> ExitCode {
    // Bugs may panic; that is one way to be found.
    std::panic::set_hook(Box::new(|_| {}));
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let mutants = MUTANTS.iter().copied().filter(|mutant| mutant.name.contains(&wanted));
    let mutants: Vec<Mutant> = mutants.collect();
    let caught = hunt(&mutants);
    println!("{:<8} {:<60} {:>6}  law", "room", "planted bug", "seeds");
    let mut survivors = 0;
    for (mutant, caught) in mutants.iter().zip(&caught) {
        let name = mutant.name.trim_start_matches(PREFIX);
        match caught {
            Some((seed, law)) if law == UNSTEADY => {
                survivors += 1;
                println!("{:<8} {name:<60} {:>6}  {law}", mutant.room, seed + 1);
            }
            Some((seed, law)) => println!("{:<8} {name:<60} {:>6}  {law}", mutant.room, seed + 1),
            None => {
                survivors += 1;
                println!("{:<8} {name:<60} {:>6}  SURVIVES", mutant.room, format!(">{PATIENCE}"));
            }
        }
    }
    let needed = caught.iter().flatten().map(|(seed, _)| seed + 1).max().unwrap_or(0);
    let broken = unharmed(needed);
    match &broken {
        Some((seed, law)) => println!("without any bug seed {seed} breaks a law: {law}"),
        None => println!("without any bug all {needed} seeds pass"),
    }
    println!("{} bugs planted, {survivors} not found", mutants.len());
    if survivors == 0 && broken.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every bug in turn, over all processors.
fn hunt(mutants: &[Mutant]) -> Vec<Caught> {
    let next = AtomicUsize::new(0);
    let caught = Mutex::new(BTreeMap::new());
    in_threads(|| {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(mutant) = mutants.get(at) else { return };
            plant(Some(mutant.name));
            let found = (0..PATIENCE).find_map(|seed| Some((seed, breaks(seed)?)));
            let found = found.map(|(seed, law)| match replays(seed) {
                true => (seed, law),
                false => (seed, UNSTEADY.to_owned()),
            });
            caught.lock().unwrap_or_else(PoisonError::into_inner).insert(at, found);
        }
    });
    caught.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// The first of so many seeds that breaks a law where no bug is planted.
fn unharmed(seeds: u64) -> Caught {
    let next = AtomicU64::new(0);
    let broken = Mutex::new(None);
    in_threads(|| {
        plant(None);
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            if let Some(law) = breaks(seed) {
                *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some((seed, law));
            }
        }
    });
    broken.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Which law a seed breaks.
fn breaks(seed: u64) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| run(seed, false))) {
        Ok(outcome) => outcome.violation.map(|violation| format!("{:?}", violation.law)),
        Err(_) => Some("it panics".to_owned()),
    }
}

/// A seed breaks the same law in the same words, after the same story.
fn replays(seed: u64) -> bool {
    let end = || {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, false))).ok();
        outcome.map(|outcome| (outcome.hash, outcome.violation.map(|v| v.to_string())))
    };
    end() == end()
}

fn in_threads(work: impl Fn() + Sync) {
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(&work);
        }
    });
}
