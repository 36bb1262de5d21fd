//! Stories of what policy may do to mail, one file each, named by what happens. Policy is a Rust
//! struct here: how plugins come to say these things is another story.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

#[path = "peers/aiosmtpd.rs"]
mod aiosmtpd;
#[path = "peers/python.rs"]
mod python;
#[path = "policy/says.rs"]
mod says;

#[path = "policy/copies_are_converted_and_signed_again.rs"]
mod copies_are_converted_and_signed_again;
#[path = "policy/copies_leave_from_a_pool.rs"]
mod copies_leave_from_a_pool;
#[path = "policy/each_recipient_is_answered_by_lmtp.rs"]
mod each_recipient_is_answered_by_lmtp;
#[path = "policy/mail_is_verified.rs"]
mod mail_is_verified;
#[path = "policy/policy_adds_and_replaces_recipients.rs"]
mod policy_adds_and_replaces_recipients;
#[path = "policy/policy_changes_in_the_middle.rs"]
mod policy_changes_in_the_middle;
#[path = "policy/policy_chooses_the_sender.rs"]
mod policy_chooses_the_sender;
#[path = "policy/policy_gives_no_route.rs"]
mod policy_gives_no_route;
#[path = "policy/policy_gives_up_quietly.rs"]
mod policy_gives_up_quietly;
#[path = "policy/policy_knows_another_way.rs"]
mod policy_knows_another_way;
#[path = "policy/policy_limits_a_lane.rs"]
mod policy_limits_a_lane;
#[path = "policy/policy_rewrites_messages.rs"]
mod policy_rewrites_messages;
#[path = "policy/policy_speaks_before_the_next_hop.rs"]
mod policy_speaks_before_the_next_hop;
#[path = "policy/policy_wants_signatures.rs"]
mod policy_wants_signatures;
