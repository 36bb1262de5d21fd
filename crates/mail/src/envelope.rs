//! Who sends a message to whom (RFC 5321 §2.3.1).

use serde::{Deserialize, Serialize};
use waypost_smtp::{BodyType, Mailbox, Notify, OriginalRecipient, ReversePath};

use crate::{Attr, MessageId, Terms};

/// A sender and at least one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The transaction's id; becomes the queue id when the message is accepted.
    pub id: MessageId,
    /// Where bounces go.
    pub sender: ReversePath,
    /// What the submitter said the body contains.
    pub body_type: BodyType,
    /// SMTPUTF8 was asked for (RFC 6531 §3.4).
    pub smtputf8: bool,
    /// What else was asked for.
    pub terms: Terms,
    /// Metadata of the message that policy set.
    pub meta: Vec<Attr>,
    recipients: Vec<Recipient>,
}

/// One envelope recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// Stable within the message; edits, routes and outcomes refer to it.
    pub id: u32,
    /// The address.
    pub mailbox: Mailbox,
    /// Which notices the sender wants (RFC 3461 §4.1).
    pub notify: Notify,
    /// The address that the sender first wrote to (RFC 3461 §4.2).
    pub original: Option<OriginalRecipient>,
    /// Metadata of this recipient that policy set.
    pub meta: Vec<Attr>,
}

impl Recipient {
    /// A recipient about whom nothing else is known.
    pub fn new(id: u32, mailbox: Mailbox) -> Recipient {
        let (notify, original) = (Notify::Unsaid, None);
        Recipient { id, mailbox, notify, original, meta: Vec::new() }
    }

    /// The same recipient at another address: its notices name the first one (RFC 3461 §5.2.7.1).
    pub fn redirected(&self, id: u32, mailbox: Mailbox) -> Recipient {
        let first = || OriginalRecipient {
            kind: if self.mailbox.is_ascii() { "rfc822" } else { "utf-8" }.to_owned(),
            address: self.mailbox.to_string(),
        };
        let original = Some(self.original.clone().unwrap_or_else(first));
        Recipient { id, mailbox, notify: self.notify, original, meta: self.meta.clone() }
    }
}

impl Envelope {
    /// An envelope, unless there is no recipient.
    pub fn new(id: MessageId, sender: ReversePath, recipients: Vec<Recipient>) -> Option<Envelope> {
        let body_type = BodyType::SevenBit;
        (!recipients.is_empty()).then_some(Envelope {
            id,
            sender,
            body_type,
            smtputf8: false,
            terms: Terms::default(),
            meta: Vec::new(),
            recipients,
        })
    }

    /// The recipients; never empty.
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// Puts other recipients in place; answers false, and changes nothing, when there are none.
    #[must_use]
    pub fn replace_recipients(&mut self, recipients: Vec<Recipient>) -> bool {
        if recipients.is_empty() {
            return false;
        }
        self.recipients = recipients;
        true
    }
}
