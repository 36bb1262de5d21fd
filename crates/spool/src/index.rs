//! sled, with its manners kept in one place: one tree, its panics and sticky errors made plain
//! errors, its files synced where it forgets to.

use std::any::Any;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use waypost_mail::{MessageId, Timestamp};

use crate::log::sync_dir;
use crate::row::{self, Kept, Writes};
use crate::segment::{Place, Position};

const PROBE: &[u8] = b"p|";
const CHECKPOINT: &[u8] = b"c|";

/// The index and the state in use.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    db: sled::Db,
}

/// Why sled could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    /// It is damaged, panicked or never answered: it can be rebuilt.
    #[error("{0}")]
    Damaged(String),
    /// The system refused; rebuilding would not help.
    #[error("{0}")]
    System(io::Error),
    /// The override is not in this program.
    #[error("sled's flush does not reach the disk in this program")]
    NoOverride,
}

/// A fact of the ledger in the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FactRow {
    pub(crate) place: Place,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) value: bytes::Bytes,
}

impl Index {
    /// Opens or makes sled's files in `dir`, within `timeout`.
    pub(crate) fn open(dir: &Path, cache: u64, timeout: Duration) -> Result<Index, IndexError> {
        // sled makes its files as the umask says; what is in them is nobody else's business.
        fs::create_dir_all(dir).map_err(IndexError::System)?;
        let own = fs::Permissions::from_mode(0o700);
        fs::set_permissions(dir, own).map_err(IndexError::System)?;
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(cache)
            .flush_every_ms(Some(500))
            .segment_size(512 * 1024);
        let (answer, opened) = mpsc::sync_channel(1);
        // sled may hang on damaged files; its thread is then left alone with files moved aside.
        let open = move || {
            let _ = answer.send(guarded(|| open_patiently(&config)));
        };
        let thread = std::thread::Builder::new().name("spool-index-open".to_owned());
        thread.spawn(open).map_err(IndexError::System)?;
        let silent = |_| IndexError::Damaged(format!("sled did not open within {timeout:?}"));
        let db = judge(opened.recv_timeout(timeout).map_err(silent)?)?;
        let index = Index { db };
        index.probe()?;
        sync_files(dir).map_err(IndexError::System)?;
        Ok(index)
    }

    /// Writes something, and asks whether that reached the override.
    fn probe(&self) -> Result<(), IndexError> {
        let before = flushes();
        judge(guarded(|| self.db.insert(PROBE, &before.to_le_bytes())))?;
        judge(guarded(|| self.db.flush()))?;
        judge(guarded(|| self.db.remove(PROBE)))?;
        judge(guarded(|| self.db.flush()))?;
        if OVERRIDDEN && flushes() == before {
            return Err(IndexError::NoOverride);
        }
        Ok(())
    }

    /// Writes all or nothing, not yet flushed.
    pub(crate) fn apply(&self, writes: Writes) -> Result<(), String> {
        let mut batch = sled::Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        sane(|| self.db.apply_batch(batch))
    }

    /// What was applied is on the disk when this returns.
    pub(crate) fn flush(&self) -> Result<(), String> {
        sane(|| self.db.flush()).map(drop)
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, String> {
        sane(|| self.db.get(key))
    }

    /// A message, absent when it has no row; `Some(Err)` when its rows do not fit together.
    pub(crate) fn message(&self, id: MessageId) -> Result<Option<Result<Kept, ()>>, String> {
        // A reader may come between the values of a change: it then sees checksums that do not
        // match, and looks again.
        for _ in 0..100 {
            let Some(value) = self.get(&row::row_key(id))? else { return Ok(None) };
            if let Some(kept) = self.read(id, &value) {
                return Ok(Some(Ok(kept)));
            }
            std::thread::yield_now();
        }
        Ok(Some(Err(())))
    }

    /// The message of a row.
    pub(crate) fn read(&self, id: MessageId, value: &[u8]) -> Option<Kept> {
        let get = |key: &[u8]| self.get(key).ok().flatten().map(|v| v.to_vec());
        Kept::read(id, value, &get)
    }

    /// Keys and values from `from` on that begin with `prefix`, until `each` answers false.
    pub(crate) fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), String> {
        sane(|| {
            for item in self.db.range(from..) {
                let (key, value) = item?;
                if !key.starts_with(prefix) || !each(&key, &value) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Everything in the log before this was in the index when it was last flushed.
    pub(crate) fn checkpoint(&self) -> Result<Option<Position>, String> {
        let value = self.get(CHECKPOINT)?;
        Ok(value.and_then(|value| postcard::from_bytes(&value).ok()))
    }

    /// The fact under a key, expired or not.
    pub(crate) fn fact(&self, key: &str) -> Result<Option<FactRow>, String> {
        let value = self.get(&row::fact_key(key))?;
        Ok(value.and_then(|value| FactRow::decode(&value)))
    }
}

/// What moves the checkpoint, in the same batch as what it vouches for.
pub(crate) fn checkpoint(end: Position) -> (Vec<u8>, Option<Vec<u8>>) {
    (CHECKPOINT.to_vec(), postcard::to_stdvec(&end).ok())
}

impl FactRow {
    pub(crate) fn decode(value: &[u8]) -> Option<FactRow> {
        postcard::from_bytes(value).ok()
    }
}

/// Another handle of this process may still be closing.
fn open_patiently(config: &sled::Config) -> sled::Result<sled::Db> {
    for _ in 0..40 {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                std::thread::sleep(Duration::from_millis(50));
            }
            other => return other,
        }
    }
    config.open()
}

/// Tells damage, which rebuilding cures, from what it does not.
fn judge<T>(result: Result<sled::Result<T>, String>) -> Result<T, IndexError> {
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) if is_of_system(&error) => Err(IndexError::System(error)),
        Ok(Err(error)) => Err(IndexError::Damaged(error.to_string())),
        Err(panic) => Err(IndexError::Damaged(format!("sled panicked: {panic}"))),
    }
}

/// Errors that no rebuilding cures. Others, such as an unexpected end, speak of damage.
fn is_of_system(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | StorageFull)
        || matches!(error.raw_os_error(), Some(nix::libc::EMFILE | nix::libc::ENFILE))
        || error.to_string().contains("could not acquire lock")
}

/// sled syncs none of these when it makes them, and a half-written `conf` blocks the next open.
fn sync_files(dir: &Path) -> io::Result<()> {
    for name in ["conf", "db"] {
        fs::File::open(dir.join(name))?.sync_all()?;
    }
    sync_dir(&dir.join("blobs"))?;
    sync_dir(dir)?;
    dir.parent().map_or(Ok(()), sync_dir)
}

/// Errors and panics of sled in words.
fn sane<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, String> {
    guarded(call)
        .map_err(|panic| format!("sled panicked: {panic}"))?
        .map_err(|e| format!("sled: {e}"))
}

fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| text_of(panic.as_ref()))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// True where sled's flush must have come through the override.
const OVERRIDDEN: bool = cfg!(target_os = "linux");

#[cfg(target_os = "linux")]
fn flushes() -> u64 {
    crate::sync_override::calls()
}

#[cfg(not(target_os = "linux"))]
fn flushes() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_flush_that_reaches_no_disk_is_refused() {
        // sled does not sync a temporary database at all: to the probe it looks like a program
        // without the override.
        let db = sled::Config::new().temporary(true).open().unwrap();
        assert!(matches!(Index { db }.probe(), Err(IndexError::NoOverride)));
        let dir = tempfile::tempdir().unwrap();
        Index::open(dir.path(), 1024 * 1024, Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn panics_become_errors_in_words() {
        let failed = sane(|| -> sled::Result<()> { panic!("page {} is odd", 7) });
        assert_eq!(failed, Err("sled panicked: page 7 is odd".to_owned()));
    }
}
