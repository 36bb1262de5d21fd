//! The nouns of a message's journey.
//!
//! A peer's [`Facts`] and [`Envelope`] plus a [`Body`] make a [`Message`]; once accepted it is an
//! [`Entry`] whose recipients each carry a [`RecipientState`], are sent along a [`Route`] and end
//! in an [`Outcome`]. No room below knows these words, every room above shares them.

#![forbid(unsafe_code)]

pub mod addresses;
pub mod attr;
pub mod body;
pub mod certificate;
pub mod clock;
pub mod diagnosis;
pub mod dsn;
pub mod entry;
pub mod envelope;
pub mod facts;
pub mod fetch;
pub mod header;
pub mod id;
pub mod ledger;
pub mod network;
pub mod outcome;
pub mod pattern;
pub mod returned;
pub mod route;
pub mod rulebook;
pub mod security;
pub mod sign;
pub mod suppression;
pub mod terms;
pub mod text;
pub mod visible;
pub mod words;

pub use addresses::AddressList;
pub use attr::Attr;
pub use body::{Body, IncomingFile};
pub use certificate::{Fingerprint, FingerprintError};
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use diagnosis::{Category, Diagnosis, Disposition, Scope};
pub use entry::{Entry, RecipientEntry, RecipientState};
pub use envelope::{Envelope, Recipient};
pub use facts::{ClientCertificate, Facts, Protocol, TlsFacts};
pub use fetch::{
    Addresses, Allow, AllowRule, Fetch, FetchError, FetchRequest, FetchResponse, Origin, Scheme,
};
pub use header::HeaderBlock;
pub use id::{IdSource, MessageId, SessionId};
pub use ledger::{Ledger, LedgerError};
pub use network::{Network, NetworkError};
pub use outcome::{Outcome, Why};
pub use pattern::DomainPattern;
pub use route::{Convert, Heed, NextHop, Route, TlsLevel};
pub use rulebook::Rulebook;
pub use security::{Protection, Security, TlsVersion};
pub use sign::SignRequest;
pub use suppression::Suppression;
pub use terms::{Deadline, Terms};
pub use text::{Rope, Source, Text};

/// A complete message at the door: nothing about it is durable yet.
#[derive(Debug)]
pub struct Message {
    /// Who sends it to whom.
    pub envelope: Envelope,
    /// What we know of the peer that brought it.
    pub facts: Facts,
    /// Header and body as received, dot-unstuffed.
    pub body: Body,
    /// When the transaction began.
    pub received: Timestamp,
}
