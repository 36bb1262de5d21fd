//! The program as a process: killed, signalled, started twice, out of disk, and told what to do.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod daemon;
mod peer;

mod disk_is_full;
mod killed_after_a_refusal;
mod killed_under_load;
mod operators_change_the_queue;
mod signals;
mod spool_tools;
mod the_clock_jumps;
mod two_instances;
mod why_tells_what_was_before_a_crash;
