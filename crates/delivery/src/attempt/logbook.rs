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
    pub(super) fn end(mut self) -> Logbook {
        self.leave(None);
        self.took = self.elapsed();
        self
    }

    /// Octets that it takes in memory, about.
    pub(crate) fn weight(&self) -> usize {
        let weight = |step: &Step| match step {
            Step::Lookup(lookup) => 200 + 64 * lookup.hosts.len(),
            Step::Visit(visit) => 300 + visit.tape.weight(),
        };
        self.steps.iter().map(weight).sum()
    }

    fn add(&mut self, step: Step) {
        if self.steps.len() < MAX_STEPS {
            self.steps.push(step);
        }
    }
}
