//! Before a copy leaves, and after an attempt.

use std::collections::HashSet;

use tracing::warn;
use waypost_hooks::{
    Attempt, AttemptAnswer, Disposition, Fault, LaneAdvice, Preparation, PreparedCopy, Reason,
    RecipientResult, Remedy, SenderChange,
};
use waypost_mail::{Entry, Recipient, Text};

use super::route::{ids, unreadable, way_in_words};
use super::{Asked, Turn};
use crate::about::About;
use crate::bindings::waypost::policy::types as wit;
use crate::decision::Word;
use crate::heard::Ear;
use crate::question::{OnAttempt, OnPrepare};
use crate::tally::Verdict as Weight;
use crate::when::Known;
use crate::{Stage, told};

/// Fields and signatures that all plugins together may put on one copy.
const MOST_FIELDS: usize = 128;

impl Turn<'_> {
    /// All plugins have their say: fields and signatures add up, the last sender and the latest moment
    /// win.
    pub(crate) async fn prepare(self, copy: &PreparedCopy<'_>) -> Result<Preparation, Fault> {
        let mut together = Preparation::default();
        if self.generation.is_silent(Stage::Prepare) {
            return Ok(together);
        }
        let text = copy.text.text().await.map_err(unreadable)?;
        let recipients: Vec<Recipient> =
            copy.recipients.iter().map(|entry| entry.recipient.clone()).collect();
        for plugin in self.asked(Stage::Prepare, known(copy.entry, &recipients, &text)) {
            let question = Box::new(OnPrepare {
                call: self.info(plugin, Stage::Prepare),
                delivery: told::delivery(copy, &text, plugin.wanted_headers()),
            });
            let asked = self
                .ask(
                    plugin,
                    About::Message(copy.entry.id),
                    question,
                    Some(text.clone()),
                    |ear, said| {
                        let prepared = ear.preparation(said)?;
                        let word = prepared_word(&prepared);
                        Ok((prepared, word))
                    },
                )
                .await;
            match asked {
                Asked::Nothing => {}
                Asked::Answer(said) => add(&mut together, said),
                Asked::Failed(fault, _) => return Err(fault),
            }
        }
        let fields = together.add_headers.len();
        if fields > MOST_FIELDS {
            warn!(message = %copy.entry.id, fields, "a copy gets {MOST_FIELDS} fields of plugins, not all");
            together.add_headers.truncate(MOST_FIELDS);
        }
        Ok(together)
    }

    /// The first plugin that decides about a recipient wins; advice adds up. A fault leaves the host's
    /// own plan for those that nobody decided about.
    pub(crate) async fn attempt(self, attempt: &Attempt<'_>) -> Result<AttemptAnswer, Fault> {
        let mut answer = AttemptAnswer::default();
        if self.generation.is_silent(Stage::Attempt) {
            return Ok(answer);
        }
        let text = attempt.text.text().await.map_err(unreadable)?;
        let recipients: Vec<Recipient> =
            attempt.results.iter().map(|result| result.recipient.recipient.clone()).collect();
        let mut decided: HashSet<u32> = HashSet::new();
        let mut trouble = None;
        for plugin in self.asked(Stage::Attempt, known(attempt.entry, &recipients, &text)) {
            let open: Vec<RecipientResult<'_>> = attempt
                .results
                .iter()
                .filter(|result| !decided.contains(&result.recipient.recipient.id))
                .copied()
                .collect();
            if open.is_empty() {
                break;
            }
            let question = Box::new(OnAttempt {
                call: self.info(plugin, Stage::Attempt),
                attempt: told::attempt(attempt, &open, &text, plugin.wanted_headers()),
            });
            let asked_about: HashSet<u32> = open.iter().map(id).collect();
            let delivered: HashSet<u32> = open
                .iter()
                .filter(|result| result.disposition() == Disposition::Delivered)
                .map(id)
                .collect();
            let asked = self
                .ask(
                    plugin,
                    About::Message(attempt.entry.id),
                    question,
                    Some(text.clone()),
                    move |ear, said| read(ear, said, asked_about, &delivered),
                )
                .await;
            match asked {
                Asked::Nothing => {}
                Asked::Answer(Said { remedies, advice, reasons }) => {
                    decided.extend(remedies.iter().map(|(id, _)| *id));
                    answer.remedies.extend(remedies);
                    answer.advice.extend(advice);
                    answer.reasons.extend(reasons);
                }
                Asked::Failed(fault, _) => trouble = Some(fault),
            }
        }
        match trouble {
            // What others decided counts all the same.
            Some(fault) if answer == AttemptAnswer::default() => Err(fault),
            _ => Ok(answer),
        }
    }
}

fn id(result: &RecipientResult<'_>) -> u32 {
    result.recipient.recipient.id
}

fn known<'a>(entry: &'a Entry, recipients: &'a [Recipient], text: &'a Text) -> Known<'a> {
    Known {
        session: &entry.facts,
        sender: Some(&entry.sender),
        recipients: Some(recipients),
        size: Some(entry.size),
        header: Some(&text.header),
        meta: &entry.meta,
    }
}

fn add(together: &mut Preparation, said: Preparation) {
    together.add_headers.extend(said.add_headers);
    together.sign.extend(said.sign);
    if said.sender != SenderChange::Keep {
        together.sender = said.sender;
    }
    together.postpone_until = together.postpone_until.max(said.postpone_until);
    together.reasons.extend(said.reasons);
}

fn prepared_word(said: &Preparation) -> Word {
    let mut edits: Vec<String> =
        said.add_headers.iter().map(|(name, _)| format!("add {name}")).collect();
    edits.extend(said.sign.iter().map(|r| format!("sign d={} s={}", r.domain, r.selector)));
    if let SenderChange::To(path) = &said.sender {
        edits.push(format!("sender {path}"));
    }
    let (verdict, weight) = match said.postpone_until {
        Some(moment) => (format!("not before {moment}"), Some(Weight::Later)),
        None => (String::new(), None),
    };
    Word { verdict, edits, reasons: said.reasons.clone(), weight }
}

/// One plugin's answer.
struct Said {
    remedies: Vec<(u32, Remedy)>,
    advice: Vec<LaneAdvice>,
    reasons: Vec<Reason>,
}

fn read(
    ear: Ear<'_>,
    said: wit::AttemptOutcome,
    mut open: HashSet<u32>,
    delivered: &HashSet<u32>,
) -> Result<(Said, Word), String> {
    for id in said.groups.iter().flat_map(|group| &group.recipients) {
        if !open.remove(id) {
            return Err(format!("it decides about the recipient {id} twice or unasked"));
        }
    }
    let mut word = Word::default();
    let mut remedies = Vec::new();
    let mut reasons = Vec::new();
    for (recipients, remedy, why) in ear.remedies(said.groups)? {
        let (text, weight) = spoken(&remedy);
        word.edits.push(format!("{}: {text}", ids(&recipients)));
        word.weight = weight.or(word.weight);
        word.reasons.extend(why.iter().cloned());
        reasons.extend(why);
        let undelivered = recipients.into_iter().filter(|id| !delivered.contains(id));
        remedies.extend(undelivered.map(|id| (id, remedy.clone())));
    }
    let advice = ear.advice(said.advice)?;
    word.edits.extend(advice.iter().map(advised));
    Ok((Said { remedies, advice, reasons }, word))
}

fn spoken(remedy: &Remedy) -> (String, Option<Weight>) {
    match remedy {
        Remedy::RetryAt(at) => (format!("again at {at}"), Some(Weight::Later)),
        Remedy::Reroute(way) => (format!("another way, {}", way_in_words(way)), None),
        Remedy::Fail(reply) => (format!("give up: {}", reply.reply()), Some(Weight::Refused)),
        Remedy::Drop(text) => (format!("drop: {text}"), Some(Weight::Taken)),
        Remedy::Hold(text) => (format!("hold: {text}"), Some(Weight::Taken)),
    }
}

fn advised(advice: &LaneAdvice) -> String {
    let mut text = format!("lane {}:", advice.destination);
    if let Some(pause) = advice.pause {
        text += &format!(" rest {pause:?}");
    }
    if let Some(most) = advice.max_concurrent {
        text += &format!(" at most {most} at once for {:?}", advice.valid);
    }
    text
}
