//! How the command ends, as `sysexits.h` numbers it.

use std::process::ExitCode;

use waypost_smtp::{Enhanced, Reply, Severity};

/// The status of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// EX_OK: the relay has the message.
    Ok = 0,
    /// EX_USAGE: the arguments are wrong.
    Usage = 64,
    /// EX_DATAERR: the message is wrong.
    DataError = 65,
    /// EX_NOUSER: a recipient is refused.
    NoUser = 67,
    /// EX_UNAVAILABLE: refused for another reason.
    Unavailable = 69,
    /// EX_IOERR: the message cannot be read.
    IoError = 74,
    /// EX_TEMPFAIL: try again later; the relay is not running, or has no room.
    TempFail = 75,
    /// EX_PROTOCOL: the relay was not understood.
    Protocol = 76,
    /// EX_NOPERM: this user may not.
    NoPermission = 77,
    /// EX_CONFIG: the configuration is wrong.
    Config = 78,
}

impl Exit {
    /// What a refusal means.
    pub(super) fn of(reply: &Reply) -> Exit {
        match (reply.severity(), reply.enhanced) {
            (Severity::Positive, _) => Exit::Ok,
            (Severity::Transient, _) => Exit::TempFail,
            (_, Some(Enhanced(_, 1, _))) => Exit::NoUser,
            (_, Some(Enhanced(_, 7, _))) => Exit::NoPermission,
            (_, Some(Enhanced(_, 6, _) | Enhanced(_, 3, 4))) => Exit::DataError,
            _ => Exit::Unavailable,
        }
    }

    /// The first trouble counts.
    pub(super) fn or(self, later: Exit) -> Exit {
        if self == Exit::Ok { later } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why there is no message in the relay.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) words: String,
}

impl Failure {
    pub(super) fn new(exit: Exit, words: impl Into<String>) -> Failure {
        Failure { exit, words: words.into() }
    }
}
