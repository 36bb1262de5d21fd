//! Every message that waits, in memory: what lists, summaries and selectors look at, and where the
//! schedule finds again what it had no room for.
//!
//! A message of one recipient takes about 120 octets: texts that many share are kept once
//! ([`names`]), moments in whole seconds, and what is asked of single messages only (replies in
//! full, header fields) is left in the spool. Rows stand in chunks ordered by id, so that whoever
//! scans holds the queue's lock for one chunk at a time and goes on behind the last id it saw.

mod names;
mod origin;
mod reply;
mod row;

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use waypost_mail::{Entry, MessageId, RecipientState, Timestamp};
use waypost_mutant::planted;
use waypost_smtp::ReversePath;

use crate::classes::{Band, ClassId, Classes};
use crate::schedule::{Job, Lane};
use crate::selector::{RecipientStanding, Sight};
use crate::timekeeper::{Jump, Timekeeper, moved};
use names::{Name, Names};
use origin::Origins;
use reply::Replies;
pub(crate) use reply::ReplyClass;
pub(crate) use row::{Mark, Seconds};
use row::{Recipients, Slot};

/// Rows of a chunk at most. Taking one out moves half of them on average.
const CHUNK: usize = 256;

/// Every message that is kept and not damaged.
#[derive(Debug)]
pub(crate) struct Index {
    classes: Arc<Classes>,
    /// By the lowest id each chunk may have. Ids rise, so chunks are filled one after the other.
    chunks: BTreeMap<u64, Vec<Row>>,
    names: Names,
    origins: Origins,
    replies: Replies,
    messages: usize,
    /// Of all messages.
    octets: u64,
}

/// One message.
#[derive(Debug)]
struct Row {
    id: u64,
    received: Seconds,
    expires: Seconds,
    /// Octets; what is larger than 4 GiB counts as that.
    size: u32,
    /// The sender's address but for its domain. Nothing in both for the null sender.
    sender: Box<str>,
    sender_domain: Name,
    origin: u32,
    band: Band,
    recipients: Recipients,
}

/// A message as it stands in the index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    index: &'a Index,
    row: &'a Row,
}

/// A recipient of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeenRecipient<'a> {
    message: Seen<'a>,
    slot: &'a Slot,
}

impl Index {
    pub(crate) fn new(classes: Arc<Classes>) -> Index {
        Index {
            classes,
            chunks: BTreeMap::new(),
            names: Names::default(),
            origins: Origins::default(),
            replies: Replies::default(),
            messages: 0,
            octets: 0,
        }
    }

    /// Messages in it.
    pub(crate) fn len(&self) -> usize {
        self.messages
    }

    /// Octets of the messages in it.
    pub(crate) fn octets(&self) -> u64 {
        self.octets
    }

    /// The lowest id in it.
    pub(crate) fn oldest(&self) -> Option<MessageId> {
        let (_, chunk) = self.chunks.first_key_value()?;
        chunk.first().map(|row| MessageId(row.id))
    }

    /// The highest id in it.
    pub(crate) fn newest(&self) -> Option<MessageId> {
        let (_, chunk) = self.chunks.last_key_value()?;
        chunk.last().map(|row| MessageId(row.id))
    }

    /// Enters a message as it is now, in the place of what was known of it. One that is done goes.
    pub(crate) fn insert(&mut self, entry: &Entry) {
        self.remove(entry.id);
        if entry.is_done() {
            return;
        }
        let (sender, sender_domain) = match &entry.sender {
            ReversePath::Null => (Box::default(), String::new()),
            ReversePath::Mailbox(mailbox) => (mailbox.local().into(), mailbox.domain().to_string()),
        };
        let mut row = Row {
            id: entry.id.0,
            received: entry.received.into(),
            expires: Seconds::from(entry.expires),
            size: u32::try_from(entry.size).unwrap_or(u32::MAX),
            sender,
            sender_domain: self.names.keep(&sender_domain),
            origin: self.origins.keep(origin::of(entry, self.classes.tenancy())),
            band: Band::of(entry.terms.priority),
            recipients: Recipients::default(),
        };
        let slots: Vec<Slot> = entry.recipients.iter().map(|r| self.slot(entry, r)).collect();
        row.recipients = Recipients::from(slots);
        self.classify(&mut row);
        self.messages += 1;
        self.octets += u64::from(row.size);
        self.place(row);
    }

    /// Recipients of a message have another state. A message that is done goes.
    pub(crate) fn set(&mut self, id: MessageId, marks: impl IntoIterator<Item = (u32, Mark)>) {
        let Index { chunks, replies, .. } = self;
        let Some(row) = row_mut(chunks, id) else { return };
        if planted!("a change is not in the lists") {
            return;
        }
        let slots = row.recipients.as_mut_slice();
        for (recipient, mark) in marks {
            if let Some(slot) = slots.iter_mut().find(|slot| slot.id == recipient) {
                slot.mark(mark, replies);
            }
        }
        if slots.iter().all(|slot| slot.standing == RecipientStanding::Done) {
            self.remove(id);
        }
    }

    /// The clock was set; `before` is what it said then. The moments of every message move with it. What came
    /// before the `lie` that this takes back came as long before it as the spool says.
    pub(crate) fn shift(&mut self, jump: Jump, before: Timestamp, lie: Option<Jump>) {
        let shift = |moment: Seconds, by| Seconds::from(moved(moment.into(), by));
        for row in self.chunks.values_mut().flatten() {
            let lied = lie.filter(|lie| row.id <= lie.last.0).map_or(0, |lie| lie.by);
            row.received = shift(row.received, jump.by.saturating_add(lied));
            row.expires = shift(row.expires, jump.by);
            let expires = row.expires.into();
            for slot in row.recipients.as_mut_slice() {
                slot.due = jump.due(slot.due.into(), slot.tries > 0, before, expires).into();
            }
        }
    }

    /// Gives every message as the spool has it the moments that are meant now. Nobody is due later than at
    /// `latest` who was tried before the clock fell, nor in years who was not tried yet.
    pub(crate) fn put_right(&mut self, time: &Timekeeper, latest: Timestamp) {
        if time.jumps() == 0 {
            return;
        }
        for row in self.chunks.values_mut().flatten() {
            let id = MessageId(row.id);
            let Some(by) = time.pull_in(id) else { continue };
            let (moves, came) = (time.moved(id), Timestamp::from(row.received));
            let (received, expires) = moves.both(came, row.expires.into());
            (row.received, row.expires) = (received.into(), expires.into());
            for slot in row.recipients.as_mut_slice() {
                let due = Timestamp::from(slot.due);
                slot.due = match slot.tries {
                    _ if due == Timestamp(u64::MAX) => continue,
                    0 => moves.first_due(due, came, expires).into(),
                    _ => moved(due, by).min(latest).into(),
                };
            }
        }
    }

    /// What is left of a message bounces at another moment.
    pub(crate) fn set_expires(&mut self, id: MessageId, expires: Timestamp) {
        if let Some(row) = row_mut(&mut self.chunks, id) {
            row.expires = expires.into();
        }
    }

    /// A recipient that waits is due at another moment.
    pub(crate) fn set_due(&mut self, id: MessageId, recipient: u32, due: Timestamp) {
        let Some(row) = row_mut(&mut self.chunks, id) else { return };
        let slots = row.recipients.as_mut_slice();
        if let Some(slot) = slots.iter_mut().find(|slot| slot.id == recipient) {
            slot.due = due.into();
        }
    }

    /// The message is gone.
    pub(crate) fn remove(&mut self, id: MessageId) {
        let Some((first, chunk)) = chunk_mut(&mut self.chunks, id) else { return };
        let Ok(at) = chunk.binary_search_by_key(&id.0, |row| row.id) else { return };
        let row = chunk.remove(at);
        if chunk.is_empty() {
            self.chunks.remove(&first);
        } else if chunk.len() < chunk.capacity() / 4 {
            chunk.shrink_to(2 * chunk.len());
        }
        self.names.release(row.sender_domain);
        self.origins.release(row.origin);
        for slot in row.recipients.as_slice() {
            self.names.release(slot.domain);
            self.names.release(slot.destination);
        }
        self.messages -= 1;
        self.octets -= u64::from(row.size);
    }

    pub(crate) fn get(&self, id: MessageId) -> Option<Seen<'_>> {
        let (_, chunk) = self.chunks.range(..=id.0).next_back()?;
        let at = chunk.binary_search_by_key(&id.0, |row| row.id).ok()?;
        Some(Seen { index: self, row: &chunk[at] })
    }

    /// The class of a job's recipients.
    pub(crate) fn class(&self, job: Job) -> ClassId {
        self.lane(job, "").class
    }

    /// The lane of a job's recipients; of a message that is not here, the usual one.
    pub(crate) fn lane<'a>(&'a self, job: Job, destination: &'a str) -> Lane<'a> {
        let mut recipients = self.get(job.id).into_iter().flat_map(Seen::recipients);
        let found = recipients.find(|recipient| recipient.route() == job.route);
        let usual =
            Lane { destination, class: ClassId::default(), band: Band::default(), tenant: "" };
        found.map_or(usual, |found| Lane { destination, ..found.lane() })
    }

    /// Shows at most `most` messages above `after`, in the order of their ids; the last one shown,
    /// when there may be more.
    pub(crate) fn scan<'a>(
        &'a self,
        after: Option<MessageId>,
        most: usize,
        mut visit: impl FnMut(Seen<'a>),
    ) -> Option<MessageId> {
        let above = after.map_or(0, |after| after.0);
        let first = self.chunks.range(..=above).next_back().map_or(0, |(first, _)| *first);
        let rows = self.chunks.range((Bound::Included(first), Bound::Unbounded));
        let rows = rows.flat_map(|(_, chunk)| chunk);
        let mut shown = 0;
        for row in rows.skip_while(|row| after.is_some_and(|after| row.id <= after.0)) {
            visit(Seen { index: self, row });
            shown += 1;
            if shown >= most {
                return Some(MessageId(row.id));
            }
        }
        None
    }

    fn slot(&mut self, entry: &Entry, recipient: &waypost_mail::RecipientEntry) -> Slot {
        let mailbox = &recipient.recipient.mailbox;
        let destination = entry.route_of(recipient).map(|route| route.destination());
        let mut slot = Slot {
            id: recipient.recipient.id,
            local: mailbox.local().into(),
            domain: self.names.keep(&mailbox.domain().to_string()),
            destination: self.names.keep(&destination.unwrap_or_default()),
            route: recipient.route,
            ..Slot::default()
        };
        slot.mark(Mark::from(&recipient.state), &mut self.replies);
        slot
    }

    /// Finds the class of each recipient.
    fn classify(&self, row: &mut Row) {
        let mut classes = Vec::with_capacity(row.recipients.as_slice().len());
        let seen = Seen { index: self, row };
        let named = self.origins.get(row.origin).class.as_str();
        for recipient in seen.recipients() {
            let sight = recipient.sight(Timestamp(0), false);
            classes.push(self.classes.choose(named, &sight));
        }
        for (slot, class) in row.recipients.as_mut_slice().iter_mut().zip(classes) {
            slot.class = class;
        }
    }

    fn place(&mut self, row: Row) {
        let last = self.chunks.last_key_value().map(|(first, _)| *first);
        let Some((first, chunk)) = chunk_mut(&mut self.chunks, MessageId(row.id)) else {
            // Lower than all others: it begins a chunk of its own.
            self.chunks.insert(row.id, vec![row]);
            return;
        };
        let at = chunk.partition_point(|known| known.id < row.id);
        if chunk.len() < CHUNK {
            chunk.insert(at, row);
        } else if at == chunk.len() && Some(first) == last {
            let mut fresh = Vec::with_capacity(CHUNK);
            let id = row.id;
            fresh.push(row);
            self.chunks.insert(id, fresh);
        } else {
            let mut upper = chunk.split_off(CHUNK / 2);
            let boundary = upper.first().map_or(row.id, |first| first.id);
            let half = if row.id < boundary { chunk } else { &mut upper };
            let at = half.partition_point(|known| known.id < row.id);
            half.insert(at, row);
            self.chunks.insert(boundary, upper);
        }
    }
}

fn chunk_mut(chunks: &mut BTreeMap<u64, Vec<Row>>, id: MessageId) -> Option<(u64, &mut Vec<Row>)> {
    chunks.range_mut(..=id.0).next_back().map(|(first, chunk)| (*first, chunk))
}

fn row_mut(chunks: &mut BTreeMap<u64, Vec<Row>>, id: MessageId) -> Option<&mut Row> {
    let (_, chunk) = chunk_mut(chunks, id)?;
    let at = chunk.binary_search_by_key(&id.0, |row| row.id).ok()?;
    chunk.get_mut(at)
}

impl<'a> Seen<'a> {
    pub(crate) fn id(self) -> MessageId {
        MessageId(self.row.id)
    }

    pub(crate) fn received(self) -> Timestamp {
        self.row.received.into()
    }

    pub(crate) fn expires(self) -> Timestamp {
        self.row.expires.into()
    }

    pub(crate) fn size(self) -> u64 {
        u64::from(self.row.size)
    }

    pub(crate) fn recipients(self) -> impl Iterator<Item = SeenRecipient<'a>> {
        self.row.recipients.as_slice().iter().map(move |slot| SeenRecipient { message: self, slot })
    }
}

impl<'a> SeenRecipient<'a> {
    pub(crate) fn id(self) -> u32 {
        self.slot.id
    }

    pub(crate) fn route(self) -> u16 {
        self.slot.route
    }

    pub(crate) fn due(self) -> Timestamp {
        self.slot.due.into()
    }

    /// The same: `due`, when that may be it to the millisecond.
    pub(crate) fn exactly(self, due: Timestamp) -> Timestamp {
        self.slot.due.exactly(due)
    }

    pub(crate) fn class(self) -> ClassId {
        self.slot.class
    }

    /// Where it goes, of which class, and on whose account.
    pub(crate) fn lane(self) -> Lane<'a> {
        let Seen { index, row } = self.message;
        Lane {
            destination: index.names.get(self.slot.destination),
            class: self.slot.class,
            band: row.band,
            tenant: &index.origins.get(row.origin).tenant,
        }
    }

    /// It was never tried and yet has a reason to be here: policy may have refused it.
    pub(crate) fn may_be_doomed(self) -> bool {
        let untried = self.slot.tries == 0 && self.slot.standing == RecipientStanding::Waiting;
        untried && self.message.index.replies.get(self.slot.reply) != ReplyClass::NONE
    }

    /// How it stands, somebody having it in hand or not.
    pub(crate) fn standing(self, leased: bool) -> RecipientStanding {
        match self.slot.standing {
            RecipientStanding::Done => RecipientStanding::Done,
            _ if leased => RecipientStanding::InFlight,
            standing => standing,
        }
    }

    /// What selectors see of it.
    pub(crate) fn sight(self, now: Timestamp, leased: bool) -> Sight<'a> {
        let Seen { index, row } = self.message;
        let origin = index.origins.get(row.origin);
        Sight {
            id: MessageId(row.id),
            age: now.0.saturating_sub(Timestamp::from(row.received).0),
            size: u64::from(row.size),
            sender: (&row.sender, index.names.get(row.sender_domain)),
            listener: &origin.listener,
            user: &origin.user,
            tenant: &origin.tenant,
            tags: &origin.tags,
            class: index.classes.name(self.slot.class),
            recipient: (&self.slot.local, index.names.get(self.slot.domain)),
            destination: index.names.get(self.slot.destination),
            standing: self.standing(leased),
            tries: u32::from(self.slot.tries),
            reply: index.replies.get(self.slot.reply),
        }
    }
}

/// Whether somebody has this recipient in hand.
pub(crate) fn is_leased(leased: Option<&HashSet<u32>>, recipient: u32) -> bool {
    leased.is_some_and(|leased| leased.contains(&recipient))
}

/// How recipients stand from now on.
pub(crate) fn marks(states: &[(u32, RecipientState)]) -> Vec<(u32, Mark)> {
    states.iter().map(|(recipient, state)| (*recipient, Mark::from(state))).collect()
}

impl From<&RecipientState> for Mark {
    fn from(state: &RecipientState) -> Mark {
        match state {
            RecipientState::Waiting { due, tries, last } => Mark {
                standing: RecipientStanding::Waiting,
                due: *due,
                tries: *tries,
                reply: last.as_ref().map_or(ReplyClass::NONE, ReplyClass::of),
            },
            RecipientState::Held { tries, .. } => Mark {
                standing: RecipientStanding::Held,
                due: Timestamp(u64::MAX),
                tries: *tries,
                reply: ReplyClass::NONE,
            },
            RecipientState::Done(_) => Mark {
                standing: RecipientStanding::Done,
                due: Timestamp(u64::MAX),
                tries: 0,
                reply: ReplyClass::NONE,
            },
        }
    }
}

#[cfg(test)]
mod tests;
