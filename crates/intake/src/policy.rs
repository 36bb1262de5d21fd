//! What policy says about a complete message, and what follows.

use std::collections::HashMap;

use tracing::warn;
use waypost_hooks::{
    Draft, Hooks, MessageAnswer, MessageEdit, MessageVerdict, MessageView, RecipientVerdict,
    Refusal, Transaction,
};
use waypost_mail::{Envelope, Facts, Recipient, RecipientState, SignRequest, Timestamp, Why};
use waypost_smtp::{Domain, Reply};

use crate::Intake;
use crate::answers::Answers;
use crate::content::{Content, Place};
use crate::plan::doomed;
use waypost_mutant::planted;

/// The message hooks' decision, once their edits are applied.
#[derive(Debug)]
pub(crate) enum Ruling {
    /// Keep it, with these recipients in a state of their own, and signed like this.
    Proceed(Waiting, Vec<SignRequest>),
    /// Say yes and drop it.
    Discard(String),
}

/// Who judges a message.
#[derive(Clone, Copy)]
pub(crate) struct Judge<'a> {
    pub(crate) hooks: &'a dyn Hooks,
    /// Whether the peer may send to this domain itself.
    pub(crate) may_send_to: &'a (dyn Fn(&Domain) -> bool + Send + Sync),
}

/// Recipients that do not simply wait for their first attempt.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting {
    held: Option<String>,
    refused: HashMap<u32, Why>,
}

impl Waiting {
    /// Held for this reason, unless policy holds it for one of its own.
    pub(crate) fn or_held(self, reason: Option<String>) -> Waiting {
        Waiting { held: self.held.or(reason), ..self }
    }

    /// How a recipient begins.
    pub(crate) fn state_of(&self, recipient: u32, now: Timestamp) -> RecipientState {
        let fresh = RecipientState::fresh(now);
        match (&self.held, self.refused.get(&recipient)) {
            (_, Some(_)) if planted!("a refused recipient is tried") => fresh,
            (_, Some(why)) => doomed(&fresh, why.clone()),
            (Some(_), None) if planted!("quarantine is forgotten") => fresh,
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
        judge: Judge<'_>,
        facts: &Facts,
        envelope: &mut Envelope,
        content: &mut Content,
        answers: &mut Answers<'_>,
    ) -> Result<Ruling, Reply> {
        let view = MessageView {
            transaction: Transaction::of(facts, envelope),
            id: envelope.id,
            text: &content.text,
        };
        let answer = judge.hooks.on_message(&view).await.map_err(|fault| {
            warn!(message = %envelope.id, %fault, "policy failed on a message, refused for now");
            Reply::LOCAL_ERROR
        })?;
        let mut draft = Draft::of(&view);
        apply(&answer.edits, judge.may_send_to, envelope, &mut draft).map_err(|problem| {
            warn!(message = %envelope.id, problem, "policy's edits are illegal, refused for now");
            Reply::LOCAL_ERROR
        })?;
        let sign = std::mem::take(&mut draft.sign);
        let ruling = rule(&answer, &draft, sign, answers)?;
        if !answer.edits.is_empty() {
            let is_splice = |edit: &MessageEdit| matches!(edit, MessageEdit::Splice { .. });
            let spliced = answer.edits.iter().any(is_splice);
            if spliced {
                self.accepting()?;
            }
            let place = Place { memory_limit: self.config.memory_limit, directory: &self.incoming };
            content.replace(draft.text.clone(), spliced, &place).await?;
            draft.put_into(envelope);
        }
        Ok(ruling)
    }
}

/// Carries out the edits, all or none. What policy adds must be such as the peer could have named.
fn apply(
    edits: &[MessageEdit],
    may_send_to: &dyn Fn(&Domain) -> bool,
    envelope: &Envelope,
    draft: &mut Draft,
) -> Result<(), String> {
    draft.edit(edits).map_err(|error| error.to_string())?;
    // Those of the envelope passed the relay check.
    let named = |id| envelope.recipients().iter().any(|r| r.id == id);
    let stranger = draft.recipients.iter().find(|recipient| {
        let Recipient { id, mailbox, .. } = recipient;
        !named(*id) && !draft.granted.contains(id) && !may_send_to(mailbox.domain())
    });
    match stranger {
        None => Ok(()),
        Some(stranger) => Err(format!(
            "<{}> is added, to whom this peer may not send and policy is not granted to",
            stranger.mailbox
        )),
    }
}

fn rule(
    answer: &MessageAnswer,
    draft: &Draft,
    sign: Vec<SignRequest>,
    answers: &mut Answers<'_>,
) -> Result<Ruling, Reply> {
    let held = match &answer.verdict {
        MessageVerdict::Refuse(refusal) => return Err(refusal.reply().clone()),
        MessageVerdict::Discard(reason) => return Ok(Ruling::Discard(reason.clone())),
        MessageVerdict::Quarantine(reason) => Some(reason.clone()),
        MessageVerdict::Proceed => None,
    };
    let refused = refused_recipients(&answer.recipients, draft, answers)?;
    Ok(Ruling::Proceed(Waiting { held, refused }, sign))
}

/// Groups that are refused whole are answered so; what is left refused in a group that is taken bounces.
/// See `MessageAnswer::recipients`.
fn refused_recipients(
    verdicts: &[RecipientVerdict],
    draft: &Draft,
    answers: &mut Answers<'_>,
) -> Result<HashMap<u32, Why>, Reply> {
    let of = |id| verdicts.iter().find(|v| v.id == id).map(|v| v.verdict.reply().clone());
    answers.refuse(draft.recipients.iter().map(|recipient| recipient.id), of)?;
    let bounces = |verdict: &RecipientVerdict| match &verdict.verdict {
        Refusal::Reject(reply) => Some((verdict.id, Why::Policy(reply.reply().clone()))),
        // Its group is refused; one that policy added itself waits for its first attempt.
        Refusal::Tempfail(_) => None,
    };
    Ok(verdicts.iter().filter_map(bounces).collect())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waypost_hooks::Replacement;
    use waypost_mail::{HeaderBlock, MessageId, Rope, SessionId, Text};
    use waypost_smtp::ReversePath;

    use super::*;

    fn envelope() -> Envelope {
        let recipients = ["here@ours.example", "admin@granted.example"].into_iter().zip(0..);
        let recipients =
            recipients.map(|(name, id)| Recipient::new(id, name.parse().unwrap())).collect();
        Envelope::new(MessageId(1), ReversePath::Null, recipients).unwrap()
    }

    /// The peer may send to ours.example and also.example.
    fn add(address: &str, granted: bool) -> Result<usize, String> {
        let (facts, envelope) = (Facts::internal(SessionId(1)), envelope());
        let header = HeaderBlock::parse(Bytes::from_static(b"A: b\r\n"));
        let text = Text { header, body: Rope::default() };
        let (id, text) = (envelope.id, &text);
        let view = MessageView { transaction: Transaction::of(&facts, &envelope), id, text };
        let mut draft = Draft::of(&view);
        let added = Replacement { mailbox: address.parse().unwrap(), granted };
        let edits = [MessageEdit::AddRecipient(added)];
        let may_send_to = |domain: &Domain| {
            ["ours.example", "also.example"].contains(&domain.name().unwrap_or_default())
        };
        apply(&edits, &may_send_to, &envelope, &mut draft)?;
        Ok(draft.recipients.len())
    }

    #[test]
    fn an_added_recipient_widens_relaying_for_nobody() {
        assert_eq!(add("other@ours.example", false), Ok(3));
        assert_eq!(add("other@also.example", false), Ok(3));
        assert!(add("victim@elsewhere.example", false).is_err());
        assert_eq!(add("victim@elsewhere.example", true), Ok(3));
    }

    /// A domain that policy was granted at RCPT, or the postmaster's, is not the peer's to send to.
    #[test]
    fn who_is_named_already_opens_its_domain_for_nobody() {
        assert!(add("other@granted.example", false).is_err());
    }
}
