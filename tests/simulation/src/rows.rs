//! A model of sled: an ordered map whose batches are seen at once, durable when flushed, and after
//! a crash there up to any one of those that were not.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::Rng;
use rand::rngs::StdRng;
use waypost_mail::Timestamp;
use waypost_spool::{Rows, RowsError, RowsPlace, Writes};

use crate::disk::{Operation, SimDisk};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Where the model is kept between two runs. Clones are the same place.
#[derive(Debug, Clone)]
pub struct ModelPlace {
    model: Arc<Mutex<Model>>,
    disk: SimDisk,
}

#[derive(Debug, Default)]
struct Model {
    seen: Map,
    kept: Map,
    /// Applied and not flushed, in order.
    batches: Vec<Writes>,
    exists: bool,
    damaged: bool,
    /// After an error nothing works until it is opened anew.
    failed: bool,
    /// Rises with every change.
    version: u64,
}

/// The model, opened.
#[derive(Debug)]
struct ModelRows(ModelPlace);

impl ModelPlace {
    /// An empty place; what is done there counts on `disk`.
    pub fn new(disk: SimDisk) -> ModelPlace {
        ModelPlace { model: Arc::default(), disk }
    }

    /// The program is gone, or the machine was: of what was not flushed a first part is kept, as sled
    /// may write early.
    pub fn crash(&self, random: &mut StdRng) {
        let mut model = self.model();
        let batches = std::mem::take(&mut model.batches);
        let count = random.random_range(0..=batches.len());
        for batch in batches.into_iter().take(count) {
            apply(&mut model.kept, batch);
        }
        model.seen = model.kept.clone();
        model.failed = false;
        model.version += 1;
    }

    /// The files are found damaged when they are opened next.
    pub fn damage(&self) {
        self.model().damaged = true;
    }

    /// All of it is gone.
    pub fn delete(&self) {
        *self.model() = Model { version: self.version() + 1, ..Model::default() };
    }

    /// Another number after every change.
    pub fn version(&self) -> u64 {
        self.model().version
    }

    /// Everything, as readers see it.
    pub fn contents(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.model().seen.clone()
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model, if this operation works.
    fn begin(&self, operation: Operation) -> Result<MutexGuard<'_, Model>, String> {
        let mut model = self.model();
        if model.failed {
            return Err("sled: it failed before".to_owned());
        }
        if let Err(error) = self.disk.touch(operation) {
            model.failed = true;
            return Err(format!("sled: {error}"));
        }
        Ok(model)
    }
}

impl RowsPlace for ModelPlace {
    fn exists(&self) -> bool {
        self.model().exists
    }

    fn open(&self) -> Result<Arc<dyn Rows>, RowsError> {
        let mut model = self.model();
        if model.damaged {
            return Err(RowsError::Damaged("it was damaged by intent".to_owned()));
        }
        self.disk.touch(Operation::Write).map_err(RowsError::System)?;
        model.exists = true;
        Ok(Arc::new(ModelRows(self.clone())))
    }

    fn set_aside(&self, _now: Timestamp) -> io::Result<String> {
        self.disk.touch(Operation::Write)?;
        self.delete();
        Ok("nowhere".to_owned())
    }
}

impl Rows for ModelRows {
    fn apply(&self, writes: Writes) -> Result<(), String> {
        let mut model = self.0.begin(Operation::Write)?;
        apply(&mut model.seen, writes.clone());
        model.batches.push(writes);
        model.version += 1;
        Ok(())
    }

    fn flush(&self) -> Result<(), String> {
        let mut model = self.0.begin(Operation::Sync)?;
        for batch in std::mem::take(&mut model.batches) {
            apply(&mut model.kept, batch);
        }
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let model = self.0.begin(Operation::Read)?;
        Ok(model.seen.get(key).cloned())
    }

    fn range(&self, from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), String> {
        let model = self.0.begin(Operation::Read)?;
        let seen = model.seen.range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        // What is called may come back here.
        let seen: Vec<_> = seen.map(|(key, value)| (key.clone(), value.clone())).collect();
        drop(model);
        for (key, value) in seen {
            if !each(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}

fn apply(map: &mut Map, writes: Writes) {
    for (key, value) in writes {
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }
}
