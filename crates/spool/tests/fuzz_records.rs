//! Any octets as a log: opening reads them or says what is damaged, and never panics or hangs.
//! Bounded to two seconds; `WAYPOST_FUZZ_SECONDS` asks for more.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod common;

use std::fs;
use std::time::Duration;

use common::*;
use waypost_spool::{Inspector, Spool};

fn time() -> Duration {
    let seconds = std::env::var("WAYPOST_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(2))
}

/// A log as it is written, for the fuzzer to change.
fn sound_log() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (spool, _) = open(&config);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        spool.commit(accept(1, 2, "one")).await.unwrap();
        spool.commit(accept(2, 1, vec![2; 300])).await.unwrap();
        spool.commit(administer(1, 0, held())).await.unwrap();
        spool.commit(settle(2, &[0])).await.unwrap();
        waypost_mail::Ledger::put(&*spool, "test/key", "value".into(), None).await.unwrap();
    });
    drop(spool);
    fs::read(config.path.join("log/0000000001.log")).unwrap()
}

#[test]
fn any_octets_can_be_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let log = config(&path).path.join("log");
    fs::create_dir_all(&log).unwrap();
    let sound = sound_log();
    bolero::check!()
        .with_type::<(Vec<u8>, Vec<(u16, u8)>, u16, bool)>()
        .with_test_time(time())
        .for_each(|(octets, changes, cut, sealed)| {
            let mut bytes = sound.clone();
            for (at, value) in changes {
                let at = usize::from(*at) % bytes.len();
                bytes[at] = *value;
            }
            bytes.truncate(bytes.len() - usize::from(*cut) % bytes.len() / 4);
            bytes.extend_from_slice(octets);
            fs::write(log.join("0000000001.log"), &bytes).unwrap();
            let second = log.join("0000000002.log");
            if *sealed {
                fs::write(second, octets).unwrap()
            } else {
                drop(fs::remove_file(second))
            }
            let inspector = Inspector::open(&config(&path)).unwrap();
            for id in inspector.ids() {
                // Whatever is said about a message, saying it must not fail.
                if let Ok(entry) = inspector.load(id) {
                    assert_eq!(entry.id, id);
                }
                if let Ok(content) = inspector.content(id) {
                    let read = content.read_at(0, usize::MAX).unwrap();
                    assert_eq!(read.len() as u64, content.len());
                }
            }
        });
}

#[test]
fn any_log_can_be_opened_for_work() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let sound = sound_log();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for trial in 0..25usize {
        let _ = fs::remove_dir_all(&config.path);
        fs::create_dir_all(config.path.join("log")).unwrap();
        let mut bytes = sound.clone();
        for change in 0..trial % 5 {
            let at = (trial * 7919 + change * 104_729) % bytes.len();
            bytes[at] = bytes[at].wrapping_add(trial as u8);
        }
        bytes.truncate(bytes.len() - trial * 13);
        fs::write(config.path.join("log/0000000001.log"), &bytes).unwrap();
        let (spool, _) = open(&config);
        runtime.block_on(async {
            spool.commit(accept(900, 1, "still works")).await.unwrap();
        });
        assert_eq!(bytes_of(&*spool, 900), [HEADER, b"still works"].concat());
        drop(spool);
        let (spool, report) = open(&config);
        assert_eq!((report.rebuilt, report.torn), (None, 0));
        assert!(ids(&*spool).contains(&900));
    }
}
