//! A message with nothing left to decide.

use bytes::Bytes;
use waypost_mail::ledger::Fact;
use waypost_mail::{Body, Entry, MessageId};
use waypost_spool::Arrival;

/// Final bytes and routes: it can only be committed.
#[derive(Debug)]
pub struct Prepared {
    arrival: Arrival,
}

impl Prepared {
    /// `header` is the header fields, each with its CRLF, and the blank line; `body` is what follows.
    pub fn new(entry: Entry, header: Bytes, body: Body) -> Prepared {
        Prepared { arrival: Arrival { entry, header, body, facts: Vec::new() } }
    }

    /// With facts of the ledger that become durable together with it, or not at all.
    #[must_use]
    pub fn with_facts(mut self, facts: Vec<Fact>) -> Prepared {
        self.arrival.facts = facts;
        self
    }

    /// The message's id.
    pub fn id(&self) -> MessageId {
        self.arrival.entry.id
    }

    /// Everything about it but its bytes.
    pub fn entry(&self) -> &Entry {
        &self.arrival.entry
    }

    pub(crate) fn arrival(&self) -> &Arrival {
        &self.arrival
    }

    pub(crate) fn into_arrival(self) -> Arrival {
        self.arrival
    }
}
