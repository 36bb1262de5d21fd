//! What an attempt looked up and whom it spoke to, for the message's story. Kept as it is: words are made of
//! it when it is written, by another thread (see `crate::story`).

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;
use waypost_dns::Host;
use waypost_history::{Dialogue, Pen};
use waypost_mail::{NextHop, Security, Timestamp, Why};

use super::trust::Found;
use crate::tape::Tape;

/// Steps that are remembered of one attempt; the rest is counted.
const MAX_STEPS: usize = 64;
/// Hosts that are named of one lookup.
const MAX_HOSTS: usize = 20;

/// The steps of one attempt.
#[derive(Debug)]
pub(crate) struct Logbook {
    /// Nobody writes it down.
    idle: bool,
    words: bool,
    since: Instant,
    pub(crate) began: Timestamp,
    pub(crate) took: Duration,
    pub(crate) steps: Vec<Step>,
    /// The host that is spoken to now.
    visit: Option<Visited>,
}

/// One step.
#[derive(Debug)]
pub(crate) enum Step {
    Lookup(LookedUp),
    Visit(Visited),
    Waited(Waited),
}

/// A limit that kept the attempt waiting, or ended it.
#[derive(Debug)]
pub(crate) struct Waited {
    /// Its kind in one word.
    pub(crate) limit: &'static str,
    /// Whose it is.
    pub(crate) of: String,
    /// The same for a person.
    pub(crate) words: String,
    pub(crate) at: Duration,
    /// How long the attempt waited for it; not at all where it ended.
    pub(crate) took: Duration,
}

/// What was found out about a hop.
#[derive(Debug)]
pub(crate) struct LookedUp {
    pub(crate) hop: NextHop,
    pub(crate) at: Duration,
    pub(crate) took: Duration,
    pub(crate) hosts: Vec<Host>,
    /// Names were looked up in DNS and not given by the configuration.
    pub(crate) by_domain: bool,
    /// DNSSEC vouches for them.
    pub(crate) secure: bool,
    pub(crate) policy: Option<String>,
    pub(crate) error: Option<Why>,
}

/// A host that was tried, or not even that.
#[derive(Debug)]
pub(crate) struct Visited {
    pub(crate) host: String,
    pub(crate) source: Option<IpAddr>,
    pub(crate) at: Duration,
    pub(crate) took: Duration,
    /// What TLS had to prove.
    pub(crate) demand: &'static str,
    pub(crate) security: Option<Security>,
    /// Messages that the connection had carried before.
    pub(crate) reused: Option<u32>,
    /// What was done to the message for this host.
    pub(crate) conversion: Option<String>,
    pub(crate) error: Option<Why>,
    pub(crate) tape: Tape,
}

impl Logbook {
    /// One for an attempt that begins.
    pub(crate) fn begin(pen: &Pen, now: Timestamp) -> Logbook {
        Logbook {
            idle: pen.is_idle(),
            words: pen.dialogue() != Dialogue::None,
            since: Instant::now(),
            began: now,
            took: Duration::ZERO,
            steps: Vec::new(),
            visit: None,
        }
    }

    /// One for recipients that are settled without an attempt.
    pub(crate) fn blank(now: Timestamp) -> Logbook {
        Logbook { words: false, ..Logbook::begin(&Pen::idle(), now) }
    }

    /// How long it is since the attempt began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// A hop was looked up, from `at` until now.
    pub(super) fn looked_up(&mut self, hop: &NextHop, at: Duration, found: &Result<Found, Why>) {
        if self.idle {
            return;
        }
        let took = self.elapsed().saturating_sub(at);
        let mut step = LookedUp {
            hop: hop.clone(),
            at,
            took,
            hosts: Vec::new(),
            by_domain: false,
            secure: false,
            policy: None,
            error: None,
        };
        match found {
            Ok(found) => {
                step.hosts = found.hosts.iter().take(MAX_HOSTS).cloned().collect();
                step.by_domain = found.domain.is_some();
                step.secure = found.is_secure();
                step.policy = found.policy_words();
            }
            Err(why) => step.error = Some(why.clone()),
        }
        self.add(Step::Lookup(step));
    }

    /// A host is spoken to from now on.
    pub(super) fn visit(&mut self, host: &str, demand: &'static str) -> Tape {
        if self.idle {
            return Tape::blank();
        }
        let tape = Tape::new(self.since, self.words);
        self.visit = Some(Visited {
            host: host.to_owned(),
            source: None,
            at: self.elapsed(),
            took: Duration::ZERO,
            demand,
            security: None,
            reused: None,
            conversion: None,
            error: None,
            tape: tape.clone(),
        });
        tape
    }

    /// It is spoken to from this address.
    pub(super) fn from(&mut self, source: Option<IpAddr>) {
        if let Some(visit) = &mut self.visit {
            visit.source = source;
        }
    }

    /// There is a connection; `reused` says how many messages it had carried, if it is none of this attempt's.
    pub(super) fn connected(&mut self, security: Security, reused: Option<u32>) {
        if let Some(visit) = &mut self.visit {
            visit.security = Some(security);
            // Of several connections to one host the first says how it began.
            visit.reused = visit.reused.or(reused);
        }
    }

    /// The message is converted for it, in these words.
    pub(super) fn converted(&mut self, words: impl FnOnce() -> String) {
        if let Some(visit) = &mut self.visit {
            visit.conversion.get_or_insert_with(words);
        }
    }

    /// A limit keeps the attempt waiting for so long from now on; not at all where it ends.
    pub(super) fn waits(
        &mut self,
        limit: &'static str,
        of: &str,
        took: Duration,
        words: impl FnOnce() -> String,
    ) {
        if !self.idle {
            let (of, words, at) = (of.to_owned(), words(), self.elapsed());
            self.add(Step::Waited(Waited { limit, of, words, at, took }));
        }
    }

    /// The same of a wait that is over.
    pub(super) fn waited(
        &mut self,
        limit: &'static str,
        of: &str,
        took: Duration,
        words: impl FnOnce() -> String,
    ) {
        self.waits(limit, of, took, words);
        if let Some(Step::Waited(waited)) = self.steps.last_mut() {
            waited.at = waited.at.saturating_sub(took);
        }
    }

    /// It is not spoken to any more; the error says why the next one should be.
    pub(super) fn leave(&mut self, error: Option<&Why>) {
        if let Some(mut visit) = self.visit.take() {
            visit.took = self.elapsed().saturating_sub(visit.at);
            visit.error = error.cloned();
            self.add(Step::Visit(visit));
        }
    }

    /// Nobody spoke to a host, for this reason.
    pub(super) fn turned_away(&mut self, host: &str, why: &Why) {
        self.visit(host, "");
        self.leave(Some(why));
    }

    /// The attempt is over.
    pub(crate) fn end(mut self) -> Logbook {
        self.leave(None);
        self.took = self.elapsed();
        self
    }

    /// Octets that it takes in memory, about.
    pub(crate) fn weight(&self) -> usize {
        let weight = |step: &Step| match step {
            Step::Lookup(lookup) => 200 + 64 * lookup.hosts.len(),
            Step::Visit(visit) => 300 + visit.tape.weight(),
            Step::Waited(_) => 200,
        };
        self.steps.iter().map(weight).sum()
    }

    fn add(&mut self, step: Step) {
        if self.steps.len() < MAX_STEPS {
            self.steps.push(step);
        }
    }
}
