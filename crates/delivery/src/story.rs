//! An attempt as it is told to operators: words made of what was caught and settled, by the thread that
//! writes the history.

use waypost_history::{Attempt, Dialogue, Fared, Lookup, Note, Step, Visit};
use waypost_mail::{Outcome, RecipientEntry, RecipientState, Security, Timestamp, Why};
use waypost_queue::{Doubt, Settled};

use crate::attempt::{Logbook, LookedUp, Step as Caught, Visited, label};
use crate::settle::{Plan, tries};
use crate::tape::{Played, micros};

/// Recipients whose fate is told one by one.
const MAX_RESULTS: usize = 100;
/// Weight of a recipient in memory, about.
const RECIPIENT: usize = 600;

/// What is told of a ticket that is settled.
pub(crate) struct Told {
    pub(crate) log: Logbook,
    pub(crate) destination: String,
    pub(crate) recipients: Vec<RecipientEntry>,
    pub(crate) plans: Vec<Plan>,
    pub(crate) dialogue: Dialogue,
}

impl Told {
    /// Octets that it takes in memory, about.
    pub(crate) fn weight(&self) -> usize {
        self.log.weight() + RECIPIENT * self.plans.len()
    }

    /// In words.
    pub(crate) fn note(self) -> Note {
        let delivered = |plan: &Plan| matches!(plan.outcome, Some(Outcome::Delivered { .. }));
        let words = match self.dialogue {
            Dialogue::All => true,
            Dialogue::Failures => !self.plans.iter().all(delivered),
            Dialogue::None => false,
        };
        let number = self.recipients.iter().map(tries).max().unwrap_or_default().saturating_add(1);
        let both = || self.recipients.iter().zip(&self.plans);
        let steps = self.log.steps.into_iter().map(|step| match step {
            Caught::Lookup(lookup) => Step::Lookup(Box::new(looked_up(lookup))),
            Caught::Visit(visit) => Step::Visit(Box::new(visited(visit, words))),
        });
        Note::Attempt(Box::new(Attempt {
            number,
            due: both().filter_map(|(recipient, _)| due(recipient)).min(),
            began: self.log.began,
            took_us: micros(self.log.took),
            destination: self.destination,
            steps: steps.collect(),
            results: both().take(MAX_RESULTS).map(|(r, plan)| fared(r, plan)).collect(),
            more: self.plans.len().saturating_sub(MAX_RESULTS) as u32,
        }))
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

/// What became of one recipient.
fn fared(recipient: &RecipientEntry, plan: &Plan) -> Fared {
    let fared = |outcome: &str, words: String| Fared {
        recipient: recipient.recipient.mailbox.to_string(),
        outcome: outcome.to_owned(),
        class: None,
        status: None,
        means: None,
        rule: None,
        words,
        next: None,
    };
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
        Settled::Doomed(why) => why_of("refused", why),
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
