//! Looking into a spool that no program runs, without changing anything in it.

use std::sync::Arc;

use waypost_mail::{Entry, MessageId};

use crate::config::{Config, OpenError};
use crate::content::{Stored, Unreadable};
use crate::disk::Disk;
use crate::lock::Lock;
use crate::log::Readers;
use crate::replay::{self, Fate, Fold, Trail};
use crate::{Content, SpoolError};

/// The messages of a spool as its log tells them. Shares the spool's lock: a program that
/// starts on it waits until the look is over.
#[derive(Debug)]
pub struct Inspector {
    disk: Arc<dyn Disk>,
    fold: Fold,
    readers: Readers,
    bodies: std::path::PathBuf,
    _lock: Lock,
}

impl Inspector {
    /// Looks into the spool in `config.path`; fails when a program has it, or when there is none.
    pub fn open(config: &Config) -> Result<Inspector, OpenError> {
        let log = config.path.join("log");
        if !log.is_dir() {
            let absent = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(OpenError::io("reading", log)(absent));
        }
        let lock = Lock::share(&config.path)?;
        let fold = Fold::read(&*config.disk, &log).map_err(OpenError::io("reading", &log))?;
        let bodies = config.path.join("bodies");
        let disk = config.disk.clone();
        let readers = Readers::new(disk.clone(), log);
        Ok(Inspector { disk, fold, readers, bodies, _lock: lock })
    }

    /// Octets of the log that cannot be read.
    pub fn damaged(&self) -> u64 {
        self.fold.damaged
    }

    /// Ids of all messages in order, those included that turn out to be damaged.
    pub fn ids(&self) -> Vec<MessageId> {
        let live = self.fold.messages.iter().filter(|(_, fate)| matches!(fate, Fate::Live(_)));
        let mut ids: Vec<_> = live.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// A message with all its recipients.
    pub fn load(&self, id: MessageId) -> Result<Entry, SpoolError> {
        let trail = self.trail(id)?;
        let not_now = |why| SpoolError::Damaged(id, why);
        let (base, why) =
            replay::base(&self.readers, self.seal(), id, trail.place).map_err(not_now)?;
        let why = why.unwrap_or_else(|| "its record cannot be read".to_owned());
        let mut base = base.ok_or(SpoolError::Damaged(id, why))?;
        let changes = self.fold.changes_of(id);
        replay::catch_up(&self.readers, self.seal(), &mut base, changes).map_err(not_now)?;
        Ok(base.entry)
    }

    /// A message's bytes.
    pub fn content(&self, id: MessageId) -> Result<Box<dyn Content>, SpoolError> {
        let place = self.trail(id)?.place;
        let stored = Stored::read(&self.readers, self.seal(), id, place);
        match stored.and_then(|stored| stored.into_content(&*self.disk, &self.bodies)) {
            Ok(content) => Ok(Box::new(content)),
            Err(Unreadable::Damaged(why, _)) => Err(SpoolError::Damaged(id, why)),
            Err(Unreadable::NotNow(why)) => Err(SpoolError::NotNow(id, why)),
            Err(Unreadable::Gone) => Err(SpoolError::Unknown(id)),
        }
    }

    fn trail(&self, id: MessageId) -> Result<&Trail, SpoolError> {
        match self.fold.messages.get(&id) {
            Some(Fate::Live(trail)) => Ok(trail),
            _ => Err(SpoolError::Unknown(id)),
        }
    }

    /// Octets of a last write that was cut off.
    pub(crate) fn torn(&self) -> u64 {
        self.fold.torn
    }

    /// Where the sound part of a segment ends.
    pub(crate) fn end_of(&self, number: u32) -> u64 {
        self.fold.segments.get(&number).map_or(0, |usage| usage.len)
    }

    pub(crate) fn seal(&self) -> u64 {
        self.fold.seal.unwrap_or_default()
    }
}
