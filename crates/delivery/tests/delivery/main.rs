//! Delivery against scripted next hops: everything but the network, DNS and the disk is real, and
//! time is paused.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod attempts;
mod chunking;
mod connections;
mod conversions;
mod dane;
mod encryption;
mod extensions;
mod failover;
mod notices;
mod policy;
mod relay;
mod replies;
mod require_tls;
mod story;
mod sts;
mod trouble;
mod ways;
