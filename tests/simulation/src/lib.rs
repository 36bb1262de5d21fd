//! The mail path under a seeded simulator: one thread, virtual time, and everything that can go
//! wrong.
//!
//! A [`storm`] runs the real code between the wire and the disk: both SMTP conversations, intake,
//! the queue with its schedule and leases, and the spool with its log, writer, replay and
//! reconciliation. Around it stand a [`disk`] that forgets what was not synced, a model of sled
//! ([`rows`]), random peers ([`visit`]), next hops ([`attempt`]) and orders ([`order`]). After every
//! step the [`book`] compares what was promised with what is there. A seed decides everything: the
//! same seed tells the same story.

#![forbid(unsafe_code)]

pub mod attempt;
pub mod book;
pub mod dialogue;
pub mod disk;
pub mod facts;
pub mod mutants;
pub mod order;
pub mod policy;
pub mod relay;
pub mod rows;
pub mod storm;
pub mod story;
pub mod visit;
