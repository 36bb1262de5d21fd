//! Whatever comes back, reading it ends, and what is found in it is bounded. So is the normal form of a
//! reply's words.
//!
//! Runs for two seconds, or for `WAYPOST_FUZZ_SECONDS`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test by panicking")]

use std::time::Duration;

use bolero::{TypeGenerator, check};
use waypost_mail::returned::{Returned, quoted_field};
use waypost_mail::rulebook::normal;

fn time() -> Duration {
    let seconds = std::env::var("WAYPOST_FUZZ_SECONDS").ok();
    Duration::from_secs_f64(seconds.map_or(1.0, |seconds| seconds.parse().unwrap()))
}

/// What such messages are made of, the parts that mean something more often than in mail.
#[derive(Debug, Clone, TypeGenerator)]
enum Piece {
    Line,
    Known(u8),
    Octets(Vec<u8>),
}

const KNOWN: &[&str] = &[
    "From: MAILER-DAEMON@mx.example.net\r\n",
    "Subject: failure notice\r\n",
    "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n",
    "Content-Type: message/delivery-status\r\n",
    "Content-Type: message/global-delivery-status\r\n",
    "Content-Type: message/feedback-report\r\n",
    "Content-Type: message/rfc822\r\n",
    "Content-Transfer-Encoding: base64\r\n",
    "Content-Transfer-Encoding: quoted-printable\r\n",
    "--b\r\n",
    "--b--\r\n",
    "Action: failed\r\n",
    "Status: 5.1.1\r\n",
    "Final-Recipient: rfc822; bob@example.net\r\n",
    "Diagnostic-Code: smtp; 550 5.1.1 no\r\n",
    "Feedback-Type: abuse\r\n",
    "Original-Mail-From: <b@bounces.example>\r\n",
    "said: 550-5.1.1 no such user\r\n",
    "X-Waypost-Sender: seal alice@news.example\r\n",
    "ü5ü4",
];

fn message(pieces: &[Piece]) -> Vec<u8> {
    let mut message = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Line => message.extend(b"\r\n"),
            Piece::Known(at) => message.extend(KNOWN[*at as usize % KNOWN.len()].as_bytes()),
            Piece::Octets(octets) => message.extend(octets),
        }
    }
    message
}

#[test]
fn reading_ends_and_finds_little() {
    check!().with_test_time(time()).with_type::<Vec<Piece>>().for_each(|pieces| {
        let message = message(pieces);
        for from_nobody in [true, false] {
            match Returned::read(&message, from_nobody) {
                Returned::Report(fates) => assert!(fates.len() <= 100),
                Returned::Words(fate) => assert!(fate.reply.is_some()),
                Returned::Complaint(_) | Returned::AutoReply | Returned::Other => {}
            }
        }
        if let Some(value) = quoted_field(&message, "X-Waypost-Sender") {
            assert!(value.len() <= message.len());
        }
        let text = String::from_utf8_lossy(&message);
        let once = normal(&text);
        assert!(once.len() <= 8 * 2048 && !once.contains("  "), "{once}");
    });
}
