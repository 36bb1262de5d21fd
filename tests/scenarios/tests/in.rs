//! Stories of the way in, one file each, named by what happens.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "in/a_flood_of_silent_connections.rs"]
mod a_flood_of_silent_connections;
#[path = "in/a_hostile_peer_smuggles_nothing.rs"]
mod a_hostile_peer_smuggles_nothing;
#[path = "in/bare_line_feeds_are_refused.rs"]
mod bare_line_feeds_are_refused;
#[path = "in/chunks_are_taken.rs"]
mod chunks_are_taken;
#[path = "in/drain_lets_a_transaction_finish.rs"]
mod drain_lets_a_transaction_finish;
#[path = "in/each_listener_takes_mail.rs"]
mod each_listener_takes_mail;
#[path = "in/each_mechanism_logs_in.rs"]
mod each_mechanism_logs_in;
#[path = "in/every_door_asks_the_same.rs"]
mod every_door_asks_the_same;
#[path = "in/guesser_is_shut_out.rs"]
mod guesser_is_shut_out;
#[path = "in/limits_are_what_the_file_says.rs"]
mod limits_are_what_the_file_says;
#[path = "in/login_sends_as_itself.rs"]
mod login_sends_as_itself;
#[path = "in/next_hop_cannot_take_the_message.rs"]
mod next_hop_cannot_take_the_message;
#[path = "in/policy_is_asked_at_every_stage.rs"]
mod policy_is_asked_at_every_stage;
#[path = "in/policy_says_no.rs"]
mod policy_says_no;
#[path = "in/probe_tells_what_a_server_offers.rs"]
mod probe_tells_what_a_server_offers;
#[path = "in/programs_of_this_machine_submit.rs"]
mod programs_of_this_machine_submit;
#[path = "in/queue_is_full.rs"]
mod queue_is_full;
#[path = "in/refused_recipients_in_a_pipeline.rs"]
mod refused_recipients_in_a_pipeline;
#[path = "in/relaying_is_denied.rs"]
mod relaying_is_denied;
#[path = "in/reload_while_sessions_are_open.rs"]
mod reload_while_sessions_are_open;
#[path = "in/sendmail_hands_in.rs"]
mod sendmail_hands_in;
#[path = "in/size_is_limited.rs"]
mod size_is_limited;
#[path = "in/sni_picks_the_certificate.rs"]
mod sni_picks_the_certificate;
#[path = "in/submission_completes_messages.rs"]
mod submission_completes_messages;
#[path = "in/submitters_say_how_urgent_it_is.rs"]
mod submitters_say_how_urgent_it_is;
