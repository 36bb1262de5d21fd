//! Telling policy what happened, off the mail path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tracing::warn;
use waypost_history::Pen;
use waypost_hooks::{Event, EventKind, Hooks};
use waypost_mail::{Clock, MessageId};

/// Events that may wait for policy; more are dropped and counted.
const WAITING: usize = 8192;
/// Events handed over at once.
const BATCH: usize = 256;

/// Where what happened is told. Cheap to clone; telling never waits.
#[derive(Debug, Clone)]
pub struct Events {
    sender: mpsc::Sender<Event>,
    clock: Arc<dyn Clock>,
    dropped: Arc<AtomicU64>,
    pen: Pen,
}

impl Events {
    /// Events for `hooks`, handed over by a task of their own until all senders are gone.
    /// Must be called within a tokio runtime.
    pub fn to(hooks: Arc<dyn Hooks>, clock: Arc<dyn Clock>) -> Events {
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(hand_over(hooks, receiver));
        Events { sender, clock, dropped: Arc::default(), pen: Pen::idle() }
    }

    /// The same with a history in which the stories of messages are written.
    #[must_use]
    pub fn with_history(self, pen: Pen) -> Events {
        Events { pen, ..self }
    }

    /// Where the stories of messages are written.
    pub fn pen(&self) -> &Pen {
        &self.pen
    }

    /// Tells that something happened now.
    pub fn tell(&self, kind: EventKind, message: Option<MessageId>, text: String) {
        let event = Event { kind, at: self.clock.now(), message, text };
        if self.sender.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many events policy was too slow for.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

async fn hand_over(hooks: Arc<dyn Hooks>, mut receiver: mpsc::Receiver<Event>) {
    let mut batch = Vec::new();
    while receiver.recv_many(&mut batch, BATCH).await > 0 {
        if let Err(fault) = hooks.on_events(&batch).await {
            warn!(%fault, events = batch.len(), "policy did not take events");
        }
        batch.clear();
    }
}
