//! No address that a stranger makes up, or changes, is taken for one of ours.
//!
//! Runs for a second, or for `WAYPOST_FUZZ_SECONDS`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test by panicking")]

use std::time::Duration;

use bolero::check;
use waypost_identity::Verp;
use waypost_mail::{MessageId, Timestamp};
use waypost_smtp::{Domain, Mailbox};

const NOW: Timestamp = Timestamp(1_795_000_000_000);

fn time() -> Duration {
    let seconds = std::env::var("WAYPOST_FUZZ_SECONDS").ok();
    Duration::from_secs_f64(seconds.map_or(1.0, |seconds| seconds.parse().unwrap()))
}

#[test]
fn nothing_that_is_made_up_is_ours() {
    let verp = Verp::new(b"secret", Domain::parse("bounces.example").unwrap(), 30);
    let bob: Mailbox = "bob@example.net".parse().unwrap();
    let ours = verp.sender(MessageId(7), &bob, NOW).mailbox().unwrap().clone();
    check!().with_test_time(time()).with_type::<(u8, u8, Vec<u8>)>().for_each(
        |(at, to, made_up)| {
            let mut changed = ours.local().as_bytes().to_vec();
            let at = *at as usize % changed.len();
            changed[at] = *to;
            for local in [changed, made_up.clone()] {
                let Ok(local) = String::from_utf8(local) else { continue };
                let Ok(address) = Mailbox::parse(&format!("{local}@bounces.example")) else {
                    continue;
                };
                let same = address.to_string().eq_ignore_ascii_case(&ours.to_string());
                assert_eq!(verp.read(&address, NOW).is_ok(), same, "{address}");
                let _ = verp.vouched(MessageId(7), &local);
            }
        },
    );
}
