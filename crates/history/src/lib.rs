//! What happened to messages, kept for operators for a while.
//!
//! Rooms on the mail path tell a [`Pen`] what happened; telling never waits. One thread writes it as
//! [`Note`]s into files of bounded size and age, and [`Archive`] finds all that was written about a message,
//! also while no relay runs. Nothing depends on what is here: notes that cannot be written are counted and
//! lost, mail goes on, and a power cut may take the last of them along.

#![forbid(unsafe_code)]

mod archive;
mod files;
mod index;
mod note;
mod pen;
mod record;
mod words;
mod writer;

pub use archive::{Archive, ArchiveError, Found};
pub use note::{
    About, Accepted, Attempt, Decided, Fared, Goes, Held, Line, Lookup, Note, Notice, Order,
    Refused, Speaker, Step, Told, Visit,
};
pub use pen::Pen;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tracing::error;
use waypost_mail::{Clock, MessageId};

use crate::pen::Desk;
use crate::writer::Writer;

/// How much is kept, where, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The directory; it is made when the first note is written.
    pub directory: PathBuf,
    /// Octets of all files together. The oldest go first, a sixteenth of it at a time at most.
    pub size: u64,
    /// What is older goes.
    pub age: Duration,
    /// Which dialogues with next hops are kept.
    pub dialogue: Dialogue,
}

/// Which dialogues with next hops are kept, word by word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialogue {
    /// Of every attempt.
    #[default]
    All,
    /// Of attempts that did not deliver to all of their recipients.
    Failures,
    /// Of none.
    None,
}

impl Config {
    /// The usual settings, in the directory `history` of a spool.
    pub fn beside(spool: &Path) -> Config {
        Config {
            directory: spool.join("history"),
            size: 512 * 1024 * 1024,
            age: Duration::from_secs(14 * 24 * 3600),
            dialogue: Dialogue::All,
        }
    }
}

/// The history of one spool, while a relay runs. One writer at a time; the spool's lock sees to that.
#[derive(Debug)]
pub struct History {
    directory: PathBuf,
    desk: Arc<Desk>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl History {
    /// Begins to write. Whatever is wrong with the directory is told in the log and counted; it is tried
    /// again until it works. `version` is that of the program.
    pub fn open(config: Config, version: &str, clock: Arc<dyn Clock>) -> History {
        let directory = config.directory.clone();
        let desk = Arc::new(Desk::new(config.dialogue, clock));
        desk.began(version);
        let mut writer = Writer::new(config, desk.clone());
        let thread = std::thread::Builder::new().name("history".to_owned());
        let writer = thread.spawn(move || writer.run()).map_err(|failure| {
            error!(%failure, "no history is kept: its thread cannot be started");
            desk.close();
        });
        History { directory, desk, writer: Mutex::new(writer.ok()) }
    }

    /// What rooms tell.
    pub fn pen(&self) -> Pen {
        Pen::at(self.desk.clone())
    }

    /// What is counted.
    pub fn register(&self, registry: &mut Registry) {
        self.desk.metrics.register(registry);
    }

    /// All that is known about a message, what was told just now included. Waits for the disk: call it where
    /// blocking is allowed.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn about(&self, id: MessageId) -> Result<Found, ArchiveError> {
        self.desk.flush();
        Archive::at(&self.directory).about(id)
    }

    /// Writes what was told and ends. What is told later is dropped.
    pub fn close(&self) {
        self.desk.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            error!("the history's thread ended by a bug");
        }
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.close();
    }
}
