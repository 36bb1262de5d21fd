//! What the author of a Waypost policy plugin in Rust builds against.
//!
//! A plugin is a type that implements [`Plugin`] and the traits of the hooks it wants to answer.
//! [`export!`] names those hooks; the component then exports them and no others, and it imports
//! only what the code calls.
//!
//! ```no_run
//! use serde::Deserialize;
//! use waypost_sdk::prelude::*;
//!
//! #[derive(Deserialize, Default)]
//! #[serde(default, deny_unknown_fields)]
//! struct Config {
//!     blocked: Vec<String>,
//! }
//!
//! struct Guard {
//!     blocked: Vec<String>,
//! }
//!
//! impl Plugin for Guard {
//!     type Config = Config;
//!     fn new(config: Config) -> Result<Guard, String> {
//!         Ok(Guard { blocked: config.blocked })
//!     }
//! }
//!
//! impl OnRecipients for Guard {
//!     fn on_recipient(&self, asked: &Asked, recipient: &Recipient) -> Decision<RecipientAnswer> {
//!         if asked.session.may_relay || !self.blocked.contains(&recipient.address.domain) {
//!             return Ok(RecipientAnswer::proceed());
//!         }
//!         Ok(RecipientAnswer::refuse(reject("We do not write there").status(7, 1))
//!             .because("blocked-domain", format!("{} is blocked", recipient.address.domain)))
//!     }
//! }
//!
//! waypost_sdk::export!(Guard: recipients);
//! # fn main() {}
//! ```
//!
//! Build it with `crate-type = ["cdylib", "rlib"]` for `wasm32-unknown-unknown` with
//! `wasm-component-ld` as the linker: what cargo writes is the component.
//!
//! # What to know
//!
//! * **Data in, decision out.** A hook sees facts and answers with a decision and a list of edits.
//!   Everything applies, or nothing does.
//! * **`Err` means "could not decide".** It is a fault, and the relay does what the configuration says
//!   about faults, usually 4xx. `?` works on the host's errors and on texts ([`Undecided`]).
//! * **Replies have a class by type.** [`reject`] makes a 5xx and
//!   [`tempfail`] a 4xx; neither can be turned into the other, and both are made
//!   printable on the way.
//! * **Parse the configuration once.** [`Plugin::new`] gets it typed; a key that nobody knows is
//!   refused with its path. What costs time belongs there, not into a hook.
//! * **An instance is a cache.** It serves many messages, and may vanish at any moment. What must
//!   be remembered goes to [`kv`] or to metadata.
//! * **Tests run natively.** Outside of a relay the functions of the host answer from
//!   [`testing::Host`], which holds tables, secrets, DNS and a message, so a whole hook can be
//!   called from `cargo test`.

extern crate self as waypost_sdk;

mod address;
mod answers;
pub mod bindings;
mod config;
mod export;
mod field;
mod hooks;
mod host;
pub mod patterns;
mod plugin;
mod replies;
mod signature;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod units;

pub use address::BadAddress;
pub use answers::{RecipientAnswer, group_attempts, group_routes};
/// The types of the contract: facts, decisions and edits.
pub use bindings::imports::waypost::policy::types;
pub use export::Exported;
pub use field::{FieldAddress, field_addresses};
pub use hooks::{
    Asked, OnAttempt, OnAuth, OnConnect, OnEvents, OnHelo, OnMessage, OnPrepare, OnRecipients,
    OnRoute, OnSender, OnTimer, SelfTest,
};
pub use host::{clock, dns, http, kv, limits, log, message, metrics, random, secrets, tables};
pub use plugin::{Decision, Interest, Plugin, Undecided};
pub use replies::{because, reject, tempfail};
pub use units::{Octets, Span};

/// All that a plugin usually needs, to be imported with a star.
pub mod prelude {
    pub use crate::types::{
        Attempt, AttemptDecision, AttemptGroup, AttemptOutcome, AttemptResult, Attr, AuthDecision,
        CallInfo, Credentials, Delivery, Envelope, Event, Header, HeaderPlace, Hop, HostError,
        HostPort, LaneAdvice, Mailbox, MessageEdit, MessageInfo, MessageOutcome, MessageVerdict,
        PermanentCode, PermanentReply, PrepareOutcome, Queued, Reason, Recipient, RecipientOutcome,
        Refusal, Route, RouteDecision, RouteGroup, SenderChange, Session, SessionOutcome,
        SignRequest, TlsPolicy, TransientCode, TransientReply, Verdict,
    };
    pub use crate::{
        Asked, Decision, Interest, OnAttempt, OnAuth, OnConnect, OnEvents, OnHelo, OnMessage,
        OnPrepare, OnRecipients, OnRoute, OnSender, OnTimer, Plugin, RecipientAnswer, SelfTest,
        Undecided, because, clock, dns, field_addresses, http, kv, limits, log, message, metrics,
        random, reject, secrets, tables, tempfail,
    };
}
