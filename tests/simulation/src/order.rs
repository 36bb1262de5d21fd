//! What an operator orders.

use std::future::Future;
use std::pin::Pin;

use rand::Rng;
use rand::rngs::StdRng;
use waypost_mail::{Entry, MessageId, NextHop, RecipientState, Route, TlsLevel};
use waypost_queue::{AdminError, Touched};
use waypost_smtp::Domain;

use crate::book::End;
use crate::relay::Relay;
use crate::visit::DOMAINS;

/// A verb of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Hold what waits.
    Hold,
    /// Release what is held.
    Release,
    /// Try what waits at once.
    Retry,
    /// Send what is not done another way: to the exchangers of this domain.
    Reroute(usize),
    /// Bounce what is not done.
    Bounce,
    /// Remove what is not done.
    Delete,
}

type Carrying = Pin<Box<dyn Future<Output = Result<Touched, AdminError>>>>;

/// An order that is being carried out.
pub struct Order {
    /// The verb.
    pub verb: Verb,
    /// The message.
    pub id: MessageId,
    /// The recipients it is about, and how they stand when it is done.
    pub recipients: Vec<(u32, End)>,
    /// The rest of it.
    pub future: Carrying,
}

impl Verb {
    /// Any of them.
    pub fn any(random: &mut StdRng) -> Verb {
        match random.random_range(0..10) {
            0 | 1 => Verb::Hold,
            2..5 => Verb::Release,
            5 => Verb::Retry,
            6 | 7 => Verb::Reroute(random.random_range(0..DOMAINS.len())),
            8 => Verb::Bounce,
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
            Verb::Reroute(_) | Verb::Bounce | Verb::Delete => !state.is_done(),
        }
    }

    /// What becomes of one that stands so.
    pub fn end(self, state: &RecipientState) -> End {
        match self {
            Verb::Hold => End::Held,
            Verb::Release | Verb::Retry => End::Open,
            Verb::Reroute(_) if matches!(state, RecipientState::Held { .. }) => End::Held,
            Verb::Reroute(_) => End::Open,
            Verb::Bounce | Verb::Delete => End::Done,
        }
    }
}

impl Order {
    /// Gives the order about those recipients of `entry` that nobody has in hand.
    pub fn new(verb: Verb, entry: &Entry, free: impl Fn(u32) -> bool, relay: &Relay) -> Order {
        let wanted = entry.recipients.iter().filter(|r| verb.wants(&r.state));
        let wanted = wanted.filter(|r| free(r.recipient.id));
        let recipients = wanted.map(|r| (r.recipient.id, verb.end(&r.state))).collect();
        let (id, queue, delivery) = (entry.id, relay.queue.clone(), relay.delivery.clone());
        let future = async move {
            match verb {
                Verb::Hold => queue.hold(id, "by order".to_owned()).await,
                Verb::Release => queue.release(id).await,
                Verb::Retry => queue.retry(id).await,
                Verb::Reroute(to) => queue.reroute(id, move |_| way(to)).await,
                Verb::Bounce => delivery.bounce(id, "by order").await,
                Verb::Delete => queue.delete(id).await,
            }
        };
        Order { verb, id, recipients, future: Box::pin(future) }
    }
}

fn way(to: usize) -> Result<Route, String> {
    let domain = Domain::parse(DOMAINS[to]).map_err(|error| error.to_string())?;
    Ok(Route::new(NextHop::Mx(domain), TlsLevel::Opportunistic))
}
