//! The host and real plugins: what bad ones can do, what good ones see, and how policy changes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on has failed, and it waits by the clock"
)]

#[path = "../testbed/mod.rs"]
mod testbed;

mod hostile;
mod reload;
mod stages;
