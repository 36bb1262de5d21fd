//! The end of data: each plugin sees the message as those before it left it.

use waypost_hooks::{
    Draft, Fault, MessageAnswer, MessageEdit, MessageVerdict, MessageView, RecipientVerdict,
    Transaction, Verdict,
};
use waypost_smtp::ReversePath;

use super::session::{refused, remedied};
use super::{Asked, Turn};
use crate::about::About;
use crate::bindings::waypost::policy::types as wit;
use crate::decision::Word;
use crate::heard::{Ear, Spoken};
use crate::question::OnMessage;
use crate::tally::Verdict as Weight;
use crate::when::Known;
use crate::{OnError, Stage, told};

/// One plugin's answer, and the message after it.
struct Said {
    verdict: Spoken<MessageVerdict>,
    recipients: Vec<RecipientVerdict>,
    edits: Vec<MessageEdit>,
    reasons: Vec<waypost_hooks::Reason>,
    draft: Draft,
}

impl Turn<'_> {
    pub(crate) async fn message(self, view: &MessageView<'_>) -> Result<MessageAnswer, Fault> {
        let mut answer = MessageAnswer::default();
        if self.generation.is_silent(Stage::Message) {
            return Ok(answer);
        }
        let mut draft = Draft::of(view);
        for plugin in self.generation.at(Stage::Message) {
            let transaction = Transaction {
                sender: &draft.sender,
                recipients: &draft.recipients,
                meta: &draft.meta,
                ..view.transaction
            };
            let known = Known {
                session: transaction.session,
                sender: Some(&draft.sender),
                recipients: Some(&draft.recipients),
                size: Some(draft.text.len()),
                header: Some(&draft.text.header),
                meta: &draft.meta,
            };
            if !plugin.config.when.holds(&known) {
                continue;
            }
            let now = MessageView { transaction, id: view.id, text: &draft.text };
            let wanted = plugin.wanted_headers();
            let question = Box::new(OnMessage {
                call: self.info(plugin, Stage::Message),
                session: told::session(transaction.session),
                envelope: told::whole_envelope(&now),
                info: told::info(&draft.text, wanted),
            });
            let (text, before) = (draft.text.clone(), draft.clone());
            let asked = self
                .ask(plugin, About::Message(view.id), question, Some(text), move |ear, said| {
                    read(ear, said, before)
                })
                .await;
            match asked {
                Asked::Nothing => {}
                Asked::Answer(said) => {
                    draft = said.draft;
                    answer.edits.extend(said.edits);
                    answer.recipients.extend(said.recipients);
                    answer.reasons.extend(said.reasons);
                    answer.verdict = said.verdict.answer;
                    if said.verdict.last {
                        break;
                    }
                }
                Asked::Failed(fault, OnError::Quarantine) => {
                    answer.verdict = MessageVerdict::Quarantine(fault.to_string());
                    break;
                }
                Asked::Failed(fault, remedy) => {
                    let Some(Verdict::Refuse(refusal)) = remedied(remedy) else {
                        return Err(fault);
                    };
                    answer.verdict = MessageVerdict::Refuse(refusal);
                    break;
                }
            }
        }
        // Who is not a recipient any more cannot be refused.
        answer.recipients.retain(|said| draft.recipients.iter().any(|r| r.id == said.id));
        Ok(answer)
    }
}

fn read(ear: Ear<'_>, said: wit::MessageOutcome, mut draft: Draft) -> Result<(Said, Word), String> {
    let verdict = ear.message_verdict(said.verdict)?;
    let recipients = ear.message_recipients(said.recipients)?;
    for refused in &recipients {
        if !draft.recipients.iter().any(|recipient| recipient.id == refused.id) {
            return Err(format!("it refuses the recipient {}, whom nobody named", refused.id));
        }
    }
    let edits = ear.edits(said.edits, &draft.text.header)?;
    draft.edit(&edits).map_err(|error| error.to_string())?;
    let reasons = ear.reasons(said.reasons)?;
    let (words, weight) = spoken(&verdict.answer);
    let mut all_reasons = reasons.clone();
    let mut changes: Vec<String> = edits.iter().map(edit).collect();
    for refused in &recipients {
        changes.push(format!("recipient {}: {}", refused.id, refused.verdict.reply()));
        all_reasons.extend(refused.reasons.iter().cloned());
    }
    let word = Word { verdict: words, edits: changes, reasons: all_reasons, weight };
    Ok((Said { verdict, recipients, edits, reasons, draft }, word))
}

fn spoken(verdict: &MessageVerdict) -> (String, Option<Weight>) {
    match verdict {
        MessageVerdict::Proceed => (String::new(), None),
        MessageVerdict::Refuse(refusal) => refused(&Verdict::Refuse(refusal.clone())),
        MessageVerdict::Discard(text) => (format!("discard: {text}"), Some(Weight::Taken)),
        MessageVerdict::Quarantine(text) => (format!("quarantine: {text}"), Some(Weight::Taken)),
    }
}

fn edit(edit: &MessageEdit) -> String {
    match edit {
        MessageEdit::AddHeader { name, value, .. } => {
            let end = value.floor_char_boundary(60);
            format!("add {name}: {}", &value[..end])
        }
        MessageEdit::ChangeHeader { id, value } => {
            let end = value.floor_char_boundary(60);
            format!("change field {id}: {}", &value[..end])
        }
        MessageEdit::RemoveHeader(id) => format!("remove field {id}"),
        MessageEdit::RemoveHeaders(name) => format!("remove {name}"),
        MessageEdit::SetSender(ReversePath::Null) => "sender <>".to_owned(),
        MessageEdit::SetSender(path) => format!("sender {path}"),
        MessageEdit::AddRecipient(new) => format!("add recipient {}", new.mailbox),
        MessageEdit::RemoveRecipient(id) => format!("remove recipient {id}"),
        MessageEdit::Splice { offset, remove, insert } => {
            format!("body: {remove} octets at {offset} become {}", insert.len())
        }
        MessageEdit::Sign(request) => {
            format!("sign d={} s={} with key {}", request.domain, request.selector, request.key)
        }
        MessageEdit::SetMeta(attr) => format!("set {}={}", attr.name, attr.value),
    }
}
