//! What memory knows of what waits, and how it changes while the lock is held.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use waypost_mail::{Entry, MessageId, RecipientEntry, RecipientState, Timestamp};
use waypost_mutant::planted;
use waypost_spool::SpoolError;

use crate::cache::Cache;
use crate::classes::Classes;
use crate::index::{Index, SeenRecipient, is_leased};
use crate::leases::Leases;
use crate::schedule::{Job, Limits, Schedule};
use crate::selector::RecipientStanding;
use crate::through::Passing;
use crate::timekeeper::Timekeeper;
use crate::{Config, SiteLimits, delay};

/// Messages entered again while the lock is held once.
const REFILL: usize = 128;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) classes: Arc<Classes>,
    pub(crate) time: Timekeeper,
    pub(crate) schedule: Schedule,
    pub(crate) leases: Leases,
    pub(crate) cache: Cache,
    pub(crate) index: Index,
    pub(crate) counts: Counts,
    /// Messages on their way into the spool: nobody may lease them before they are scheduled.
    pub(crate) arriving: HashSet<MessageId>,
    /// Messages that are tried before they are durable.
    pub(crate) passing: HashMap<MessageId, Passing>,
    pub(crate) damaged: HashSet<MessageId>,
    pub(crate) closed: bool,
    pub(crate) failed: bool,
}

/// Recipients by how they stand.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) waiting: i64,
    pub(crate) held: i64,
    pub(crate) leased: i64,
}

/// What a turn is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) now: Timestamp,
    /// The message's time is over.
    pub(crate) over: bool,
    /// It came only so that senders are told: nobody is tried before this moment.
    pub(crate) not_before: Option<Timestamp>,
}

/// Recipients to lease now, and when others of the same job are due.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) recipients: Vec<RecipientEntry>,
    pub(crate) rest: Option<Timestamp>,
}

impl State {
    pub(crate) fn new(config: &Config) -> State {
        let limits = Limits {
            site: SiteLimits {
                at_once: config.per_destination,
                first: config.first_per_destination,
                rate: config.rate_per_destination,
            },
            in_flight: config.in_flight.max(1),
            jobs: config.scheduled,
            resting: config.resting,
        };
        let classes = Arc::new(Classes::new(config));
        State {
            classes: classes.clone(),
            time: Timekeeper::default(),
            schedule: Schedule::new(limits, classes.clone()),
            leases: Leases::default(),
            cache: Cache::new(config.ready_cache),
            index: Index::new(classes),
            counts: Counts::default(),
            arriving: HashSet::new(),
            passing: HashMap::new(),
            damaged: HashSet::new(),
            closed: false,
            failed: false,
        }
    }

    /// Enters a message that was not known before. `moment` says when a recipient is due that has
    /// failed before and was due earlier, by its destination.
    pub(crate) fn enter(
        &mut self,
        entry: &Entry,
        now: Timestamp,
        mut moment: impl FnMut(&str, Timestamp) -> Timestamp,
    ) {
        self.index.insert(entry);
        let mut jobs: BTreeMap<u16, Fresh<'_>> = BTreeMap::new();
        for recipient in &entry.recipients {
            match recipient.state {
                RecipientState::Waiting { due, tries, .. } => {
                    let job = jobs.entry(recipient.route).or_insert(Fresh::of(recipient, due));
                    job.due = job.due.min(due);
                    job.waiting += 1;
                    job.failed |= tries > 0;
                }
                RecipientState::Held { .. } => self.counts.held += 1,
                RecipientState::Done(_) => {}
            }
        }
        for (route, Fresh { due, waiting, failed, recipient }) in jobs {
            let Some(way) = entry.route_of(recipient) else { continue };
            let (job, destination) = (Job { id: entry.id, route }, way.destination());
            self.counts.waiting += waiting;
            self.schedule.count(&destination, waiting);
            let due = if failed && due < now { moment(&destination, due) } else { due };
            let turn_by = self.turn_by(entry, route, now);
            self.plan(job, &destination, due, turn_by, now);
        }
    }

    /// Enters a job, or moves it forward.
    pub(crate) fn plan(
        &mut self,
        job: Job,
        destination: &str,
        due: Timestamp,
        expires: Timestamp,
        now: Timestamp,
    ) {
        let lane = self.index.lane(job, destination);
        self.schedule.add(job, lane, due, expires, now);
    }

    /// Enters jobs again that the schedule had no room for, from the messages above `after`, but for
    /// what is in somebody's hand. Answers where to go on.
    pub(crate) fn refill(&mut self, after: Option<MessageId>, now: Timestamp) -> Option<MessageId> {
        let State { index, schedule, leases, classes, .. } = self;
        index.scan(after, REFILL, |message| {
            let leased = leases.of(message.id());
            let waits = |recipient: &SeenRecipient<'_>| {
                recipient.standing(is_leased(leased, recipient.id())) == RecipientStanding::Waiting
            };
            for recipient in message.recipients().filter(waits) {
                // A job that is there already and earlier stays as it is.
                let job = Job { id: message.id(), route: recipient.route() };
                // Earlier notices were sent, or their moment was an earlier turn's.
                let delays = classes.get(recipient.class()).delay_notices.iter();
                let late = delays.map(|delay| message.received().after(*delay));
                let turn_by = late.filter(|at| *at > now).fold(message.expires(), Timestamp::min);
                schedule.add(job, recipient.lane(), recipient.due(), turn_by, now);
            }
        })
    }

    /// Gives a message as the spool has it the moments that are meant now, after the clock jumped; but for
    /// the recipients whose moment is `fresh`.
    pub(crate) fn put_right(&self, entry: &mut Entry, fresh: impl Fn(u32) -> bool) {
        let moved = self.time.moved(entry.id);
        if moved.is_nothing() && self.time.jumps() == 0 {
            return;
        }
        moved.apply(entry);
        let Some(known) = self.index.get(entry.id) else { return };
        for (recipient, known) in entry.recipients.iter_mut().zip(known.recipients()) {
            let id = recipient.recipient.id;
            if let RecipientState::Waiting { due, .. } = &mut recipient.state
                && known.id() == id
                && !fresh(id)
            {
                *due = known.exactly(*due);
            }
        }
    }

    /// How long after its arrival the sender is told that mail which goes this way is late.
    fn delays(&self, entry: &Entry, route: u16) -> &[Duration] {
        &self.classes.get(self.index.class(Job { id: entry.id, route })).delay_notices
    }

    /// When recipients that go one way must have a turn, whatever keeps their destination.
    pub(crate) fn turn_by(&self, entry: &Entry, route: u16, now: Timestamp) -> Timestamp {
        delay::turn_by(entry, route, self.delays(entry, route), now)
    }

    /// The same behind a turn at `now`, in which all that was late is told.
    pub(crate) fn turn_after(&self, entry: &Entry, route: u16, now: Timestamp) -> Timestamp {
        delay::turn_after(entry, route, self.delays(entry, route), now)
    }

    /// Those of `recipients` about whom the sender is to be told at `now` that they are late.
    pub(crate) fn late(
        &self,
        entry: &Entry,
        recipients: &[RecipientEntry],
        now: Timestamp,
    ) -> Vec<(u32, u8)> {
        let late = |recipient: &RecipientEntry| {
            let due = delay::due(entry, recipient, self.delays(entry, recipient.route), now);
            (due > recipient.told).then_some((recipient.recipient.id, due))
        };
        recipients.iter().filter_map(late).collect()
    }

    /// Enters a recipient that goes another way.
    pub(crate) fn move_on(
        &mut self,
        entry: Option<&Entry>,
        id: u32,
        due: Timestamp,
        now: Timestamp,
    ) {
        let Some(entry) = entry else { return };
        let recipient = entry.recipients.iter().find(|r| r.recipient.id == id);
        let way = recipient.and_then(|r| Some((r.route, entry.route_of(r)?.destination())));
        let Some((route, destination)) = way else { return };
        self.counts.waiting += 1;
        self.schedule.count(&destination, 1);
        let turn_by = self.turn_by(entry, route, now);
        self.plan(Job { id: entry.id, route }, &destination, due, turn_by, now);
    }

    /// Logs and counts a damaged message, once.
    pub(crate) fn note_damage(&mut self, id: MessageId, error: &SpoolError) {
        self.index.remove(id);
        if self.damaged.insert(id) {
            tracing::error!(message = %id, %error, "a message is left where it is");
        }
    }

    pub(crate) fn choose(&self, entry: &Entry, route: u16, turn: Turn, most: usize) -> Choice {
        let Turn { now, over, not_before } = turn;
        let leased = self.leases.of(entry.id);
        let delays = self.delays(entry, route);
        let mut choice = Choice::default();
        for recipient in entry.recipients.iter().filter(|r| r.route == route) {
            let due = match recipient.state {
                RecipientState::Waiting { due, .. } => due,
                RecipientState::Held { .. } if planted!("what is held is given out") => now,
                _ => continue,
            };
            let in_hand = leased.is_some_and(|leased| leased.contains(&recipient.recipient.id));
            if in_hand && !planted!("who is in hand is given out again") {
                continue;
            }
            let late = || delay::next(entry, recipient, delays).is_some_and(|at| at <= now);
            let early = planted!("nobody waits until it is due");
            let tried = not_before.map_or(due, |at| due.max(at));
            let due = if over || early || late() { now } else { tried };
            let most = most + usize::from(planted!("a recipient too many in a ticket"));
            if due <= now && choice.recipients.len() < most {
                let mut recipient = recipient.clone();
                if let RecipientState::Waiting { due, .. } = &mut recipient.state {
                    *due = tried;
                }
                choice.recipients.push(recipient);
            } else {
                choice.rest = Some(choice.rest.map_or(due, |rest| rest.min(due)));
            }
        }
        choice
    }
}

/// Recipients of a new message that share a way.
struct Fresh<'e> {
    due: Timestamp,
    waiting: i64,
    /// One of them was tried before.
    failed: bool,
    recipient: &'e RecipientEntry,
}

impl Fresh<'_> {
    fn of(recipient: &RecipientEntry, due: Timestamp) -> Fresh<'_> {
        Fresh { due, waiting: 0, failed: false, recipient }
    }
}
