//! Messages for tests.

use bytes::Bytes;
use waypost_mail::{
    Body, Entry, Facts, MessageId, NextHop, Recipient, RecipientEntry, RecipientState, Route,
    SessionId, Terms, Timestamp, TlsLevel,
};
use waypost_smtp::{Mailbox, ReversePath};

use crate::{Arrival, Change};

pub(crate) const HEADER: &[u8] = b"Subject: a sample\r\n";

pub(crate) fn entry(id: u64, recipients: u32, body: usize) -> Entry {
    let host = NextHop::Host { host: "mx.example".into(), port: 25, implicit_tls: false };
    let recipient = |id| RecipientEntry {
        recipient: Recipient::new(id, mailbox(&format!("to{id}@example.org"))),
        route: 0,
        told: 0,
        state: RecipientState::fresh(Timestamp(1_000)),
    };
    Entry {
        id: MessageId(id),
        received: Timestamp(1_000),
        expires: Timestamp(1_000_000),
        sender: ReversePath::Mailbox(mailbox("from@example.com")),
        eight_bit: false,
        smtputf8: false,
        size: (HEADER.len() + body) as u64,
        facts: Facts::internal(SessionId(id)),
        meta: vec![],
        sign: Vec::new(),
        terms: Terms::default(),
        reroutes: 0,
        routes: vec![Route::new(host, TlsLevel::Opportunistic)],
        recipients: (0..recipients).map(recipient).collect(),
    }
}

pub(crate) fn arrival(id: u64, recipients: u32, body: &[u8]) -> Arrival {
    let entry = entry(id, recipients, body.len());
    let body = Body::Memory(Bytes::copy_from_slice(body));
    Arrival { entry, header: Bytes::from_static(HEADER), body, facts: Vec::new() }
}

pub(crate) fn accept(id: u64, recipients: u32, body: &[u8]) -> Change {
    Change::Accept(Box::new(arrival(id, recipients, body)))
}

fn mailbox(text: &str) -> Mailbox {
    text.parse().unwrap()
}
