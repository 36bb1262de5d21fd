//! The mail path under a seeded simulator: one thread, virtual time, and everything that can go
//! wrong.
//!
//! A [`storm`] runs the real program between the wires and the disk: the doors with their sessions, intake,
//! the queue with its schedule and leases, delivery with its attempts, and the spool with its log,
//! writer, replay and reconciliation. Around it stand a [`disk`] that forgets what was not synced, a
//! model of sled ([`rows`]), random peers ([`visit`]), a network ([`net`]) with next hops ([`hop`]), a
//! policy ([`policy`]) and operators ([`order`]). A [`witness`] between queue and spool notes what is
//! asked and answered. After every step the [`book`] compares what was promised with what is there. A
//! seed decides everything: the same seed tells the same story.

#![forbid(unsafe_code)]

pub mod attempt;
pub mod book;
pub mod caller;
pub mod disk;
pub mod facts;
pub mod gate;
pub mod hop;
pub mod mutants;
pub mod net;
pub mod notice;
pub mod order;
pub mod policy;
pub mod relay;
pub mod rows;
pub mod storm;
pub mod story;
pub mod visit;
pub mod wire;
pub mod witness;
