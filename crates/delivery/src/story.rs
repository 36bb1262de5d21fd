//! An attempt as it is told to operators: words made of what was caught and settled, by the thread that
//! writes the history.

use std::collections::HashSet;

use waypost_history::{Attempt, Dialogue, Fared, Held, Lookup, Note, Step, Visit};
use waypost_mail::{Outcome, RecipientEntry, RecipientState, Security, Timestamp, Why};
use waypost_queue::{Doubt, Settled};

use crate::attempt::{Logbook, LookedUp, Step as Caught, Visited, Waited, label};
use crate::settle::{Plan, tries};
use crate::tape::{Played, micros};

/// Recipients whose fate is told one by one.
const MAX_RESULTS: usize = 100;
/// Weight of a recipient in memory, about.
const RECIPIENT: usize = 600;

/// What is told of a ticket that is settled, or was not.
pub(crate) struct Told {
    pub(crate) log: Logbook,
    pub(crate) destination: String,
    pub(crate) recipients: Vec<RecipientEntry>,
    pub(crate) held: Vec<waypost_queue::Held>,
    pub(crate) ended: Ended,
    pub(crate) dialogue: Dialogue,
}

/// How an attempt ended.
pub(crate) enum Ended {
    /// Each recipient is settled by its plan.
    Settled(Vec<Plan>),
    /// The same, and of these recipients their submitter has heard what came of them.
    Answered(Vec<Plan>, HashSet<u32>),
    /// For this reason nobody is.
    CutOff(&'static str),
}

impl Told {
    /// Octets that it takes in memory, about.
    pub(crate) fn weight(&self) -> usize {
        self.log.weight() + RECIPIENT * self.recipients.len()
    }

    /// In words.
    pub(crate) fn note(self) -> Note {
        let delivered = |plan: &Plan| matches!(plan.outcome, Some(Outcome::Delivered { .. }));
        let words = match self.dialogue {
            Dialogue::All => true,
            Dialogue::Failures => match &self.ended {
                Ended::Settled(plans) | Ended::Answered(plans, _) => !plans.iter().all(delivered),
                Ended::CutOff(_) => true,
            },
            Dialogue::None => false,
        };
        let number = self.recipients.iter().map(tries).max().unwrap_or_default().saturating_add(1);
        let began = self.log.began;
        let steps = self.log.steps.into_iter().map(|step| match step {
            Caught::Lookup(lookup) => Step::Lookup(Box::new(looked_up(lookup))),
            Caught::Visit(visit) => Step::Visit(Box::new(visited(visit, words))),
            Caught::Waited(waited) => Step::Held(Box::new(waited_for(waited, began))),
        });
        Note::Attempt(Box::new(Attempt {
            number,
            due: self.recipients.iter().filter_map(due).min(),
            held: self.held.iter().map(held).collect(),
            began,
            took_us: micros(self.log.took),
            destination: self.destination,
            steps: steps.collect(),
            results: self.ended.results(&self.recipients),
            more: self.recipients.len().saturating_sub(MAX_RESULTS) as u32,
        }))
    }
}

impl Ended {
    /// What became of the first recipients.
    fn results(&self, recipients: &[RecipientEntry]) -> Vec<Fared> {
        let recipients = recipients.iter().take(MAX_RESULTS);
        match self {
            Ended::Settled(plans) => {
                recipients.zip(plans).map(|(recipient, plan)| fared(recipient, plan)).collect()
            }
            Ended::Answered(plans, heard) => {
                let both = recipients.zip(plans);
                both.map(|(recipient, plan)| answered(heard, recipient, plan)).collect()
            }
            Ended::CutOff(why) => recipients.map(|recipient| cut_off(recipient, why)).collect(),
        }
    }
}

/// What held the ticket back before it was its turn.
fn held(held: &waypost_queue::Held) -> Held {
    Held {
        limit: held.by.label().to_owned(),
        of: held.by.of().to_owned(),
        words: held.by.to_string(),
        since: held.since,
        took_us: micros(held.until.since(held.since)),
    }
}

/// What held the attempt itself back.
fn waited_for(waited: Waited, began: Timestamp) -> Held {
    Held {
        limit: waited.limit.to_owned(),
        of: waited.of,
        words: waited.words,
        since: began.after(waited.at),
        took_us: micros(waited.took),
    }
}

fn due(recipient: &RecipientEntry) -> Option<Timestamp> {
    match recipient.state {
        RecipientState::Waiting { due, .. } => Some(due),
        _ => None,
    }
}

fn looked_up(lookup: LookedUp) -> Lookup {
    let names = match (lookup.by_domain, lookup.secure) {
        (true, true) => "names proven by DNSSEC",
        (true, false) => "names not proven by DNSSEC",
        (false, _) => "named by the route",
    };
    Lookup {
        hop: lookup.hop.to_string(),
        at_us: micros(lookup.at),
        took_us: micros(lookup.took),
        hosts: lookup.hosts.iter().map(label).collect(),
        names: names.to_owned(),
        policy: lookup.policy,
        error: lookup.error.map(|why| why.to_string()),
    }
}

fn visited(visit: Visited, words: bool) -> Visit {
    let verdict = visit.tape.verdict();
    let tls = match (visit.security, visit.reused) {
        (Some(security), Some(_)) => {
            format!("{security}, as when the connection was opened{}", after(&verdict))
        }
        (Some(security), None) => format!("{}{}", protected(security), after(&verdict)),
        (None, _) if verdict.is_empty() => "it did not come to that".to_owned(),
        (None, _) => verdict.join("; "),
    };
    let Played { lines, phases, cut } = visit.tape.play(words);
    Visit {
        host: visit.host,
        source: visit.source.map(|source| source.to_string()),
        at_us: micros(visit.at),
        took_us: micros(visit.took),
        demand: visit.demand.to_owned(),
        security: visit.security,
        tls,
        reused: visit.reused,
        conversion: visit.conversion,
        phases,
        error: visit.error.map(|why| why.to_string()),
        dialogue: lines,
        cut,
    }
}

fn after(verdict: &[String]) -> String {
    verdict.iter().map(|part| format!("; {part}")).collect()
}

/// What was proven, for a person.
fn protected(security: Security) -> String {
    use waypost_mail::Protection::{Clear, Dane, Encrypted, MtaSts, Verified};
    let proven = match security.protection {
        Clear => "clear text",
        Encrypted if security.version.is_none() => "clear text",
        Encrypted => "encrypted to whoever answered",
        Verified => "its name is vouched for by an authority",
        MtaSts => {
            "its name is vouched for by an authority and named by the domain's policy (MTA-STS)"
        }
        Dane => "its key is named by TLSA records that DNSSEC proves (DANE)",
    };
    match security.version {
        Some(version) => format!("{proven}, TLS {}", version.label()),
        None => proven.to_owned(),
    }
}

/// A recipient, and what became of it.
fn plainly(recipient: &RecipientEntry, outcome: &str, words: String) -> Fared {
    Fared {
        recipient: recipient.recipient.mailbox.to_string(),
        outcome: outcome.to_owned(),
        class: None,
        status: None,
        means: None,
        rule: None,
        words,
        next: None,
    }
}

/// What is to be said of a recipient of an attempt that was cut off.
fn cut_off(recipient: &RecipientEntry, why: &str) -> Fared {
    let words = format!("{why}: nothing that was done is settled");
    plainly(recipient, "cut-off", words)
}

/// What became of one recipient, and whether a refusal was left to its submitter.
fn answered(heard: &HashSet<u32>, recipient: &RecipientEntry, plan: &Plan) -> Fared {
    let mut fared = fared(recipient, plan);
    let is_refused = matches!(plan.settled, Settled::Done(Outcome::Bounced(_)));
    if is_refused && heard.contains(&recipient.recipient.id) {
        "refused".clone_into(&mut fared.outcome);
        fared.words += "; its submitter was told so";
    }
    fared
}

/// What became of one recipient.
fn fared(recipient: &RecipientEntry, plan: &Plan) -> Fared {
    let fared = |outcome: &str, words: String| plainly(recipient, outcome, words);
    let why_of = |outcome: &str, why: &Why| Fared {
        class: Some(why.label().to_owned()),
        status: Some(why.status().to_string()),
        means: Some(why.diagnosis().to_string()),
        rule: why.rule().map(str::to_owned),
        ..fared(outcome, why.to_string())
    };
    let label = || plan.outcome.as_ref().map_or("deferred", Outcome::label);
    match &plan.settled {
        Settled::Done(Outcome::Delivered { hop, reply, .. }) => {
            fared("delivered", format!("{hop} said {reply}"))
        }
        Settled::Done(Outcome::Deleted) => {
            let why = plan.outcome.as_ref().and_then(Outcome::why).map(Why::to_string);
            let words = plan.dropped.clone().into_iter().chain(why).collect::<Vec<_>>().join(": ");
            fared("dropped", words)
        }
        Settled::Done(Outcome::Unknown(why)) => {
            let end = match plan.doubt {
                Doubt::Bounce => "; it is not tried again, and the sender is told",
                _ => "; it is not tried again",
            };
            let mut fared = why_of("unknown", why);
            fared.words += end;
            fared
        }
        Settled::Done(outcome) => match outcome.why() {
            Some(why) => why_of(outcome.label(), why),
            None => fared(outcome.label(), String::new()),
        },
        Settled::Again { at, why } | Settled::Rested { at, why } => {
            Fared { next: Some(*at), ..why_of(label(), why) }
        }
        Settled::Doomed(why) => match plan.outcome {
            Some(Outcome::Unknown(_)) => why_of("unknown", why),
            _ => why_of("refused", why),
        },
        Settled::Later { at } => Fared { next: Some(*at), ..fared("postponed", String::new()) },
        Settled::Rerouted { route, at, why } => {
            let mut fared = Fared { next: Some(*at), ..why_of("rerouted", why) };
            fared.words += &format!("; policy sends it by {}", route.destination());
            fared
        }
        Settled::Routed { route, at } => {
            let words = format!("goes by {} from now on", route.destination());
            Fared { next: Some(*at), ..fared("routed", words) }
        }
        Settled::Held(reason) => fared("held", reason.clone()),
    }
}

#[cfg(test)]
mod tests {
    use waypost_mail::{Protection, TlsVersion};

    use super::*;

    #[test]
    fn what_was_proven_is_said_in_words() {
        let version = Some(TlsVersion::V1_3);
        let said = |protection, version| protected(Security { protection, version });
        assert_eq!(protected(Security::CLEAR), "clear text");
        assert_eq!(said(Protection::Encrypted, version), "encrypted to whoever answered, TLS 1.3");
        assert!(said(Protection::Dane, version).ends_with("(DANE), TLS 1.3"));
    }
}
