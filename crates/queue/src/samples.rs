//! Messages for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use tokio::time::Instant;
use waypost_mail::{
    Body, Clock, Entry, Facts, MessageId, NextHop, Recipient, RecipientEntry, RecipientState,
    Route, SessionId, Terms, Timestamp, TlsLevel,
};
use waypost_smtp::{Domain, Mailbox, ReversePath};

use crate::Prepared;

/// When the tests begin.
pub(crate) const START: Timestamp = Timestamp(1_000_000_000);
/// How long their messages live.
pub(crate) const LIFETIME: std::time::Duration = std::time::Duration::from_secs(86_400);

pub(crate) fn route(domain: &str) -> Route {
    Route::new(NextHop::Mx(Domain::parse(domain).unwrap()), TlsLevel::Opportunistic)
}

pub(crate) fn recipient(id: u32, domain: &str, route: u16) -> RecipientEntry {
    let mailbox: Mailbox = format!("to{id}@{domain}").parse().unwrap();
    let recipient = Recipient::new(id, mailbox);
    RecipientEntry { recipient, route, told: 0, state: RecipientState::fresh(START) }
}

/// A message to so many recipients of one domain.
pub(crate) fn entry(id: u64, domain: &str, recipients: u32) -> Entry {
    Entry {
        id: MessageId(id),
        received: START,
        expires: START.after(LIFETIME),
        sender: ReversePath::Mailbox("from@example.com".parse().unwrap()),
        eight_bit: false,
        smtputf8: false,
        size: 19,
        facts: Facts::internal(SessionId(id)),
        meta: vec![],
        sign: Vec::new(),
        terms: Terms::default(),
        reroutes: 0,
        routes: vec![route(domain)],
        recipients: (0..recipients).map(|id| recipient(id, domain, 0)).collect(),
    }
}

pub(crate) fn prepared(entry: Entry) -> Prepared {
    let header = Bytes::from_static(b"Subject: a sample\r\n");
    Prepared::new(entry, header, Body::Memory(Bytes::from_static(b"\r\n")))
}

/// A clock that follows tokio's time, paused or not, and jumps when it is told to.
#[derive(Debug)]
pub(crate) struct TestClock {
    began: Instant,
    jump: AtomicI64,
}

impl TestClock {
    pub(crate) fn new() -> Arc<TestClock> {
        Arc::new(TestClock { began: Instant::now(), jump: AtomicI64::new(0) })
    }

    /// The wall clock is set, by so many seconds forward or back.
    pub(crate) fn jump(&self, seconds: i64) {
        self.jump.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let Timestamp(now) = START.after(self.began.elapsed());
        Timestamp(now.saturating_add_signed(self.jump.load(Ordering::SeqCst)))
    }
}
