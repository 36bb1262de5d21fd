//! Stories with programs that are not ours: what we think SMTP is, others think too. A program that
//! is missing fails its story and says how to get it; `cargo xtask setup` installs them all.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

#[path = "peers/aiosmtpd.rs"]
mod aiosmtpd;
#[path = "peers/curl.rs"]
mod curl;
#[path = "peers/exim.rs"]
mod exim;
#[path = "peers/jail.rs"]
mod jail;
#[path = "peers/opensmtpd.rs"]
mod opensmtpd;
#[path = "peers/postfix.rs"]
mod postfix;
#[path = "peers/program.rs"]
mod program;
#[path = "peers/python.rs"]
mod python;

#[path = "peers/aiosmtpd_gets_every_octet.rs"]
mod aiosmtpd_gets_every_octet;
#[path = "peers/curl_asks_for_more.rs"]
mod curl_asks_for_more;
#[path = "peers/curl_guesses_tokens.rs"]
mod curl_guesses_tokens;
#[path = "peers/curl_shows_tokens.rs"]
mod curl_shows_tokens;
#[path = "peers/curl_speaks_smtps.rs"]
mod curl_speaks_smtps;
#[path = "peers/curl_submits_by_http.rs"]
mod curl_submits_by_http;
#[path = "peers/exim_delivers_for_us.rs"]
mod exim_delivers_for_us;
#[path = "peers/exim_submits.rs"]
mod exim_submits;
#[path = "peers/gsasl_logs_in_by_scram.rs"]
mod gsasl_logs_in_by_scram;
#[path = "peers/gsasl_shows_a_certificate.rs"]
mod gsasl_shows_a_certificate;
#[path = "peers/haproxy_speaks_for_clients.rs"]
mod haproxy_speaks_for_clients;
#[path = "peers/mail_leaves_through_proxies.rs"]
mod mail_leaves_through_proxies;
#[path = "peers/opensmtpd_delivers_for_us.rs"]
mod opensmtpd_delivers_for_us;
#[path = "peers/opensmtpd_submits.rs"]
mod opensmtpd_submits;
#[path = "peers/openssl_shows_a_certificate.rs"]
mod openssl_shows_a_certificate;
#[path = "peers/postfix_answers_the_submitter.rs"]
mod postfix_answers_the_submitter;
#[path = "peers/postfix_delivers_for_us.rs"]
mod postfix_delivers_for_us;
#[path = "peers/postfix_submits.rs"]
mod postfix_submits;
#[path = "peers/postfix_tells_what_becomes_of_it.rs"]
mod postfix_tells_what_becomes_of_it;
#[path = "peers/probe_looks_at_postfix.rs"]
mod probe_looks_at_postfix;
#[path = "peers/python_reads_notices.rs"]
mod python_reads_notices;
#[path = "peers/python_reads_what_was_converted.rs"]
mod python_reads_what_was_converted;
#[path = "peers/python_stores_by_lmtp.rs"]
mod python_stores_by_lmtp;
#[path = "peers/schemathesis_tries_everything.rs"]
mod schemathesis_tries_everything;
#[path = "peers/smtplib_shows_a_certificate.rs"]
mod smtplib_shows_a_certificate;
#[path = "peers/smtplib_speaks_lmtp.rs"]
mod smtplib_speaks_lmtp;
#[path = "peers/smtplib_submits.rs"]
mod smtplib_submits;
#[path = "peers/swaks_logs_in.rs"]
mod swaks_logs_in;
#[path = "peers/swaks_speaks_for_clients.rs"]
mod swaks_speaks_for_clients;
