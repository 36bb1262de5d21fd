//! Answers the hooks by calling Wasm components, bounded in time, memory and rights.
//!
//! [`Policy`] is what is in force: a generation of plugins that never changes, and the ways to put
//! another one in its place. [`Answers`] is how the mail path asks it. A question goes to the plugins of
//! its stage in order (`turn`), each answered by an instance from a pool (`plugin`, `instance`) that runs
//! within its budget and rights (`context`, `host`). What a guest says is read whole and refused whole
//! (`heard`); a fault of any kind loses nothing and follows the rule of its stage ([`Stage::remedies`]).
//!
//! Nobody but the configuration and the program knows this room: the mail path is built and tested
//! without it.

#![deny(unsafe_code)]

mod about;
mod answer;
mod audit;
mod bindings;
mod breaker;
mod bucket;
mod canary;
pub mod check;
mod compile;
mod component;
mod config;
mod context;
mod decision;
mod digest;
mod engine;
pub mod explain;
mod generation;
mod heard;
mod host;
mod instance;
mod kv;
mod metrics;
mod mime;
mod plugin;
mod policy;
mod question;
mod services;
mod show;
mod stage;
mod table;
mod tally;
#[cfg(test)]
mod testing;
mod told;
mod turn;
pub mod when;

pub use answer::Answers;
pub use compile::{CompileError, compile_as_child};
pub use component::{Misfit, Shape};
pub use config::{
    Access, Bucket, Compiler, EditGrants, Grants, HostConfig, Mode, PluginConfig, PolicyConfig,
    Secret,
};
pub use decision::Decision;
pub use digest::Digest;
pub use generation::LoadError;
pub use metrics::Series;
pub use policy::{Change, GenerationInfo, OpenError, Policy, lines, try_out};
pub use services::{Found, Lookup, LookupError, Services};
pub use show::{Shown, ShownStage};
pub use stage::{Budget, OnError, STAGES, Stage};
pub use table::TableError;
