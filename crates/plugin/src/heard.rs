//! What guests say, in the house's nouns: read whole, and refused whole when anything is wrong with it.

use std::time::Duration;

use bytes::Bytes;
use waypost_hooks::{
    AuthDecision, HeaderPlace, Hop, LaneAdvice, MessageEdit, Preparation, Reason, RecipientAnswer,
    RecipientVerdict, Refusal, Remedy, Replacement, RouteDecision, RouteGroup, SenderChange,
    SessionAnswer, Way, are_legal,
};
use waypost_mail::{Attr, HeaderBlock, SignRequest, Timestamp, TlsLevel};
use waypost_smtp::{
    Code, Domain, Enhanced, Mailbox, PermanentReply, Reply, ReversePath, TransientReply,
};

use crate::bindings::waypost::policy::types as wit;
use crate::config::Grants;

/// Most reasons of one answer, and the longest code, text and rule.
const MAX_REASONS: usize = 32;
const MAX_CODE: usize = 64;
const MAX_REASON: usize = 1024;
/// Most lines of a reply, and the longest line.
const MAX_LINES: usize = 8;
const MAX_LINE: usize = 400;
/// Most edits of one answer, and among them of header fields: each of those makes the header anew.
const MAX_EDITS: usize = 2000;
const MAX_FIELD_EDITS: usize = 256;
/// Most octets that the splices of one answer put in.
const MAX_INSERTED: usize = 4 * 1024 * 1024;
/// Longest reason for a hold, a drop or a discard.
const MAX_TEXT: usize = 512;
/// Longest pause, and the longest that advice stands.
const DAY: Duration = Duration::from_secs(86_400);
/// Most hops of a route, most pieces of advice.
const MAX_HOPS: usize = 16;
const MAX_ADVICE: usize = 16;

/// Who speaks, and what it may.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ear<'a> {
    pub(crate) plugin: &'a str,
    pub(crate) grants: &'a Grants,
}

/// What is wrong with an answer, in words for its author.
pub(crate) type Heard<T> = Result<T, String>;

/// What `accept` and `proceed` come to, and all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spoken<T> {
    pub(crate) answer: T,
    /// Nobody else is asked at this stage.
    pub(crate) last: bool,
}

/// Recipients, what is done about them, and why.
pub(crate) type Remedied = (Vec<u32>, Remedy, Vec<Reason>);

impl Ear<'_> {
    fn may_accept(&self) -> bool {
        self.grants.accept
    }

    pub(crate) fn reasons(&self, said: Vec<wit::Reason>) -> Heard<Vec<Reason>> {
        if said.len() > MAX_REASONS {
            return Err(format!("more than {MAX_REASONS} reasons"));
        }
        said.into_iter().map(reason).collect()
    }

    /// Attributes with the plugin's name in front.
    fn attrs(&self, said: Vec<wit::Attr>) -> Heard<Vec<Attr>> {
        let attrs: Vec<Attr> = said.into_iter().map(|attr| self.own(attr)).collect();
        if are_legal(&attrs) {
            Ok(attrs)
        } else {
            Err("an attribute has an illegal name or length, or there are too many".to_owned())
        }
    }

    fn own(&self, attr: wit::Attr) -> Attr {
        Attr { name: format!("{}/{}", self.plugin, attr.name), value: attr.value }
    }

    pub(crate) fn session(
        &self,
        said: wit::SessionOutcome,
    ) -> Heard<Spoken<(SessionAnswer, SenderChange)>> {
        let (verdict, last) = self.verdict(said.verdict)?;
        let change = sender(said.sender)?;
        if change != SenderChange::Keep && !self.grants.edit.sender {
            return Err("it changes the sender without the grant edit.sender".to_owned());
        }
        let answer = SessionAnswer {
            verdict,
            delay: Duration::from_millis(said.delay_ms.into()),
            meta: self.attrs(said.meta)?,
            reasons: self.reasons(said.reasons)?,
        };
        Ok(Spoken { answer: (answer, change), last })
    }

    /// True in the second place when nobody else is asked.
    fn verdict(&self, said: wit::Verdict) -> Heard<(waypost_hooks::Verdict, bool)> {
        use waypost_hooks::Verdict;
        Ok(match said {
            wit::Verdict::Proceed => (Verdict::Proceed, false),
            wit::Verdict::Accept => (Verdict::Proceed, self.may_accept()),
            wit::Verdict::Refuse(said) => (Verdict::Refuse(refusal(said)?), true),
            wit::Verdict::Disconnect(said) => (Verdict::Disconnect(refusal(said)?), true),
        })
    }

    pub(crate) fn recipient(&self, said: wit::RecipientOutcome) -> Heard<Spoken<RecipientAnswer>> {
        let (verdict, last) = self.verdict(said.verdict)?;
        if !said.replace_with.is_empty() && !self.grants.edit.recipients {
            return Err("it replaces a recipient without the grant edit.recipients".to_owned());
        }
        if said.replace_with.len() > waypost_hooks::MAX_RECIPIENTS {
            return Err("it puts more than 1000 recipients in the place of one".to_owned());
        }
        let replace_with: Heard<Vec<Replacement>> =
            said.replace_with.into_iter().map(|address| self.replacement(address)).collect();
        let answer = RecipientAnswer {
            verdict,
            replace_with: replace_with?,
            meta: self.attrs(said.meta)?,
            reasons: self.reasons(said.reasons)?,
        };
        Ok(Spoken { answer, last })
    }

    fn replacement(&self, said: wit::Mailbox) -> Heard<Replacement> {
        let mailbox = mailbox(said)?;
        let granted = self.grants.recipients.iter().any(|p| p.matches(mailbox.domain()));
        Ok(Replacement { mailbox, granted })
    }

    pub(crate) fn auth(&self, said: wit::AuthDecision) -> Heard<AuthDecision> {
        Ok(match said {
            wit::AuthDecision::Proceed => AuthDecision::Proceed,
            wit::AuthDecision::Allow(identity) => {
                let legal =
                    (1..=256).contains(&identity.len()) && !identity.chars().any(char::is_control);
                if !legal {
                    return Err("an identity has 1 to 256 octets without control characters".into());
                }
                AuthDecision::Allow(identity)
            }
            wit::AuthDecision::Deny(said) => AuthDecision::Deny(refusal(said)?),
        })
    }

    /// The edits of a message hook; splices refer to the body as it was at the start and are put in an
    /// order in which each can be carried out after the other.
    pub(crate) fn edits(
        &self,
        said: Vec<wit::MessageEdit>,
        header: &HeaderBlock,
    ) -> Heard<Vec<MessageEdit>> {
        if said.len() > MAX_EDITS {
            return Err(format!("more than {MAX_EDITS} edits"));
        }
        let of_fields = |edit: &&wit::MessageEdit| {
            use wit::MessageEdit::{AddHeader, ChangeHeader, RemoveHeader, RemoveHeadersNamed};
            matches!(edit, AddHeader(_) | ChangeHeader(_) | RemoveHeader(_) | RemoveHeadersNamed(_))
        };
        if said.iter().filter(of_fields).count() > MAX_FIELD_EDITS {
            return Err(format!("more than {MAX_FIELD_EDITS} edits of header fields"));
        }
        let mut edits = Vec::with_capacity(said.len());
        let mut splices: Vec<wit::Splice> = Vec::new();
        for edit in said {
            match edit {
                wit::MessageEdit::SpliceBody(splice) => splices.push(splice),
                other => edits.push(self.edit(other, header)?),
            }
        }
        edits.extend(self.splices(splices)?);
        Ok(edits)
    }

    fn edit(&self, said: wit::MessageEdit, header: &HeaderBlock) -> Heard<MessageEdit> {
        let grants = &self.grants.edit;
        let may = |granted: bool, what: &str, grant: &str| match granted {
            true => Ok(()),
            false => Err(format!("it {what} without the grant edit.{grant}")),
        };
        let may_touch = |id| match header.by_id(id) {
            Some(field) => {
                may(grants.may_remove(field.name), &format!("touches {:?}", field.name), "remove")
            }
            None => Err(format!("there is no header field with the id {id}")),
        };
        Ok(match said {
            wit::MessageEdit::AddHeader(new) => self.new_header(new)?,
            wit::MessageEdit::ChangeHeader(change) => {
                may_touch(change.id)?;
                MessageEdit::ChangeHeader { id: change.id, value: change.value }
            }
            wit::MessageEdit::RemoveHeader(id) => {
                may_touch(id)?;
                MessageEdit::RemoveHeader(id)
            }
            wit::MessageEdit::RemoveHeadersNamed(name) => {
                may(grants.may_remove(&name), &format!("removes {name:?}"), "remove")?;
                MessageEdit::RemoveHeaders(name)
            }
            wit::MessageEdit::SetSender(change) => {
                may(grants.sender, "changes the sender", "sender")?;
                match sender(change)? {
                    SenderChange::To(path) => MessageEdit::SetSender(path),
                    SenderChange::Keep => return Err("set-sender is never keep".to_owned()),
                }
            }
            wit::MessageEdit::AddRecipient(address) => {
                may(grants.recipients, "adds a recipient", "recipients")?;
                MessageEdit::AddRecipient(self.replacement(address)?)
            }
            wit::MessageEdit::RemoveRecipient(id) => {
                may(grants.recipients, "removes a recipient", "recipients")?;
                MessageEdit::RemoveRecipient(id)
            }
            wit::MessageEdit::Sign(request) => MessageEdit::Sign(self.sign(request)?),
            wit::MessageEdit::SetMeta(attr) => MessageEdit::SetMeta(self.own(attr)),
            wit::MessageEdit::SpliceBody(_) => return Err("a splice out of place".to_owned()),
        })
    }

    fn new_header(&self, new: wit::NewHeader) -> Heard<MessageEdit> {
        if !self.grants.edit.may_add(&new.name) {
            return Err(format!("it adds {:?} without the grant edit.add", new.name));
        }
        let place = match new.place {
            wit::HeaderPlace::Top => HeaderPlace::Top,
            wit::HeaderPlace::Bottom => HeaderPlace::Bottom,
        };
        Ok(MessageEdit::AddHeader { name: new.name, value: new.value, place })
    }

    fn splices(&self, splices: Vec<wit::Splice>) -> Heard<Vec<MessageEdit>> {
        if splices.is_empty() {
            return Ok(Vec::new());
        }
        if !self.grants.edit.body {
            return Err("it changes the body without the grant edit.body".to_owned());
        }
        if splices.iter().map(|splice| splice.insert.len()).sum::<usize>() > MAX_INSERTED {
            return Err("its splices put in more than 4 MiB".to_owned());
        }
        let mut end = 0;
        for splice in &splices {
            if splice.offset < end {
                return Err("splices must rise and not overlap".to_owned());
            }
            end = splice
                .offset
                .checked_add(splice.remove)
                .ok_or_else(|| "a splice reaches beyond the end of the body".to_owned())?;
        }
        let edit = |splice: wit::Splice| MessageEdit::Splice {
            offset: splice.offset,
            remove: splice.remove,
            insert: Bytes::from(splice.insert),
        };
        // From the end on, so that none moves the place of another.
        Ok(splices.into_iter().rev().map(edit).collect())
    }

    fn sign(&self, said: wit::SignRequest) -> Heard<SignRequest> {
        if !self.grants.sign.contains(&said.key) {
            return Err(format!("it signs with the key {:?} without the grant sign", said.key));
        }
        let names = said.headers.iter().chain(&said.oversign);
        let legal = |name: &String| {
            (1..=76).contains(&name.len())
                && name.bytes().all(|b| (33..=126).contains(&b) && b != b':' && b != b';')
        };
        if said.headers.len() + said.oversign.len() > 128 || !names.clone().all(legal) {
            return Err("a name of a field to sign is illegal, or there are over 128".to_owned());
        }
        let is_name = |text: &str| Domain::parse(text).is_ok_and(|d| d.name().is_some());
        if !is_name(&said.domain) || !is_name(&said.selector) {
            return Err("the domain or the selector of a signature is no name".to_owned());
        }
        Ok(SignRequest {
            domain: said.domain,
            selector: said.selector,
            key: said.key,
            headers: said.headers,
            oversign: said.oversign,
            expire_after: said.expire_after_s.map(|s| Duration::from_secs(s.into())),
        })
    }

    pub(crate) fn message_recipients(
        &self,
        said: Vec<wit::RecipientVerdict>,
    ) -> Heard<Vec<RecipientVerdict>> {
        let one = |said: wit::RecipientVerdict| {
            Ok(RecipientVerdict {
                id: said.id,
                verdict: refusal(said.verdict)?,
                reasons: self.reasons(said.reasons)?,
            })
        };
        said.into_iter().map(one).collect()
    }

    pub(crate) fn message_verdict(
        &self,
        said: wit::MessageVerdict,
    ) -> Heard<Spoken<waypost_hooks::MessageVerdict>> {
        use waypost_hooks::MessageVerdict;
        let (answer, last) = match said {
            wit::MessageVerdict::Proceed => (MessageVerdict::Proceed, false),
            wit::MessageVerdict::Accept => (MessageVerdict::Proceed, self.may_accept()),
            wit::MessageVerdict::Refuse(said) => (MessageVerdict::Refuse(refusal(said)?), true),
            wit::MessageVerdict::Discard(_) if !self.grants.discard => {
                return Err("it discards a message without the grant discard".to_owned());
            }
            wit::MessageVerdict::Discard(text) => (MessageVerdict::Discard(bounded(text)), true),
            wit::MessageVerdict::Quarantine(text) => {
                (MessageVerdict::Quarantine(bounded(text)), true)
            }
        };
        Ok(Spoken { answer, last })
    }

    /// Decisions about ways; groups without an opinion are left out.
    pub(crate) fn route(&self, said: Vec<wit::RouteGroup>) -> Heard<Vec<RouteGroup>> {
        let mut groups = Vec::with_capacity(said.len());
        for group in said {
            let decision = match group.decision {
                wit::RouteDecision::Proceed => continue,
                wit::RouteDecision::Route(route) => RouteDecision::Route(way(route)?),
                wit::RouteDecision::Fail(reply) => RouteDecision::Fail(permanent(reply)?),
                wit::RouteDecision::Hold(text) => RouteDecision::Hold(bounded(text)),
            };
            let reasons = self.reasons(group.reasons)?;
            groups.push(RouteGroup { recipients: group.recipients, decision, reasons });
        }
        Ok(groups)
    }

    pub(crate) fn preparation(&self, said: wit::PrepareOutcome) -> Heard<Preparation> {
        let mut add_headers = Vec::with_capacity(said.headers.len());
        if said.headers.len() > 64 || said.sign.len() > 8 {
            return Err("more than 64 fields or 8 signatures for one copy".to_owned());
        }
        for new in said.headers {
            if new.place != wit::HeaderPlace::Top {
                return Err("a copy gets fields at the top only".to_owned());
            }
            let legal = |b: u8| (33..=126).contains(&b) && b != b':';
            if !(1..=76).contains(&new.name.len()) || !new.name.bytes().all(legal) {
                return Err("a header field has an illegal name".to_owned());
            }
            if new.value.len() > 16 * 1024 || new.value.contains(['\r', '\n', '\0']) {
                return Err("a header field's value has CR, LF or NUL in it, or is too long".into());
            }
            if !self.grants.edit.may_add(&new.name) {
                return Err(format!("it adds {:?} without the grant edit.add", new.name));
            }
            add_headers.push((new.name, new.value));
        }
        let change = sender(said.sender)?;
        if change != SenderChange::Keep && !self.grants.edit.sender {
            return Err("it changes the sender without the grant edit.sender".to_owned());
        }
        let sign: Heard<Vec<SignRequest>> =
            said.sign.into_iter().map(|request| self.sign(request)).collect();
        Ok(Preparation {
            add_headers,
            sign: sign?,
            sender: change,
            postpone_until: said.postpone_until_ms.map(Timestamp),
            reasons: self.reasons(said.reasons)?,
        })
    }

    /// What is done about recipients, and why; those without an opinion are left out.
    pub(crate) fn remedies(&self, said: Vec<wit::AttemptGroup>) -> Heard<Vec<Remedied>> {
        let mut remedies = Vec::with_capacity(said.len());
        for group in said {
            let remedy = match group.decision {
                wit::AttemptDecision::Proceed => continue,
                wit::AttemptDecision::RetryAt(at) => Remedy::RetryAt(Timestamp(at)),
                wit::AttemptDecision::Reroute(route) => Remedy::Reroute(way(route)?),
                wit::AttemptDecision::Fail(reply) => Remedy::Fail(permanent(reply)?),
                wit::AttemptDecision::Drop(_) if !self.grants.discard => {
                    return Err("it drops mail without the grant discard".to_owned());
                }
                wit::AttemptDecision::Drop(text) => Remedy::Drop(bounded(text)),
                wit::AttemptDecision::Hold(text) => Remedy::Hold(bounded(text)),
            };
            remedies.push((group.recipients, remedy, self.reasons(group.reasons)?));
        }
        Ok(remedies)
    }

    pub(crate) fn advice(&self, said: Vec<wit::LaneAdvice>) -> Heard<Vec<LaneAdvice>> {
        if said.len() > MAX_ADVICE {
            return Err(format!("more than {MAX_ADVICE} pieces of advice"));
        }
        let one = |said: wit::LaneAdvice| {
            if said.lane.is_empty() || said.lane.len() > 255 {
                return Err("a lane's name has 1 to 255 octets".to_owned());
            }
            let seconds = |s: u32| Duration::from_secs(s.into()).min(DAY);
            Ok(LaneAdvice {
                destination: said.lane,
                pause: said.pause_s.map(seconds),
                max_concurrent: said.max_concurrent.map(|most| most.max(1) as usize),
                valid: seconds(said.valid_s),
            })
        };
        said.into_iter().map(one).collect()
    }
}

fn reason(said: wit::Reason) -> Heard<Reason> {
    let fits = |text: &str, most: usize| text.len() <= most && !text.chars().any(char::is_control);
    let rule = said.rule.as_deref().unwrap_or_default();
    if said.code.is_empty() || !fits(&said.code, MAX_CODE) {
        return Err(format!("a reason's code has 1 to {MAX_CODE} octets, all printable"));
    }
    if !fits(&said.text, MAX_REASON) || !fits(rule, MAX_REASON) {
        return Err(format!(
            "a reason's text and rule have at most {MAX_REASON} octets, all printable"
        ));
    }
    Ok(Reason { code: said.code, text: said.text, rule: said.rule })
}

fn bounded(mut text: String) -> String {
    text.retain(|c| !c.is_control());
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}

pub(crate) fn mailbox(said: wit::Mailbox) -> Heard<Mailbox> {
    let wrong = |error| format!("{:?}@{:?} is no address: {error}", said.local, said.domain);
    let domain = Domain::parse(&said.domain).map_err(wrong)?;
    Mailbox::new(said.local.clone(), domain).map_err(wrong)
}

fn sender(said: wit::SenderChange) -> Heard<SenderChange> {
    Ok(match said {
        wit::SenderChange::Keep => SenderChange::Keep,
        wit::SenderChange::NullSender => SenderChange::To(ReversePath::Null),
        wit::SenderChange::To(address) => SenderChange::To(ReversePath::Mailbox(mailbox(address)?)),
    })
}

pub(crate) fn refusal(said: wit::Refusal) -> Heard<Refusal> {
    Ok(match said {
        wit::Refusal::Tempfail(reply) => Refusal::Tempfail(transient(reply)?),
        wit::Refusal::Reject(reply) => Refusal::Reject(permanent(reply)?),
    })
}

fn transient(said: wit::TransientReply) -> Heard<TransientReply> {
    let (code, usual) = match said.code {
        wit::TransientCode::R421 => (421, (3, 2)),
        wit::TransientCode::R450 => (450, (2, 0)),
        wit::TransientCode::R451 => (451, (3, 0)),
        wit::TransientCode::R452 => (452, (3, 1)),
        wit::TransientCode::R454 => (454, (7, 0)),
        wit::TransientCode::R455 => (455, (5, 4)),
    };
    let reply = reply(code, 4, said.enhanced.unwrap_or(usual), said.text)?;
    TransientReply::new(reply).ok_or_else(|| "a refusal for now is 4xx".to_owned())
}

pub(crate) fn permanent(said: wit::PermanentReply) -> Heard<PermanentReply> {
    let (code, usual) = match said.code {
        wit::PermanentCode::R521 => (521, (3, 2)),
        wit::PermanentCode::R530 => (530, (7, 0)),
        wit::PermanentCode::R535 => (535, (7, 8)),
        wit::PermanentCode::R550 => (550, (7, 1)),
        wit::PermanentCode::R551 => (551, (1, 6)),
        wit::PermanentCode::R552 => (552, (3, 4)),
        wit::PermanentCode::R553 => (553, (1, 3)),
        wit::PermanentCode::R554 => (554, (7, 1)),
        wit::PermanentCode::R555 => (555, (5, 4)),
        wit::PermanentCode::R556 => (556, (1, 10)),
    };
    let reply = reply(code, 5, said.enhanced.unwrap_or(usual), said.text)?;
    PermanentReply::new(reply).ok_or_else(|| "a refusal for good is 5xx".to_owned())
}

fn reply(code: u16, class: u8, (subject, detail): (u16, u16), text: String) -> Heard<Reply> {
    if subject > 999 || detail > 999 {
        return Err("subject and detail of an enhanced status have at most three digits".to_owned());
    }
    let lines: Vec<&str> = text.split('\n').collect();
    if lines.len() > MAX_LINES || lines.iter().any(|line| line.len() > MAX_LINE) {
        return Err(format!("a reply has at most {MAX_LINES} lines of {MAX_LINE} octets"));
    }
    if lines.iter().any(|line| line.chars().any(char::is_control)) {
        return Err("a reply's text has control characters in it".to_owned());
    }
    let code = Code::new(code).ok_or_else(|| format!("{code} is no reply code"))?;
    let enhanced = Some(Enhanced(class, subject, detail));
    Ok(Reply { code, enhanced, text: text.into() })
}

fn way(said: wit::Route) -> Heard<Way> {
    if said.hops.len() > MAX_HOPS {
        return Err(format!("a route has at most {MAX_HOPS} hops"));
    }
    let named = |text: &Option<String>, what: &str| match text {
        Some(text) if !is_name(text) => Err(format!("{text:?} is no name of a {what}")),
        _ => Ok(()),
    };
    named(&said.lane, "lane")?;
    named(&said.source, "source pool")?;
    let hops: Heard<Vec<Hop>> = said.hops.into_iter().map(hop).collect();
    Ok(Way {
        hops: hops?,
        lane: said.lane,
        source: said.source,
        tls: match said.tls {
            wit::TlsPolicy::Automatic => None,
            wit::TlsPolicy::Never => Some(TlsLevel::Never),
            wit::TlsPolicy::Opportunistic => Some(TlsLevel::Opportunistic),
            wit::TlsPolicy::Encrypt => Some(TlsLevel::Encrypt),
            wit::TlsPolicy::Verify => Some(TlsLevel::Verify),
        },
        not_before: said.not_before_ms.map(Timestamp),
    })
}

fn is_name(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    (1..=64).contains(&text.len()) && text.bytes().all(legal)
}

fn hop(said: wit::Hop) -> Heard<Hop> {
    Ok(match said {
        wit::Hop::Mx(domain) => {
            let domain = Domain::parse(&domain)
                .map_err(|error| format!("the hop {domain:?} is no domain: {error}"))?;
            Hop::Mx(domain)
        }
        wit::Hop::Host(wit::HostPort { host, port, implicit_tls }) => {
            let legal = host.parse::<std::net::IpAddr>().is_ok()
                || Domain::parse(&host).is_ok_and(|domain| domain.name().is_some());
            if !legal || port == 0 {
                return Err(format!("{host:?} with port {port} is no host"));
            }
            Hop::Host { host, port, implicit_tls }
        }
        wit::Hop::Named(name) if is_name(&name) => Hop::Named(name),
        wit::Hop::Named(name) => return Err(format!("{name:?} is no name of a hop")),
    })
}

#[cfg(test)]
#[path = "heard/tests.rs"]
mod tests;
