//! Room on the file system: asked for before new mail is taken, and a reserve for settling.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::fcntl::{FallocateFlags, fallocate};
use waypost_mail::Timestamp;

use crate::disk::Disk;

/// How long an answer of the system is believed, in milliseconds.
const FRESH: u64 = 1000;
/// Below this, or half of what is to be kept free, the reserve is given up even before a write has
/// failed, because sled cannot be used any more once it has met a full disk.
const TIGHT: u64 = 8 * 1024 * 1024;

/// Free space, and the reserve.
#[derive(Debug)]
pub(crate) struct Space {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    keep_free: u64,
    reserve: u64,
    free: AtomicU64,
    asked: AtomicU64,
    reserved: AtomicBool,
}

impl Space {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, keep_free: u64, reserve: u64) -> Space {
        let reserved = AtomicBool::new(reserve_file(&dir).exists());
        let (free, asked) = (AtomicU64::new(0), AtomicU64::new(0));
        Space { disk, dir, keep_free, reserve, free, asked, reserved }
    }

    /// True when there is room for new mail.
    pub(crate) fn suffices(&self, now: Timestamp) -> bool {
        if now.0.abs_diff(self.asked.load(Ordering::Relaxed)) >= FRESH {
            self.ask();
            self.asked.store(now.0, Ordering::Relaxed);
        }
        self.free() >= self.keep_free
    }

    /// Octets free as last known, less what was written since.
    pub(crate) fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// True when so many octets can be written for tidiness alone and there is still room for
    /// settling.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.free() > self.tight().saturating_mul(2).saturating_add(bytes)
    }

    /// True when it may soon be the reserve that is written to: nothing should wait for that in memory then.
    pub(crate) fn is_scarce(&self) -> bool {
        self.free() < self.keep_free.saturating_mul(2)
    }

    /// `bytes` were written; twice as many may be gone, as sled writes too.
    pub(crate) fn spend(&self, bytes: u64) {
        let less = |free: u64| Some(free.saturating_sub(bytes.saturating_mul(2)));
        let _ = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Asks the system. An answer that does not come means that there is no room.
    pub(crate) fn ask(&self) -> u64 {
        let free = self.disk.free(&self.dir).unwrap_or(0);
        self.free.store(free, Ordering::Relaxed);
        free
    }

    /// Makes the reserve when there is ample room for it, and gives it up when there is hardly
    /// any left.
    pub(crate) fn balance(&self) {
        if self.reserved.load(Ordering::Relaxed) {
            if self.free() < self.tight() && self.ask() < self.tight() {
                self.give_up();
            }
        } else if self.reserve > 0 && self.free() > self.keep_free.saturating_add(2 * self.reserve)
        {
            match self.make() {
                Ok(()) => self.reserved.store(true, Ordering::Relaxed),
                Err(error) => tracing::warn!(%error, "the spool's reserve file cannot be made"),
            }
        }
    }

    /// Just before sled writes, which must meet no full disk: what was free a moment ago, others may have taken since.
    pub(crate) fn guard(&self) {
        if self.reserved.load(Ordering::Relaxed) && self.ask() < self.tight() {
            self.give_up();
        }
    }

    fn tight(&self) -> u64 {
        TIGHT.min(self.keep_free / 2)
    }

    /// Gives the reserve to whoever writes next; answers false when there was none.
    pub(crate) fn give_up(&self) -> bool {
        let had = self.reserved.swap(false, Ordering::Relaxed);
        let given = had && fs::remove_file(reserve_file(&self.dir)).is_ok();
        if given {
            tracing::error!(
                spool = %self.dir.display(),
                "the disk is full: the reserve is given up so that mail in the spool can be \
                 settled; free some space"
            );
            self.ask();
        }
        given
    }

    fn make(&self) -> io::Result<()> {
        let path = reserve_file(&self.dir);
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let len = i64::try_from(self.reserve).unwrap_or(i64::MAX);
        let made = fallocate(&file, FallocateFlags::empty(), 0, len);
        if made.is_err() {
            // A file that reserves nothing would only deceive.
            let _ = fs::remove_file(&path);
        }
        self.ask();
        Ok(made?)
    }
}

fn reserve_file(dir: &std::path::Path) -> PathBuf {
    dir.join("reserve")
}
