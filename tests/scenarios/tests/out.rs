//! Stories of the way out, one file each, named by what happens.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "out/way.rs"]
mod way;

#[path = "out/chunks_are_sent.rs"]
mod chunks_are_sent;
#[path = "out/connections_are_shared_and_counted.rs"]
mod connections_are_shared_and_counted;
#[path = "out/destination_is_down.rs"]
mod destination_is_down;
#[path = "out/dnssec_names_the_certificate.rs"]
mod dnssec_names_the_certificate;
#[path = "out/domain_asks_for_tls.rs"]
mod domain_asks_for_tls;
#[path = "out/domain_is_an_address.rs"]
mod domain_is_an_address;
#[path = "out/domain_says_where_its_mail_goes.rs"]
mod domain_says_where_its_mail_goes;
#[path = "out/mail_comes_back.rs"]
mod mail_comes_back;
#[path = "out/mail_must_stay_encrypted.rs"]
mod mail_must_stay_encrypted;
#[path = "out/mail_of_a_class_waits.rs"]
mod mail_of_a_class_waits;
#[path = "out/mail_would_come_back_to_us.rs"]
mod mail_would_come_back_to_us;
#[path = "out/many_domains_share_a_provider.rs"]
mod many_domains_share_a_provider;
#[path = "out/message_expires.rs"]
mod message_expires;
#[path = "out/operators_suppress_by_hand.rs"]
mod operators_suppress_by_hand;
#[path = "out/probe_tells_the_way.rs"]
mod probe_tells_the_way;
#[path = "out/recipients_fare_differently.rs"]
mod recipients_fare_differently;
#[path = "out/replies_are_read.rs"]
mod replies_are_read;
#[path = "out/routes_lead_nowhere.rs"]
mod routes_lead_nowhere;
#[path = "out/sender_is_told.rs"]
mod sender_is_told;
#[path = "out/smart_host_wants_a_login.rs"]
mod smart_host_wants_a_login;
#[path = "out/smart_hosts_share_the_mail.rs"]
mod smart_hosts_share_the_mail;
#[path = "out/starttls_is_missing_or_broken.rs"]
mod starttls_is_missing_or_broken;
#[path = "out/the_next_hop_answers.rs"]
mod the_next_hop_answers;
#[path = "out/the_next_hop_does_not_answer.rs"]
mod the_next_hop_does_not_answer;
#[path = "out/the_next_hop_is_not_asked_yet.rs"]
mod the_next_hop_is_not_asked_yet;
#[path = "out/upstream_drops_after_data.rs"]
mod upstream_drops_after_data;
#[path = "out/upstream_drops_or_hangs.rs"]
mod upstream_drops_or_hangs;
#[path = "out/upstream_refuses.rs"]
mod upstream_refuses;
#[path = "out/who_is_gone_gets_no_mail.rs"]
mod who_is_gone_gets_no_mail;
#[path = "out/why_tells_the_story.rs"]
mod why_tells_the_story;
#[path = "out/why_tells_what_held_it_back.rs"]
mod why_tells_what_held_it_back;
#[path = "out/why_tells_what_was_proven.rs"]
mod why_tells_what_was_proven;
