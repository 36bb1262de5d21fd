//! The small talk around transactions: RSET and QUIT.

use super::{ProtocolError, Wire};
use crate::{Phase, Reply};

/// One command without arguments and its reply.
#[derive(Debug)]
pub struct Control {
    wire: Wire,
    phase: Phase,
}

/// What a [`Control`] wants now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlStep {
    /// Write the output, then push more bytes.
    NeedInput,
    /// The command was answered. After RSET the connection may be used again only when the reply
    /// is positive; after QUIT never, whatever the reply says.
    Done(Reply),
    /// The next hop does not speak SMTP: close the connection.
    Failed(ProtocolError),
}

impl Control {
    /// Forgets a transaction that was begun and not finished (RFC 5321 §4.1.1.5).
    pub fn rset() -> Control {
        Control::new("RSET", Phase::Rset)
    }

    /// Ends the session (RFC 5321 §4.1.1.10).
    pub fn quit() -> Control {
        Control::new("QUIT", Phase::Quit)
    }

    fn new(command: &str, phase: Phase) -> Control {
        let mut wire = Wire::default();
        wire.command(command);
        Control { wire, phase }
    }

    /// Bytes arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.wire.replies.push(bytes);
    }

    /// What now. To be asked until it says [`ControlStep::Done`] or [`ControlStep::Failed`].
    pub fn step(&mut self) -> ControlStep {
        match self.wire.reply() {
            Ok(None) => ControlStep::NeedInput,
            Ok(Some(_)) if !self.wire.is_quiet() => {
                ControlStep::Failed(ProtocolError::Unsolicited { phase: self.phase })
            }
            Ok(Some(reply)) => ControlStep::Done(reply),
            Err(error) => ControlStep::Failed(error),
        }
    }

    /// What is to be written.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.wire.take_output()
    }

    /// [`Phase::Rset`] or [`Phase::Quit`].
    pub fn phase(&self) -> Phase {
        self.phase
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_command_one_reply() {
        let mut rset = Control::rset();
        assert_eq!(rset.take_output(), b"RSET\r\n");
        rset.push(b"250 2.0.0 fl");
        assert_eq!(rset.step(), ControlStep::NeedInput);
        rset.push(b"ushed\r\n");
        assert_eq!(rset.step(), ControlStep::Done(Reply::fixed(250, (2, 0, 0), "flushed")));
        assert_eq!(Control::quit().take_output(), b"QUIT\r\n");
    }

    #[test]
    fn two_replies_to_one_command_are_one_too_many() {
        let mut rset = Control::rset();
        rset.push(b"250 ok\r\n250 ok\r\n");
        let unsolicited = ProtocolError::Unsolicited { phase: Phase::Rset };
        assert_eq!(rset.step(), ControlStep::Failed(unsolicited));
    }
}
