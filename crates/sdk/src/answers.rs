//! Building answers without naming every field.

use std::time::Duration;

use crate::replies;
use crate::types::{
    AttemptDecision, AttemptGroup, AttemptOutcome, Attr, HeaderChange, HeaderPlace, LaneAdvice,
    Mailbox, MessageEdit, MessageOutcome, MessageVerdict, NewHeader, PrepareOutcome, Reason,
    Recipient, RecipientOutcome, RecipientVerdict, Refusal, Route, RouteDecision, RouteGroup,
    SenderChange, Session, SessionOutcome, SignRequest, Splice, TlsPolicy, Verdict,
};
use crate::types::{Envelope, Queued};

/// With more of them, the host would refuse the whole answer.
const MOST_REASONS: usize = 32;

/// Functions to say why, shared by all answers.
macro_rules! reasoned {
    ($($answer:ty),+) => {$(
        impl $answer {
            /// Adds a reason: a short stable code and the same for a person.
            pub fn because(self, code: impl Into<String>, text: impl Into<String>) -> Self {
                self.reason(replies::because(code, text))
            }

            /// Names the rule of the configuration in the last reason.
            pub fn by_rule(mut self, name: impl Into<String>) -> Self {
                if let Some(reason) = self.reasons.pop() {
                    self.reasons.push(reason.rule(name));
                }
                self
            }

            /// Adds a reason. The host takes 32 of them: what is over is left out.
            pub fn reason(mut self, reason: Reason) -> Self {
                if self.reasons.len() < MOST_REASONS {
                    self.reasons.push(reason);
                }
                self
            }
        }
    )+};
}

reasoned!(
    SessionOutcome,
    RecipientAnswer,
    MessageOutcome,
    PrepareOutcome,
    RouteGroup,
    AttemptGroup
);

/// Metadata by name, as policy set it: `plugin/key`.
macro_rules! with_meta {
    ($($facts:ty),+) => {$(
        impl $facts {
            /// The metadata of this name, `plugin/key`.
            pub fn meta_value(&self, name: &str) -> Option<&str> {
                value(&self.meta, name)
            }

            /// The later fact of this name.
            pub fn ext_value(&self, name: &str) -> Option<&str> {
                value(&self.ext, name)
            }
        }
    )+};
}

with_meta!(Session, Envelope, Recipient, Queued);

fn value<'a>(attrs: &'a [Attr], name: &str) -> Option<&'a str> {
    attrs.iter().find(|attr| attr.name == name).map(|attr| attr.value.as_str())
}

impl Attr {
    /// A name and a value.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Attr {
        Attr { name: name.into(), value: value.into() }
    }
}

impl SessionOutcome {
    fn with(verdict: Verdict) -> SessionOutcome {
        SessionOutcome {
            verdict,
            delay_ms: 0,
            meta: Vec::new(),
            sender: SenderChange::Keep,
            reasons: Vec::new(),
        }
    }

    /// No objection.
    pub fn proceed() -> SessionOutcome {
        SessionOutcome::with(Verdict::Proceed)
    }

    /// No objection, and no later plugin is asked; needs the grant `accept`.
    pub fn accept() -> SessionOutcome {
        SessionOutcome::with(Verdict::Accept)
    }

    /// Refuse: [`reject`](crate::reject) or [`tempfail`](crate::tempfail).
    pub fn refuse(reply: impl Into<Refusal>) -> SessionOutcome {
        SessionOutcome::with(Verdict::Refuse(reply.into()))
    }

    /// Refuse, then close the connection.
    pub fn disconnect(reply: impl Into<Refusal>) -> SessionOutcome {
        SessionOutcome::with(Verdict::Disconnect(reply.into()))
    }

    /// Wait this long before the reply.
    pub fn delayed(mut self, by: Duration) -> SessionOutcome {
        self.delay_ms = u32::try_from(by.as_millis()).unwrap_or(u32::MAX);
        self
    }

    /// Another reverse path; at the sender hook, with the grant `edit.sender`.
    pub fn sender(mut self, sender: SenderChange) -> SessionOutcome {
        self.sender = sender;
        self
    }

    /// Sets metadata of the session, to be read as `plugin/key`.
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<String>) -> SessionOutcome {
        self.meta.push(Attr::new(key, value));
        self
    }
}

/// Answer about one recipient; the SDK knows which.
#[derive(Debug, Clone, PartialEq)]
pub struct RecipientAnswer {
    /// The decision.
    pub verdict: Verdict,
    /// Deliver to these instead; empty keeps the address.
    pub replace_with: Vec<Mailbox>,
    /// Metadata to set, without the plugin's prefix.
    pub meta: Vec<Attr>,
    /// Why.
    pub reasons: Vec<Reason>,
}

impl RecipientAnswer {
    fn with(verdict: Verdict) -> RecipientAnswer {
        RecipientAnswer { verdict, replace_with: Vec::new(), meta: Vec::new(), reasons: Vec::new() }
    }

    /// No objection.
    pub fn proceed() -> RecipientAnswer {
        RecipientAnswer::with(Verdict::Proceed)
    }

    /// No objection, and no later plugin is asked; needs the grant `accept`.
    pub fn accept() -> RecipientAnswer {
        RecipientAnswer::with(Verdict::Accept)
    }

    /// Refuse: [`reject`](crate::reject) or [`tempfail`](crate::tempfail).
    pub fn refuse(reply: impl Into<Refusal>) -> RecipientAnswer {
        RecipientAnswer::with(Verdict::Refuse(reply.into()))
    }

    /// Refuse, then close the connection.
    pub fn disconnect(reply: impl Into<Refusal>) -> RecipientAnswer {
        RecipientAnswer::with(Verdict::Disconnect(reply.into()))
    }

    /// Deliver to these instead; needs the grant `edit.recipients`.
    pub fn replace_with(mut self, mailboxes: Vec<Mailbox>) -> RecipientAnswer {
        self.replace_with = mailboxes;
        self
    }

    /// Sets metadata of the recipient, to be read as `plugin/key`.
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<String>) -> RecipientAnswer {
        self.meta.push(Attr::new(key, value));
        self
    }

    /// The answer as the contract has it, about the recipient of this id.
    pub fn about(self, id: u32) -> RecipientOutcome {
        RecipientOutcome {
            id,
            verdict: self.verdict,
            replace_with: self.replace_with,
            meta: self.meta,
            reasons: self.reasons,
        }
    }
}

impl MessageOutcome {
    fn with(verdict: MessageVerdict) -> MessageOutcome {
        MessageOutcome { verdict, recipients: Vec::new(), edits: Vec::new(), reasons: Vec::new() }
    }

    /// No objection.
    pub fn proceed() -> MessageOutcome {
        MessageOutcome::with(MessageVerdict::Proceed)
    }

    /// No objection, and no later plugin is asked; needs the grant `accept`.
    pub fn accept() -> MessageOutcome {
        MessageOutcome::with(MessageVerdict::Accept)
    }

    /// Refuse: [`reject`](crate::reject) or [`tempfail`](crate::tempfail).
    pub fn refuse(reply: impl Into<Refusal>) -> MessageOutcome {
        MessageOutcome::with(MessageVerdict::Refuse(reply.into()))
    }

    /// Say 250 and drop the message; needs the grant `discard`.
    pub fn discard(why: impl Into<String>) -> MessageOutcome {
        MessageOutcome::with(MessageVerdict::Discard(why.into()))
    }

    /// Say 250 and hold the message until an operator releases it.
    pub fn quarantine(why: impl Into<String>) -> MessageOutcome {
        MessageOutcome::with(MessageVerdict::Quarantine(why.into()))
    }

    /// Refuses one recipient.
    pub fn refuse_recipient(
        mut self,
        id: u32,
        reply: impl Into<Refusal>,
        reasons: Vec<Reason>,
    ) -> MessageOutcome {
        self.recipients.push(RecipientVerdict { id, verdict: reply.into(), reasons });
        self
    }

    /// Adds an edit. The edits of an answer apply in order, all or none.
    pub fn edit(mut self, edit: MessageEdit) -> MessageOutcome {
        self.edits.push(edit);
        self
    }

    /// Puts a field above all others.
    pub fn add_header(self, name: impl Into<String>, value: impl Into<String>) -> MessageOutcome {
        self.edit(MessageEdit::AddHeader(NewHeader::top(name, value)))
    }

    /// Gives the field of this id another value.
    pub fn change_header(self, id: u32, value: impl Into<String>) -> MessageOutcome {
        self.edit(MessageEdit::ChangeHeader(HeaderChange { id, value: value.into() }))
    }

    /// Removes the field of this id.
    pub fn remove_header(self, id: u32) -> MessageOutcome {
        self.edit(MessageEdit::RemoveHeader(id))
    }

    /// Replaces `remove` octets at `offset` of the body.
    pub fn splice(self, offset: u64, remove: u64, insert: impl Into<Vec<u8>>) -> MessageOutcome {
        self.edit(MessageEdit::SpliceBody(Splice { offset, remove, insert: insert.into() }))
    }

    /// Asks for a signature, made after the last edit of the last plugin.
    pub fn sign(self, request: SignRequest) -> MessageOutcome {
        self.edit(MessageEdit::Sign(request))
    }

    /// Sets metadata of the message, to be read as `plugin/key`.
    pub fn meta(self, key: impl Into<String>, value: impl Into<String>) -> MessageOutcome {
        self.edit(MessageEdit::SetMeta(Attr::new(key, value)))
    }
}

impl NewHeader {
    /// A field above all others.
    pub fn top(name: impl Into<String>, value: impl Into<String>) -> NewHeader {
        NewHeader { name: name.into(), value: value.into(), place: HeaderPlace::Top }
    }

    /// A field below all others.
    pub fn bottom(name: impl Into<String>, value: impl Into<String>) -> NewHeader {
        NewHeader { place: HeaderPlace::Bottom, ..NewHeader::top(name, value) }
    }
}

impl PrepareOutcome {
    /// Send the copy as it is.
    pub fn as_it_is() -> PrepareOutcome {
        PrepareOutcome {
            headers: Vec::new(),
            sign: Vec::new(),
            sender: SenderChange::Keep,
            postpone_until_ms: None,
            reasons: Vec::new(),
        }
    }

    /// Puts a field above all others of this copy.
    pub fn add_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push(NewHeader::top(name, value));
        self
    }

    /// Asks for a signature of this copy.
    pub fn sign(mut self, request: SignRequest) -> Self {
        self.sign.push(request);
        self
    }

    /// Another envelope sender for this copy; needs the grant `edit.sender`.
    pub fn sender(mut self, sender: SenderChange) -> Self {
        self.sender = sender;
        self
    }

    /// Do not send before this moment; the attempt does not count.
    pub fn postpone_until(mut self, moment_ms: u64) -> Self {
        self.postpone_until_ms = Some(moment_ms);
        self
    }
}

impl Default for Route {
    /// The mail exchangers of the recipient's domain, encrypted as the configuration says.
    fn default() -> Route {
        Route {
            hops: Vec::new(),
            lane: None,
            source: None,
            tls: TlsPolicy::Automatic,
            not_before_ms: None,
        }
    }
}

impl RouteGroup {
    /// One decision for these recipients.
    pub fn new(recipients: Vec<u32>, decision: RouteDecision) -> RouteGroup {
        RouteGroup { recipients, decision, reasons: Vec::new() }
    }
}

impl AttemptGroup {
    /// One decision for these recipients.
    pub fn new(recipients: Vec<u32>, decision: AttemptDecision) -> AttemptGroup {
        AttemptGroup { recipients, decision, reasons: Vec::new() }
    }
}

impl AttemptOutcome {
    /// Everybody fares as the host planned.
    pub fn as_planned() -> AttemptOutcome {
        AttemptOutcome { groups: Vec::new(), advice: Vec::new() }
    }

    /// Adds a decision for some recipients.
    pub fn group(mut self, group: AttemptGroup) -> AttemptOutcome {
        self.groups.push(group);
        self
    }

    /// Asks the schedule to go easy on a lane.
    pub fn advise(mut self, advice: LaneAdvice) -> AttemptOutcome {
        self.advice.push(advice);
        self
    }
}

/// Puts recipients with the same decision and reasons into one group, in order of first mention.
/// Who has no decision is left out, and proceeds.
pub fn group_routes(
    decided: impl IntoIterator<Item = (u32, RouteDecision, Vec<Reason>)>,
) -> Vec<RouteGroup> {
    let mut groups: Vec<RouteGroup> = Vec::new();
    for (id, decision, reasons) in decided {
        match groups.iter_mut().find(|g| g.decision == decision && g.reasons == reasons) {
            Some(group) => group.recipients.push(id),
            None => groups.push(RouteGroup { recipients: vec![id], decision, reasons }),
        }
    }
    groups
}

/// As [`group_routes`], after an attempt.
pub fn group_attempts(
    decided: impl IntoIterator<Item = (u32, AttemptDecision, Vec<Reason>)>,
) -> Vec<AttemptGroup> {
    let mut groups: Vec<AttemptGroup> = Vec::new();
    for (id, decision, reasons) in decided {
        match groups.iter_mut().find(|g| g.decision == decision && g.reasons == reasons) {
            Some(group) => group.recipients.push(id),
            None => groups.push(AttemptGroup { recipients: vec![id], decision, reasons }),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::{MessageOutcome, RouteDecision, group_routes};
    use crate::because;

    #[test]
    fn reasons_have_an_end() {
        let all = (0..99).fold(MessageOutcome::proceed(), |o, i| o.because("x", i.to_string()));
        assert_eq!(all.by_rule("r").reasons.len(), 32);
    }

    #[test]
    fn the_same_decision_for_the_same_reason_is_one_group() {
        let hold = |why: &str| RouteDecision::Hold(why.to_owned());
        let groups = group_routes([
            (1, hold("a"), vec![because("x", "x")]),
            (2, hold("b"), vec![]),
            (3, hold("a"), vec![because("x", "x")]),
            (4, hold("a"), vec![because("y", "y")]),
        ]);
        let ids: Vec<&[u32]> = groups.iter().map(|g| g.recipients.as_slice()).collect();
        assert_eq!(ids, [&[1, 3][..], &[2], &[4]]);
    }
}
