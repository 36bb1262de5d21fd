//! The host and real plugins: what bad ones can do, what good ones see, and how policy changes.

#[path = "../testbed/mod.rs"]
mod testbed;

mod hostile;
mod reload;
mod stages;
