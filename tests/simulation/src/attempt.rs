//! Deliveries under way: the program's task for a ticket.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use waypost_delivery::Delivery;
use waypost_mail::{MessageId, RecipientEntry, RecipientState, Timestamp};
use waypost_queue::Ticket;

/// An attempt and its settlement.
pub struct Attempt {
    /// In the story.
    pub name: u64,
    /// The message.
    pub id: MessageId,
    /// Where a slot is occupied.
    pub destination: String,
    /// The recipients in hand.
    pub recipients: Vec<u32>,
    /// Those of them that are not to be tried: they are here to bounce, or so that their sender is told.
    pub untried: Vec<u32>,
    /// The settlement that it waits for, by its number among all changes.
    pub settling: Option<u64>,
    /// The rest of it.
    pub future: Pin<Box<dyn Future<Output = ()>>>,
}

impl Attempt {
    /// Begins.
    pub fn new(name: u64, ticket: Ticket, delivery: Arc<Delivery>, now: Timestamp) -> Attempt {
        let recipients = ticket.recipients.iter().map(|entry| entry.recipient.id).collect();
        let waits = |entry: &&RecipientEntry| match &entry.state {
            RecipientState::Waiting { due, .. } => *due > now,
            _ => true,
        };
        let untried = ticket.recipients.iter();
        let untried = untried.filter(|r| ticket.expired || ticket.out_of_turn || waits(r));
        let untried = untried.map(|entry| entry.recipient.id).collect();
        let (id, destination) = (ticket.id, ticket.destination.clone());
        let future = Box::pin(async move { delivery.deliver(ticket).await });
        Attempt { name, id, destination, recipients, untried, settling: None, future }
    }
}
