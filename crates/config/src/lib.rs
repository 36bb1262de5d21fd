//! The file operators write: parsed, checked as a whole, lowered into each room's own settings.
//!
//! [`Settings::load`] reads the world at the top (file, secrets, certificates, users, keys) and
//! reports every mistake at once with line, column and hint. What needs a restart ([`Startup`]) and
//! what a reload may change ([`Reload`]) are two types. [`words`] says in plain language what a
//! configuration does. Plugins are not run here: that their files are there is all that is checked.

#![forbid(unsafe_code)]

mod check;
mod file;
mod json;
mod lower;
mod mistake;
mod names;
mod open_relay;
pub mod replies;
mod roots;
mod secret;
mod section;
mod settings;
mod units;
pub mod words;

pub use mistake::{Mistake, Mistakes};
pub use settings::{
    Bounces, Door, LogSettings, PackSettings, Places, Process, Reload, Settings, Startup, places,
    rulebook,
};
pub use units::parse_span;
