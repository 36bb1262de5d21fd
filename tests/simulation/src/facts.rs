//! The ledger's facts, as others of the house keep them.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use waypost_mail::{Ledger, LedgerError, Timestamp};
use waypost_spool::LogSpool;

use crate::book::{Law, Lawful, demand};
use crate::storm::poll;

/// How many there are.
const KEYS: usize = 6;

/// What was put, and what is being put.
#[derive(Default)]
pub struct Facts {
    known: BTreeMap<String, Known>,
    puts: Vec<Put>,
}

/// What may be found under a key; nothing stands for no fact.
type Value = Option<Bytes>;

/// A fact, or several of which one is true.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known(Vec<Value>);

struct Put {
    key: String,
    value: Value,
    future: Pin<Box<dyn Future<Output = Result<(), LedgerError>>>>,
}

impl Facts {
    /// Puts or removes a fact; one change of a key at a time.
    pub fn change(&mut self, spool: &Arc<LogSpool>, random: &mut StdRng) -> Option<String> {
        let key = format!("sim/{}", random.random_range(0..KEYS));
        if self.puts.iter().any(|put| put.key == key) {
            return None;
        }
        let value = match random.random_range(0..4) {
            0 => None,
            _ => Some(Bytes::from(random.random::<u32>().to_string())),
        };
        let (ledger, name, new) = (spool.clone(), key.clone(), value.clone());
        let future = Box::pin(async move {
            match new {
                Some(new) => ledger.put(&name, new, None).await,
                None => ledger.remove(&name).await,
            }
        });
        let story = format!("fact {key}: {value:?}");
        self.puts.push(Put { key, value, future });
        Some(story)
    }

    /// Looks whether changes were answered.
    pub fn hear(&mut self) {
        for mut put in std::mem::take(&mut self.puts) {
            match poll(put.future.as_mut()) {
                Poll::Ready(Ok(())) => drop(self.known.insert(put.key, Known(vec![put.value]))),
                Poll::Ready(Err(_)) => self.may_be(put.key, put.value),
                Poll::Pending => self.puts.push(put),
            }
        }
    }

    /// The program ended in the middle of some changes.
    pub fn crashed(&mut self) {
        for put in std::mem::take(&mut self.puts) {
            self.may_be(put.key, put.value);
        }
    }

    fn may_be(&mut self, key: String, value: Value) {
        self.known.entry(key).or_insert_with(|| Known(vec![None])).0.push(value);
    }

    /// What is found must be what was put. After a restart what was unsure is what is found.
    ///
    /// # Errors
    /// When it is something else.
    pub fn check(&mut self, spool: &LogSpool, settle: bool) -> Lawful {
        for (key, known) in &mut self.known {
            let get = std::pin::pin!(spool.get(key, Timestamp(0)));
            let Poll::Ready(Ok(found)) = poll(get) else { continue };
            let in_change = self.puts.iter().any(|put| put.key == *key && put.value == found);
            demand(Law::FactsAreKept, known.0.contains(&found) || in_change, || {
                format!("{key} is {found:?}, put was one of {known:?}")
            })?;
            if settle {
                *known = Known(vec![found]);
            }
        }
        Ok(())
    }
}
