//! Two lifetimes: what is known of the peer, and the message it is about to send.

use waypost_mutant::planted;

use super::{LongLines, Rules};
use crate::Reply;
use crate::data::{Decoder, Folder};

/// What a session has agreed on and how often it erred. It lives as long as the channel.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// HELO or EHLO was taken.
    pub(super) greeted: bool,
    /// It was EHLO.
    pub(super) esmtp: bool,
    /// AUTH succeeded.
    pub(super) authenticated: bool,
    /// Policy refused the connection: only QUIT is left.
    pub(super) refused: bool,
    /// Messages that were taken.
    pub(super) messages: u32,
    /// Recipients that were taken, in all transactions.
    pub(super) recipients: usize,
    errors: u32,
    idle: u32,
}

impl Session {
    /// After the TLS handshake everything is forgotten (RFC 3207 §4.2) but misbehaviour
    /// and what was taken already.
    pub(super) fn forget(&mut self) {
        let Session { errors, idle, messages, recipients, .. } = *self;
        *self = Session { errors, idle, messages, recipients, ..Session::default() };
    }

    /// Notes a reply 5xx.
    pub(super) fn err(&mut self) {
        self.errors = self.errors.saturating_add(1);
    }

    /// Notes a command that brings no mail forward.
    pub(super) fn idle(&mut self) {
        self.idle = self.idle.saturating_add(1);
    }

    /// A message was taken: the peer is of use, its slips are forgiven.
    pub(super) fn forgive(&mut self) {
        self.messages = self.messages.saturating_add(1);
        (self.errors, self.idle) = (0, 0);
    }

    /// The farewell for a peer that went over a limit.
    pub(super) fn over_limit(&self, rules: &Rules) -> Option<Reply> {
        if self.errors > rules.max_errors + u32::from(planted!("a slip too many")) {
            return Some(Reply::TOO_MANY_ERRORS);
        }
        (self.idle > rules.max_commands).then_some(Reply::TOO_MANY_COMMANDS)
    }

    /// How many commands may fail before a limit is certainly not passed unnoticed: the most
    /// recipients that one question has.
    pub(super) fn patience(&self, rules: &Rules) -> usize {
        let errors = rules.max_errors.saturating_sub(self.errors);
        let idle = rules.max_commands.saturating_sub(self.idle);
        (errors.min(idle) as usize).saturating_add(1)
    }
}

/// From MAIL to the end of data. RSET makes an end of it.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// MAIL said SMTPUTF8.
    pub(super) smtputf8: bool,
    /// MAIL said BODY=BINARYMIME.
    pub(super) binary: bool,
    /// Recipients that were taken.
    pub(super) recipients: usize,
    /// Recipients over the limit.
    pub(super) excess: usize,
    /// The body, once policy let it come.
    pub(super) body: Option<Body>,
}

/// A body on its way in.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) decoder: Decoder,
    /// Any octets may come, not only lines.
    pub(super) binary: bool,
    /// At work where long lines are to be broken.
    pub(super) folder: Folder,
    /// The shell knows what becomes of the message: it was told to throw it away, and the rest is
    /// swallowed, or to commit it.
    pub(super) settled: bool,
}

impl Body {
    /// Why this message cannot be taken, the same for every way of cutting it.
    pub(super) fn fault(&self, rules: &Rules) -> Option<Reply> {
        let lines = self.decoder.lines();
        if lines.size() > rules.max_size {
            return Some(Reply::MESSAGE_TOO_BIG);
        }
        if self.binary {
            return None;
        }
        if lines.has_bare_line_ending() {
            return Some(Reply::BARE_LINE_ENDING);
        }
        if lines.has_nul() {
            return Some(Reply::NUL_IN_MESSAGE);
        }
        let refuses = rules.strict.long_lines == LongLines::Refuse;
        (refuses && lines.has_long_line()).then_some(Reply::TEXT_LINE_TOO_LONG)
    }
}
