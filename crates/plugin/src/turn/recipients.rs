//! RCPT: every recipient has a reply of its own, and goes on by itself.

use std::borrow::Cow;
use std::collections::BTreeSet;

use waypost_hooks::{Fault, MAX_RECIPIENTS, RecipientAnswer, Transaction};
use waypost_mail::Recipient;

use super::session::{refused, remedied};
use super::{Asked, Turn};
use crate::about::About;
use crate::bindings::waypost::policy::types as wit;
use crate::decision::Word;
use crate::heard::{Ear, Spoken};
use crate::question::OnRecipients;
use crate::when::Known;
use crate::{Stage, told};

/// What the answers about one recipient so far come to.
#[derive(Default)]
struct Seen {
    answer: RecipientAnswer,
    decided: bool,
}

impl Turn<'_> {
    pub(crate) async fn recipients(
        self,
        transaction: &Transaction<'_>,
        recipients: &[Recipient],
    ) -> Result<Vec<RecipientAnswer>, Fault> {
        // As those before left them.
        let mut current = Cow::Borrowed(recipients);
        let mut seen: Vec<Seen> = recipients.iter().map(|_| Seen::default()).collect();
        for plugin in self.generation.at(Stage::Recipients) {
            let is_open =
                |(one, seen): &(&Recipient, &Seen)| !seen.decided && plugin.config.when.covers(one);
            let known: Cow<'_, [Recipient]> =
                match current.iter().zip(&seen).all(|both| is_open(&both)) {
                    true => Cow::Borrowed(&*current),
                    false => {
                        let open = current.iter().zip(&seen).filter(is_open);
                        open.map(|(recipient, _)| recipient.clone()).collect()
                    }
                };
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
            let question = Box::new(OnRecipients {
                call: self.info(plugin, Stage::Recipients),
                session: told::session(transaction.session),
                envelope: told::envelope(None, transaction),
                recipients: known.iter().map(told::recipient).collect(),
            });
            let about = About::Recipients(transaction.session.session, &known);
            let ids: BTreeSet<u32> = known.iter().map(|recipient| recipient.id).collect();
            let asked = self
                .ask(plugin, about, question, None, move |ear, said| read(ear, said, ids))
                .await;
            match asked {
                Asked::Nothing => {}
                Asked::Answer(answers) => {
                    drop(known);
                    for (id, spoken) in answers {
                        if let Some(place) = current.iter().position(|one| one.id == id) {
                            seen[place].add(spoken, &mut current, place);
                        }
                    }
                }
                Asked::Failed(fault, remedy) => {
                    let verdict = remedied(remedy).ok_or(fault)?;
                    for (one, seen) in current.iter().zip(&mut seen) {
                        if !seen.decided && plugin.config.when.covers(one) {
                            seen.answer.verdict = verdict.clone();
                            seen.decided = true;
                        }
                    }
                }
            }
        }
        Ok(seen.into_iter().map(|one| one.answer).collect())
    }
}

impl Seen {
    /// Adds an answer, and shows the next plugin what it comes to.
    fn add(
        &mut self,
        spoken: Spoken<RecipientAnswer>,
        current: &mut Cow<'_, [Recipient]>,
        place: usize,
    ) {
        let Spoken { answer, last } = spoken;
        for attr in &answer.meta {
            attr.clone().set(&mut current.to_mut()[place].meta);
        }
        if !answer.replace_with.is_empty() {
            // One for one: the next plugin sees the new address.
            if let [only] = answer.replace_with.as_slice() {
                current.to_mut()[place].mailbox = only.mailbox.clone();
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
    mut open: BTreeSet<u32>,
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
