//! The model of sled does what sled does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use waypost_simulation::disk::SimDisk;
use waypost_simulation::rows::ModelPlace;
use waypost_spool::{Rows, RowsPlace, SledRows, Writes};

const PATIENCE: Duration = Duration::from_secs(60);

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn open(dir: &Path) -> SledRows {
    SledRows::open(dir, 8 * 1024 * 1024, PATIENCE).unwrap()
}

fn contents(rows: &dyn Rows) -> Map {
    let mut all = Map::new();
    let mut collect = |key: &[u8], value: &[u8]| {
        all.insert(key.to_vec(), value.to_vec());
        true
    };
    rows.range(b"", &mut collect).unwrap();
    all
}

/// Few keys, so that batches meet: prefixes as the spool has them, and the ends of the range.
fn key(random: &mut StdRng) -> Vec<u8> {
    let prefix = [&b"m|"[..], b"s|", b"l|", b"", b"\xff\xff"][random.random_range(0..5)];
    let mut key = prefix.to_vec();
    key.extend((0..random.random_range(0..3)).map(|_| random.random_range(0..4u8)));
    key
}

/// What a batch says of one key last is what counts.
fn batch(random: &mut StdRng) -> Writes {
    let value = |random: &mut StdRng| {
        let len = [0, 1, 40, 4096][random.random_range(0..4)];
        random.random_bool(0.7).then(|| vec![random.random(); len])
    };
    (0..random.random_range(0..8)).map(|_| (key(random), value(random))).collect()
}

fn some(rows: &dyn Rows, from: &[u8], count: usize) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let mut collect = |key: &[u8], _: &[u8]| {
        keys.push(key.to_vec());
        keys.len() < count
    };
    rows.range(from, &mut collect).unwrap();
    keys
}

/// The same operations on both, one after another; what can be seen is the same after each.
#[test]
fn the_same_operations_show_the_same() {
    for seed in 0..6 {
        let mut random = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let place = ModelPlace::new(SimDisk::new());
        let mut sled = open(dir.path());
        let mut model: Arc<dyn Rows> = place.open().unwrap();
        for step in 0..300 {
            match random.random_range(0..20) {
                0..10 => {
                    let batch = batch(&mut random);
                    sled.apply(batch.clone()).unwrap();
                    model.apply(batch).unwrap();
                }
                10..14 => {
                    let key = key(&mut random);
                    assert_eq!(sled.get(&key), model.get(&key), "seed {seed} step {step}");
                }
                14..18 => {
                    let (from, count) = (key(&mut random), random.random_range(1..5));
                    let (left, right) = (some(&sled, &from, count), some(&*model, &from, count));
                    assert_eq!(left, right, "seed {seed} step {step} from {from:?}");
                }
                18 => {
                    sled.flush().unwrap();
                    model.flush().unwrap();
                }
                _ if step % 40 == 0 => {
                    // Closed in good order, sled keeps everything.
                    sled.flush().unwrap();
                    model.flush().unwrap();
                    drop(sled);
                    sled = open(dir.path());
                    place.crash(&mut random);
                    model = place.open().unwrap();
                }
                _ => {}
            }
        }
        assert_eq!(contents(&sled), contents(&*model), "seed {seed}");
    }
}

/// What sled has on the disk at any moment is one of the states that the model keeps after a crash:
/// all that was flushed, and of what followed some first part, batch by batch.
#[test]
fn a_crash_leaves_what_the_model_may_keep() {
    for seed in 0..4 {
        let mut random = StdRng::seed_from_u64(100 + seed);
        let dir = tempfile::tempdir().unwrap();
        let sled = open(dir.path());
        let mut flushed = Map::new();
        let mut states = vec![Map::new()];
        for _ in 0..40 {
            let batch = batch(&mut random);
            let mut next = states.last().unwrap().clone();
            for (key, value) in batch.clone() {
                match value {
                    Some(value) => next.insert(key, value),
                    None => next.remove(&key),
                };
            }
            sled.apply(batch).unwrap();
            states.push(next);
            if random.random_bool(0.3) {
                sled.flush().unwrap();
                flushed = states.pop().unwrap();
                states = vec![flushed.clone()];
            }
            if random.random_bool(0.15) {
                let copy = tempfile::tempdir().unwrap();
                copy_files(dir.path(), copy.path());
                let found = contents(&open(copy.path()));
                assert!(states.contains(&found), "seed {seed}: {found:?} of {states:?}");
            }
        }
        sled.flush().unwrap();
        drop(flushed);
    }
}

fn copy_files(from: &Path, to: &Path) {
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_files(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).unwrap();
        }
    }
}
