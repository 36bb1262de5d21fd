//! What policy says about a complete message, and what follows.

use std::collections::HashMap;

use tracing::warn;
use waypost_hooks::{
    HeaderPlace, MessageAnswer, MessageEdit, MessageVerdict, MessageView, RecipientVerdict,
    Refusal, Transaction,
};
use waypost_mail::{Envelope, Facts, Recipient, RecipientState, Timestamp, Why, header};
use waypost_smtp::Reply;

use crate::Intake;
use crate::content::Content;
use crate::routing::doomed;

/// Most recipients that policy may give a message.
const MAX_RECIPIENTS: usize = 1000;

/// The message hooks' decision, once their edits are applied.
#[derive(Debug)]
pub(crate) enum Ruling {
    /// Keep it, with these recipients in a state of their own.
    Proceed(Waiting),
    /// Say yes and drop it.
    Discard(String),
}

/// Recipients that do not simply wait for their first attempt.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting {
    held: Option<String>,
    refused: HashMap<u32, Why>,
}

impl Waiting {
    /// How a recipient begins.
    pub(crate) fn state_of(&self, recipient: u32, now: Timestamp) -> RecipientState {
        let fresh = RecipientState::fresh(now);
        match (&self.held, self.refused.get(&recipient)) {
            (_, Some(why)) => doomed(&fresh, why.clone()),
            (Some(reason), None) => RecipientState::Held { tries: 0, reason: reason.clone() },
            (None, None) => fresh,
        }
    }
}

impl Intake {
    /// Asks the message hooks and applies their edits, all or none.
    ///
    /// # Errors
    /// The reply, when the message is refused or policy failed.
    pub(crate) async fn ask_message(
        &self,
        facts: &Facts,
        envelope: &mut Envelope,
        content: &mut Content,
    ) -> Result<Ruling, Reply> {
        let view = MessageView {
            transaction: Transaction::of(facts, envelope),
            id: envelope.id,
            header: &content.header,
            body: &content.rest,
        };
        let answer = self.hooks.on_message(&view).await.map_err(|fault| {
            warn!(message = %envelope.id, %fault, "policy failed on a message, refused for now");
            Reply::LOCAL_ERROR
        })?;
        let ruling = rule(&answer, envelope)?;
        apply(answer.edits, facts, envelope, content).map_err(|problem| {
            warn!(message = %envelope.id, problem, "policy's edits are illegal, refused for now");
            Reply::LOCAL_ERROR
        })?;
        Ok(ruling)
    }
}

fn rule(answer: &MessageAnswer, envelope: &Envelope) -> Result<Ruling, Reply> {
    let held = match &answer.verdict {
        MessageVerdict::Refuse(refusal) => return Err(refusal.reply().clone()),
        MessageVerdict::Discard(reason) => return Ok(Ruling::Discard(reason.clone())),
        MessageVerdict::Quarantine(reason) => Some(reason.clone()),
        MessageVerdict::Proceed => None,
    };
    let refused = refused_recipients(&answer.recipients, envelope)?;
    Ok(Ruling::Proceed(Waiting { held, refused }))
}

/// One reply answers for all recipients over SMTP; see `MessageAnswer::recipients`.
fn refused_recipients(
    verdicts: &[RecipientVerdict],
    envelope: &Envelope,
) -> Result<HashMap<u32, Why>, Reply> {
    let mut refused = HashMap::new();
    for RecipientVerdict { id, verdict } in verdicts {
        if let Refusal::Tempfail(reply) = verdict {
            return Err(reply.reply().clone());
        }
        refused.insert(*id, Why::Policy(verdict.reply().clone()));
    }
    let all_are = envelope.recipients().iter().all(|r| refused.contains_key(&r.id));
    match verdicts.first() {
        Some(first) if all_are => Err(first.verdict.reply().clone()),
        _ => Ok(refused),
    }
}

/// Carries out the edits on copies and puts those in place when all were legal.
fn apply(
    edits: Vec<MessageEdit>,
    facts: &Facts,
    envelope: &mut Envelope,
    content: &mut Content,
) -> Result<(), &'static str> {
    if edits.is_empty() {
        return Ok(());
    }
    let mut new_envelope = envelope.clone();
    let mut recipients = envelope.recipients().to_vec();
    // An id is never used again: verdicts refer to it.
    let mut next_id = recipients.iter().map(|r| r.id + 1).max().unwrap_or(0);
    let mut block = content.header.clone();
    for edit in edits {
        match edit {
            MessageEdit::AddHeader { name, value, place } => {
                if !legal_name(&name) || value.contains(['\r', '\n', '\0']) {
                    return Err("a header field has an illegal name or a line end in its value");
                }
                let field = header::field(&name, &value);
                block = match place {
                    HeaderPlace::Top => block.with_top(&field),
                    HeaderPlace::Bottom => block.with_bottom(&field),
                };
            }
            MessageEdit::RemoveHeaders(name) => block = block.without(&name),
            MessageEdit::SetSender(path) => new_envelope.sender = path,
            MessageEdit::AddRecipient(mailbox) => {
                // No verdict widens relaying: the relay check let these domains pass.
                let known = |r: &Recipient| r.mailbox.domain() == mailbox.domain();
                if !facts.may_relay && !envelope.recipients().iter().any(known) {
                    return Err("a recipient is added that this peer may not send to");
                }
                recipients.push(Recipient { id: next_id, mailbox, meta: Vec::new() });
                next_id += 1;
            }
            MessageEdit::RemoveRecipient(id) => recipients.retain(|r| r.id != id),
            MessageEdit::SetMeta(attr) if attr.is_legal() => attr.set(&mut new_envelope.meta),
            MessageEdit::SetMeta(_) => return Err("an attribute has an illegal name or length"),
        }
    }
    if recipients.len() > MAX_RECIPIENTS.max(envelope.recipients().len()) {
        return Err("more than 1000 recipients");
    }
    if !new_envelope.replace_recipients(recipients) {
        return Err("no recipient is left; to drop a message, discard it");
    }
    *envelope = new_envelope;
    content.edit(|_| block);
    Ok(())
}

fn legal_name(name: &str) -> bool {
    (1..=76).contains(&name.len()) && name.bytes().all(|b| (33..=126).contains(&b) && b != b':')
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waypost_mail::{Body, MessageId, SessionId};
    use waypost_smtp::ReversePath;

    use super::*;

    async fn content() -> Content {
        Content::read(Body::Memory(Bytes::from_static(b"A: b\r\n\r\nx\r\n"))).await.unwrap()
    }

    fn envelope() -> Envelope {
        let mailbox = "here@ours.example".parse().unwrap();
        let recipients = vec![Recipient { id: 0, mailbox, meta: Vec::new() }];
        Envelope::new(MessageId(1), ReversePath::Null, recipients).unwrap()
    }

    async fn add(address: &str, may_relay: bool) -> Result<usize, &'static str> {
        let facts = Facts { may_relay, ..Facts::internal(SessionId(1)) };
        let (mut envelope, mut content) = (envelope(), content().await);
        let edits = vec![MessageEdit::AddRecipient(address.parse().unwrap())];
        apply(edits, &facts, &mut envelope, &mut content)?;
        Ok(envelope.recipients().len())
    }

    #[tokio::test]
    async fn an_added_recipient_widens_relaying_for_nobody() {
        assert_eq!(add("other@ours.example", false).await, Ok(2));
        assert!(add("victim@elsewhere.example", false).await.is_err());
        assert_eq!(add("victim@elsewhere.example", true).await, Ok(2));
    }

    #[tokio::test]
    async fn edits_apply_together_or_not_at_all() {
        let facts = Facts::internal(SessionId(1));
        let (mut envelope, mut content) = (envelope(), content().await);
        let add = |value: &str| MessageEdit::AddHeader {
            name: "X".to_owned(),
            value: value.to_owned(),
            place: HeaderPlace::Top,
        };
        let edits = vec![add("fine"), MessageEdit::RemoveHeaders("A".to_owned()), add("a\nb")];
        assert!(apply(edits, &facts, &mut envelope, &mut content).is_err());
        assert_eq!(content.header.as_bytes(), "A: b\r\n");
        let edits = vec![add("fine"), MessageEdit::RemoveHeaders("A".to_owned())];
        apply(edits, &facts, &mut envelope, &mut content).unwrap();
        assert_eq!(content.header.as_bytes(), "X: fine\r\n");
        let none = vec![MessageEdit::RemoveRecipient(0)];
        assert!(apply(none, &facts, &mut envelope, &mut content).is_err());
    }
}
