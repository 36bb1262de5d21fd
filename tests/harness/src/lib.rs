//! What the tests of several rooms share: peers, servers and clocks that do as they are told.

#![forbid(unsafe_code)]

pub mod authority;
pub mod hooks;
pub mod knot;
pub mod meddler;
pub mod rules;
pub mod upstream;
pub mod web;
pub mod zone;
