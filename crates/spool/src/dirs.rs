//! The directories of a spool, and what is done to them before it is opened.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use waypost_mail::Timestamp;

use crate::config::OpenError;
use crate::disk::{self, Disk};
use crate::index::Index;
use crate::replay::Fold;
use crate::rows::{RowsError, RowsPlace};
use crate::segment;

/// The directories of a spool.
#[derive(Debug)]
pub(crate) struct Dirs {
    disk: Arc<dyn Disk>,
    pub(crate) log: PathBuf,
    pub(crate) index: PathBuf,
    pub(crate) bodies: PathBuf,
    pub(crate) incoming: PathBuf,
}

impl Dirs {
    pub(crate) fn make(disk: Arc<dyn Disk>, path: &Path) -> Result<Dirs, OpenError> {
        let dirs = Dirs {
            disk,
            log: path.join("log"),
            index: path.join("index"),
            bodies: path.join("bodies"),
            incoming: path.join("incoming"),
        };
        for dir in [&dirs.log, &dirs.bodies, &dirs.incoming] {
            dirs.disk.make_dir(dir).map_err(OpenError::io("making", dir))?;
        }
        dirs.disk.sync_dir(path).map_err(OpenError::io("syncing", path))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        dirs.disk.sync_dir(parent).map_err(OpenError::io("syncing", parent))?;
        Ok(dirs)
    }

    /// What was being received when the last program ended was never accepted.
    pub(crate) fn wipe_incoming(&self) -> Result<(), OpenError> {
        let wipe = || -> io::Result<()> {
            for name in self.disk.names(&self.incoming)? {
                self.disk.remove(&self.incoming.join(name))?;
            }
            Ok(())
        };
        wipe().map_err(OpenError::io("emptying", &self.incoming))
    }

    /// The seal of this spool as it was written beside the log, for a log whose heads cannot be read.
    pub(crate) fn seal(&self) -> Option<u64> {
        seal_in(&*self.disk, &self.log)
    }

    /// Writes the seal beside the log, unless it is there.
    pub(crate) fn keep_seal(&self, seal: u64) -> io::Result<()> {
        if self.seal() == Some(seal) {
            return Ok(());
        }
        let (path, fresh) = (seal_file(&self.log), self.log.with_file_name("seal.new"));
        let file = self.disk.create(&fresh, false)?;
        file.append_all(format!("{seal:016x}\n").as_bytes())?;
        file.sync_all()?;
        self.disk.rename(&fresh, &path)?;
        self.disk.sync_dir(path.parent().unwrap_or(&self.log))
    }

    /// Takes a torn end off the log; where it may have been more than that, a copy stays.
    pub(crate) fn cut(&self, fold: &Fold) -> io::Result<()> {
        if let Some(number) = fold.stillborn {
            self.disk.remove(&segment::file_of(&self.log, number))?;
            self.disk.sync_dir(&self.log)?;
        }
        let end = fold.end();
        let Some(usage) = fold.segments.get(&end.segment) else { return Ok(()) };
        let path = segment::file_of(&self.log, end.segment);
        let file = self.disk.extend(&path)?;
        let len = file.len()?;
        if len <= usage.len {
            return Ok(());
        }
        if fold.damaged > 0 {
            let aside = self.log.with_file_name("damaged");
            self.disk.make_dir(&aside)?;
            let name = format!("segment-{:010}-cut-at-{}.log", end.segment, end.offset);
            disk::copy(&*self.disk, &*file, &aside.join(name), len)?;
        }
        file.set_len(usage.len)?;
        file.sync_all()
    }
}

fn seal_file(log: &Path) -> PathBuf {
    log.with_file_name("seal")
}

/// The seal written beside a log.
pub(crate) fn seal_in(disk: &dyn Disk, log: &Path) -> Option<u64> {
    let mut text = [0; 16];
    disk.open(&seal_file(log)).ok()?.read_exact_at(&mut text, 0).ok()?;
    u64::from_str_radix(std::str::from_utf8(&text).ok()?, 16).ok()
}

/// Opens the index. When it is damaged it is set aside, and a new one is begun.
pub(crate) fn open_index(
    place: &dyn RowsPlace,
    fold: &Fold,
    now: Timestamp,
) -> Result<(Index, Option<String>), OpenError> {
    let absent = !place.exists() && !fold.is_empty();
    let why = match place.open() {
        Ok(rows) if absent => {
            tracing::error!("the spool's index is absent; it is rebuilt from the log");
            return Ok((Index::new(rows), Some("it was absent".to_owned())));
        }
        Ok(rows) => return Ok((Index::new(rows), None)),
        Err(RowsError::Damaged(why)) => why,
        Err(error) => return Err(refused(error)),
    };
    let aside = place.set_aside(now).map_err(|error| OpenError::Index(error.to_string()))?;
    tracing::error!(why, aside, "the index is damaged; it is rebuilt from the log");
    let rows = place.open().map_err(refused)?;
    Ok((Index::new(rows), Some(why)))
}

fn refused(error: RowsError) -> OpenError {
    match error {
        RowsError::NoOverride => OpenError::NoOverride,
        error => OpenError::Index(error.to_string()),
    }
}
