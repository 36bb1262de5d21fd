//! What new mail is refused for, though nobody did anything wrong.

use waypost_smtp::Reply;

/// What there is not enough of. Mail that is here goes on; new mail is put off, and so are new
/// sessions, which would only be told the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// Less is free on the spool's file system than is to be kept free.
    Disk,
    /// The spool failed and takes nothing until the program is started anew.
    Spool,
    /// Too many messages, or too much of them, wait already.
    Queue,
    /// This program uses as much memory as it may.
    Memory,
}

impl Shortage {
    /// Its name in metrics and the log.
    pub fn name(self) -> &'static str {
        match self {
            Shortage::Disk => "disk",
            Shortage::Spool => "spool",
            Shortage::Queue => "queue",
            Shortage::Memory => "memory",
        }
    }

    /// What MAIL is answered with.
    pub fn reply(self) -> Reply {
        match self {
            Shortage::Disk => Reply::INSUFFICIENT_STORAGE,
            Shortage::Spool => Reply::LOCAL_ERROR,
            Shortage::Queue => Reply::QUEUE_FULL,
            Shortage::Memory => Reply::INSUFFICIENT_MEMORY,
        }
    }
}
