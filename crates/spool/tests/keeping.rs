//! What is committed is kept, and what is done is gone, also after a new start.

mod common;

use common::*;
use waypost_mail::{Ledger, MessageId, NextHop, RecipientState, Route, Timestamp, TlsLevel};
use waypost_spool::{Change, Detours, LogSpool, OpenError, Spool, SpoolError};

#[tokio::test]
async fn a_message_is_kept_until_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (spool, report) = open(&config);
    assert_eq!((report.messages, report.rebuilt), (0, None));
    spool.commit(accept(7, 2, "\r\nhello\r\n")).await.unwrap();
    spool.commit(accept(8, 1, "\r\nworld\r\n")).await.unwrap();
    spool.commit(settle(8, &[0])).await.unwrap();
    spool.commit(settle(7, &[1])).await.unwrap();
    let expected = [HEADER, b"\r\nhello\r\n"].concat();
    assert_eq!(bytes_of(&*spool, 7), expected);
    assert_eq!((ids(&*spool), spool.highest_id()), (vec![7], 8));
    drop(spool);
    let (spool, report) = open(&config);
    assert_eq!((report.messages, report.requeued, report.removed), (1, 0, 0));
    assert_eq!(ids(&*spool), [7]);
    assert_eq!(bytes_of(&*spool, 7), expected);
    assert!(!state(&*spool, 7, 0).is_done() && state(&*spool, 7, 1).is_done());
    assert!(matches!(spool.load(MessageId(8)), Err(SpoolError::Unknown(_))));
    spool.commit(settle(7, &[0])).await.unwrap();
    assert_eq!(ids(&*spool), []);
    drop(spool);
    let (spool, _) = open(&config);
    assert_eq!((ids(&*spool), spool.highest_id()), (vec![], 8));
}

#[tokio::test]
async fn what_is_asked_of_absent_or_known_messages_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(&config(dir.path()));
    let unknown = spool.commit(settle(5, &[0])).await;
    assert!(matches!(unknown, Err(SpoolError::Unknown(MessageId(5)))));
    spool.commit(accept(5, 1, "")).await.unwrap();
    assert!(matches!(spool.commit(accept(5, 1, "")).await, Err(SpoolError::Damaged(..))));
    spool.commit(Change::Remove { id: MessageId(5) }).await.unwrap();
    assert!(matches!(spool.content(MessageId(5)), Err(SpoolError::Unknown(_))));
    assert!(spool.failure().is_none());
}

#[tokio::test]
async fn a_settlement_and_its_notice_are_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (spool, _) = open(&config);
    spool.commit(accept(1, 1, "\r\nlost\r\n")).await.unwrap();
    let notice = Some(Box::new(arrival(2, 1, "\r\nyour mail is lost\r\n")));
    let states = vec![(0, done())];
    spool
        .commit(Change::Settle { id: MessageId(1), states, detours: Detours::default(), notice })
        .await
        .unwrap();
    let expected = [HEADER, b"\r\nyour mail is lost\r\n"].concat();
    assert_eq!((ids(&*spool), bytes_of(&*spool, 2)), (vec![2], expected.clone()));
    drop(spool);
    std::fs::remove_dir_all(config.path.join("index")).unwrap();
    let (spool, report) = open(&config);
    assert!(report.rebuilt.is_some());
    assert_eq!((ids(&*spool), bytes_of(&*spool, 2)), (vec![2], expected));
}

#[tokio::test]
async fn another_way_is_kept_with_the_state_it_comes_with() {
    for recipients in [2, 200] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let (spool, _) = open(&config);
        spool.commit(accept(1, recipients, "\r\nhello\r\n")).await.unwrap();
        let elsewhere =
            NextHop::Host { host: "other.example".into(), port: 26, implicit_tls: true };
        let elsewhere = Route::new(elsewhere, TlsLevel::Never);
        let reroute = |recipient, counted| Change::Settle {
            id: MessageId(1),
            states: vec![(recipient, RecipientState::fresh(Timestamp(7_000)))],
            detours: Detours {
                routes: vec![(recipient, elsewhere.clone())],
                counted,
                ..Detours::default()
            },
            notice: None,
        };
        spool.commit(settle(1, &[0])).await.unwrap();
        spool.commit(reroute(0, true)).await.unwrap();
        let entry = spool.load(MessageId(1)).unwrap();
        assert_eq!((entry.recipients[0].route, entry.routes.len(), entry.reroutes), (0, 1, 0));
        spool.commit(reroute(1, false)).await.unwrap();
        spool.commit(reroute(1, true)).await.unwrap();
        let kept = spool.load(MessageId(1)).unwrap();
        assert_eq!((kept.recipients[1].route, kept.routes.len(), kept.reroutes), (1, 2, 1));
        assert_eq!(kept.route_of(&kept.recipients[1]), Some(&elsewhere));
        drop(spool);
        // As it is, then made anew from the log.
        assert_eq!(open(&config).0.load(MessageId(1)).unwrap(), kept);
        std::fs::remove_dir_all(config.path.join("index")).unwrap();
        assert_eq!(open(&config).0.load(MessageId(1)).unwrap(), kept);
    }
}

#[tokio::test]
async fn who_was_told_of_a_delay_and_what_was_asked_for_is_kept() {
    for recipients in [2, 200] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let (spool, _) = open(&config);
        spool.commit(accept(1, recipients, "\r\nhello\r\n")).await.unwrap();
        let told = Change::Settle {
            id: MessageId(1),
            states: vec![],
            detours: Detours { told: vec![(1, 1)], ..Detours::default() },
            notice: None,
        };
        spool.commit(told).await.unwrap();
        drop(spool);
        for rebuild in [false, true] {
            if rebuild {
                std::fs::remove_dir_all(config.path.join("index")).unwrap();
            }
            let kept = open(&config).0.load(MessageId(1)).unwrap();
            let mut expected = entry(1, recipients, "\r\nhello\r\n".len());
            expected.recipients[1].told = 1;
            assert_eq!(kept, expected);
        }
    }
}

#[tokio::test]
async fn facts_are_kept_until_they_expire_or_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (spool, _) = open(&config);
    spool.put("ban/1", "one".into(), None).await.unwrap();
    spool.put("ban/2", "two".into(), Some(Timestamp(2_000_000))).await.unwrap();
    spool.put("ban/3", "three".into(), None).await.unwrap();
    spool.put("ban/1", "uno".into(), None).await.unwrap();
    spool.remove("ban/3").await.unwrap();
    spool.remove("ban/4").await.unwrap();
    assert!(spool.put(&"k".repeat(257), "".into(), None).await.is_err());
    let spool = (0..3).fold(spool, |spool, round| {
        drop(spool);
        if round == 1 {
            std::fs::remove_dir_all(config.path.join("index")).unwrap();
        }
        open(&config).0
    });
    let list = spool.list("ban/", 10, NOW).await.unwrap();
    assert_eq!(list, [("ban/1".into(), "uno".into()), ("ban/2".into(), "two".into())]);
    assert_eq!(spool.list("ban/", 10, Timestamp(3_000_000)).await.unwrap().len(), 1);
    assert_eq!(spool.get("ban/2", Timestamp(3_000_000)).await.unwrap(), None);
    assert_eq!(spool.get("ban/3", NOW).await.unwrap(), None);
}

#[tokio::test]
async fn one_program_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (spool, _) = open(&config);
    spool.commit(accept(1, 1, "\r\n")).await.unwrap();
    let refused = LogSpool::open(config.clone(), clock()).unwrap_err();
    let pid = std::process::id().to_string();
    assert!(matches!(&refused, OpenError::Locked { pid: other, .. } if *other == pid));
    assert!(refused.to_string().contains(&pid), "{refused}");
    assert!(waypost_spool::Inspector::open(&config).is_err());
    drop(spool);
    let inspector = waypost_spool::Inspector::open(&config).unwrap();
    assert_eq!(inspector.ids(), [MessageId(1)]);
    assert_eq!(inspector.load(MessageId(1)).unwrap(), entry(1, 1, 2));
    assert_eq!(inspector.content(MessageId(1)).unwrap().len(), HEADER.len() as u64 + 2);
    let program = std::thread::spawn(move || LogSpool::open(config, clock()).is_ok());
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(!program.is_finished(), "a program waits until nobody looks");
    drop(inspector);
    assert!(program.join().unwrap());
}
