//! Stands between the queue and the spool and notes what is asked of the one and what the other
//! answers.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use waypost_mail::{Entry, Ledger, MessageId, RecipientState, Timestamp};
use waypost_spool::{Arrival, Change, Content, LogSpool, Spool, SpoolError};

/// A spool with somebody who watches.
#[derive(Debug)]
pub struct Witness {
    spool: Arc<LogSpool>,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    last: u64,
    new: Vec<Note>,
}

/// What was seen.
#[derive(Debug)]
pub enum Note {
    /// A change was asked for; it has this number from now on.
    Asked(u64, Asked),
    /// The spool answered.
    Answered(u64, Result<(), SpoolError>),
}

/// What was asked.
#[derive(Debug, Clone)]
pub enum Asked {
    /// To take a message.
    Accept(Box<Letter>),
    /// To give recipients other states, with the notice that this causes.
    Settle {
        /// The message.
        id: MessageId,
        /// Recipients and their new states.
        states: Vec<(u32, RecipientState)>,
        /// Recipients of whose delay the sender is told, and how often that was.
        told: Vec<(u32, u8)>,
        /// The notice.
        notice: Option<Box<Letter>>,
    },
    /// To remove a message.
    Remove(MessageId),
}

/// A message as the spool gets it.
#[derive(Debug, Clone)]
pub struct Letter {
    /// All but its octets.
    pub entry: Entry,
    /// Its octets.
    pub content: Bytes,
}

impl Letter {
    fn of(arrival: &Arrival) -> Letter {
        let mut content = arrival.header.to_vec();
        if let waypost_mail::Body::Memory(body) = &arrival.body {
            content.extend_from_slice(body);
        }
        Letter { entry: arrival.entry.clone(), content: content.into() }
    }
}

impl Asked {
    fn of(change: &Change) -> Asked {
        match change {
            Change::Accept(arrival) => Asked::Accept(Box::new(Letter::of(arrival))),
            Change::Settle { id, states, detours, notice } => Asked::Settle {
                id: *id,
                states: states.clone(),
                told: detours.told.clone(),
                notice: notice.as_deref().map(|notice| Box::new(Letter::of(notice))),
            },
            Change::Administer { id, states } => {
                let (states, told) = (states.clone(), Vec::new());
                Asked::Settle { id: *id, states, told, notice: None }
            }
            Change::Remove { id } => Asked::Remove(*id),
        }
    }
}

impl Witness {
    /// Watches this spool.
    pub fn of(spool: Arc<LogSpool>) -> Witness {
        Witness { spool, notes: Mutex::default() }
    }

    /// What was seen since this was asked last.
    pub fn notes(&self) -> Vec<Note> {
        std::mem::take(&mut self.lock().new)
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Spool for Witness {
    async fn commit(&self, change: Change) -> Result<(), SpoolError> {
        let number = {
            let mut notes = self.lock();
            notes.last += 1;
            let number = notes.last;
            notes.new.push(Note::Asked(number, Asked::of(&change)));
            number
        };
        let answer = self.spool.commit(change).await;
        self.lock().new.push(Note::Answered(number, answer.clone()));
        answer
    }

    fn load(&self, id: MessageId) -> Result<Entry, SpoolError> {
        self.spool.load(id)
    }

    fn content(&self, id: MessageId) -> Result<Box<dyn Content>, SpoolError> {
        self.spool.content(id)
    }

    fn ids(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<MessageId>, SpoolError> {
        self.spool.ids(after, limit)
    }

    fn highest_id(&self) -> u64 {
        self.spool.highest_id()
    }

    fn incoming(&self) -> PathBuf {
        self.spool.incoming()
    }

    fn ledger(&self) -> Option<&dyn Ledger> {
        self.spool.ledger()
    }

    fn accepting(&self, now: Timestamp) -> Result<(), SpoolError> {
        self.spool.accepting(now)
    }
}
