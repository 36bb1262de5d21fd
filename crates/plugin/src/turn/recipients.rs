//! RCPT: every recipient has a reply of its own, and goes on by itself.

use std::collections::HashSet;

use waypost_hooks::{Fault, MAX_RECIPIENTS, RecipientAnswer, Transaction};
use waypost_mail::Recipient;

use super::session::{refused, remedied};
use super::{Asked, Turn};
use crate::bindings::waypost::policy::types as wit;
use crate::decision::Word;
use crate::heard::{Ear, Spoken};
use crate::question::OnRecipients;
use crate::when::Known;
use crate::{Stage, told};

/// One recipient and what the answers so far come to.
struct Seen {
    recipient: Recipient,
    answer: RecipientAnswer,
    decided: bool,
}

impl Turn<'_> {
    pub(crate) async fn recipients(
        self,
        transaction: &Transaction<'_>,
        recipients: &[Recipient],
    ) -> Result<Vec<RecipientAnswer>, Fault> {
        let fresh = |recipient: &Recipient| Seen {
            recipient: recipient.clone(),
            answer: RecipientAnswer::default(),
            decided: false,
        };
        let mut seen: Vec<Seen> = recipients.iter().map(fresh).collect();
        for plugin in self.generation.at(Stage::Recipients) {
            let open: Vec<&Seen> = seen
                .iter()
                .filter(|one| !one.decided && plugin.config.when.covers(&one.recipient))
                .collect();
            let known: Vec<Recipient> = open.iter().map(|one| one.recipient.clone()).collect();
            let all_known = Known {
                sender: Some(transaction.sender),
                recipients: Some(&known),
                size: transaction.declared_size,
                meta: transaction.meta,
                ..Known::session(transaction.session)
            };
            if known.is_empty() || !plugin.config.when.holds(&all_known) {
                continue;
            }
            let question = OnRecipients {
                call: self.info(plugin, Stage::Recipients),
                session: told::session(transaction.session),
                envelope: told::envelope(None, transaction),
                recipients: known.iter().map(told::recipient).collect(),
            };
            let ids: HashSet<u32> = known.iter().map(|recipient| recipient.id).collect();
            let about = known.iter().map(|r| r.mailbox.to_string()).collect::<Vec<_>>().join(", ");
            let asked = self
                .ask(plugin, &about, question, None, move |ear, said| read(ear, said, ids))
                .await;
            match asked {
                Asked::Nothing => {}
                Asked::Answer(answers) => {
                    for (id, spoken) in answers {
                        if let Some(one) = seen.iter_mut().find(|one| one.recipient.id == id) {
                            one.add(spoken);
                        }
                    }
                }
                Asked::Failed(fault, remedy) => {
                    let verdict = remedied(remedy).ok_or(fault)?;
                    let failed = seen
                        .iter_mut()
                        .filter(|one| known.iter().any(|known| known.id == one.recipient.id));
                    for one in failed {
                        one.answer.verdict = verdict.clone();
                        one.decided = true;
                    }
                }
            }
        }
        Ok(seen.into_iter().map(|one| one.answer).collect())
    }
}

impl Seen {
    fn add(&mut self, spoken: Spoken<RecipientAnswer>) {
        let Spoken { answer, last } = spoken;
        for attr in &answer.meta {
            attr.clone().set(&mut self.recipient.meta);
        }
        if !answer.replace_with.is_empty() {
            // One for one: the next plugin sees the new address.
            if let [only] = answer.replace_with.as_slice() {
                self.recipient.mailbox = only.mailbox.clone();
            }
            self.answer.replace_with = answer.replace_with;
        }
        self.answer.verdict = answer.verdict;
        self.answer.meta.extend(answer.meta);
        self.answer.reasons.extend(answer.reasons);
        self.decided = last;
    }
}

type Answers = Vec<(u32, Spoken<RecipientAnswer>)>;

fn read(
    ear: Ear<'_>,
    said: Vec<wit::RecipientOutcome>,
    mut open: HashSet<u32>,
) -> Result<(Answers, Word), String> {
    let mut answers = Vec::with_capacity(said.len());
    let mut word = Word::default();
    let mut verdicts = Vec::new();
    let mut added = 0;
    for outcome in said {
        let id = outcome.id;
        if !open.remove(&id) {
            return Err(format!("it answers about the recipient {id}, twice or unasked"));
        }
        let spoken = ear.recipient(outcome)?;
        added += spoken.answer.replace_with.len();
        let (verdict, weight) = refused(&spoken.answer.verdict);
        if !verdict.is_empty() {
            verdicts.push(verdict);
        }
        word.weight = weight.or(word.weight);
        if !spoken.answer.replace_with.is_empty() {
            let to: Vec<String> =
                spoken.answer.replace_with.iter().map(|r| r.mailbox.to_string()).collect();
            word.edits.push(format!("to {}", to.join(", ")));
        }
        let meta = &spoken.answer.meta;
        word.edits.extend(meta.iter().map(|attr| format!("set {}={}", attr.name, attr.value)));
        word.reasons.extend(spoken.answer.reasons.iter().cloned());
        answers.push((id, spoken));
    }
    if added > MAX_RECIPIENTS {
        return Err(format!("it makes more than {MAX_RECIPIENTS} recipients"));
    }
    word.verdict = verdicts.join("; ");
    Ok((answers, word))
}
