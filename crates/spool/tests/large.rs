//! Many recipients, large bodies, many at once.

mod common;

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use waypost_mail::{Body, IncomingFile, MessageId, RecipientState, Timestamp};
use waypost_spool::{Arrival, Change, Detours, Spool, SpoolError};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn five_thousand_recipients_are_settled_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (spool, _) = open(&config);
    spool.commit(accept(1, 5000, "to all")).await.unwrap();
    assert_eq!(spool.load(MessageId(1)).unwrap(), entry(1, 5000, 6));
    let waiting = |due| RecipientState::fresh(Timestamp(due));
    let tasks = (0..500u32).map(|n| {
        let spool = spool.clone();
        tokio::spawn(async move {
            let states = vec![(n * 10, done()), (n * 10 + 1, waiting(5_000)), (n * 10 + 2, held())];
            let id = MessageId(1);
            spool
                .commit(Change::Settle { id, states, detours: Detours::default(), notice: None })
                .await
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap().unwrap();
    }
    let before = spool.load(MessageId(1)).unwrap();
    for (n, recipient) in before.recipients.iter().enumerate() {
        match n % 10 {
            0 => assert!(recipient.state.is_done()),
            1 => assert_eq!(recipient.state, waiting(5_000)),
            2 => assert_eq!(recipient.state, held()),
            _ => assert_eq!(recipient.state, waiting(1_000)),
        }
    }
    drop(spool);
    for rebuild in [false, true] {
        if rebuild {
            std::fs::remove_dir_all(config.path.join("index")).unwrap();
        }
        let (spool, report) = open(&config);
        assert_eq!((report.messages, report.requeued), (1, u64::from(rebuild)));
        assert_eq!(spool.load(MessageId(1)).unwrap(), before);
    }
    let (spool, _) = open(&config);
    let all: Vec<u32> = (0..5000).collect();
    spool.commit(settle(1, &all)).await.unwrap();
    assert_eq!(ids(&*spool), []);
}

#[tokio::test]
async fn settlements_of_one_message_from_all_sides_end_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(&config(dir.path()));
    for id in 1..=20 {
        spool.commit(accept(id, 8, "x")).await.unwrap();
    }
    let tasks: Vec<_> = (0..160u32)
        .map(|n| {
            let spool = spool.clone();
            let id = u64::from(n) / 8 + 1;
            tokio::spawn(async move { spool.commit(settle(id, &[n % 8])).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(ids(&*spool), []);
    assert!(matches!(spool.commit(settle(3, &[0])).await, Err(SpoolError::Unknown(_))));
    let metrics = spool.metrics();
    assert_eq!(metrics.commits.get(), 180);
    assert!(metrics.groups.get() < 180, "nothing was shared");
    assert!(metrics.syncs.get() >= metrics.groups.get(), "a group without its sync");
}

#[tokio::test]
async fn a_large_body_is_a_file_of_its_own_as_long_as_it_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (spool, _) = open(&config);
    let header = b"Subject: large\r\n";
    let body: Vec<u8> = (0..9 * MIB).map(|n| (n / 1000) as u8).collect();
    let path = spool.incoming().join("gathered");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(header).unwrap();
    file.write_all(&body).unwrap();
    let inode = file.metadata().unwrap().ino();
    let arrival = Arrival {
        entry: entry(1, 1, body.len()),
        header: Bytes::from_static(HEADER),
        body: Body::File {
            file: IncomingFile::new(path.clone()),
            offset: header.len() as u64,
            len: body.len() as u64,
        },
        facts: Vec::new(),
    };
    spool.commit(Change::Accept(Box::new(arrival))).await.unwrap();
    spool.commit(accept(2, 1, body.clone())).await.unwrap();
    assert!(!path.exists());
    let kept = config.path.join("bodies").join(MessageId(1).to_string());
    assert_eq!(kept.metadata().unwrap().ino(), inode, "moved, not copied");
    let log: u64 = std::fs::read_dir(config.path.join("log"))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(log < MIB as u64, "the bodies are in the log");
    drop(spool);
    std::fs::remove_dir_all(config.path.join("index")).unwrap();
    std::fs::write(config.path.join("bodies").join(MessageId(99).to_string()), "left over")
        .unwrap();
    std::fs::write(config.path.join("incoming/never-accepted"), "left over").unwrap();
    let (spool, _) = open(&config);
    for id in [1, 2] {
        assert!(bytes_of(&*spool, id) == [HEADER, &body].concat());
    }
    let names = |room: &str| std::fs::read_dir(config.path.join(room)).unwrap().count();
    assert_eq!((names("bodies"), names("incoming")), (2, 0));
    let content = spool.content(MessageId(1)).unwrap();
    spool.commit(settle(1, &[0])).await.unwrap();
    // It goes after the answer.
    let gone = async {
        while kept.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    assert_eq!(content.read_at(HEADER.len() as u64, 5).unwrap(), &body[..5], "still being read");

    let second = config.path.join("bodies").join(MessageId(2).to_string());
    let mut bytes = std::fs::read(&second).unwrap();
    bytes[5 * MIB] ^= 1;
    std::fs::write(&second, bytes).unwrap();
    assert!(matches!(spool.content(MessageId(2)), Err(SpoolError::Damaged(..))));
}

#[tokio::test]
async fn a_file_of_middling_size_is_copied_and_what_is_refused_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (spool, _) = open(&config);
    let arrival = |id, size: usize| {
        let path = spool.incoming().join(format!("gathered-{id}"));
        std::fs::write(&path, vec![b'm'; size + 3]).unwrap();
        let file = IncomingFile::new(path);
        let body = Body::File { file, offset: 3, len: size as u64 };
        let entry = entry(id, 1, size);
        Change::Accept(Box::new(Arrival {
            entry,
            header: Bytes::from_static(HEADER),
            body,
            facts: Vec::new(),
        }))
    };
    spool.commit(arrival(1, MIB)).await.unwrap();
    assert!(bytes_of(&*spool, 1) == [HEADER, &vec![b'm'; MIB]].concat());
    assert!(spool.commit(arrival(1, MIB)).await.is_err(), "a second of the same id");
    assert!(spool.commit(arrival(1, 9 * MIB)).await.is_err(), "a second of the same id");
    for room in ["incoming", "bodies"] {
        assert_eq!(std::fs::read_dir(config.path.join(room)).unwrap().count(), 0, "{room}");
    }
}

#[tokio::test]
async fn old_segments_go_and_what_lives_in_them_moves() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.segment_size = 64 * 1024;
    let (spool, _) = open(&config);
    let log = config.path.join("log");
    let segments = || std::fs::read_dir(&log).unwrap().count();
    for id in 1..=1500 {
        spool.commit(accept(id, 2, vec![id as u8; 3000])).await.unwrap();
        match id % 100 {
            0 => spool.commit(administer(id, 1, held())).await.unwrap(),
            1 => waypost_mail::Ledger::put(&*spool, &format!("test/{id}"), "kept".into(), None)
                .await
                .unwrap(),
            _ => spool.commit(settle(id, &[0, 1])).await.unwrap(),
        }
        if id % 100 == 1 {
            spool.commit(settle(id, &[0, 1])).await.unwrap();
        }
    }
    // 1500 messages of 3 KB are 70 segments.
    assert!(segments() < 20, "{} segments", segments());
    let expected: Vec<u64> = (1..=15).map(|n| n * 100).collect();
    drop(spool);
    for rebuild in [false, true] {
        if rebuild {
            std::fs::remove_dir_all(config.path.join("index")).unwrap();
        }
        let (spool, report) = open(&config);
        assert_eq!((report.quarantined, report.damaged), (0, 0));
        assert_eq!(ids(&*spool), expected);
        for id in &expected {
            assert_eq!(state(&*spool, *id, 1), held());
            assert!(bytes_of(&*spool, *id) == [HEADER, &vec![*id as u8; 3000]].concat());
        }
        let facts = waypost_mail::Ledger::list(&*spool, "test/", 100, NOW).await.unwrap();
        assert_eq!(facts.len(), 15);
    }
}
