//! Records as the log's format 2 wrote them, the only one that was ever in use besides the present one.
//! They are told by the version in their own header and read into the types of today; what is
//! written anew is written as of today.

use std::net::SocketAddr;

use serde::Deserialize;
use waypost_mail::{
    Attr, Convert, Entry, Facts, Heed, MessageId, NextHop, Protocol, Recipient, RecipientEntry,
    RecipientState, Route, SessionId, SignRequest, Terms, Timestamp, TlsFacts, TlsLevel,
};
use waypost_smtp::{Mailbox, ReversePath};

use crate::Detours;
use crate::record::{BodyPlace, MessageMeta, Settlement};

/// The meta part of a message.
pub(crate) fn message(meta: &[u8]) -> Option<MessageMeta> {
    postcard::from_bytes::<Meta2>(meta).ok().map(Meta2::today)
}

/// The meta part of STATE and DONE.
pub(crate) fn settlement(meta: &[u8]) -> Option<Settlement> {
    let Settlement2 { states, detours: (routes, counted), notice } =
        postcard::from_bytes(meta).ok()?;
    let routes = routes.into_iter().map(|(id, route)| (id, route.today())).collect();
    let detours = Detours { routes, counted, ..Detours::default() };
    Some(Settlement { states, detours, notice: notice.map(Meta2::today) })
}

#[derive(Deserialize)]
struct Settlement2 {
    states: Vec<(u32, RecipientState)>,
    detours: (Vec<(u32, Route2)>, bool),
    notice: Option<Meta2>,
}

#[derive(Deserialize)]
struct Meta2 {
    entry: Entry2,
    body: BodyPlace,
}

#[derive(Deserialize)]
struct Entry2 {
    id: MessageId,
    received: Timestamp,
    expires: Timestamp,
    sender: ReversePath,
    eight_bit: bool,
    smtputf8: bool,
    size: u64,
    facts: Facts2,
    meta: Vec<Attr>,
    sign: Vec<SignRequest>,
    routes: Vec<Route2>,
    reroutes: u32,
    recipients: Vec<RecipientEntry2>,
}

#[derive(Deserialize)]
struct Route2 {
    hops: Vec<NextHop>,
    lane: Option<String>,
    source: Option<String>,
    tls: TlsLevel,
    credentials: Option<String>,
}

#[derive(Deserialize)]
struct RecipientEntry2 {
    id: u32,
    mailbox: Mailbox,
    meta: Vec<Attr>,
    route: u16,
    state: RecipientState,
}

#[derive(Deserialize)]
struct Facts2 {
    session: SessionId,
    listener: String,
    client: SocketAddr,
    local: SocketAddr,
    helo: Option<String>,
    protocol: Protocol2,
    tls: Option<(String, String, Option<String>)>,
    identity: Option<String>,
    may_relay: bool,
    meta: Vec<Attr>,
}

#[derive(Deserialize)]
enum Protocol2 {
    Smtp,
    Esmtp,
    Internal,
}

impl Meta2 {
    fn today(self) -> MessageMeta {
        let old = self.entry;
        let recipients = old.recipients.into_iter().map(RecipientEntry2::today).collect();
        let entry = Entry {
            id: old.id,
            received: old.received,
            expires: old.expires,
            sender: old.sender,
            eight_bit: old.eight_bit,
            smtputf8: old.smtputf8,
            terms: Terms::default(),
            size: old.size,
            facts: old.facts.today(),
            meta: old.meta,
            sign: old.sign,
            routes: old.routes.into_iter().map(Route2::today).collect(),
            reroutes: old.reroutes,
            recipients,
        };
        MessageMeta { entry, body: self.body }
    }
}

impl Route2 {
    fn today(self) -> Route {
        let Route2 { hops, lane, source, tls, credentials } = self;
        Route {
            hops,
            lane,
            source,
            tls,
            credentials,
            fixed: false,
            heed: Heed::default(),
            certificate: None,
            convert: Convert::default(),
        }
    }
}

impl RecipientEntry2 {
    fn today(self) -> RecipientEntry {
        let recipient = Recipient { meta: self.meta, ..Recipient::new(self.id, self.mailbox) };
        RecipientEntry { recipient, route: self.route, told: 0, state: self.state }
    }
}

impl Facts2 {
    fn today(self) -> Facts {
        let tls = |(version, cipher, sni)| TlsFacts { version, cipher, sni, certificate: None };
        Facts {
            listener: self.listener,
            client: self.client,
            local: self.local,
            helo: self.helo,
            protocol: match self.protocol {
                Protocol2::Smtp => Protocol::Smtp,
                Protocol2::Esmtp => Protocol::Esmtp,
                Protocol2::Internal => Protocol::Internal,
            },
            tls: self.tls.map(tls),
            identity: self.identity,
            may_relay: self.may_relay,
            meta: self.meta,
            ..Facts::internal(self.session)
        }
    }
}
