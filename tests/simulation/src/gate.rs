//! Stands between the doors and the way out where a message may go through, and notes which do.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use async_trait::async_trait;
use waypost_delivery::Delivery;
use waypost_intake::{Handed, Handoff};
use waypost_mail::Entry;
use waypost_queue::{Prepared, Queue};

use crate::witness::Letter;

/// Cut-through, with somebody who watches.
#[derive(Debug)]
pub struct Gate {
    delivery: Arc<Delivery>,
    queue: Arc<Queue>,
    begun: Mutex<Vec<Begun>>,
}

/// A message that is tried before it is durable.
#[derive(Debug)]
pub struct Begun {
    /// The message.
    pub letter: Letter,
    /// Its recipients are answered one by one.
    pub each: bool,
}

impl Gate {
    /// Watches what goes by this way from this queue.
    pub fn of(delivery: Arc<Delivery>, queue: Arc<Queue>) -> Gate {
        Gate { delivery, queue, begun: Mutex::default() }
    }

    /// Messages that are tried before they are durable, since this was asked last.
    pub fn begun(&self) -> Vec<Begun> {
        std::mem::take(&mut self.lock())
    }

    /// The octets of a message that nobody has written.
    fn letter(&self, entry: Entry) -> Option<Letter> {
        let content = self.queue.content(entry.id).ok()?;
        let mut octets = Vec::new();
        while (octets.len() as u64) < content.len() {
            octets.extend(content.read_at(octets.len() as u64, 1 << 20).ok()?);
        }
        Some(Letter { entry, content: octets.into() })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Handoff for Gate {
    async fn hand(self: Arc<Self>, prepared: Prepared, groups: Vec<Vec<u32>>) -> Handed {
        let (entry, each) = (prepared.entry().clone(), groups.len() > 1);
        let mut handing = pin!(self.delivery.clone().hand(prepared, groups));
        // It begins at once, or not at all.
        let first = poll_fn(|context| Poll::Ready(handing.as_mut().poll(context))).await;
        if let Poll::Ready(handed) = first {
            return handed;
        }
        if self.queue.is_passing(entry.id)
            && let Some(letter) = self.letter(entry)
        {
            self.lock().push(Begun { letter, each });
        }
        handing.await
    }
}
