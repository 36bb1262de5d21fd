//! What waits for whom, how old it is, and why: recipients added up by any field.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use waypost_mail::{Entry, MessageId, Timestamp};

use crate::classes::Classes;
use crate::index::{Index, ReplyClass, Seen, SeenRecipient, is_leased};
use crate::selector::{Field, RecipientStanding, Selector};
use crate::shared::Shared;
use crate::{Config, Queue};

/// Messages looked at while the lock is held once: some tens of microseconds.
const SCAN: usize = 64;
/// Groups told apart in one summary; what would be more is added up as [`OTHERS`].
const MOST_GROUPS: usize = 100_000;
/// Name of the group of what is in no group of its own.
const OTHERS: &str = "(others)";

/// Recipients that have something in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// What they have in common; empty where the field says nothing.
    pub name: String,
    /// Messages with such recipients.
    pub messages: usize,
    /// The recipients.
    pub recipients: usize,
    /// Of them, those that are held.
    pub held: usize,
    /// Octets of the messages.
    pub bytes: u64,
    /// When the oldest of the messages was accepted.
    pub oldest: Timestamp,
    /// The most frequent class of the last reply or failure; `none` when most were not tried yet.
    pub reply: String,
    /// Recipients with that class.
    pub replies: usize,
}

/// A message and those of its recipients that are selected, at least one.
pub(crate) struct Match<'a> {
    pub(crate) message: Seen<'a>,
    /// Each with whether somebody has it in hand.
    pub(crate) recipients: Vec<(SeenRecipient<'a>, bool)>,
}

#[derive(Debug)]
struct Sum {
    messages: usize,
    recipients: usize,
    held: usize,
    bytes: u64,
    oldest: Timestamp,
    replies: HashMap<ReplyClass, usize>,
    /// The message last added, so that each counts once.
    last: Option<MessageId>,
}

impl Queue {
    /// The recipients that are selected and not done, added up by what `field` says of them: the largest
    /// groups first, at most `limit`, and what is in none of these as one more group. Looks at the
    /// index alone, some dozen messages at a time, so that deliveries go on; a million messages
    /// take about half a second of a thread on which blocking is allowed.
    pub fn summary(&self, selector: &Selector, field: Field, limit: usize) -> Vec<Group> {
        let now = self.shared.clock.now();
        let mut sums = Sums::default();
        self.shared.scan(selector, None, |found| {
            sums.add(found, field, now);
            ControlFlow::Continue(())
        });
        sums.largest(limit)
    }
}

/// The messages of a spool that no program runs, so that nothing is in flight.
#[derive(Debug)]
pub struct AtRest {
    index: Index,
}

impl AtRest {
    /// None yet; `config` says what their classes and tenants are.
    pub fn new(config: &Config) -> AtRest {
        AtRest { index: Index::new(Arc::new(Classes::new(config))) }
    }

    /// One more.
    pub fn add(&mut self, entry: &Entry) {
        self.index.insert(entry);
    }

    /// As [`Queue::summary`].
    pub fn summary(
        &self,
        selector: &Selector,
        field: Field,
        limit: usize,
        now: Timestamp,
    ) -> Vec<Group> {
        let mut sums = Sums::default();
        self.index.scan(None, usize::MAX, |message| {
            let selected = message.recipients().filter(|r| selector.selects(&r.sight(now, false)));
            let recipients: Vec<_> = selected.map(|recipient| (recipient, false)).collect();
            sums.add(&Match { message, recipients }, field, now);
        });
        sums.largest(limit)
    }
}

impl Shared {
    /// Shows every message of which somebody is selected, oldest first, those above `after`. The lock
    /// is held for one chunk at a time, and while `visit` is called.
    pub(crate) fn scan(
        &self,
        selector: &Selector,
        after: Option<MessageId>,
        mut visit: impl FnMut(&Match<'_>) -> ControlFlow<()>,
    ) {
        if let Some(ids) = selector.among() {
            let mut ids: Vec<_> = ids.iter().filter(|id| Some(**id) > after).copied().collect();
            ids.sort_unstable();
            ids.dedup();
            self.scan_among(selector, &ids, visit);
            return;
        }
        let mut above = after;
        loop {
            let now = self.clock.now();
            let state = self.state();
            let mut flow = ControlFlow::Continue(());
            let next = state.index.scan(above, SCAN, |message| {
                if flow.is_continue()
                    && let Some(found) = state.find(selector, message, now)
                {
                    flow = visit(&found);
                }
            });
            drop(state);
            match (flow, next) {
                (ControlFlow::Continue(()), Some(last)) => above = Some(last),
                _ => return,
            }
            // Whoever waits for the lock has it now.
            std::thread::yield_now();
        }
    }

    fn scan_among(
        &self,
        selector: &Selector,
        ids: &[MessageId],
        mut visit: impl FnMut(&Match<'_>) -> ControlFlow<()>,
    ) {
        for id in ids {
            let now = self.clock.now();
            let state = self.state();
            let found = state.index.get(*id).and_then(|message| state.find(selector, message, now));
            if found.is_some_and(|found| visit(&found).is_break()) {
                return;
            }
        }
    }
}

impl crate::state::State {
    /// The recipients of a message that are selected, if any.
    pub(crate) fn find<'a>(
        &self,
        selector: &Selector,
        message: Seen<'a>,
        now: Timestamp,
    ) -> Option<Match<'a>> {
        let leased = self.leases.of(message.id());
        let recipients = message.recipients().map(|r| (r, is_leased(leased, r.id())));
        let recipients: Vec<_> =
            recipients.filter(|(r, leased)| selector.selects(&r.sight(now, *leased))).collect();
        (!recipients.is_empty()).then_some(Match { message, recipients })
    }
}

/// Groups that grow.
#[derive(Debug, Default)]
struct Sums(HashMap<String, Sum>);

impl Sums {
    fn add(&mut self, found: &Match<'_>, field: Field, now: Timestamp) {
        let Sums(sums) = self;
        for (recipient, leased) in &found.recipients {
            let sight = recipient.sight(now, *leased);
            if sight.standing == RecipientStanding::Done {
                continue;
            }
            let name = sight.value(field);
            let full = sums.len() >= MOST_GROUPS && !sums.contains_key(&*name);
            let name = if full { OTHERS } else { &*name };
            if !sums.contains_key(name) {
                sums.insert(name.to_owned(), Sum::new());
            }
            if let Some(sum) = sums.get_mut(name) {
                sum.add(found.message, sight.standing, sight.reply);
            }
        }
    }

    fn largest(self, limit: usize) -> Vec<Group> {
        let mut sums: Vec<(String, Sum)> = self.0.into_iter().collect();
        sums.sort_by(|(a, one), (b, other)| {
            other.recipients.cmp(&one.recipients).then_with(|| a.cmp(b))
        });
        let rest = sums.split_off(limit.min(sums.len()));
        let mut groups: Vec<Group> = sums.into_iter().map(|(name, sum)| sum.group(name)).collect();
        let others = rest.into_iter().map(|(_, sum)| sum).reduce(|mut all, sum| {
            all.merge(sum);
            all
        });
        groups.extend(others.map(|others| others.group(OTHERS.to_owned())));
        groups
    }
}

impl Sum {
    fn new() -> Sum {
        Sum {
            messages: 0,
            recipients: 0,
            held: 0,
            bytes: 0,
            oldest: Timestamp(u64::MAX),
            replies: HashMap::new(),
            last: None,
        }
    }

    fn add(&mut self, message: Seen<'_>, standing: RecipientStanding, reply: ReplyClass) {
        if self.last.replace(message.id()) != Some(message.id()) {
            self.messages += 1;
            self.bytes = self.bytes.saturating_add(message.size());
            self.oldest = self.oldest.min(message.received());
        }
        self.recipients += 1;
        self.held += usize::from(standing == RecipientStanding::Held);
        *self.replies.entry(reply).or_default() += 1;
    }

    fn merge(&mut self, other: Sum) {
        self.messages += other.messages;
        self.recipients += other.recipients;
        self.held += other.held;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.oldest = self.oldest.min(other.oldest);
        for (reply, count) in other.replies {
            *self.replies.entry(reply).or_default() += count;
        }
    }

    fn group(self, name: String) -> Group {
        let by_count = |(reply, count): &(ReplyClass, usize)| (*count, reply.to_string());
        let most = self.replies.into_iter().max_by_key(by_count);
        let (reply, replies) = most.unwrap_or((ReplyClass::NONE, 0));
        Group {
            name,
            messages: self.messages,
            recipients: self.recipients,
            held: self.held,
            bytes: self.bytes,
            oldest: self.oldest,
            reply: reply.to_string(),
            replies,
        }
    }
}

#[cfg(test)]
mod tests;
