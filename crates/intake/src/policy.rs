//! What policy says about a complete message, and what follows.

use std::collections::HashMap;

use tracing::warn;
use waypost_hooks::{
    Draft, Hooks, MessageAnswer, MessageEdit, MessageVerdict, MessageView, RecipientVerdict,
    Refusal, Transaction,
};
use waypost_mail::{Envelope, Facts, RecipientState, SignRequest, Timestamp, Why};
use waypost_smtp::Reply;

use crate::Intake;
use crate::content::Content;
use crate::routing::doomed;

/// The message hooks' decision, once their edits are applied.
#[derive(Debug)]
pub(crate) enum Ruling {
    /// Keep it, with these recipients in a state of their own, and signed like this.
    Proceed(Waiting, Vec<SignRequest>),
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
        hooks: &dyn Hooks,
        facts: &Facts,
        envelope: &mut Envelope,
        content: &mut Content,
    ) -> Result<Ruling, Reply> {
        let view = MessageView {
            transaction: Transaction::of(facts, envelope),
            id: envelope.id,
            text: &content.text,
        };
        let answer = hooks.on_message(&view).await.map_err(|fault| {
            warn!(message = %envelope.id, %fault, "policy failed on a message, refused for now");
            Reply::LOCAL_ERROR
        })?;
        let mut draft = Draft::of(&view);
        apply(&answer.edits, facts, envelope, &mut draft).map_err(|problem| {
            warn!(message = %envelope.id, problem, "policy's edits are illegal, refused for now");
            Reply::LOCAL_ERROR
        })?;
        let sign = std::mem::take(&mut draft.sign);
        let ruling = rule(&answer, &draft, sign)?;
        if !answer.edits.is_empty() {
            draft.put_into(envelope);
            let is_splice = |edit: &MessageEdit| matches!(edit, MessageEdit::Splice { .. });
            content.replace(draft.text, answer.edits.iter().any(is_splice));
        }
        Ok(ruling)
    }
}

/// Carries out the edits, all or none. What policy adds must be such as the peer could have named.
fn apply(
    edits: &[MessageEdit],
    facts: &Facts,
    envelope: &Envelope,
    draft: &mut Draft,
) -> Result<(), String> {
    draft.edit(edits).map_err(|error| error.to_string())?;
    if facts.may_relay {
        return Ok(());
    }
    // No verdict widens relaying: the relay check let the domains of the envelope pass.
    let known = |domain| envelope.recipients().iter().any(|r| r.mailbox.domain() == domain);
    let named = |id| envelope.recipients().iter().any(|r| r.id == id);
    let stranger = draft.recipients.iter().find(|recipient| {
        let id = recipient.id;
        !named(id) && !draft.granted.contains(&id) && !known(recipient.mailbox.domain())
    });
    match stranger {
        None => Ok(()),
        Some(stranger) => Err(format!(
            "<{}> is added, to whom this peer may not send and policy is not granted to",
            stranger.mailbox
        )),
    }
}

fn rule(answer: &MessageAnswer, draft: &Draft, sign: Vec<SignRequest>) -> Result<Ruling, Reply> {
    let held = match &answer.verdict {
        MessageVerdict::Refuse(refusal) => return Err(refusal.reply().clone()),
        MessageVerdict::Discard(reason) => return Ok(Ruling::Discard(reason.clone())),
        MessageVerdict::Quarantine(reason) => Some(reason.clone()),
        MessageVerdict::Proceed => None,
    };
    let refused = refused_recipients(&answer.recipients, draft)?;
    Ok(Ruling::Proceed(Waiting { held, refused }, sign))
}

/// One reply answers for all recipients over SMTP; see `MessageAnswer::recipients`.
fn refused_recipients(
    verdicts: &[RecipientVerdict],
    draft: &Draft,
) -> Result<HashMap<u32, Why>, Reply> {
    let mut refused = HashMap::new();
    for RecipientVerdict { id, verdict, .. } in verdicts {
        if let Refusal::Tempfail(reply) = verdict {
            return Err(reply.reply().clone());
        }
        refused.insert(*id, Why::Policy(verdict.reply().clone()));
    }
    let all_are = draft.recipients.iter().all(|r| refused.contains_key(&r.id));
    match verdicts.first() {
        Some(first) if all_are => Err(first.verdict.reply().clone()),
        _ => Ok(refused),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waypost_hooks::Replacement;
    use waypost_mail::{HeaderBlock, MessageId, Recipient, Rope, SessionId, Text};
    use waypost_smtp::ReversePath;

    use super::*;

    fn envelope() -> Envelope {
        let mailbox = "here@ours.example".parse().unwrap();
        let recipients = vec![Recipient { id: 0, mailbox, meta: Vec::new() }];
        Envelope::new(MessageId(1), ReversePath::Null, recipients).unwrap()
    }

    fn add(address: &str, may_relay: bool, granted: bool) -> Result<usize, String> {
        let facts = Facts { may_relay, ..Facts::internal(SessionId(1)) };
        let envelope = envelope();
        let header = HeaderBlock::parse(Bytes::from_static(b"A: b\r\n"));
        let text = Text { header, body: Rope::default() };
        let (id, text) = (envelope.id, &text);
        let view = MessageView { transaction: Transaction::of(&facts, &envelope), id, text };
        let mut draft = Draft::of(&view);
        let added = Replacement { mailbox: address.parse().unwrap(), granted };
        let edits = [MessageEdit::AddRecipient(added)];
        apply(&edits, &facts, &envelope, &mut draft)?;
        Ok(draft.recipients.len())
    }

    #[test]
    fn an_added_recipient_widens_relaying_for_nobody() {
        assert_eq!(add("other@ours.example", false, false), Ok(2));
        assert!(add("victim@elsewhere.example", false, false).is_err());
        assert_eq!(add("victim@elsewhere.example", false, true), Ok(2));
        assert_eq!(add("victim@elsewhere.example", true, false), Ok(2));
    }
}
