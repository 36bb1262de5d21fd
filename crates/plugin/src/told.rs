//! What guests are told: the house's nouns in the contract's words.

use std::net::IpAddr;

use waypost_hooks::{
    Attempt, Credentials, Disposition, Event, EventKind, MessageView, PreparedCopy,
    RecipientResult, RouteView, Transaction,
};
use waypost_mail::{
    Attr, ClientCertificate, Entry, Facts, Outcome, Protocol, Recipient, Text, Why,
};
use waypost_smtp::{BodyType, Mailbox, Reply, ReversePath};

use crate::bindings::waypost::policy::types as wit;
use crate::host::message::header as message_header;

/// The longest value of an attribute, in octets.
const MAX_WORDS: usize = 4096;

pub(crate) fn attr(attr: &Attr) -> wit::Attr {
    wit::Attr { name: attr.name.clone(), value: attr.value.clone() }
}

fn attrs(attrs: &[Attr]) -> Vec<wit::Attr> {
    attrs.iter().map(attr).collect()
}

pub(crate) fn mailbox(mailbox: &Mailbox) -> wit::Mailbox {
    let domain = match mailbox.domain().name() {
        Some(name) => name.to_owned(),
        None => mailbox.domain().to_string(),
    };
    wit::Mailbox { local: mailbox.local().to_owned(), domain }
}

fn sender(path: &ReversePath) -> Option<wit::Mailbox> {
    match path {
        ReversePath::Null => None,
        ReversePath::Mailbox(sender) => Some(mailbox(sender)),
    }
}

/// An address as text, without the machinery of formatting: every call of a hook has two.
fn address(ip: IpAddr) -> String {
    let IpAddr::V4(ip) = ip.to_canonical() else { return ip.to_canonical().to_string() };
    let mut text = String::with_capacity("255.255.255.255".len());
    for (place, octet) in ip.octets().into_iter().enumerate() {
        if place > 0 {
            text.push('.');
        }
        for (unit, needed) in [(100, 100), (10, 10), (1, 0)] {
            if octet >= needed {
                text.push(char::from(b'0' + octet / unit % 10));
            }
        }
    }
    text
}

pub(crate) fn session(facts: &Facts) -> wit::Session {
    wit::Session {
        id: facts.session.to_string(),
        listener: facts.listener.clone(),
        client_ip: address(facts.client.ip()),
        client_port: facts.client.port(),
        local_ip: address(facts.local.ip()),
        local_port: facts.local.port(),
        helo: facts.helo.clone(),
        esmtp: !matches!(facts.protocol, Protocol::Smtp | Protocol::Internal),
        tls: facts.tls.as_ref().map(|tls| wit::TlsInfo {
            version: tls.version.clone(),
            cipher: tls.cipher.clone(),
            sni: tls.sni.clone(),
        }),
        identity: facts.identity.clone(),
        may_relay: facts.may_relay,
        meta: attrs(&facts.meta),
        ext: facts
            .tls
            .as_ref()
            .and_then(|tls| tls.certificate.as_deref())
            .map_or_else(Vec::new, proven),
    }
}

/// What the client proved by its certificate.
fn proven(certificate: &ClientCertificate) -> Vec<wit::Attr> {
    let told = |name: &str, value: String| {
        (!value.is_empty()).then(|| wit::Attr { name: format!("certificate/{name}"), value })
    };
    let attrs = [
        told("subject", certificate.subject.clone()),
        told("sha256", certificate.sha256.iter().map(|octet| format!("{octet:02x}")).collect()),
        told("dns-names", words(&certificate.dns_names)),
        told("addresses", words(&certificate.addresses)),
    ];
    attrs.into_iter().flatten().collect()
}

/// As many of them as there is room for in one value, with spaces between.
fn words(words: &[String]) -> String {
    let mut line = String::new();
    for word in words {
        if line.len() + 1 + word.len() > MAX_WORDS {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

pub(crate) fn recipient(recipient: &Recipient) -> wit::Recipient {
    wit::Recipient {
        id: recipient.id,
        address: mailbox(&recipient.mailbox),
        meta: attrs(&recipient.meta),
        ext: Vec::new(),
    }
}

/// The transaction before its recipients are known, and without their list.
pub(crate) fn envelope(id: Option<String>, transaction: &Transaction<'_>) -> wit::Envelope {
    wit::Envelope {
        id,
        sender: sender(transaction.sender),
        declared_size: transaction.declared_size,
        smtputf8: transaction.smtputf8,
        body_type: body_type(transaction.body_type).to_owned(),
        recipient_count: u32::try_from(transaction.recipients.len()).unwrap_or(u32::MAX),
        recipients: Vec::new(),
        meta: attrs(transaction.meta),
        ext: Vec::new(),
    }
}

/// The envelope of a complete message as it stands after the edits so far.
pub(crate) fn whole_envelope(view: &MessageView<'_>) -> wit::Envelope {
    let recipients = view.transaction.recipients.iter().map(recipient).collect();
    wit::Envelope { recipients, ..envelope(Some(view.id.to_string()), &view.transaction) }
}

fn body_type(body: BodyType) -> &'static str {
    match body {
        BodyType::SevenBit => "7bit",
        BodyType::EightBitMime => "8bitmime",
        BodyType::BinaryMime => "binarymime",
    }
}

/// What is known of a text; `wanted` are names of fields, `*` means all.
pub(crate) fn info(text: &Text, wanted: &[String]) -> wit::MessageInfo {
    let is_wanted =
        |name: &str| wanted.iter().any(|wanted| wanted == "*" || wanted.eq_ignore_ascii_case(name));
    let headers = match wanted {
        [] => Vec::new(),
        _ => {
            let fields = text.header.views().filter(|field| is_wanted(field.name));
            fields.map(message_header).collect()
        }
    };
    wit::MessageInfo {
        size: text.len(),
        header_count: u32::try_from(text.header.count()).unwrap_or(u32::MAX),
        headers,
        hops: u32::try_from(text.header.count_named("Received")).unwrap_or(u32::MAX),
        ext: Vec::new(),
    }
}

pub(crate) fn credentials(given: &Credentials) -> wit::Credentials {
    wit::Credentials {
        mechanism: given.mechanism.clone(),
        authzid: given.authzid.clone(),
        authcid: given.authcid.clone(),
        secret: given.password.clone(),
    }
}

pub(crate) fn routed(view: &RouteView<'_>, text: &Text, wanted: &[String]) -> wit::Queued {
    wit::Queued {
        id: view.id.to_string(),
        received_ms: view.received.0,
        expires_ms: view.expires.map(|expires| expires.0),
        session: session(view.session),
        sender: sender(view.sender),
        recipients: view.recipients.iter().map(recipient).collect(),
        message: info(text, wanted),
        meta: attrs(view.meta),
        ext: Vec::new(),
    }
}

fn queued<'a>(
    entry: &Entry,
    recipients: impl Iterator<Item = &'a Recipient>,
    text: &Text,
    wanted: &[String],
) -> wit::Queued {
    wit::Queued {
        id: entry.id.to_string(),
        received_ms: entry.received.0,
        expires_ms: Some(entry.expires.0),
        session: session(&entry.facts),
        sender: sender(&entry.sender),
        recipients: recipients.map(recipient).collect(),
        message: info(text, wanted),
        meta: attrs(&entry.meta),
        ext: Vec::new(),
    }
}

pub(crate) fn delivery(copy: &PreparedCopy<'_>, text: &Text, wanted: &[String]) -> wit::Delivery {
    let recipients = copy.recipients.iter().map(|entry| &entry.recipient);
    wit::Delivery {
        message: queued(copy.entry, recipients, text, wanted),
        target: copy.hop.to_owned(),
        lane: copy.destination.to_owned(),
        source: copy.source.map(str::to_owned),
    }
}

pub(crate) fn attempt(
    attempt: &Attempt<'_>,
    results: &[RecipientResult<'_>],
    text: &Text,
    wanted: &[String],
) -> wit::Attempt {
    let recipients = results.iter().map(|result| &result.recipient.recipient);
    wit::Attempt {
        message: queued(attempt.entry, recipients, text, wanted),
        target: attempt.hop.map(str::to_owned),
        lane: attempt.destination.to_owned(),
        results: grouped(results),
    }
}

/// One result for each group of recipients that fared alike.
fn grouped(results: &[RecipientResult<'_>]) -> Vec<wit::AttemptResult> {
    let mut groups: Vec<(&RecipientResult<'_>, u32, Vec<u32>)> = Vec::new();
    for result in results {
        let id = result.recipient.recipient.id;
        let attempts = attempts(result);
        let like = groups.iter_mut().find(|(first, tries, _)| {
            first.outcome == result.outcome
                && first.planned_retry == result.planned_retry
                && *tries == attempts
        });
        match like {
            Some((_, _, ids)) => ids.push(id),
            None => groups.push((result, attempts, vec![id])),
        }
    }
    groups.into_iter().map(|(first, attempts, ids)| group(first, attempts, ids)).collect()
}

/// Attempts with this one.
fn attempts(result: &RecipientResult<'_>) -> u32 {
    use waypost_mail::RecipientState::{Done, Held, Waiting};
    match &result.recipient.state {
        Waiting { tries, .. } | Held { tries, .. } => tries.saturating_add(1),
        Done(_) => 1,
    }
}

fn group(result: &RecipientResult<'_>, attempts: u32, recipients: Vec<u32>) -> wit::AttemptResult {
    let disposition = match result.disposition() {
        Disposition::Delivered => "delivered",
        Disposition::Transient => "transient",
        Disposition::Permanent => "permanent",
        Disposition::Unknown => "unknown",
    };
    let why = result.outcome.why();
    let reply = match result.outcome {
        Outcome::Delivered { reply, .. } => Some(reply),
        outcome => outcome.why().and_then(Why::reply),
    };
    wit::AttemptResult {
        recipients,
        disposition: disposition.to_owned(),
        category: why.map_or("delivered", Why::label).to_owned(),
        phase: why.map_or("eod", phase).to_owned(),
        reply: reply.map(remote_reply),
        error: why.filter(|_| reply.is_none()).map(ToString::to_string),
        attempts,
        planned_retry_ms: result.planned_retry.map(|at| at.0),
    }
}

fn phase(why: &Why) -> &'static str {
    match why.cause() {
        Why::Refused { phase, .. }
        | Why::TimedOut { phase, .. }
        | Why::ConnectionLost { phase, .. }
        | Why::ProtocolError { phase, .. } => phase_name(*phase),
        Why::Unreachable { .. } => "connect",
        Why::TlsRequired { .. } => "starttls",
        Why::AuthFailed { .. } => "auth",
        Why::NeedsEightBit(_)
        | Why::NeedsSmtputf8(_)
        | Why::NeedsBinaryMime(_)
        | Why::Unconvertible { .. }
        | Why::TooBig(_) => "mail",
        _ => "",
    }
}

fn phase_name(phase: waypost_smtp::Phase) -> &'static str {
    use waypost_smtp::Phase;
    match phase {
        Phase::Connect => "connect",
        Phase::Greeting => "greeting",
        Phase::Ehlo => "ehlo",
        Phase::StartTls => "starttls",
        Phase::Auth => "auth",
        Phase::Mail => "mail",
        Phase::Rcpt => "rcpt",
        Phase::Data => "data",
        Phase::Body => "body",
        Phase::Eod => "eod",
        _ => "",
    }
}

fn remote_reply(reply: &Reply) -> wit::RemoteReply {
    wit::RemoteReply {
        code: reply.code.get(),
        enhanced: reply.enhanced.map(|enhanced| (enhanced.0, enhanced.1, enhanced.2)),
        lines: reply.text.lines().map(str::to_owned).collect(),
    }
}

/// The contract's name of an event.
pub(crate) fn event_kind(kind: EventKind) -> &'static str {
    match kind {
        EventKind::SessionOpened => "session.opened",
        EventKind::SessionClosed => "session.closed",
        EventKind::MessageAccepted => "message.accepted",
        EventKind::MessageRefused => "message.refused",
        EventKind::Delivered => "delivery.delivered",
        EventKind::Deferred => "delivery.deferred",
        EventKind::Bounced => "delivery.bounced",
        EventKind::Dropped => "delivery.dropped",
    }
}

pub(crate) fn event(event: &Event) -> wit::Event {
    wit::Event {
        kind: event_kind(event.kind).to_owned(),
        at_ms: event.at.0,
        message_id: event.message.map(|id| id.to_string()),
        text: event.text.clone(),
        ext: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_everybody_writes_them() {
        for octet in 0..=255_u8 {
            let ip = IpAddr::from([octet, 10, 255 - octet, octet / 3]);
            assert_eq!(address(ip), ip.to_string());
        }
        for text in ["::1", "2001:db8::25", "0.0.0.0", "255.255.255.255"] {
            assert_eq!(address(text.parse().unwrap()), text);
        }
        assert_eq!(address("::ffff:192.0.2.1".parse().unwrap()), "192.0.2.1");
    }

    #[test]
    fn a_certificate_is_told_of_where_one_was_proven() {
        let mut facts = Facts::internal(waypost_mail::SessionId(1));
        assert!(session(&facts).ext.is_empty());
        let certificate = ClientCertificate {
            subject: "CN=printer".to_owned(),
            dns_names: vec!["printer.example".to_owned(), "p.example".to_owned()],
            addresses: Vec::new(),
            sha256: [0xab; 32],
        };
        let certificate = Some(std::sync::Arc::new(certificate));
        facts.tls = Some(waypost_mail::TlsFacts { certificate, ..Default::default() });
        let told: Vec<_> =
            session(&facts).ext.into_iter().map(|attr| (attr.name, attr.value)).collect();
        let attr = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            told,
            [
                attr("certificate/subject", "CN=printer"),
                attr("certificate/sha256", &"ab".repeat(32)),
                attr("certificate/dns-names", "printer.example p.example"),
            ]
        );
        assert!(words(&vec!["x".repeat(255); 100]).len() <= MAX_WORDS);
    }
}
