//! The mail path under a seeded simulator.

#![forbid(unsafe_code)]

pub mod disk;
pub mod rows;
