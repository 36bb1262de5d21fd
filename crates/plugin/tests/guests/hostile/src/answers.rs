//! Answers that the host must not take.

use waypost_sdk::prelude::*;
use waypost_sdk::types::{
    HeaderChange, NewHeader, PermanentCode, Reason, RecipientVerdict, Splice,
};

use crate::Config;

/// A refusal as it stands: the SDK's own constructors would mend it.
fn raw_refusal(deed: &str) -> Refusal {
    let (enhanced, text) = match deed {
        "reply-crlf" => (None, "no\r\n250 ok".to_owned()),
        "reply-nul" => (None, "no\0".to_owned()),
        "reply-lines" => (None, ["line"; 9].join("\n")),
        "reply-line" => (None, "x".repeat(10_000)),
        "reply-enhanced" => (Some((1000, 0)), "no".to_owned()),
        _ => (None, "no".to_owned()),
    };
    Refusal::Reject(PermanentReply { code: PermanentCode::R550, enhanced, text })
}

fn raw_reason(code: &str, text: &str) -> Reason {
    Reason { code: code.to_owned(), text: text.to_owned(), rule: None }
}

fn reasons(deed: &str) -> Vec<Reason> {
    match deed {
        "reason-control" => vec![raw_reason("c", "a\nb")],
        "reason-long" => vec![raw_reason("c", &"x".repeat(1025))],
        "reason-nameless" => vec![raw_reason("", "text")],
        "reasons-many" => vec![because("c", "x"); 33],
        _ => Vec::new(),
    }
}

fn metas(deed: &str) -> Vec<Attr> {
    match deed {
        "meta-name" => vec![Attr::new("No Name", "x")],
        "meta-long" => vec![Attr::new("k", "x".repeat(5000))],
        "meta-many" => (0..65).map(|index| Attr::new(format!("k{index}"), "x")).collect(),
        _ => Vec::new(),
    }
}

pub(crate) fn session(bad: bool, config: &Config, call: Reason) -> SessionOutcome {
    let deed = config.r#do.as_str();
    let mut outcome = SessionOutcome::proceed().reason(call);
    if !bad {
        return outcome;
    }
    outcome.reasons.extend(reasons(deed));
    outcome.meta = metas(deed);
    match deed {
        "delay" => outcome.delay_ms = u32::MAX,
        "sender" => outcome.sender = SenderChange::NullSender,
        "sender-illegal" => outcome.sender = SenderChange::To(mailbox("a\r\nb", "example.org")),
        deed if deed.starts_with("reply-") => outcome.verdict = Verdict::Refuse(raw_refusal(deed)),
        _ => {}
    }
    outcome
}

fn mailbox(local: &str, domain: &str) -> Mailbox {
    Mailbox { local: local.to_owned(), domain: domain.to_owned() }
}

pub(crate) fn recipients(
    bad: bool,
    config: &Config,
    recipients: &[Recipient],
    call: Reason,
) -> Vec<RecipientOutcome> {
    let deed = config.r#do.as_str();
    let id = recipients.first().map_or(0, |recipient| recipient.id);
    let mut outcome = RecipientAnswer::proceed().reason(call).about(id);
    if !bad {
        return vec![outcome];
    }
    outcome.reasons.extend(reasons(deed));
    outcome.meta = metas(deed);
    match deed {
        "refuse" => outcome.verdict = Verdict::Refuse(raw_refusal(deed)),
        "accept" => outcome.verdict = Verdict::Accept,
        "foreign" => outcome.id = 4711,
        "twice" => return vec![outcome.clone(), outcome],
        "huge" => return vec![outcome; 200_000],
        "address-newline" => outcome.replace_with = vec![mailbox("a\nb", "example.org")],
        "address-domain" => outcome.replace_with = vec![mailbox("a", "")],
        "address-long" => outcome.replace_with = vec![mailbox(&"a".repeat(10_240), "example.org")],
        "address-injection" => {
            outcome.replace_with = vec![mailbox("a", "example.org>\r\nDATA")];
        }
        "addresses" => outcome.replace_with = vec![mailbox("a", "example.org"); 2000],
        "elsewhere" => outcome.replace_with = vec![mailbox("victim", "elsewhere.example")],
        deed if deed.starts_with("reply-") => outcome.verdict = Verdict::Refuse(raw_refusal(deed)),
        _ => {}
    }
    vec![outcome]
}

fn field(name: &str, value: &str) -> MessageEdit {
    let (name, value) = (name.to_owned(), value.to_owned());
    MessageEdit::AddHeader(NewHeader { name, value, place: HeaderPlace::Top })
}

fn splice(offset: u64, remove: u64, insert: &[u8]) -> MessageEdit {
    MessageEdit::SpliceBody(Splice { offset, remove, insert: insert.to_vec() })
}

fn signature(key: &str, domain: &str) -> SignRequest {
    SignRequest {
        domain: domain.to_owned(),
        selector: "s".to_owned(),
        key: key.to_owned(),
        headers: Vec::new(),
        oversign: Vec::new(),
        expire_after_s: None,
    }
}

pub(crate) fn message(bad: bool, config: &Config, call: Reason) -> MessageOutcome {
    let deed = config.r#do.as_str();
    let mut outcome = MessageOutcome::proceed().reason(call);
    if !bad {
        return outcome;
    }
    // Legal by itself: nothing of it may be applied when the rest is not.
    outcome.edits.push(field("X-Hostile", "was here"));
    outcome.reasons.extend(reasons(deed));
    match deed {
        "discard" => outcome.verdict = MessageVerdict::Discard("gone".to_owned()),
        "accept" => outcome.verdict = MessageVerdict::Accept,
        "recipient-foreign" => outcome.recipients.push(RecipientVerdict {
            id: 4711,
            verdict: raw_refusal("refuse"),
            reasons: Vec::new(),
        }),
        deed if deed.starts_with("reply-") => {
            outcome.verdict = MessageVerdict::Refuse(raw_refusal(deed));
        }
        deed => outcome.edits.extend(edits(deed)),
    }
    outcome
}

fn edits(deed: &str) -> Vec<MessageEdit> {
    match deed {
        "header-crlf" => vec![field("X-A", "a\r\nBcc: everybody@example.org")],
        "header-nul" => vec![field("X-A", "a\0b")],
        "header-colon" => vec![field("X-A: b\r\nX-B", "a")],
        "header-space" => vec![field("X A", "a")],
        "header-nameless" => vec![field("", "a")],
        "header-long" => vec![field("X-A", &"x".repeat(17 << 10))],
        "header-absent" => vec![MessageEdit::RemoveHeader(4711)],
        "header-change" => {
            vec![MessageEdit::ChangeHeader(HeaderChange { id: 0, value: "x".into() })]
        }
        "received" => vec![MessageEdit::RemoveHeadersNamed("Received".into())],
        "received-by-id" => vec![MessageEdit::RemoveHeader(0)],
        "authentication-results" => vec![field("Authentication-Results", "x; dkim=pass")],
        "return-path" => vec![field("Return-Path", "<a@example.org>")],
        "splice-overlap" => vec![splice(0, 4, b"x"), splice(3, 1, b"y")],
        "splice-falling" => vec![splice(4, 0, b"x"), splice(0, 0, b"y")],
        "splice-range" => vec![splice(1 << 20, 0, b"x")],
        "splice-end" => vec![splice(u64::MAX, u64::MAX, b"x")],
        "splice-huge" => vec![splice(0, 0, &vec![b'x'; 30 << 20])],
        "splice-big" => vec![splice(0, 0, &vec![b'x'; (4 << 20) - 1000])],
        "edits-huge" => vec![MessageEdit::RemoveHeader(0); 200_000],
        "edits-many" => vec![field("X-A", "a"); 2001],
        "sign" => vec![MessageEdit::Sign(signature("not-granted", "example.org"))],
        "sign-domain" => vec![MessageEdit::Sign(signature("key", "exam ple\r\n.org"))],
        "sender" => vec![MessageEdit::SetSender(SenderChange::NullSender)],
        "sender-keep" => vec![MessageEdit::SetSender(SenderChange::Keep)],
        "recipients-many" => vec![MessageEdit::AddRecipient(mailbox("a", "example.org")); 1500],
        "recipients-huge" => vec![MessageEdit::AddRecipient(mailbox("a", "example.org")); 100_000],
        "recipient-illegal" => vec![MessageEdit::AddRecipient(mailbox("a\r\nb", "example.org"))],
        "recipients-none" => vec![MessageEdit::RemoveRecipient(0), MessageEdit::RemoveRecipient(1)],
        "meta-name" => vec![MessageEdit::SetMeta(Attr::new("No Name", "x"))],
        _ => Vec::new(),
    }
}

fn by_host(host: &str, port: u16) -> Route {
    Route {
        hops: vec![Hop::Host(HostPort { host: host.to_owned(), port, implicit_tls: false })],
        lane: None,
        source: None,
        tls: TlsPolicy::Automatic,
        not_before_ms: None,
    }
}

pub(crate) fn route(bad: bool, config: &Config, message: &Queued, call: Reason) -> Vec<RouteGroup> {
    let ids: Vec<u32> = message.recipients.iter().map(|recipient| recipient.id).collect();
    let route = |recipients, host: &str, port| {
        let mut group = RouteGroup::new(recipients, RouteDecision::Route(by_host(host, port)));
        group.reasons.push(call.clone());
        group
    };
    match config.r#do.as_str() {
        _ if !bad => vec![route(ids, "mx.example.org", 25)],
        "foreign" => vec![route(vec![4711], "mx.example.org", 25)],
        "twice" => vec![route(ids.clone(), "a.example", 25), route(ids, "b.example", 25)],
        "hop-port" => vec![route(ids, "mx.example.org", 0)],
        "hop-name" => vec![route(ids, "mx example\r\n", 25)],
        "lane" => {
            let way = Route { lane: Some("no lane".into()), ..by_host("a.example", 25) };
            vec![RouteGroup::new(ids, RouteDecision::Route(way))]
        }
        deed if deed.starts_with("reply-") => {
            let Refusal::Reject(reply) = raw_refusal(deed) else { return Vec::new() };
            vec![RouteGroup::new(ids, RouteDecision::Fail(reply))]
        }
        _ => Vec::new(),
    }
}

pub(crate) fn prepare(bad: bool, config: &Config, call: Reason) -> PrepareOutcome {
    let mut outcome = PrepareOutcome::as_it_is().reason(call);
    match config.r#do.as_str() {
        _ if !bad => {}
        "header-crlf" => outcome.headers.push(NewHeader::top("X-A", "a\r\nb")),
        "header-colon" => outcome.headers.push(NewHeader::top("X-A:", "a")),
        "header-bottom" => outcome.headers.push(NewHeader::bottom("X-A", "a")),
        "received" => outcome.headers.push(NewHeader::top("Received", "a")),
        "sign" => outcome.sign.push(signature("not-granted", "example.org")),
        "sender" => outcome.sender = SenderChange::NullSender,
        _ => {}
    }
    outcome
}

pub(crate) fn attempt(
    bad: bool,
    config: &Config,
    attempt: &Attempt,
    call: Reason,
) -> AttemptOutcome {
    let ids: Vec<u32> = attempt.message.recipients.iter().map(|recipient| recipient.id).collect();
    let decide = |recipients, decision| {
        let mut group = AttemptGroup::new(recipients, decision);
        group.reasons.push(call.clone());
        AttemptOutcome::as_planned().group(group)
    };
    match config.r#do.as_str() {
        _ if !bad => decide(ids, AttemptDecision::RetryAt(4711)),
        "drop" => decide(ids, AttemptDecision::Drop("gone".into())),
        "foreign" => decide(vec![4711], AttemptDecision::RetryAt(0)),
        "past" => decide(ids, AttemptDecision::RetryAt(0)),
        "far" => decide(ids, AttemptDecision::RetryAt(u64::MAX)),
        "reroute" => decide(ids, AttemptDecision::Reroute(by_host("a.example", 25))),
        "hop-port" => decide(ids, AttemptDecision::Reroute(by_host("a.example", 0))),
        "advice" => AttemptOutcome::as_planned().advise(LaneAdvice {
            lane: String::new(),
            pause_s: Some(u32::MAX),
            max_concurrent: Some(0),
            valid_s: u32::MAX,
        }),
        "advice-long" => AttemptOutcome::as_planned().advise(LaneAdvice {
            lane: "example.org".into(),
            pause_s: Some(u32::MAX),
            max_concurrent: Some(0),
            valid_s: u32::MAX,
        }),
        _ => AttemptOutcome::as_planned(),
    }
}
