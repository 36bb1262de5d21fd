//! Messages, and a spool in a directory of its own.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "shared by several test programs, each of which uses a part"
)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use waypost_mail::{
    Body, Deadline, Entry, Facts, ManualClock, MessageId, NextHop, Outcome, Recipient,
    RecipientEntry, RecipientState, Route, SessionId, Terms, Timestamp, TlsLevel,
};
use waypost_smtp::{ByMode, Notify, OriginalRecipient, Priority, Return, ReversePath, Submitter};
use waypost_spool::{Arrival, Audience, Change, Config, Detours, LogSpool, Report, Spool};

pub const HEADER: &[u8] = b"Subject: a sample\r\n";
pub const NOW: Timestamp = Timestamp(1_000_000);

/// A configuration for small machines.
pub fn config(path: &Path) -> Config {
    let mut config = Config::new(path.join("spool"));
    config.keep_free = 1024 * 1024;
    config.reserve = 1024 * 1024;
    config.cache = 8 * 1024 * 1024;
    config
}

pub fn open(config: &Config) -> (Arc<LogSpool>, Report) {
    LogSpool::open(config.clone(), clock()).unwrap()
}

pub fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(NOW))
}

/// A submitter that asks for everything there is.
fn terms() -> Terms {
    let at = Timestamp(2_000_000);
    Terms {
        ret: Some(Return::Full),
        envid: Some("QQ+314159".into()),
        require_tls: true,
        tls_optional: false,
        binary: true,
        deliver_by: Some(Deadline { at, mode: ByMode::Notify, trace: true }),
        hold_until: Some(Timestamp(1_500_000)),
        priority: Priority::new(-4).unwrap(),
        submitter: Some(Submitter::Null),
    }
}

pub fn entry(id: u64, recipients: u32, body: usize) -> Entry {
    let host = NextHop::Host { host: "mx.example".into(), port: 25, implicit_tls: false };
    let recipient = |id| RecipientEntry {
        recipient: Recipient {
            notify: Notify::Of { success: true, failure: true, delay: false },
            original: Some(OriginalRecipient {
                kind: "rfc822".into(),
                address: "first@example.org".into(),
            }),
            ..Recipient::new(id, format!("to{id}@example.org").parse().unwrap())
        },
        route: 0,
        told: 0,
        state: RecipientState::fresh(Timestamp(1_000)),
    };
    Entry {
        id: MessageId(id),
        received: Timestamp(1_000),
        expires: Timestamp(9_000_000),
        sender: ReversePath::Mailbox("from@example.com".parse().unwrap()),
        eight_bit: false,
        smtputf8: false,
        size: (HEADER.len() + body) as u64,
        facts: Facts::internal(SessionId(id)),
        meta: vec![],
        sign: Vec::new(),
        terms: terms(),
        reroutes: 0,
        routes: vec![Route::new(host, TlsLevel::Opportunistic)],
        recipients: (0..recipients).map(recipient).collect(),
    }
}

pub fn arrival(id: u64, recipients: u32, body: impl Into<Bytes>) -> Arrival {
    let body = body.into();
    let entry = entry(id, recipients, body.len());
    let (header, body) = (Bytes::from_static(HEADER), Body::Memory(body));
    Arrival { entry, header, body, facts: Vec::new() }
}

pub fn accept(id: u64, recipients: u32, body: impl Into<Bytes>) -> Change {
    Change::Accept(Box::new(arrival(id, recipients, body)))
}

pub fn done() -> RecipientState {
    RecipientState::Done(Outcome::Deleted)
}

pub fn held() -> RecipientState {
    RecipientState::Held { tries: 1, reason: "an operator looks at it".into() }
}

pub fn settle(id: u64, recipients: &[u32]) -> Change {
    let states = recipients.iter().map(|id| (*id, done())).collect();
    Change::Settle { id: MessageId(id), states, detours: Detours::default(), notice: None }
}

pub fn administer(id: u64, recipient: u32, state: RecipientState) -> Change {
    Change::Administer { id: MessageId(id), states: vec![(recipient, state)] }
}

/// All bytes of a message, read in small pieces.
pub fn bytes_of(spool: &dyn Spool, id: u64) -> Vec<u8> {
    let content = spool.content(MessageId(id)).unwrap();
    let mut bytes = Vec::new();
    loop {
        let piece = content.read_at(bytes.len() as u64, 100_000).unwrap();
        if piece.is_empty() {
            assert_eq!(bytes.len() as u64, content.len());
            return bytes;
        }
        bytes.extend_from_slice(&piece);
    }
}

pub fn ids(spool: &dyn Spool) -> Vec<u64> {
    spool.ids(None, usize::MAX).unwrap().into_iter().map(|id| id.0).collect()
}

pub fn state(spool: &dyn Spool, id: u64, recipient: usize) -> RecipientState {
    spool.load(MessageId(id)).unwrap().recipients[recipient].state.clone()
}

/// Puts a copy of a directory in the place of another.
pub fn copied(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(file.file_name());
        match file.file_type().unwrap().is_dir() {
            true => copied(&file.path(), &to),
            false => drop(fs::copy(file.path(), to).unwrap()),
        }
    }
}

/// Ids of the messages told of.
#[derive(Debug, Default)]
pub struct Heard(Vec<u64>);

impl Heard {
    /// In order.
    pub fn ids(&self) -> Vec<u64> {
        let mut ids = self.0.clone();
        ids.sort_unstable();
        ids
    }
}

impl Audience for Heard {
    fn begin(&mut self) {
        self.0.clear();
    }
    fn message(&mut self, entry: Entry) {
        self.0.push(entry.id.0);
    }
}
