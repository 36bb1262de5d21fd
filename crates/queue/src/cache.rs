//! Entries of fresh messages, kept so that the first attempt needs no read.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use waypost_mail::{Entry, MessageId};

/// So many recipients weigh as much as one entry.
const RECIPIENTS_PER_UNIT: usize = 8;

/// A bounded set of entries; the oldest are pushed out.
#[derive(Debug)]
pub(crate) struct Cache {
    capacity: usize,
    weight: usize,
    entries: HashMap<MessageId, Arc<Entry>>,
    /// Ids by age, those of entries already removed among them.
    ages: VecDeque<MessageId>,
}

impl Cache {
    pub(crate) fn new(capacity: usize) -> Cache {
        Cache { capacity, weight: 0, entries: HashMap::new(), ages: VecDeque::new() }
    }

    /// Keeps `entry`, unless it alone would be too much.
    pub(crate) fn insert(&mut self, entry: Arc<Entry>) {
        let (id, weight) = (entry.id, weight(&entry));
        self.remove(id);
        if weight > self.capacity {
            return;
        }
        while self.weight + weight > self.capacity {
            let Some(oldest) = self.ages.pop_front() else { break };
            self.remove(oldest);
        }
        self.weight += weight;
        self.entries.insert(id, entry);
        self.ages.push_back(id);
        if self.ages.len() > 2 * self.entries.len() + 64 {
            self.ages.retain(|id| self.entries.contains_key(id));
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Cache::new(self.capacity);
    }

    pub(crate) fn get(&self, id: MessageId) -> Option<Arc<Entry>> {
        self.entries.get(&id).cloned()
    }

    pub(crate) fn remove(&mut self, id: MessageId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.weight -= weight(&entry);
        }
    }
}

fn weight(entry: &Entry) -> usize {
    1 + entry.recipients.len() / RECIPIENTS_PER_UNIT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn the_oldest_is_pushed_out() {
        let mut cache = Cache::new(3);
        for id in 1..=3 {
            cache.insert(samples::entry(id, "a.example", 1).into());
        }
        cache.remove(MessageId(2));
        cache.insert(samples::entry(4, "a.example", 1).into());
        assert!(cache.get(MessageId(1)).is_some(), "there was room");
        cache.insert(samples::entry(5, "a.example", 1).into());
        assert!(cache.get(MessageId(1)).is_none());
        assert_eq!(cache.get(MessageId(5)).map(|entry| entry.id), Some(MessageId(5)));
    }

    #[test]
    fn many_recipients_weigh_more() {
        let mut cache = Cache::new(10);
        cache.insert(samples::entry(1, "a.example", 1).into());
        cache.insert(samples::entry(2, "a.example", 1000).into());
        assert!(cache.get(MessageId(2)).is_none(), "too heavy alone");
        cache.insert(samples::entry(3, "a.example", 79).into());
        assert!(cache.get(MessageId(1)).is_none());
        assert!(cache.get(MessageId(3)).is_some());
    }

    #[test]
    fn ages_do_not_pile_up() {
        let mut cache = Cache::new(10);
        for id in 0..10_000 {
            cache.insert(samples::entry(id, "a.example", 1).into());
            cache.remove(MessageId(id));
        }
        assert_eq!((cache.weight, cache.entries.len()), (0, 0));
        assert!(cache.ages.len() < 100);
    }
}
