//! What waits: schedule, leases, retry curves, limits.
//!
//! A [`Prepared`] message becomes durable by [`Queue::commit`]. When something of it is due and its
//! destination may be bothered, [`Queue::next`] hands out a [`Ticket`]: a lease, in memory only, on
//! some of its recipients. [`Queue::settle`] writes what became of them. A ticket that is dropped
//! gives its recipients back, and after a crash everything that was in flight is due again: mail is
//! delivered at least once, and twice only when an answer was lost.
//!
//! [`Queue::pass`] turns that round where a submitter waits: the ticket first, and durable is only what is
//! left of the message after it.

#![forbid(unsafe_code)]

mod cache;
mod classes;
mod clock;
mod config;
mod delay;
mod finish;
mod held;
#[cfg(test)]
mod house;
mod index;
mod leases;
mod loading;
mod metrics;
mod operate;
mod pace;
mod prepared;
mod queue;
#[cfg(test)]
mod samples;
mod schedule;
mod search;
mod selector;
mod settle;
mod shared;
mod site;
pub mod standing;
mod state;
mod summary;
mod through;
mod ticket;
mod timekeeper;
mod view;

pub use classes::{
    Class, DAY_MINUTES, DEFAULT_CLASS, DEFAULT_WEIGHT, Doubt, MAX_CLASSES, Rate, Tenancy, Window,
};
pub use config::{Config, RestCurve, RetryCurve};
pub use held::{Held, Limit};
pub use loading::Loading;
pub use metrics::{JumpLabels, Metrics, SettledLabels};
pub use operate::{AdminError, Preview, Selected, Touched, Verb};
pub use prepared::Prepared;
pub use queue::Queue;
pub use selector::{Field, MAX_SELECTOR, Pattern, RecipientStanding, Selector, SelectorError};
pub use site::{Site, SiteLimits};
pub use standing::Standing;
pub use summary::{AtRest, Group};
pub use ticket::{Settled, Settlement, Ticket, expired};
pub use view::{DestinationStatus, Jumped, Page, Selection, Status, Summary};
pub use waypost_spool::{Content, SpoolError};
