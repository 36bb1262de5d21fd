//! Stories of what is kept, one file each, named by what happens.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "kept/a_message_is_damaged_while_it_waits.rs"]
mod a_message_is_damaged_while_it_waits;
#[path = "kept/a_rest_outlives_a_restart.rs"]
mod a_rest_outlives_a_restart;
#[path = "kept/ends_before_an_answer_by_http.rs"]
mod ends_before_an_answer_by_http;
#[path = "kept/ends_while_its_submitter_waits.rs"]
mod ends_while_its_submitter_waits;
#[path = "kept/index_is_damaged_or_deleted.rs"]
mod index_is_damaged_or_deleted;
#[path = "kept/notices_are_told_once.rs"]
mod notices_are_told_once;
#[path = "kept/policy_refuses_just_before_a_crash.rs"]
mod policy_refuses_just_before_a_crash;
#[path = "kept/restart_with_mail_in_flight.rs"]
mod restart_with_mail_in_flight;
#[path = "kept/suppression_list_outlives_a_crash.rs"]
mod suppression_list_outlives_a_crash;
