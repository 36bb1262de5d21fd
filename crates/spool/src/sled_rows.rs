//! sled, with its manners kept in one place: one tree, its panics and sticky errors made plain
//! errors, its files synced where it forgets to.

use std::any::Any;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use waypost_mail::Timestamp;

use crate::disk::{Disk, RealDisk};
use crate::row::Writes;
use crate::rows::{Rows, RowsError, RowsPlace};

const PROBE: &[u8] = b"p|";

/// sled in a directory of its own.
#[derive(Debug, Clone)]
pub struct SledRows(Arc<Handle>);

/// sled, and the thread of ours that waits for it when something is written: after an I/O error in one of its own
/// threads, a flush may never return.
#[derive(Debug)]
struct Handle {
    /// Present until it is dropped: it writes then, and panics when it cannot.
    db: Option<sled::Db>,
    /// Present until it is dropped.
    writes: Option<mpsc::Sender<Write>>,
    writer: Option<JoinHandle<()>>,
    /// How long a write may take.
    limit: Duration,
    hangs: AtomicBool,
}

/// What is written, and who waits for it.
type Write = (Deed, mpsc::SyncSender<Result<(), String>>);

enum Deed {
    Apply(sled::Batch),
    Flush,
}

impl Handle {
    fn new(db: sled::Db, limit: Duration) -> io::Result<Handle> {
        let (writes, asked) = mpsc::channel();
        let (own, thread) = (db.clone(), thread::Builder::new().name("spool-index".to_owned()));
        let writer = Some(thread.spawn(move || {
            serve(&own, &asked);
            close(own);
        })?);
        let (db, writes, hangs) = (Some(db), Some(writes), AtomicBool::new(false));
        Ok(Handle { db, writes, writer, limit, hangs })
    }

    fn with<T>(&self, call: impl FnOnce(&sled::Db) -> sled::Result<T>) -> sled::Result<T> {
        self.db.as_ref().map_or_else(|| Err(sled::Error::Unsupported("closed".to_owned())), call)
    }

    fn write(&self, deed: Deed) -> Result<(), String> {
        let (answer, answered) = mpsc::sync_channel(1);
        let asked = self.writes.as_ref().is_some_and(|writes| writes.send((deed, answer)).is_ok());
        if !asked || self.hangs.load(Ordering::Relaxed) {
            return Err("sled: it does not answer any more".to_owned());
        }
        match answered.recv_timeout(self.limit) {
            Ok(result) => result,
            Err(mpsc::RecvTimeoutError::Disconnected) => Err("sled: its thread ended".to_owned()),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                self.hangs.store(true, Ordering::Relaxed);
                Err(format!("sled: no answer within {:?}", self.limit))
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.writes = None;
        if let Some(writer) = self.writer.take().filter(|_| !self.hangs.load(Ordering::Relaxed)) {
            // It ends after what it is at.
            let _ = writer.join();
        }
        if let Some(db) = self.db.take() {
            close(db);
        }
    }
}

fn serve(db: &sled::Db, asked: &mpsc::Receiver<Write>) {
    while let Ok((deed, answer)) = asked.recv() {
        let done = match deed {
            Deed::Apply(batch) => sane(|| db.apply_batch(batch)),
            Deed::Flush => sane(|| db.flush()).map(drop),
        };
        // Who asked may have given up.
        let _ = answer.send(done);
    }
}

fn close(db: sled::Db) {
    if let Err(panic) = guarded(|| drop(db)) {
        tracing::error!(panic, "the spool's index could not be closed in order");
    }
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
    /// Opens or makes sled's files in `dir`, with `cache` octets of memory, within `timeout`, which is also
    /// how long a write may take.
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
            let opened =
                judge(guarded(|| open_patiently(&config))).and_then(|db| match probe(&db) {
                    Ok(()) => Ok(db),
                    Err(error) => {
                        close(db);
                        Err(error)
                    }
                });
            let _ = answer.send(opened);
        };
        let thread = thread::Builder::new().name("spool-index-open".to_owned());
        thread.spawn(open).map_err(RowsError::System)?;
        let silent = |_| RowsError::Damaged(format!("sled did not open within {timeout:?}"));
        let db = opened.recv_timeout(timeout).map_err(silent)??;
        let rows = SledRows(Arc::new(Handle::new(db, timeout).map_err(RowsError::System)?));
        sync_files(dir).map_err(RowsError::System)?;
        Ok(rows)
    }
}

/// Writes something, and asks whether that reached the override.
fn probe(db: &sled::Db) -> Result<(), RowsError> {
    let before = flushes();
    judge(guarded(|| db.insert(PROBE, &before.to_le_bytes())))?;
    judge(guarded(|| db.flush()))?;
    judge(guarded(|| db.remove(PROBE)))?;
    judge(guarded(|| db.flush()))?;
    if OVERRIDDEN && flushes() == before {
        return Err(RowsError::NoOverride);
    }
    Ok(())
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
        self.0.write(Deed::Apply(batch))
    }

    fn flush(&self) -> Result<(), String> {
        self.0.write(Deed::Flush)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        sane(|| self.0.with(|db| db.get(key))).map(|value| value.map(|value| value.to_vec()))
    }

    fn range(&self, from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), String> {
        let scan = |db: &sled::Db| {
            for item in db.range(from..) {
                let (key, value) = item?;
                if !each(&key, &value) {
                    break;
                }
            }
            Ok(())
        };
        sane(|| self.0.with(scan))
    }
}

/// Another handle of this process may still be closing.
fn open_patiently(config: &sled::Config) -> sled::Result<sled::Db> {
    for _ in 0..40 {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                thread::sleep(Duration::from_millis(50));
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
        assert!(matches!(probe(&db), Err(RowsError::NoOverride)));
        let dir = tempfile::tempdir().unwrap();
        SledRows::open(dir.path(), 1024 * 1024, Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn panics_become_errors_in_words() {
        let failed = sane(|| -> sled::Result<()> { panic!("page {} is odd", 7) });
        assert_eq!(failed, Err("sled panicked: page 7 is odd".to_owned()));
    }
}
