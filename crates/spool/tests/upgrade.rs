//! A spool written by an earlier version is opened, goes on, and is drained.
//!
//! `fixtures/format-2.tar.gz` was written by the program of format 2 and killed: four messages of
//! two recipients each, of which one waits after an attempt, one is held by an operator, one was deleted, and
//! one was bounced, by a notice that waits.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod common;

use std::path::Path;
use std::process::Command;

use common::*;
use waypost_mail::{MessageId, Protocol, RecipientState};
use waypost_smtp::ReversePath;
use waypost_spool::{Config, Spool};

const WAITING: &str = "1m8afj2nadnds";
const HELD: &str = "1m8afj5ppb5gv";
const NOTICE: &str = "1m8afjsezcj7t";

fn id(text: &str) -> MessageId {
    text.parse().unwrap()
}

fn unpacked(dir: &Path) -> Config {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-2.tar.gz");
    let unpacked = Command::new("tar").arg("xzf").arg(fixture).arg("-C").arg(dir).status();
    assert!(unpacked.unwrap().success());
    config(dir)
}

#[tokio::test]
async fn format_2_is_read_goes_on_and_is_drained() {
    for with_index in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let config = unpacked(dir.path());
        if !with_index {
            std::fs::remove_dir_all(config.path.join("index")).unwrap();
        }
        let (spool, report) = open(&config);
        assert_eq!((report.messages, report.quarantined, report.damaged), (3, 0, 0));
        let waiting = spool.load(id(WAITING)).unwrap();
        assert_eq!(waiting.sender.to_string(), "sender1@example.com");
        assert_eq!((waiting.facts.protocol, waiting.facts.may_relay), (Protocol::Esmtp, true));
        for (recipient, name) in
            waiting.recipients.iter().zip(["one1@example.org", "two1@example.net"])
        {
            assert_eq!(recipient.recipient.mailbox.to_string(), name);
            let RecipientState::Waiting { tries: 1, last: Some(why), .. } = &recipient.state else {
                panic!("{:?}", recipient.state)
            };
            assert!(why.to_string().contains("cannot connect"), "{why}");
        }
        let is_held = |state: &RecipientState| matches!(state, RecipientState::Held { reason, .. } if reason.contains("looks at it"));
        assert!(spool.load(id(HELD)).unwrap().recipients.iter().all(|r| is_held(&r.state)));
        assert_eq!(spool.load(id(NOTICE)).unwrap().sender, ReversePath::Null);
        for (message, text) in [(WAITING, "This is message 1."), (NOTICE, "Subject: number 4")] {
            let bytes = String::from_utf8(bytes_of(&*spool, id(message).0)).unwrap();
            assert!(bytes.contains(text), "{bytes}");
        }
        // It goes on, in segments of today, and everything can be settled.
        spool.commit(accept(spool.highest_id() + 1, 1, "new")).await.unwrap();
        spool.commit(settle(id(WAITING).0, &[1])).await.unwrap();
        drop(spool);
        let (spool, report) = open(&config);
        assert_eq!((report.messages, report.requeued, report.quarantined), (4, 0, 0));
        assert!(state(&*spool, id(WAITING).0, 1).is_done());
        for id in ids(&*spool) {
            spool.commit(settle(id, &[0, 1])).await.unwrap();
        }
        drop(spool);
        assert_eq!(open(&config).1.messages, 0);
    }
}
