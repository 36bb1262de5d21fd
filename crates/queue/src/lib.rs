//! What waits: schedule, leases, retry curves, limits.
//!
//! A [`Prepared`] message becomes durable by [`Queue::commit`]. When something of it is due and its
//! destination may be bothered, [`Queue::next`] hands out a [`Ticket`]: a lease, in memory only, on
//! some of its recipients. [`Queue::settle`] writes what became of them. A ticket that is dropped
//! gives its recipients back, and after a crash everything that was in flight is due again: mail is
//! delivered at least once, and twice only when an answer was lost.

#![forbid(unsafe_code)]

mod config;
mod metrics;
mod operate;
mod prepared;
mod queue;
mod ticket;

pub use config::{Config, RestCurve, RetryCurve};
pub use metrics::Metrics;
pub use operate::{
    AdminError, DestinationStatus, Filter, RecipientStanding, Status, Summary, Touched,
};
pub use prepared::Prepared;
pub use queue::Queue;
pub use ticket::{Settled, Settlement, Ticket, expired};
pub use waypost_spool::SpoolError;
