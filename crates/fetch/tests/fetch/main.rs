//! The client against real servers on loopback, honest and hostile ones.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

mod addresses;
mod limits;
mod redirects;
mod rules;
mod setup;
mod tls;
