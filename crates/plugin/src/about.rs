//! Whom a question to a plugin is about.

use std::fmt;

use waypost_history as history;
use waypost_mail::{MessageId, Recipient, SessionId};

/// Whom a question is about. Its text form is what logs call it.
#[derive(Clone, Copy)]
pub(crate) enum About<'a> {
    /// A session.
    Session(SessionId),
    /// Some recipients, named in a session.
    Recipients(SessionId, &'a [Recipient]),
    /// A message.
    Message(MessageId),
    /// Somebody of whom a history is kept, by the name that logs use.
    Named(Option<history::About>, &'a str),
}

impl About<'_> {
    /// In whose story it belongs.
    pub(crate) fn whose(self) -> Option<history::About> {
        match self {
            About::Session(id) | About::Recipients(id, _) => Some(history::About::Session(id)),
            About::Message(id) => Some(history::About::Message(id)),
            About::Named(whose, _) => whose,
        }
    }

    /// Whom in particular, where a question is about some of several.
    pub(crate) fn some(self) -> String {
        match self {
            About::Recipients(..) => self.to_string(),
            _ => String::new(),
        }
    }
}

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            About::Session(id) => id.fmt(f),
            About::Message(id) => id.fmt(f),
            About::Named(_, name) => f.write_str(name),
            About::Recipients(_, recipients) => {
                for (index, recipient) in recipients.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    write!(f, "{comma}{}", recipient.mailbox)?;
                }
                Ok(())
            }
        }
    }
}
