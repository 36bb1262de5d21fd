//! The first words of a message's story: who brought it, for whom, and where it goes.

use std::net::SocketAddr;

use waypost_history::{About, Accepted, Goes, Note, Notice, Pen, Refused};
use waypost_mail::{
    Entry, Facts, Message, MessageId, Protocol, RecipientEntry, RecipientState, SessionId,
    SignRequest, TlsFacts,
};
use waypost_queue::Prepared;
use waypost_smtp::{Reply, ReversePath};

/// Recipients that are named; of more the number is told.
const MAX_RECIPIENTS: usize = 100;
/// Metadata that is told.
const MAX_FACTS: usize = 64;
/// Octets of one value that are told.
const MAX_VALUE: usize = 1024;

/// What is told of a message once it is durable. It is made before, because then the message is away.
#[derive(Debug)]
pub struct Story {
    id: MessageId,
    accepted: Accepted,
    notice: Option<Notice>,
}

impl Story {
    /// Of somebody's mail, or mail of our own; nothing where nobody writes it.
    pub fn of(pen: &Pen, prepared: &Prepared) -> Option<Story> {
        let entry = prepared.entry();
        let story = || Story { id: entry.id, accepted: accepted(entry, None), notice: None };
        (!pen.is_idle()).then(story)
    }

    /// Of a notice about another message, which is told of in that one's story too. `kinds` are what it
    /// tells, in a word each.
    pub fn of_notice(
        pen: &Pen,
        prepared: &Prepared,
        about: MessageId,
        kinds: Vec<String>,
    ) -> Option<Story> {
        let entry = prepared.entry();
        let to = entry.recipients.first().map(|to| to.recipient.mailbox.to_string());
        let story = || Story {
            id: entry.id,
            accepted: accepted(entry, Some(about)),
            notice: Some(Notice { id: entry.id, to: to.unwrap_or_default(), kinds }),
        };
        (!pen.is_idle()).then(story)
    }

    /// Its next hop refused it, and its submitter was told so: nothing is kept.
    pub fn tell_refused(self, pen: &Pen, reply: &Reply) {
        let Accepted { session, listener, client, sender, .. } = self.accepted;
        let (client, reply) = (client.unwrap_or_default(), reply.to_string());
        let refused = Refused { session, listener, client, sender, reply };
        pen.tell(About::Message(self.id), 512, || Note::Refused(Box::new(refused)));
    }

    /// It is durable, or with its next hop.
    pub fn tell(self, pen: &Pen) {
        let Story { id, accepted, notice } = self;
        if let (Some(notice), Some(about)) = (notice, accepted.notice_about) {
            pen.tell(About::Message(about), 256, || Note::Notice(notice));
        }
        let weight = 1024 + 128 * accepted.recipients.len();
        pen.tell(About::Message(id), weight, || Note::Accepted(Box::new(accepted)));
    }
}

/// Tells that a complete message was refused.
pub(crate) fn refused(pen: &Pen, id: MessageId, bringer: Bringer, reply: &Reply) {
    let Bringer { session, listener, client, sender } = bringer;
    let refused = Refused {
        session,
        listener,
        client: client.to_string(),
        sender: sender.to_string(),
        reply: reply.to_string(),
    };
    pen.tell(About::Message(id), 512, || Note::Refused(Box::new(refused)));
}

/// Tells that policy dropped a complete message.
pub(crate) fn discarded(pen: &Pen, id: MessageId, reason: &str) {
    let reason = reason.to_owned();
    pen.tell(About::Message(id), 256, || Note::Discarded { reason });
}

/// Who brought a message and where its bounces would go.
#[derive(Debug)]
pub(crate) struct Bringer {
    session: SessionId,
    listener: String,
    client: SocketAddr,
    sender: ReversePath,
}

impl Bringer {
    pub(crate) fn of(message: &Message) -> Bringer {
        let Message { facts, envelope, .. } = message;
        let (session, client) = (facts.session, facts.client);
        Bringer {
            session,
            client,
            listener: facts.listener.clone(),
            sender: envelope.sender.clone(),
        }
    }
}

fn accepted(entry: &Entry, notice_about: Option<MessageId>) -> Accepted {
    let Entry { facts, sender, recipients, size, terms, expires, meta, sign, .. } = entry;
    let goes = |recipient: &RecipientEntry| Goes {
        recipient: recipient.recipient.mailbox.to_string(),
        way: way(entry, recipient),
    };
    let shorten = |attr: &waypost_mail::Attr| {
        let mut attr = attr.clone();
        attr.value.truncate(attr.value.floor_char_boundary(MAX_VALUE));
        attr
    };
    let internal = facts.protocol == Protocol::Internal;
    Accepted {
        session: facts.session,
        listener: facts.listener.clone(),
        protocol: protocol(facts).to_owned(),
        client: (!internal).then(|| facts.client.to_string()),
        helo: facts.helo.clone(),
        tls: facts
            .tls
            .as_ref()
            .map(|TlsFacts { version, cipher, .. }| format!("{version}, {cipher}")),
        user: facts.identity.clone(),
        sender: sender.to_string(),
        recipients: recipients.iter().take(MAX_RECIPIENTS).map(goes).collect(),
        more: recipients.len().saturating_sub(MAX_RECIPIENTS) as u32,
        size: *size,
        priority: terms.priority.get(),
        expires: *expires,
        facts: meta.iter().take(MAX_FACTS).map(shorten).collect(),
        signed: sign
            .iter()
            .map(|SignRequest { domain, selector, .. }| format!("d={domain} s={selector}"))
            .collect(),
        notice_about,
    }
}

fn way(entry: &Entry, recipient: &RecipientEntry) -> String {
    let route = entry.route_of(recipient).filter(|route| !route.hops.is_empty());
    let way = match route {
        Some(route) => format!("by {}", route.destination()),
        None => "where to is not decided yet".to_owned(),
    };
    match &recipient.state {
        RecipientState::Held { reason, .. } => format!("held: {reason}; {way}"),
        RecipientState::Waiting { last: Some(why), .. } => format!("bounces: {why}"),
        RecipientState::Waiting { due, .. } if *due > entry.received => {
            format!("{way}, not before {due}")
        }
        _ => way,
    }
}

fn protocol(facts: &Facts) -> &'static str {
    match facts.protocol {
        Protocol::Smtp => "SMTP",
        Protocol::Esmtp => "ESMTP",
        Protocol::Internal => "internal",
        Protocol::Lmtp => "LMTP",
        Protocol::Local => "local",
        Protocol::Http => "HTTP",
    }
}
