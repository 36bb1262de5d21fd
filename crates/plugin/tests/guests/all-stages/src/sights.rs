//! What was told, in one line each.

use waypost_sdk::prelude::*;

fn attrs(attrs: &[Attr]) -> String {
    let attrs: Vec<String> =
        attrs.iter().map(|attr| format!("{}={}", attr.name, attr.value)).collect();
    attrs.join(",")
}

fn address(mailbox: &Mailbox) -> String {
    format!("{}@{}", mailbox.local, mailbox.domain)
}

pub(crate) fn call(call: &CallInfo) -> String {
    let CallInfo { generation, now_ms, budget_us, dry_run, .. } = call;
    format!("generation {generation} now {now_ms} budget {budget_us} dry-run {dry_run}")
}

pub(crate) fn session(session: &Session) -> String {
    let Session { listener, client_ip, client_port, local_ip, local_port, esmtp, .. } = session;
    let tls = session.tls.as_ref();
    let tls = tls.map(|tls| format!("{} {} {:?}", tls.version, tls.cipher, tls.sni));
    format!(
        "session {listener} {client_ip}:{client_port} {local_ip}:{local_port} helo {:?} esmtp {esmtp} \
         tls {tls:?} identity {:?} relay {} meta {}",
        session.helo,
        session.identity,
        session.may_relay,
        attrs(&session.meta)
    )
}

pub(crate) fn envelope(envelope: &Envelope) -> String {
    format!(
        "envelope id {} sender {} size {:?} utf8 {} body {} count {} meta {}",
        envelope.id.is_some(),
        envelope.sender.as_ref().map_or("<>".to_owned(), address),
        envelope.declared_size,
        envelope.smtputf8,
        envelope.body_type,
        envelope.recipient_count,
        attrs(&envelope.meta)
    )
}

pub(crate) fn recipient(recipient: &Recipient) -> String {
    let Recipient { id, address: mailbox, meta, .. } = recipient;
    format!("recipient {id} {} meta {}", address(mailbox), attrs(meta))
}

pub(crate) fn info(info: &MessageInfo) -> String {
    let headers: Vec<String> =
        info.headers.iter().map(|h| format!("{}={}={}", h.id, h.name, h.value)).collect();
    format!(
        "message size {} fields {} hops {} headers {}",
        info.size,
        info.header_count,
        info.hops,
        headers.join("|")
    )
}

pub(crate) fn queued(message: &Queued) -> Vec<String> {
    let mut saw = vec![
        format!(
            "queued {} received {} expires {:?} sender {} meta {}",
            message.id,
            message.received_ms,
            message.expires_ms,
            message.sender.as_ref().map_or("<>".to_owned(), address),
            attrs(&message.meta)
        ),
        info(&message.message),
    ];
    saw.extend(message.recipients.iter().map(recipient));
    saw
}

pub(crate) fn result(result: &AttemptResult) -> String {
    let AttemptResult { recipients, disposition, category, phase, error, attempts, .. } = result;
    let reply = result.reply.as_ref();
    let reply = reply.map(|r| format!("{} {:?} {}", r.code, r.enhanced, r.lines.join("/")));
    format!(
        "result {recipients:?} {disposition} {category} {phase} reply {reply:?} error {error:?} \
         attempts {attempts} planned {:?}",
        result.planned_retry_ms
    )
}
