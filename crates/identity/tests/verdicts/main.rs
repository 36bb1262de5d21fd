//! What we find out about messages, against zones served by a real DNS server, with pyspf, dkimpy and
//! authheaders as second opinions.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail the test and say why"
)]

mod arc;
mod bounds;
mod copy;
mod dkim;
mod dmarc;
mod seal;
mod spf;
mod world;
