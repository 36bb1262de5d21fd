//! A message while policy may still change it, and the one place where its edits are carried out.

use waypost_mail::{Attr, Envelope, HeaderBlock, Recipient, SignRequest, Text, header};
use waypost_smtp::ReversePath;

use crate::limits::are_legal;
use crate::{HeaderPlace, MessageEdit, MessageView, Replacement, Transaction};

/// Most recipients that policy may give a message.
pub const MAX_RECIPIENTS: usize = 1000;
/// Longest header field name and value that policy may write, in octets.
const MAX_NAME: usize = 76;
const MAX_VALUE: usize = 16 * 1024;
/// Most signatures of one message.
const MAX_SIGNATURES: usize = 8;

/// What policy may change of a message, as it stands after the edits so far. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The reverse path.
    pub sender: ReversePath,
    /// The recipients.
    pub recipients: Vec<Recipient>,
    /// Ids of recipients that policy added and was granted to add, whatever the peer may do.
    pub granted: Vec<u32>,
    /// Message metadata.
    pub meta: Vec<Attr>,
    /// Header and body.
    pub text: Text,
    /// Signatures that are wanted, in order.
    pub sign: Vec<SignRequest>,
    next_recipient: u32,
}

/// Why an edit cannot be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// See the text.
    #[error("a header field needs a name of 1 to 76 printable ASCII characters without colon")]
    FieldName,
    /// See the text.
    #[error("a header field's value has CR, LF or NUL in it, or is over 16 KiB")]
    FieldValue,
    /// See the text.
    #[error("there is no header field with this id")]
    NoSuchField,
    /// See the text.
    #[error("the header would be over 256 KiB")]
    HeaderTooLong,
    /// See the text.
    #[error("there is no recipient with this id")]
    NoSuchRecipient,
    /// See the text.
    #[error("no recipient is left; to drop a message, discard it")]
    NoRecipientLeft,
    /// See the text.
    #[error("the message would have more than {MAX_RECIPIENTS} recipients")]
    TooManyRecipients,
    /// See the text.
    #[error("a splice reaches beyond the end of the body")]
    SpliceOutOfRange,
    /// See the text.
    #[error("more than {MAX_SIGNATURES} signatures are asked for")]
    TooManySignatures,
    /// See the text.
    #[error("an attribute has an illegal name or length, or there are too many")]
    Attribute,
}

impl Draft {
    /// The message as it stands.
    pub fn of(view: &MessageView<'_>) -> Draft {
        let Transaction { sender, recipients, meta, .. } = view.transaction;
        Draft::new(sender.clone(), recipients.to_vec(), meta.to_vec(), view.text.clone())
    }

    /// A message of these parts.
    pub fn new(
        sender: ReversePath,
        recipients: Vec<Recipient>,
        meta: Vec<Attr>,
        text: Text,
    ) -> Draft {
        // An id is never used again: verdicts refer to it.
        let next_recipient = recipients.iter().map(|r| r.id + 1).max().unwrap_or(0);
        let (granted, sign) = (Vec::new(), Vec::new());
        Draft { sender, recipients, granted, meta, text, sign, next_recipient }
    }

    /// Carries out all of them, or none.
    ///
    /// # Errors
    /// What is wrong with the first that is illegal.
    pub fn edit(&mut self, edits: &[MessageEdit]) -> Result<(), EditError> {
        if edits.is_empty() {
            return Ok(());
        }
        let mut edited = self.clone();
        for edit in edits {
            edited.carry_out(edit)?;
        }
        if edited.recipients.is_empty() {
            return Err(EditError::NoRecipientLeft);
        }
        *self = edited;
        Ok(())
    }

    /// Puts what has become of sender, recipients and metadata into the envelope.
    pub fn put_into(&self, envelope: &mut Envelope) {
        envelope.sender = self.sender.clone();
        envelope.meta = self.meta.clone();
        // Never empty, as `edit` made sure: the envelope keeps its recipients otherwise.
        let _ = envelope.replace_recipients(self.recipients.clone());
    }

    fn carry_out(&mut self, edit: &MessageEdit) -> Result<(), EditError> {
        match edit {
            MessageEdit::AddHeader { name, value, place } => {
                let field = field(name, value)?;
                self.header(|block| match place {
                    HeaderPlace::Top => block.with_top(&field),
                    HeaderPlace::Bottom => block.with_bottom(&field),
                })
            }
            MessageEdit::ChangeHeader { id, value } => {
                let old = self.text.header.by_id(*id).ok_or(EditError::NoSuchField)?;
                let field = field(old.name, value)?;
                self.header(|block| block.with_changed(*id, &field))
            }
            MessageEdit::RemoveHeader(id) => {
                self.text.header.by_id(*id).ok_or(EditError::NoSuchField)?;
                self.header(|block| block.without_id(*id))
            }
            MessageEdit::RemoveHeaders(name) => self.header(|block| block.without(name)),
            MessageEdit::SetSender(path) => {
                self.sender = path.clone();
                Ok(())
            }
            MessageEdit::AddRecipient(recipient) => self.add_recipient(recipient),
            MessageEdit::RemoveRecipient(id) => self.remove_recipient(*id),
            MessageEdit::Splice { offset, remove, insert } => self
                .text
                .body
                .splice(*offset, *remove, insert.clone())
                .map_err(|_| EditError::SpliceOutOfRange),
            MessageEdit::Sign(_) if self.sign.len() >= MAX_SIGNATURES => {
                Err(EditError::TooManySignatures)
            }
            MessageEdit::Sign(request) => {
                self.sign.push(request.clone());
                Ok(())
            }
            MessageEdit::SetMeta(attr) => {
                if !attr.is_legal() {
                    return Err(EditError::Attribute);
                }
                attr.clone().set(&mut self.meta);
                if are_legal(&self.meta) { Ok(()) } else { Err(EditError::Attribute) }
            }
        }
    }

    fn header(&mut self, change: impl FnOnce(HeaderBlock) -> HeaderBlock) -> Result<(), EditError> {
        let block = change(self.text.header.clone());
        if block.as_bytes().len() > header::MAX_HEADER {
            return Err(EditError::HeaderTooLong);
        }
        self.text.header = block;
        Ok(())
    }

    fn add_recipient(&mut self, new: &Replacement) -> Result<(), EditError> {
        if self.recipients.len() >= MAX_RECIPIENTS {
            return Err(EditError::TooManyRecipients);
        }
        let id = self.next_recipient;
        self.next_recipient += 1;
        if new.granted {
            self.granted.push(id);
        }
        self.recipients.push(Recipient::new(id, new.mailbox.clone()));
        Ok(())
    }

    fn remove_recipient(&mut self, id: u32) -> Result<(), EditError> {
        let before = self.recipients.len();
        self.recipients.retain(|recipient| recipient.id != id);
        if self.recipients.len() < before { Ok(()) } else { Err(EditError::NoSuchRecipient) }
    }
}

/// A field for the wire, when its name and value are legal.
fn field(name: &str, value: &str) -> Result<Vec<u8>, EditError> {
    let legal = |b: u8| (33..=126).contains(&b) && b != b':';
    if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(legal) {
        return Err(EditError::FieldName);
    }
    if value.len() > MAX_VALUE || value.contains(['\r', '\n', '\0']) {
        return Err(EditError::FieldValue);
    }
    Ok(header::field(name, value))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waypost_mail::Rope;

    use super::*;

    fn draft() -> Draft {
        let recipient = |id| Recipient::new(id, format!("r{id}@example.org").parse().unwrap());
        let header = HeaderBlock::parse(Bytes::from_static(b"From: a\r\nSubject: s\r\n"));
        let body = Rope::from(Bytes::from_static(b"body\r\n"));
        let text = Text { header, body };
        Draft::new(ReversePath::Null, vec![recipient(0), recipient(1)], Vec::new(), text)
    }

    fn add(name: &str, value: &str) -> MessageEdit {
        let (name, value) = (name.to_owned(), value.to_owned());
        MessageEdit::AddHeader { name, value, place: HeaderPlace::Top }
    }

    #[test]
    fn edits_compose_in_order() {
        let mut draft = draft();
        let edits = [
            add("X-A", "1"),
            MessageEdit::ChangeHeader { id: 1, value: "changed".into() },
            MessageEdit::RemoveHeader(0),
            MessageEdit::Splice { offset: 4, remove: 0, insert: Bytes::from_static(b"!") },
            MessageEdit::AddRecipient(Replacement::checked("x@example.net".parse().unwrap())),
            MessageEdit::RemoveRecipient(0),
        ];
        draft.edit(&edits).unwrap();
        assert_eq!(draft.text.header.as_bytes(), "X-A: 1\r\nSubject: changed\r\n");
        assert_eq!(draft.text.body.read_at(0, 99).unwrap(), "body!\r\n");
        let ids: Vec<u32> = draft.recipients.iter().map(|r| r.id).collect();
        assert_eq!((ids, draft.granted.len()), (vec![1, 2], 0));
    }

    #[test]
    fn one_illegal_edit_leaves_everything_as_it_was() {
        let cases = [
            (add("X-A", "a\r\nBcc: b"), EditError::FieldValue),
            (add("X A", "a"), EditError::FieldName),
            (add("X-A", &"y".repeat(17_000)), EditError::FieldValue),
            (MessageEdit::RemoveHeader(9), EditError::NoSuchField),
            (MessageEdit::ChangeHeader { id: 9, value: String::new() }, EditError::NoSuchField),
            (MessageEdit::RemoveRecipient(7), EditError::NoSuchRecipient),
            (
                MessageEdit::Splice { offset: u64::MAX, remove: 1, insert: Bytes::new() },
                EditError::SpliceOutOfRange,
            ),
        ];
        for (edit, problem) in cases {
            let mut draft = draft();
            assert_eq!(draft.edit(&[add("X-B", "fine"), edit]), Err(problem));
            assert_eq!(draft.text.header.as_bytes(), "From: a\r\nSubject: s\r\n");
        }
        let mut draft = draft();
        let none = [MessageEdit::RemoveRecipient(0), MessageEdit::RemoveRecipient(1)];
        assert_eq!(draft.edit(&none), Err(EditError::NoRecipientLeft));
        assert_eq!(draft.recipients.len(), 2);
    }

    #[test]
    fn a_header_does_not_grow_without_end() {
        let mut draft = draft();
        let edits: Vec<_> = (0..17).map(|_| add("X", &"y".repeat(16_000))).collect();
        assert_eq!(draft.edit(&edits), Err(EditError::HeaderTooLong));
    }
}
