//! Finds what was written about a message. Any number may read at once, beside the one who writes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use waypost_mail::{MessageId, SessionId, Timestamp};

use crate::files;
use crate::index;
use crate::note::{About, Note, Told};
use crate::record::{HEAD, Head};

/// Notes that are shown of one message; the first and the last of more.
const MOST: usize = 2000;
/// Stages of a session that belong to the transaction, and not to all messages of the session.
const OF_TRANSACTION: [&str; 2] = ["sender", "recipients"];
/// Below these bits an id has the moment it was given out, in milliseconds; see [`waypost_mail::IdSource`].
const MOMENT_BITS: u32 = 20;

/// The files of a history, to be read.
#[derive(Debug, Clone)]
pub struct Archive {
    directory: PathBuf,
}

/// The history cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the history in {directory} cannot be read: {error}")]
pub struct ArchiveError {
    directory: PathBuf,
    error: io::Error,
}

/// What is known about a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The notes in the order in which they were told. What happened to the relay meanwhile is among them.
    pub notes: Vec<Told>,
    /// Notes in the middle that are not shown because there are too many.
    pub left_out: u64,
    /// Notes about the message that cannot be read: damaged, or written by another version.
    pub unread: u64,
}

impl Archive {
    /// The history in this directory, which need not be there.
    pub fn at(directory: impl Into<PathBuf>) -> Archive {
        Archive { directory: directory.into() }
    }

    /// All that was written about a message, and about the relay while the message was with it.
    ///
    /// # Errors
    /// When the directory or a file in it cannot be read.
    pub fn about(&self, id: MessageId) -> Result<Found, ArchiveError> {
        let error = |error| ArchiveError { directory: self.directory.clone(), error };
        let numbers = files::numbers(&self.directory).map_err(error)?;
        let mut gathered = Gathered::default();
        for number in &numbers {
            self.gather(*number, &[About::Message(id), About::Relay], &mut gathered)
                .map_err(error)?;
        }
        let session = gathered.notes.iter().find_map(|told| session(&told.note));
        if let Some(session) = session {
            for number in &numbers {
                self.gather(*number, &[About::Session(session)], &mut gathered).map_err(error)?;
            }
        }
        Ok(gathered.about(id))
    }

    fn gather(&self, number: u64, wanted: &[About], gathered: &mut Gathered) -> io::Result<()> {
        let path = files::segment(&self.directory, number);
        let file = match File::open(&path) {
            // It was too old, and went a moment ago.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let index = index::read(&files::index(&self.directory, number), file.metadata()?.len());
        match index {
            Some(index) => {
                for at in wanted.iter().flat_map(|about| index.of(*about)) {
                    gathered.read_at(&file, at as u64);
                }
            }
            None => {
                let octets = files::octets(&path)?;
                for (at, head) in files::walk(&octets) {
                    if wanted.contains(&head.about) {
                        gathered.read(&head, &octets[at..]);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Found {
    /// True when nobody wrote anything about it, or all that was written is gone.
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty() && self.unread == 0
    }

    /// The message is gone: what happened to the relay since is not its story.
    pub fn end(&mut self) {
        let own = |told: &Told| told.about != About::Relay;
        let end = self.notes.iter().rposition(own).map_or(0, |last| last + 1);
        self.notes.truncate(end);
    }
}

/// Notes as they are found.
#[derive(Debug, Default)]
struct Gathered {
    notes: Vec<Told>,
    unread: u64,
}

impl Gathered {
    /// The note that begins there, of which an index told.
    fn read_at(&mut self, file: &File, at: u64) {
        let mut record = vec![0; HEAD];
        let head = file.read_exact_at(&mut record, at).ok().and_then(|()| Head::parse(&record));
        let Some(head) = head else {
            self.unread += 1;
            return;
        };
        record.resize(head.whole(), 0);
        match file.read_exact_at(&mut record, at) {
            Ok(()) => self.read(&head, &record),
            Err(_) => self.unread += 1,
        }
    }

    fn read(&mut self, head: &Head, record: &[u8]) {
        match head.read(record) {
            Ok(told) => self.notes.push(told),
            Err(_) if head.about == About::Relay => {}
            Err(_) => self.unread += 1,
        }
    }

    /// What of it belongs to the message.
    fn about(self, id: MessageId) -> Found {
        let Gathered { mut notes, unread } = self;
        // Stable: what was told in one millisecond keeps its order, but for answers to questions, which have
        // an order of their own and come from several threads.
        notes.sort_by_key(|told| (told.at, stage(&told.note)));
        let own = |told: &&Told| told.about == About::Message(id);
        let Some(first) = notes.iter().find(own).map(|told| told.at) else {
            return Found { unread, ..Found::default() };
        };
        let born = Timestamp(id.0 >> MOMENT_BITS).min(first);
        let arrived = notes.iter().find(|told| session(&told.note).is_some()).map(|told| told.at);
        let arrived = arrived.unwrap_or(first);
        notes.retain(|told| match (&told.about, &told.note) {
            (About::Message(_), _) => true,
            (About::Session(_), Note::Decided(said)) => {
                let since = if OF_TRANSACTION.contains(&said.stage.as_str()) { born.0 } else { 0 };
                (since..=arrived.0).contains(&told.at.0)
            }
            (About::Session(_), _) => false,
            (About::Relay, _) => told.at >= born,
        });
        let left_out = notes.len().saturating_sub(MOST);
        if left_out > 0 {
            notes.drain(MOST / 2..MOST / 2 + left_out);
        }
        Found { notes, left_out: left_out as u64, unread }
    }
}

/// The session that a message came by.
fn session(note: &Note) -> Option<SessionId> {
    match note {
        Note::Accepted(accepted) => Some(accepted.session),
        Note::Refused(refused) => Some(refused.session),
        _ => None,
    }
}

/// The place of a plugin's answer among the questions about one message; of anything else after them.
fn stage(note: &Note) -> usize {
    const STAGES: [&str; 7] =
        ["connect", "helo", "auth", "sender", "recipient", "recipients", "message"];
    let asked = match note {
        Note::Decided(decided) => STAGES.iter().position(|stage| *stage == decided.stage),
        _ => None,
    };
    asked.unwrap_or(STAGES.len())
}

#[cfg(test)]
mod tests;
