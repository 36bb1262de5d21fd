//! The host and real plugins: what bad ones can do, what good ones see, and how policy changes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and measure real time"
)]

#[path = "../testbed/mod.rs"]
mod testbed;

mod hostile;
mod reload;
mod stages;
