//! Stories of the way in, one file each, named by what happens.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "in/each_listener_takes_mail.rs"]
mod each_listener_takes_mail;
