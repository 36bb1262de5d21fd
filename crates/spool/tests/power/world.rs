//! What a spool must hold, told by what was said of the changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use waypost_mail::{MessageId, RecipientState};
use waypost_spool::{Config, LogSpool, Report, Spool};

use crate::common::{HEADER, bytes_of, clock, ids};

/// Reason of those held as the child has asked.
pub const REASON: &str = "by the test";
/// How many facts each writer has, which it changes over and over.
pub const FACTS: u64 = 7;

/// Messages with the states of their two recipients, and facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    pub messages: BTreeMap<u64, [char; 2]>,
    pub facts: BTreeMap<String, String>,
}

pub fn config(path: &Path) -> Config {
    let mut config = Config::new(path.join("spool"));
    config.segment_size = 64 * 1024;
    (config.keep_free, config.reserve, config.cache) = (1 << 20, 0, 8 << 20);
    config
}

/// One message of the first writer is too large for the log.
pub fn body(id: u64) -> Vec<u8> {
    let len = if id % 10_000_000 == 10 { 8 * 1024 * 1024 + 1 } else { (id * 131 % 4000) as usize };
    vec![id as u8; len]
}

impl World {
    /// Makes a change of the child's words.
    fn apply(&mut self, words: &str) {
        let mut words = words.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (what, id) = (word(), word());
        let number = id.parse().unwrap_or_default();
        match what {
            "accept" => drop(self.messages.insert(number, ['w', 'w'])),
            "hold" => self.states(number, ['h', 'h']),
            "release" => self.states(number, ['w', 'w']),
            "settle" => self.states(number, ['d', 'w']),
            "finish" | "remove" => drop(self.messages.remove(&number)),
            "bounce" => {
                self.messages.remove(&number);
                self.messages.insert(word().parse().unwrap(), ['w', 'w']);
            }
            "put" => drop(self.facts.insert(id.to_owned(), word().to_owned())),
            "drop" => drop(self.facts.remove(id)),
            // A change that was refused.
            "refuse" => {}
            other => panic!("what is {other}?"),
        }
    }

    fn states(&mut self, id: u64, states: [char; 2]) {
        self.messages.insert(id, states);
    }

    /// What was acknowledged, and the changes that were asked for and not acknowledged.
    pub fn told<'a>(&self, said: &[&'a str]) -> (World, BTreeSet<&'a str>) {
        let mut world = self.clone();
        let mut open = BTreeSet::new();
        for line in said {
            if let Some(words) = line.strip_prefix("begin ") {
                open.insert(words);
            } else if let Some(words) = line.strip_prefix("done ") {
                open.remove(words);
                world.apply(words);
            }
        }
        (world, open)
    }

    /// What is in a spool. Everything inside fits together.
    pub async fn found(path: &Path) -> Result<(World, Report), String> {
        let (spool, report) = LogSpool::open(config(path), clock()).map_err(|e| e.to_string())?;
        let mut world = World::default();
        for id in ids(&*spool) {
            let entry = spool.load(MessageId(id)).map_err(|error| error.to_string())?;
            let states = [letter(&entry.recipients[0].state), letter(&entry.recipients[1].state)];
            world.messages.insert(id, states);
            if bytes_of(&*spool, id) != [HEADER, &body(id)].concat() {
                return Err(format!("content of {id}"));
            }
        }
        let facts = waypost_mail::Ledger::list(&*spool, "power/", usize::MAX, crate::common::NOW);
        for (key, value) in facts.await.map_err(|error| error.to_string())? {
            world.facts.insert(key, String::from_utf8_lossy(&value).into_owned());
        }
        world.files(path)?;
        Ok((world, report))
    }

    fn files(&self, path: &Path) -> Result<(), String> {
        let count = |name: &str| std::fs::read_dir(path.join("spool").join(name)).unwrap().count();
        let large = self.messages.keys().filter(|id| body(**id).len() > 8 << 20).count();
        let (bodies, incoming) = (count("bodies"), count("incoming"));
        if (bodies, incoming) == (large, 0) {
            Ok(())
        } else {
            Err(format!("{bodies} body files of {large} large messages, {incoming} incoming"))
        }
    }

    /// Whether this is `world` with some of the open changes.
    pub fn is(&self, world: &World, open: &BTreeSet<&str>) -> Result<(), String> {
        let open: Vec<&str> = open.iter().copied().collect();
        assert!(open.len() < 12, "{} changes at once are too many to try", open.len());
        for chosen in 0..1_u32 << open.len() {
            let mut candidate = world.clone();
            let made = open.iter().enumerate().filter(|(at, _)| chosen & 1 << at != 0);
            made.for_each(|(_, words)| candidate.apply(words));
            if candidate == *self {
                return Ok(());
            }
        }
        Err(format!("{}open: {open:?}", self.difference(world)))
    }

    fn difference(&self, world: &World) -> String {
        let mut text = String::new();
        let messages: BTreeSet<_> = self.messages.keys().chain(world.messages.keys()).collect();
        for id in messages {
            let (found, told) = (self.messages.get(id), world.messages.get(id));
            if found != told {
                text.push_str(&format!("message {id}: found {found:?}, acknowledged {told:?}\n"));
            }
        }
        let facts: BTreeSet<_> = self.facts.keys().chain(world.facts.keys()).collect();
        for key in facts {
            let (found, told) = (self.facts.get(key), world.facts.get(key));
            if found != told {
                text.push_str(&format!("fact {key}: found {found:?}, acknowledged {told:?}\n"));
            }
        }
        text
    }
}

fn letter(state: &RecipientState) -> char {
    match state {
        RecipientState::Waiting { .. } => 'w',
        RecipientState::Held { reason, .. } if reason == REASON => 'h',
        // Held by the spool itself: it has lost something.
        RecipientState::Held { .. } => 'q',
        RecipientState::Done(_) => 'd',
    }
}
