//! sled, with its manners kept in one place: one tree, its panics and sticky errors made plain
//! errors, its files synced where it forgets to.

use std::any::Any;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use waypost_mail::Timestamp;

use crate::disk::{Disk, RealDisk};
use crate::row::Writes;
use crate::rows::{Rows, RowsError, RowsPlace};

const PROBE: &[u8] = b"p|";

/// sled in a directory of its own.
#[derive(Debug, Clone)]
pub struct SledRows {
    db: sled::Db,
}

/// Where sled's files are.
#[derive(Debug, Clone)]
pub(crate) struct SledPlace {
    pub(crate) dir: PathBuf,
    /// Octets of memory it may use.
    pub(crate) cache: u64,
    pub(crate) timeout: Duration,
}

impl RowsPlace for SledPlace {
    fn exists(&self) -> bool {
        self.dir.join("db").exists()
    }

    fn open(&self) -> Result<Arc<dyn Rows>, RowsError> {
        Ok(Arc::new(SledRows::open(&self.dir, self.cache, self.timeout)?))
    }

    fn set_aside(&self, now: Timestamp) -> io::Result<String> {
        let aside = self.dir.with_file_name(format!("index.damaged-{}", now.0));
        fs::rename(&self.dir, &aside)?;
        self.dir.parent().map_or(Ok(()), |parent| RealDisk.sync_dir(parent))?;
        Ok(aside.display().to_string())
    }
}

impl SledRows {
    /// Opens or makes sled's files in `dir`, with `cache` octets of memory, within `timeout`.
    ///
    /// # Errors
    /// When the files are damaged, the system refuses, or sled's flush would not reach the disk.
    pub fn open(dir: &Path, cache: u64, timeout: Duration) -> Result<SledRows, RowsError> {
        // sled makes its files as the umask says; what is in them is nobody else's business.
        fs::create_dir_all(dir).map_err(RowsError::System)?;
        let own = fs::Permissions::from_mode(0o700);
        fs::set_permissions(dir, own).map_err(RowsError::System)?;
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
        thread.spawn(open).map_err(RowsError::System)?;
        let silent = |_| RowsError::Damaged(format!("sled did not open within {timeout:?}"));
        let db = judge(opened.recv_timeout(timeout).map_err(silent)?)?;
        let rows = SledRows { db };
        rows.probe()?;
        sync_files(dir).map_err(RowsError::System)?;
        Ok(rows)
    }

    /// Writes something, and asks whether that reached the override.
    fn probe(&self) -> Result<(), RowsError> {
        let before = flushes();
        judge(guarded(|| self.db.insert(PROBE, &before.to_le_bytes())))?;
        judge(guarded(|| self.db.flush()))?;
        judge(guarded(|| self.db.remove(PROBE)))?;
        judge(guarded(|| self.db.flush()))?;
        if OVERRIDDEN && flushes() == before {
            return Err(RowsError::NoOverride);
        }
        Ok(())
    }
}

impl Rows for SledRows {
    fn apply(&self, writes: Writes) -> Result<(), String> {
        let mut batch = sled::Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        sane(|| self.db.apply_batch(batch))
    }

    fn flush(&self) -> Result<(), String> {
        sane(|| self.db.flush()).map(drop)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        sane(|| self.db.get(key)).map(|value| value.map(|value| value.to_vec()))
    }

    fn range(&self, from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), String> {
        sane(|| {
            for item in self.db.range(from..) {
                let (key, value) = item?;
                if !each(&key, &value) {
                    break;
                }
            }
            Ok(())
        })
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
fn judge<T>(result: Result<sled::Result<T>, String>) -> Result<T, RowsError> {
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) if is_of_system(&error) => Err(RowsError::System(error)),
        Ok(Err(error)) => Err(RowsError::Damaged(error.to_string())),
        Err(panic) => Err(RowsError::Damaged(format!("sled panicked: {panic}"))),
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
    RealDisk.sync_dir(&dir.join("blobs"))?;
    RealDisk.sync_dir(dir)?;
    dir.parent().map_or(Ok(()), |parent| RealDisk.sync_dir(parent))
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
        assert!(matches!(SledRows { db }.probe(), Err(RowsError::NoOverride)));
        let dir = tempfile::tempdir().unwrap();
        SledRows::open(dir.path(), 1024 * 1024, Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn panics_become_errors_in_words() {
        let failed = sane(|| -> sled::Result<()> { panic!("page {} is odd", 7) });
        assert_eq!(failed, Err("sled panicked: page 7 is odd".to_owned()));
    }
}
