//! The world in which stories happen: a relay with real sockets, a real spool and a configuration
//! file, and peers that speak to it line by line.
//!
//! ```no_run
//! # async fn story() {
//! use waypost_harness::upstream::Upstream;
//! use waypost_scenarios::{Door, Home};
//!
//! let upstream = Upstream::new();
//! let home = Home::new().trusting().route("*", upstream.listen().await.unwrap());
//! let relay = home.start().await;
//! let mut peer = relay.peer(Door::Relay).await;
//! peer.hello().await;
//! peer.deliver("a@sender.example", &["b@dest.example"], "Subject: hi\r\n\r\nHello\r\n").await;
//! waypost_scenarios::eventually("it arrives", || upstream.mails().len() == 1).await;
//! relay.stop().await;
//! # }
//! ```

#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a world that cannot be made fails its story"
)]

mod home;
mod peer;
mod process;
mod running;

use std::time::Duration;

use tokio::time::{Instant, sleep};

pub use home::{Door, Home, PASSWORD, USER, guest_file};
pub use peer::{Peer, b64, unb64};
pub use process::Process;
pub use running::Running;

/// Names the step of the spool at which a process ends by itself, and the file that must be there then:
/// `Synced:/a/file`. See `waypost_spool::FaultPoint`.
pub const STORY_ENDS: &str = "WAYPOST_STORY_ENDS";

/// How long anything may take in a story before it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `happened` says so.
///
/// # Panics
/// When it has not after [`PATIENCE`]; `what` says what was waited for.
pub async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < PATIENCE, "it did not happen: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
