//! The SMTP wire language and both conversations, without I/O.
//!
//! Bytes go in, steps come out: [`server`] is what a peer may say to us and [`client`] what we
//! say to a next hop. Neither knows a socket, a clock or a runtime, so every dialogue can be
//! replayed from a file, cut at any byte, and fuzzed. The nouns both share come first:
//! [`Mailbox`], [`Reply`], [`BodyType`], [`Phase`].

#![forbid(unsafe_code)]

pub mod address;
pub mod client;
mod command;
pub mod data;
pub mod extensions;
mod parameters;
pub mod phase;
pub mod reply;
pub mod reply_parser;
pub mod server;
pub mod stuff;
pub mod terms;
pub mod xclient;

pub use address::{AddressError, Domain, Mailbox, ReversePath};
pub use extensions::{Extensions, Limits};
pub use phase::Phase;
pub use reply::{Code, Enhanced, PermanentReply, Reply, Severity, TransientReply};
pub use reply_parser::{ReplyError, ReplyParser};
pub use stuff::Stuffer;
pub use terms::{ByMode, DeliverBy, Hold, Notify, OriginalRecipient, Priority, Return, Submitter};

use serde::{Deserialize, Serialize};

/// What a body may contain (RFC 6152 §2, RFC 3030 §3), the least first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum BodyType {
    /// Lines of US-ASCII. What a submitter promises when it says nothing.
    #[default]
    SevenBit,
    /// Lines that may have octets over 127 (`BODY=8BITMIME`).
    EightBitMime,
    /// Any octets at all, which may not even be lines (`BODY=BINARYMIME`).
    BinaryMime,
}
