//! What an operator can choose, and what opening can answer.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::disk::{Disk, RealDisk};
use crate::fault::Faults;

/// Where and how a spool keeps mail.
#[derive(Debug, Clone)]
pub struct Config {
    /// The spool's directory, made when it is absent. All of it is on one file system.
    pub path: PathBuf,
    /// Octets after which the log goes on in another file; 4 MiB to 1 GiB in practice.
    pub segment_size: u64,
    /// Octets of memory sled may use as cache.
    pub cache: u64,
    /// New mail is refused while less than this many octets are free on the file system.
    pub keep_free: u64,
    /// Octets kept in a file that is given up when the disk is full, so that what is in the spool
    /// can still be settled.
    pub reserve: u64,
    /// How long sled may take to open before its files are set aside and made anew, and to write
    /// before it is taken to hang, which is a failure of storage.
    pub open_timeout: Duration,
    /// Where files are; another one than the machine's is for tests and simulations.
    pub disk: Arc<dyn Disk>,
    /// For tests: failures at chosen steps.
    pub faults: Faults,
}

impl Config {
    /// A spool in `path` with everything else as it is for most.
    pub fn new(path: impl Into<PathBuf>) -> Config {
        Config {
            path: path.into(),
            segment_size: 64 * MIB,
            cache: 64 * MIB,
            keep_free: 256 * MIB,
            reserve: 32 * MIB,
            open_timeout: Duration::from_secs(120),
            disk: Arc::new(RealDisk),
            faults: Faults::default(),
        }
    }
}

const MIB: u64 = 1024 * 1024;

/// Why a spool could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the spool {path} is in use by process {pid}; only one program can have it at a time")]
    Locked {
        /// The spool.
        path: PathBuf,
        /// What the other process wrote into the lock file, a process id.
        pid: String,
    },
    /// The system refused something.
    #[error("the spool cannot be opened: {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// sled failed in a way that making it anew does not cure.
    #[error("the spool's index cannot be opened: {0}")]
    Index(String),
    /// The program was linked so that sled's flush does not reach the disk.
    #[error(
        "this program was linked without the spool's sync_file_range: acknowledged mail would be \
         lost when power fails, so the spool is not opened; use an unmodified build"
    )]
    NoOverride,
}

impl OpenError {
    pub(crate) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> OpenError {
        move |source| OpenError::Io { what, path: path.into(), source }
    }
}

/// What was found and done when a spool was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages kept, all told.
    pub messages: u64,
    /// Messages that the log had and the index did not, or not in their latest state.
    pub requeued: u64,
    /// Messages the index had although the log says that they are gone.
    pub removed: u64,
    /// Messages held because their record, or the record of what became of them, is damaged.
    pub quarantined: u64,
    /// Facts of the ledger kept.
    pub facts: u64,
    /// Octets of the log that could not be read, not counting a torn end.
    pub damaged: u64,
    /// Octets of a last write that a crash cut off.
    pub torn: u64,
    /// The index was absent or damaged and was made anew from the log; why.
    pub rebuilt: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// Tells the operator what was found.
    pub(crate) fn log(&self, path: &Path) {
        tracing::info!(
            path = %path.display(),
            messages = self.messages,
            requeued = self.requeued,
            removed = self.removed,
            quarantined = self.quarantined,
            torn_octets = self.torn,
            damaged_octets = self.damaged,
            rebuilt = self.rebuilt.is_some(),
            ms = self.took.as_millis() as u64,
            "the spool is open"
        );
        if self.quarantined > 0 {
            tracing::error!(
                messages = self.quarantined,
                "messages whose records are damaged are held: see `waypost queue list state:held`"
            );
        }
    }
}
