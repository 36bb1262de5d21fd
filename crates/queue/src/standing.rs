//! One message that waits: what holds its recipients now, and when they go on.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use waypost_mail::{Entry, MessageId, RecipientEntry, RecipientState, Timestamp};
use waypost_spool::SpoolError;

use crate::Queue;
use crate::schedule::Job;
use crate::selector::RecipientStanding;

/// Recipients that are shown one by one.
const MAX_SHOWN: usize = 1000;

/// A message that waits, as it stands now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// When what is left of it bounces.
    pub expires: Timestamp,
    /// The ways that somebody of it waits for.
    pub ways: Vec<Way>,
    /// Its recipients, the first thousand.
    pub recipients: Vec<Recipient>,
    /// How many more there are.
    pub more: usize,
}

/// One way that recipients of a message go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// What the schedule groups by.
    pub destination: String,
    /// The class of these recipients.
    pub class: String,
    /// On whose account they go.
    pub tenant: String,
    /// Recipients that wait.
    pub waiting: usize,
    /// What they wait for; nothing when the schedule does not have them in memory, or an attempt is under way.
    pub wait: Option<Wait>,
}

/// What keeps mail from being tried now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "for")]
pub enum Wait {
    /// Its time.
    Time {
        /// When that is.
        until: Timestamp,
    },
    /// Its destination, which could not be reached or is to be left alone.
    Rest {
        /// Until when.
        until: Timestamp,
        /// Why.
        why: String,
    },
    /// Its class, which has had all the attempts of its rate, or a window that is closed.
    Class {
        /// When the class may go on, as far as is known.
        until: Timestamp,
    },
    /// The rate of its destination, or of the hosts that are behind that and others.
    Rate {
        /// When that gives leave, as far as is known.
        until: Timestamp,
    },
    /// A slot of its destination, or of the hosts that are behind that and others.
    Slot {
        /// Attempts under way there.
        in_flight: usize,
        /// So many may be.
        most: usize,
    },
    /// A turn among the attempts of all destinations.
    Turn {
        /// Attempts under way.
        in_flight: usize,
        /// So many may be.
        most: usize,
    },
    /// Attempts of its tenant, which has more than its part of them.
    Tenant,
}

/// One recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The address.
    pub address: String,
    /// Where it goes.
    pub destination: String,
    /// How it stands.
    pub standing: RecipientStanding,
    /// Attempts made.
    pub tries: u32,
    /// When it is due.
    pub due: Option<Timestamp>,
    /// Why it is still here, or what became of it.
    pub why: Option<String>,
}

impl Queue {
    /// How a message that waits stands now. Call it where blocking is allowed.
    ///
    /// # Errors
    /// As [`waypost_spool::Spool::load`]: [`SpoolError::Unknown`] when nothing of it waits.
    pub fn standing(&self, id: MessageId) -> Result<Standing, SpoolError> {
        let entry = self.show(id)?;
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        let leased = state.leases.of(id).cloned().unwrap_or_default();
        let mut standing = Standing::at_rest(&entry);
        for (shown, known) in standing.recipients.iter_mut().zip(&entry.recipients) {
            if shown.standing != RecipientStanding::Done && leased.contains(&known.recipient.id) {
                shown.standing = RecipientStanding::InFlight;
            }
        }
        let mut waiting: BTreeMap<u16, usize> = BTreeMap::new();
        for recipient in &entry.recipients {
            let waits = matches!(recipient.state, RecipientState::Waiting { .. });
            if waits && !leased.contains(&recipient.recipient.id) {
                *waiting.entry(recipient.route).or_default() += 1;
            }
        }
        for (route, waiting) in waiting {
            let job = Job { id, route };
            let lane = state.index.lane(job, "");
            let (class, tenant) = (lane.class, lane.tenant.to_owned());
            let way = entry.routes.get(usize::from(route));
            standing.ways.push(Way {
                destination: way.map(|way| way.destination()).unwrap_or_default(),
                class: self.shared.classes.name(class).to_owned(),
                tenant,
                waiting,
                wait: state.schedule.wait(job, now),
            });
        }
        Ok(standing)
    }
}

impl Standing {
    /// How a message stands that nobody has in hand, as the spool has it.
    pub fn at_rest(entry: &Entry) -> Standing {
        let recipients = entry.recipients.iter().take(MAX_SHOWN);
        Standing {
            expires: entry.expires,
            ways: Vec::new(),
            recipients: recipients.map(|recipient| Recipient::of(entry, recipient)).collect(),
            more: entry.recipients.len().saturating_sub(MAX_SHOWN),
        }
    }
}

impl Recipient {
    fn of(entry: &Entry, recipient: &RecipientEntry) -> Recipient {
        let (standing, tries, due, why) = match &recipient.state {
            RecipientState::Waiting { due, tries, last } => {
                let last = last.as_ref().map(ToString::to_string);
                (RecipientStanding::Waiting, *tries, Some(*due), last)
            }
            RecipientState::Held { tries, reason } => {
                (RecipientStanding::Held, *tries, None, Some(reason.clone()))
            }
            RecipientState::Done(outcome) => {
                let why = outcome.why().map_or(outcome.label().to_owned(), ToString::to_string);
                (RecipientStanding::Done, 0, None, Some(why))
            }
        };
        let way = entry.route_of(recipient).map(|route| route.destination());
        let destination = way.unwrap_or_default();
        let address = recipient.recipient.mailbox.to_string();
        Recipient { address, destination, standing, tries, due, why }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Time { until } => write!(f, "its time, {until}"),
            Wait::Rest { until, why } => {
                write!(f, "its destination, which rests until {until}: {why}")
            }
            Wait::Class { until } => {
                write!(f, "its class, which may go on at {until} (rate or windows)")
            }
            Wait::Rate { until } => {
                write!(f, "the rate of its destination, which gives leave at {until}")
            }
            Wait::Slot { in_flight, most } => {
                write!(f, "a slot of its destination, {in_flight} of {most} are in use")
            }
            Wait::Turn { in_flight, most } => {
                write!(
                    f,
                    "its turn among all destinations, {in_flight} of {most} attempts are under way"
                )
            }
            Wait::Tenant => write!(f, "attempts of its tenant, which has more than its part"),
        }
    }
}
