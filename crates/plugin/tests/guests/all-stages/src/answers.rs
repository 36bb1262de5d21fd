//! Answers, as the configuration writes them. A verdict is `proceed`, `accept`, `disconnect`,
//! `discard`, `quarantine`, or a reply: `450 not now`, `550 no`.

use serde::Deserialize;
use waypost_sdk::prelude::*;
use waypost_sdk::types::{
    NewHeader, PermanentCode, Reason, RecipientVerdict, Splice, TransientCode,
};

#[derive(Deserialize, Default, Clone)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Script {
    verdict: String,
    /// By local part, instead of `verdict`.
    recipients: Vec<(String, String)>,
    delay_ms: u32,
    meta: Vec<(String, String)>,
    /// `<>` or an address.
    sender: Option<String>,
    replace_with: Vec<String>,
    add: Vec<(String, String)>,
    remove: Vec<String>,
    splice: Vec<(u64, u64, String)>,
    add_recipient: Vec<String>,
    remove_recipient: Vec<u32>,
    /// Key, domain and selector.
    sign: Vec<(String, String, String)>,
    /// Host and port by local part.
    hops: Vec<(String, String, u16)>,
    /// Retry, or postpone, until.
    until: Option<u64>,
    identity: String,
    /// Lane, pause in seconds.
    advice: Option<(String, u32)>,
}

fn refusal(reply: &str) -> Option<Refusal> {
    let (code, text) = reply.split_once(' ').unwrap_or((reply, ""));
    let number = code.parse().ok()?;
    let permanent = PermanentCode::from_number(number).map(|code| reject(text).code(code).into());
    permanent
        .or_else(|| TransientCode::from_number(number).map(|code| tempfail(text).code(code).into()))
}

fn verdict(word: &str) -> Verdict {
    match word {
        "" | "proceed" => Verdict::Proceed,
        "accept" => Verdict::Accept,
        "disconnect" => Verdict::Disconnect(tempfail("go away").code(TransientCode::R421).into()),
        reply => refusal(reply).map_or(Verdict::Proceed, Verdict::Refuse),
    }
}

fn address(text: &str) -> Mailbox {
    let (local, domain) = text.split_once('@').unwrap_or((text, ""));
    Mailbox { local: local.to_owned(), domain: domain.to_owned() }
}

impl Script {
    fn attrs(&self) -> Vec<Attr> {
        self.meta.iter().map(|(name, value)| Attr::new(name, value)).collect()
    }

    fn change(&self) -> SenderChange {
        match self.sender.as_deref() {
            None => SenderChange::Keep,
            Some("<>") => SenderChange::NullSender,
            Some(text) => SenderChange::To(address(text)),
        }
    }

    fn signatures(&self) -> impl Iterator<Item = SignRequest> {
        self.sign.iter().map(|(key, domain, selector)| SignRequest {
            domain: domain.clone(),
            selector: selector.clone(),
            key: key.clone(),
            headers: Vec::new(),
            oversign: Vec::new(),
            expire_after_s: None,
        })
    }

    fn way(&self, local: &str) -> Option<Route> {
        let mine = |(known, _, _): &&(String, String, u16)| known == local || known == "*";
        let (_, host, port) = self.hops.iter().find(mine)?;
        let host = HostPort { host: host.clone(), port: *port, implicit_tls: false };
        Some(Route {
            hops: vec![Hop::Host(host)],
            lane: None,
            source: None,
            tls: TlsPolicy::Automatic,
            not_before_ms: None,
        })
    }

    pub(crate) fn session(&self, reasons: Vec<Reason>) -> SessionOutcome {
        SessionOutcome {
            verdict: verdict(&self.verdict),
            delay_ms: self.delay_ms,
            meta: self.attrs(),
            sender: self.change(),
            reasons,
        }
    }

    pub(crate) fn auth(&self) -> AuthDecision {
        match refusal(&self.verdict) {
            Some(refusal) => AuthDecision::Deny(refusal),
            None if self.identity.is_empty() => AuthDecision::Proceed,
            None => AuthDecision::Allow(self.identity.clone()),
        }
    }

    pub(crate) fn recipients(
        &self,
        asked: &[Recipient],
        reasons: Vec<Reason>,
    ) -> Vec<RecipientOutcome> {
        let mut reasons = Some(reasons);
        let outcome = |recipient: &Recipient| {
            let own = self.recipients.iter().find(|(local, _)| *local == recipient.address.local);
            RecipientOutcome {
                id: recipient.id,
                verdict: verdict(own.map_or(&self.verdict, |(_, verdict)| verdict)),
                replace_with: self.replace_with.iter().map(|text| address(text)).collect(),
                meta: self.attrs(),
                reasons: reasons.take().unwrap_or_default(),
            }
        };
        asked.iter().map(outcome).collect()
    }

    fn edits(&self) -> Vec<MessageEdit> {
        let mut edits = Vec::new();
        edits.extend(self.remove.iter().cloned().map(MessageEdit::RemoveHeadersNamed));
        let add = |(name, value): &(String, String)| {
            MessageEdit::AddHeader(NewHeader::top(name.as_str(), value.as_str()))
        };
        edits.extend(self.add.iter().map(add));
        let splice = |(offset, remove, insert): &(u64, u64, String)| {
            let insert = insert.clone().into_bytes();
            MessageEdit::SpliceBody(Splice { offset: *offset, remove: *remove, insert })
        };
        edits.extend(self.splice.iter().map(splice));
        edits.extend(self.add_recipient.iter().map(|to| MessageEdit::AddRecipient(address(to))));
        edits.extend(self.remove_recipient.iter().copied().map(MessageEdit::RemoveRecipient));
        if self.sender.is_some() {
            edits.push(MessageEdit::SetSender(self.change()));
        }
        edits.extend(self.signatures().map(MessageEdit::Sign));
        edits.extend(self.attrs().into_iter().map(MessageEdit::SetMeta));
        edits
    }

    pub(crate) fn message(&self, reasons: Vec<Reason>) -> MessageOutcome {
        let verdict = match self.verdict.as_str() {
            "" | "proceed" => MessageVerdict::Proceed,
            "accept" => MessageVerdict::Accept,
            "discard" => MessageVerdict::Discard("dropped".into()),
            "quarantine" => MessageVerdict::Quarantine("held".into()),
            reply => refusal(reply).map_or(MessageVerdict::Proceed, MessageVerdict::Refuse),
        };
        let refused = |(id, reply): &(String, String)| {
            let verdict = refusal(reply)?;
            Some(RecipientVerdict { id: id.parse().ok()?, verdict, reasons: Vec::new() })
        };
        let recipients = self.recipients.iter().filter_map(refused).collect();
        MessageOutcome { verdict, recipients, edits: self.edits(), reasons }
    }

    pub(crate) fn route(&self, message: &Queued, reasons: Vec<Reason>) -> Vec<RouteGroup> {
        let mut groups = Vec::new();
        for recipient in &message.recipients {
            let Some(way) = self.way(&recipient.address.local) else { continue };
            let mut group = RouteGroup::new(vec![recipient.id], RouteDecision::Route(way));
            group.reasons.clone_from(&reasons);
            groups.push(group);
        }
        groups
    }

    pub(crate) fn prepare(&self, reasons: Vec<Reason>) -> PrepareOutcome {
        let top = |(name, value): &(String, String)| NewHeader::top(name.as_str(), value.as_str());
        PrepareOutcome {
            headers: self.add.iter().map(top).collect(),
            sign: self.signatures().collect(),
            sender: self.change(),
            postpone_until_ms: self.until,
            reasons,
        }
    }

    pub(crate) fn attempt(&self, attempt: &Attempt, reasons: Vec<Reason>) -> AttemptOutcome {
        let mut outcome = AttemptOutcome::as_planned();
        for recipient in &attempt.message.recipients {
            let decision = match self.until {
                Some(at) => AttemptDecision::RetryAt(at),
                None => match self.way(&recipient.address.local) {
                    Some(way) => AttemptDecision::Reroute(way),
                    None => AttemptDecision::Proceed,
                },
            };
            let mut group = AttemptGroup::new(vec![recipient.id], decision);
            group.reasons.clone_from(&reasons);
            outcome = outcome.group(group);
        }
        let advice = self.advice.clone().map(|(lane, pause)| LaneAdvice {
            lane,
            pause_s: Some(pause),
            max_concurrent: None,
            valid_s: pause,
        });
        outcome.advice.extend(advice);
        outcome
    }
}
