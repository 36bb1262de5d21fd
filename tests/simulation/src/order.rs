//! What an operator orders.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;
use waypost_mail::{Entry, MessageId, RecipientState};
use waypost_queue::{AdminError, Queue, Touched};

use crate::book::End;

/// A verb of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Hold what waits.
    Hold,
    /// Release what is held.
    Release,
    /// Try what waits at once.
    Retry,
    /// Remove what is not done.
    Delete,
}

/// An order that is being carried out.
pub struct Order {
    /// The verb.
    pub verb: Verb,
    /// The message.
    pub id: MessageId,
    /// The recipients it is about.
    pub recipients: Vec<u32>,
    /// The rest of it.
    pub future: Pin<Box<dyn Future<Output = Result<Touched, AdminError>>>>,
}

impl Verb {
    /// Any of them.
    pub fn any(random: &mut StdRng) -> Verb {
        match random.random_range(0..7) {
            0 | 1 => Verb::Hold,
            2..5 => Verb::Release,
            5 => Verb::Retry,
            _ => Verb::Delete,
        }
    }

    /// Which recipients it is about.
    pub fn wants(self, state: &RecipientState) -> bool {
        match self {
            // Who was refused by policy waits for a bounce, not for a release.
            Verb::Hold => match state {
                RecipientState::Waiting { tries: 0, last: Some(why), .. } => !why.is_permanent(),
                state => matches!(state, RecipientState::Waiting { .. }),
            },
            Verb::Retry => matches!(state, RecipientState::Waiting { .. }),
            Verb::Release => matches!(state, RecipientState::Held { .. }),
            Verb::Delete => !state.is_done(),
        }
    }

    /// What becomes of them.
    pub fn end(self) -> End {
        match self {
            Verb::Hold => End::Held,
            Verb::Release | Verb::Retry => End::Open,
            Verb::Delete => End::Done,
        }
    }
}

impl Order {
    /// Gives the order about those recipients of `entry` that nobody has in hand.
    pub fn new(verb: Verb, entry: &Entry, free: impl Fn(u32) -> bool, queue: Arc<Queue>) -> Order {
        let wanted = entry.recipients.iter().filter(|r| verb.wants(&r.state));
        let recipients = wanted.map(|r| r.recipient.id).filter(|id| free(*id)).collect();
        let id = entry.id;
        let future = async move {
            match verb {
                Verb::Hold => queue.hold(id, "by order".to_owned()).await,
                Verb::Release => queue.release(id).await,
                Verb::Retry => queue.retry(id).await,
                Verb::Delete => queue.delete(id).await,
            }
        };
        Order { verb, id, recipients, future: Box::pin(future) }
    }
}
