//! Plugins that do what they should not. Numbers are those of the table of adversarial plugins in the
//! design: whatever they do, the call fails in a known way, nothing of their answer counts, the instance
//! is gone, it is counted and told, and the next call is answered.

mod answers;
mod asked;
mod begin;
mod compile;
mod deeds;
mod forged;
mod remedies;
