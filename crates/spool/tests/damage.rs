//! Files are damaged while no program runs: the rest flows, and nothing held, quarantined or done
//! is ever delivered.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::*;
use waypost_mail::{Ledger, MessageId, RecipientState, Timestamp};
use waypost_spool::{Config, LogSpool, Report, Spool, SpoolError};

/// What the spool made by [`populate`] holds: ids by their fate.
const WAITING: [u64; 3] = [1, 2, 3];
const HELD: [u64; 2] = [4, 5];
const HALF: [u64; 2] = [6, 7];
const DONE: [u64; 3] = [8, 9, 10];
const RELEASED: u64 = 11;
/// Comes last, so that the damage of a test is not in the record that ends the log.
const LAST: u64 = 99;

async fn populate(config: &Config) {
    let (spool, _) = open(config);
    for id in 1..=RELEASED {
        spool.commit(accept(id, 2, vec![id as u8; 700])).await.unwrap();
    }
    for id in HELD {
        for recipient in [0, 1] {
            spool.commit(administer(id, recipient, held())).await.unwrap();
        }
    }
    for id in HALF {
        spool.commit(settle(id, &[1])).await.unwrap();
    }
    for id in DONE {
        spool.commit(settle(id, &[0])).await.unwrap();
        spool.commit(settle(id, &[1])).await.unwrap();
    }
    for recipient in [0, 1] {
        spool.commit(administer(RELEASED, recipient, held())).await.unwrap();
        let fresh = RecipientState::fresh(Timestamp(1_000));
        spool.commit(administer(RELEASED, recipient, fresh)).await.unwrap();
    }
    spool.put("test/kept", "kept".into(), None).await.unwrap();
    spool.put("test/gone", "gone".into(), None).await.unwrap();
    spool.remove("test/gone").await.unwrap();
    spool.commit(accept(LAST, 1, "")).await.unwrap();
}

/// A copy of a spool, to be damaged.
fn copy_of(config: &Config, to: &Path) -> Config {
    let _ = fs::remove_dir_all(to);
    for room in ["log", "index", "index/blobs", "bodies"] {
        fs::create_dir_all(to.join(room)).unwrap();
        for file in fs::read_dir(config.path.join(room)).unwrap() {
            let file = file.unwrap();
            if file.file_type().unwrap().is_file() {
                fs::copy(file.path(), to.join(room).join(file.file_name())).unwrap();
            }
        }
    }
    let mut copy = config.clone();
    copy.path = to.to_owned();
    copy.reserve = 0;
    copy
}

fn segment(config: &Config) -> PathBuf {
    config.path.join("log/0000000001.log")
}

fn change(path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    how(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Recipients that would be tried.
fn waits(spool: &LogSpool, id: u64) -> Vec<usize> {
    let recipients = spool.load(MessageId(id)).map_or(vec![], |entry| entry.recipients);
    let waiting = recipients.iter().enumerate();
    let waiting = waiting.filter(|(_, r)| matches!(r.state, RecipientState::Waiting { .. }));
    waiting.map(|(at, _)| at).collect()
}

/// Nothing is tried that must not be.
async fn nothing_returns(spool: &LogSpool, what: &str) {
    for id in HELD.into_iter().chain(DONE) {
        assert_eq!(waits(spool, id), [0; 0], "{id} would be delivered: {what}");
    }
    for id in HALF {
        assert!(!waits(spool, id).contains(&1), "{id} would be delivered twice: {what}");
    }
    assert_eq!(spool.get("test/gone", NOW).await.unwrap(), None, "{what}");
}

/// Everything is as it was.
async fn all_is_there(spool: &LogSpool, what: &str) {
    nothing_returns(spool, what).await;
    for id in WAITING.into_iter().chain([RELEASED]) {
        assert_eq!(waits(spool, id), [0, 1], "{id}: {what}");
    }
    for id in HELD {
        assert_eq!(state(spool, id, 0), held(), "{id}: {what}");
    }
    for id in HALF {
        assert_eq!(waits(spool, id), [0], "{id}: {what}");
    }
    assert_eq!(ids(spool).len(), 9, "{what}");
    for id in ids(spool).into_iter().filter(|id| *id != LAST) {
        assert!(bytes_of(spool, id) == [HEADER, &vec![id as u8; 700]].concat(), "{what}");
    }
    assert_eq!(spool.get("test/kept", NOW).await.unwrap().unwrap(), "kept", "{what}");
}

#[tokio::test]
async fn the_index_is_deleted_or_garbage() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    populate(&config).await;
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 8] = [
        ("deleted", |index| fs::remove_dir_all(index).unwrap()),
        ("db deleted", |index| fs::remove_file(index.join("db")).unwrap()),
        ("conf deleted", |index| fs::remove_file(index.join("conf")).unwrap()),
        ("conf garbage", |index| fs::write(index.join("conf"), "segment_size: x\n????").unwrap()),
        ("conf half", |index| change(&index.join("conf"), |b| b.truncate(b.len() / 2))),
        ("db garbage", |index| {
            change(&index.join("db"), |b| b.iter_mut().for_each(|b| *b = b.wrapping_mul(7) ^ 0x5a));
        }),
        ("db empty", |index| fs::write(index.join("db"), "").unwrap()),
        ("db half", |index| change(&index.join("db"), |b| b.truncate(b.len() / 2))),
    ];
    for (what, damage) in damages {
        let copy = copy_of(&config, &dir.path().join("copy"));
        damage(&copy.path.join("index"));
        let (spool, report) = open(&copy);
        all_is_there(&spool, what).await;
        assert_eq!((report.messages, report.quarantined, report.damaged), (9, 0, 0), "{what}");
        drop(spool);
        let (_, report) = open(&copy);
        let again = (report.rebuilt.clone(), report.requeued, report.removed);
        assert_eq!(again, (None, 0, 0), "{what}: not repaired");
    }
}

#[tokio::test]
async fn an_index_that_never_opens_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    populate(&config).await;
    let conf = config.path.join("index/conf");
    fs::remove_file(&conf).unwrap();
    // Reading a pipe that nobody writes to hangs.
    nix::unistd::mkfifo(&conf, nix::sys::stat::Mode::S_IRWXU).unwrap();
    config.open_timeout = std::time::Duration::from_millis(200);
    let (spool, report) = open(&config);
    all_is_there(&spool, "a hanging index").await;
    assert!(report.rebuilt.unwrap().contains("200ms"));
    let aside = fs::read_dir(&config.path).unwrap().flatten();
    let aside = aside.filter(|f| f.file_name().to_string_lossy().starts_with("index.damaged-"));
    assert_eq!(aside.count(), 1);
}

#[tokio::test]
async fn a_log_of_a_later_version_is_not_taken_for_damage() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    populate(&config).await;
    change(&segment(&config), |bytes| {
        bytes[7] += 1;
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    });
    let error = LogSpool::open(config.clone(), clock()).unwrap_err();
    let waypost_spool::OpenError::Io { source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), std::io::ErrorKind::Unsupported);
}

#[tokio::test]
async fn bits_of_the_index_flip() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    populate(&config).await;
    let written = fs::read(config.path.join("index/db")).unwrap();
    let end = written.iter().rposition(|byte| *byte != 0).unwrap();
    for trial in 0..40 {
        let copy = copy_of(&config, &dir.path().join("copy"));
        let at = (end * trial / 40 + trial * 37) % end;
        change(&copy.path.join("index/db"), |bytes| bytes[at] ^= 1 << (trial % 8));
        let (spool, report) = open(&copy);
        all_is_there(&spool, &format!("octet {at} of the index: {report:?}")).await;
        assert_eq!(report.quarantined, 0);
    }
}

#[tokio::test]
async fn bits_of_the_log_flip() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    populate(&config).await;
    let len = fs::read(segment(&config)).unwrap().len();
    // The last message is no one's loss.
    let end = len - 300;
    for trial in 0..80 {
        let rebuild = trial % 2 == 0;
        let copy = copy_of(&config, &dir.path().join("copy"));
        let at = (end * trial / 80 + trial * 11) % end;
        change(&segment(&copy), |bytes| bytes[at] ^= 1 << (trial % 8));
        if rebuild {
            fs::remove_dir_all(copy.path.join("index")).unwrap();
        }
        let what = format!("octet {at} of {len} in the log, index deleted: {rebuild}");
        let (spool, report) = open(&copy);
        nothing_returns(&spool, &what).await;
        assert!(report.damaged > 0, "{what}: unnoticed");
        // At most one message lost its bytes; whatever is tried has them.
        let tried = ids(&*spool).into_iter().filter(|id| !waits(&spool, *id).is_empty());
        for id in tried {
            assert!(spool.content(MessageId(id)).is_ok(), "{id} cannot be read: {what}");
        }
        if !rebuild {
            assert!(report.quarantined <= 1, "{what}: {report:?}");
            assert_eq!(ids(&*spool).len(), 9, "{what}");
            let kept = spool.get("test/kept", NOW).await.unwrap();
            assert_eq!(kept.unwrap(), "kept", "{what}");
        } else {
            assert!(ids(&*spool).len() >= 8, "{what}");
        }
        let before: Vec<_> = ids(&*spool).into_iter().map(|id| (id, waits(&spool, id))).collect();
        drop(spool);
        // What is quarantined stays so, index or not.
        fs::remove_dir_all(copy.path.join("index")).unwrap();
        let (spool, _) = open(&copy);
        let after: Vec<_> = ids(&*spool).into_iter().map(|id| (id, waits(&spool, id))).collect();
        nothing_returns(&spool, &what).await;
        for (id, waiting) in after {
            let then = before.iter().find(|(other, _)| *other == id);
            let then = then.unwrap_or_else(|| panic!("{id} appeared: {what}"));
            assert!(waiting.iter().all(|r| then.1.contains(r)), "{id} came back: {what}");
        }
    }
}

#[tokio::test]
async fn the_end_of_the_log_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    populate(&config).await;
    let len = fs::read(segment(&config)).unwrap().len();
    for cut in [1, 3, 60, 300, 500, 900, 1500, 2500, 5000, 8000, len - 70, len - 10, len] {
        let copy = copy_of(&config, &dir.path().join("copy"));
        change(&segment(&copy), |bytes| bytes.truncate(len - cut));
        let what = format!("{cut} octets cut off");
        let (spool, report) = open(&copy);
        nothing_returns(&spool, &what).await;
        assert!(report.damaged > 0, "{what}: acknowledged records are gone, and nobody says so");
        // The index still knows all messages; those without bytes are held. One whose end was cut
        // off may be back, held.
        let there = ids(&*spool);
        let mut known = WAITING.into_iter().chain(HELD).chain(HALF).chain([RELEASED, LAST]);
        assert!(known.all(|id| there.contains(&id)), "{what}: {there:?}");
        for id in ids(&*spool) {
            if !waits(&spool, id).is_empty() {
                assert!(spool.content(MessageId(id)).is_ok(), "{id}: {what}");
            }
        }
        assert_eq!(spool.get("test/kept", NOW).await.unwrap().unwrap(), "kept", "{what}");
        spool.commit(accept(500, 1, "new")).await.unwrap();
        drop(spool);
        fs::remove_dir_all(copy.path.join("index")).unwrap();
        let (spool, _) = open(&copy);
        nothing_returns(&spool, &what).await;
        assert_eq!(ids(&*spool).len(), there.len() + 1, "{what}");
    }
}

#[tokio::test]
async fn garbage_follows_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    populate(&config).await;
    for (what, garbage) in [
        ("zeros", vec![0; 5000]),
        ("noise", (0..70_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()),
        ("an old record's beginning", fs::read(segment(&config)).unwrap()[64..400].to_vec()),
    ] {
        for rebuild in [false, true] {
            let copy = copy_of(&config, &dir.path().join("copy"));
            change(&segment(&copy), |bytes| bytes.extend_from_slice(&garbage));
            if rebuild {
                fs::remove_dir_all(copy.path.join("index")).unwrap();
            }
            let (spool, report) = open(&copy);
            all_is_there(&spool, what).await;
            assert_eq!((report.torn, report.damaged), (garbage.len() as u64, 0), "{what}");
            spool.commit(accept(500, 1, "new")).await.unwrap();
            drop(spool);
            let (spool, report) = open(&copy);
            assert_eq!((report.torn, report.damaged, ids(&*spool).len()), (0, 0, 10), "{what}");
        }
    }
}

#[tokio::test]
async fn mail_that_contains_records_forges_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    populate(&config).await;
    // Records of another spool, sent by mail to this one, whose own header is then damaged.
    let other = tempfile::tempdir().unwrap();
    let foreign = common::config(other.path());
    let (spool, _) = open(&foreign);
    spool.commit(accept(777, 1, "forged")).await.unwrap();
    drop(spool);
    let forged = fs::read(segment(&foreign)).unwrap();
    let (spool, _) = open(&config);
    let at = fs::metadata(segment(&config)).unwrap().len() as usize;
    spool.commit(accept(100, 1, forged)).await.unwrap();
    spool.commit(accept(101, 1, "after it")).await.unwrap();
    drop(spool);
    change(&segment(&config), |bytes| bytes[at + 20] ^= 1);
    fs::remove_dir_all(config.path.join("index")).unwrap();
    let (spool, Report { damaged, .. }) = open(&config);
    assert!(damaged > 0);
    assert!(matches!(spool.load(MessageId(777)), Err(SpoolError::Unknown(_))));
    assert_eq!(waits(&spool, 101), [0]);
}
