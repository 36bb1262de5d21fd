//! The complete message, before it is answered for.

use bytes::Bytes;
use waypost_mail::{Attr, SignRequest, Text};
use waypost_smtp::{Mailbox, ReversePath};

use crate::{Reason, Refusal, Replacement, Transaction};

/// A complete message as it stands after the edits so far.
#[derive(Debug, Clone, Copy)]
pub struct MessageView<'a> {
    /// Envelope and session.
    pub transaction: Transaction<'a>,
    /// Its id, which becomes the queue id.
    pub id: waypost_mail::MessageId,
    /// Header and body.
    pub text: &'a Text,
}

/// Decision about the whole message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum MessageVerdict {
    /// No objection.
    #[default]
    Proceed,
    /// Say no.
    Refuse(Refusal),
    /// Say yes and drop it. The text goes to the log.
    Discard(String),
    /// Say yes and hold it. The text is the reason.
    Quarantine(String),
}

/// Decision about one recipient of a complete message. What becomes of it depends on
/// the door: see [`MessageAnswer::recipients`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientVerdict {
    /// The recipient's id.
    pub id: u32,
    /// The decision.
    pub verdict: Refusal,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Where a new header field goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderPlace {
    /// Above everything else.
    Top,
    /// Below the last field.
    Bottom,
}

/// A change to the message. The edits of one answer apply together or not at all, in order; each
/// finds the message as the one before it left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageEdit {
    /// Adds a field; the host folds it.
    AddHeader {
        /// Field name.
        name: String,
        /// Unfolded value without CR, LF or NUL.
        value: String,
        /// Where.
        place: HeaderPlace,
    },
    /// Gives the field with this id another value; the host folds it.
    ChangeHeader {
        /// The field's id in the [`waypost_mail::HeaderBlock`].
        id: u32,
        /// Unfolded value without CR, LF or NUL.
        value: String,
    },
    /// Removes the field with this id.
    RemoveHeader(u32),
    /// Removes every field of this name.
    RemoveHeaders(String),
    /// Another reverse path.
    SetSender(ReversePath),
    /// One recipient more.
    AddRecipient(Replacement),
    /// One recipient fewer.
    RemoveRecipient(u32),
    /// Replaces `remove` octets of the body at `offset`. A bare CR or LF in what comes of it is stored
    /// as CRLF: none ever leaves, and what is signed is what leaves.
    Splice {
        /// Counted from behind the blank line.
        offset: u64,
        /// How many octets go.
        remove: u64,
        /// What comes instead.
        insert: Bytes,
    },
    /// Wants a signature, made after the last edit.
    Sign(SignRequest),
    /// Message metadata, kept with the message.
    SetMeta(Attr),
}

/// Answer about a complete message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessageAnswer {
    /// The decision about all of it.
    pub verdict: MessageVerdict,
    /// Refused recipients. By LMTP and HTTP each that the peer named is answered for itself, and the
    /// message goes to the others. By SMTP one reply answers for all: if all are refused the message is
    /// refused with the first one's reply; if some are, the message is refused with 4xx when any
    /// refusal is transient, and otherwise accepted for the rest while the refused ones bounce.
    pub recipients: Vec<RecipientVerdict>,
    /// Changes.
    pub edits: Vec<MessageEdit>,
    /// Why.
    pub reasons: Vec<Reason>,
}

impl Replacement {
    /// A recipient that the peer must be allowed to send to itself.
    pub fn checked(mailbox: Mailbox) -> Replacement {
        Replacement { mailbox, granted: false }
    }
}
