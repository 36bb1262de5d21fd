//! What we say to a next hop.
//!
//! A connection is led by one conversation at a time. [`Session`] goes from the greeting to a
//! ready session (EHLO, STARTTLS, AUTH), then [`Transaction`] transfers one message, as often as
//! the connection is reused, and [`Control`] says RSET in between and QUIT at the end.
//!
//! All three are driven the same way: write what `take_output` gives, `push` what arrives, ask
//! `step` what now; `phase` tells which timeout of RFC 5321 §4.5.3.2 applies meanwhile. Read while
//! you write: a next hop may answer a long pipelined group before it has read all of it
//! (RFC 2920 §3.1). A connection on which bytes arrive while no conversation leads it must not
//! be used again.

mod auth;
mod control;
mod obstacle;
mod scram;
mod session;
mod transaction;

pub use auth::{Credentials, CredentialsError};
pub use control::{Control, ControlStep};
pub use obstacle::{Obstacle, obstacle};
pub use session::{Session, SessionConfig, SessionFailure, SessionStep, StartTls};
pub use transaction::{
    Addressee, Letter, RecipientResult, Reuse, Transaction, TransactionResult, TransactionStep,
};

use crate::reply_parser::{ReplyError, ReplyParser};
use crate::{Phase, Reply};

/// The next hop does not speak SMTP as we know it. The connection must be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// What it sent is no reply.
    #[error(transparent)]
    Reply(#[from] ReplyError),
    /// A reply whose code makes no sense here, such as 250 to DATA.
    #[error("the server answered {phase} with {reply}, which makes no sense there")]
    Unexpected {
        /// What was being answered.
        phase: Phase,
        /// The answer.
        reply: Reply,
    },
    /// It answered something that was not asked: from here on replies could be taken for the
    /// answer to another command.
    #[error("the server sent something unasked during {phase}")]
    Unsolicited {
        /// What was going on.
        phase: Phase,
    },
    /// Plaintext behind the reply to STARTTLS: somebody injects replies (RFC 3207 §6).
    #[error("plaintext was injected behind the reply to STARTTLS")]
    InjectedBeforeTls,
    /// A challenge of AUTH that the mechanism does not allow.
    #[error("the server's AUTH challenge does not follow the mechanism")]
    BadChallenge,
}

/// Both directions of a conversation.
#[derive(Debug, Default)]
struct Wire {
    replies: ReplyParser,
    output: Vec<u8>,
}

impl Wire {
    fn command(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    fn reply(&mut self) -> Result<Option<Reply>, ProtocolError> {
        Ok(self.replies.pull()?)
    }

    /// True when nothing has arrived that was not read.
    fn is_quiet(&self) -> bool {
        self.replies.is_empty()
    }

    fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }
}

/// 421: the next hop closes the connection, whatever was asked (RFC 5321 §3.8).
fn closes(reply: &Reply) -> bool {
    reply.code.get() == 421
}
