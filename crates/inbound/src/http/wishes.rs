//! What a request asks for beyond the ordinary. It is put in the words that SMTP has for it and read by
//! the same table, so that what is offered, and within which limits, cannot differ by door.

use serde::Deserialize;
use waypost_smtp::server::{MailFrom, Offers, RcptTo};
use waypost_smtp::terms::xtext;
use waypost_smtp::{Mailbox, OriginalRecipient, Reply, ReversePath};

use super::answer::Problem;

/// Of a whole message, in JSON and in the query alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// How much of it comes back with a failure (RFC 3461 §4.3).
    pub(super) ret: Option<Ret>,
    /// The sender's own name for it (RFC 3461 §4.4).
    pub(super) envid: Option<String>,
    /// It goes on over verified TLS or not at all (RFC 8689 §2).
    pub(super) require_tls: bool,
    /// -9 to 9 (RFC 6710 §5).
    pub(super) priority: Option<i8>,
    /// Seconds for which it is held (RFC 4865 §5).
    pub(super) hold_for: Option<u64>,
    /// Until when it is held, as RFC 3339 writes it.
    pub(super) hold_until: Option<String>,
    /// By when it must be there (RFC 2852 §4).
    pub(super) deliver_by: Option<DeliverBy>,
    /// Which notices are wanted about recipients that do not say so themselves (RFC 3461 §4.1).
    pub(super) notify: Option<Notify>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Ret {
    Full,
    Headers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliverBy {
    seconds: i64,
    mode: Mode,
    #[serde(default)]
    trace: bool,
}

/// What happens to what was not delivered by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Return,
    Notify,
}

/// `"never"`, or events.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Notify {
    Never(Never),
    Of(Vec<Event>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Never {
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Event {
    Success,
    Failure,
    Delay,
}

/// Of one recipient.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OwnWishes {
    /// Which notices are wanted about it.
    pub(super) notify: Option<Notify>,
    /// The address that the sender first wrote to, `rfc822;a@b.example` (RFC 3461 §4.2).
    pub(super) orcpt: Option<String>,
}

impl Wishes {
    /// Reads one key of a query.
    ///
    /// # Errors
    /// When it is not known, or there already.
    pub(super) fn read(&mut self, key: &str, value: &str) -> Result<(), Problem> {
        let wrong = || Problem::wrong(format!("'{value}' is no value of '{key}'"));
        let fresh = match key {
            "ret" => self.ret.replace(word(value).ok_or_else(wrong)?).is_none(),
            "envid" => self.envid.replace(value.to_owned()).is_none(),
            "require_tls" => {
                let required = value.parse().map_err(|_| wrong())?;
                !std::mem::replace(&mut self.require_tls, required)
            }
            "priority" => self.priority.replace(value.parse().map_err(|_| wrong())?).is_none(),
            "hold_for" => self.hold_for.replace(value.parse().map_err(|_| wrong())?).is_none(),
            "hold_until" => self.hold_until.replace(value.to_owned()).is_none(),
            "deliver_by" => {
                let by = DeliverBy::read(value).ok_or_else(wrong)?;
                self.deliver_by.replace(by).is_none()
            }
            "notify" => {
                let notify = Notify::read(value).ok_or_else(wrong)?;
                self.notify.replace(notify).is_none()
            }
            _ => {
                let detail = format!("'{key}' is not known here; see /v1/openapi.json");
                return Err(Problem::bad(detail));
            }
        };
        if fresh { Ok(()) } else { Err(Problem::bad(format!("'{key}' is there twice"))) }
    }

    /// MAIL as it would say the same.
    ///
    /// # Errors
    /// When a wish is none, or is not granted here.
    pub(super) fn mail(&self, path: &ReversePath, offers: &Offers) -> Result<MailFrom, Problem> {
        let mut mail = MailFrom::new(path.clone());
        for (name, word) in self.words() {
            mail.read_parameters(&word, offers).map_err(|reply| refused(name, &reply))?;
        }
        Ok(mail)
    }

    /// Parameters of MAIL, each with the name it has here.
    fn words(&self) -> impl Iterator<Item = (&'static str, String)> {
        let ret = self.ret.map(|ret| if ret == Ret::Full { "RET=FULL" } else { "RET=HDRS" });
        let held = self.hold_until.as_ref().map(|until| {
            // A space would begin another word.
            until.replace(|c: char| !c.is_ascii_graphic(), "?")
        });
        let words = [
            ("ret", ret.map(str::to_owned)),
            ("envid", self.envid.as_ref().map(|envid| format!("ENVID={}", xtext(envid)))),
            ("require_tls", self.require_tls.then(|| "REQUIRETLS".to_owned())),
            ("priority", self.priority.map(|priority| format!("MT-PRIORITY={priority}"))),
            ("hold_for", self.hold_for.map(|seconds| format!("HOLDFOR={seconds}"))),
            ("hold_until", held.map(|until| format!("HOLDUNTIL={until}"))),
            ("deliver_by", self.deliver_by.map(DeliverBy::word)),
        ];
        words.into_iter().filter_map(|(name, word)| Some((name, word?)))
    }

    /// All of them in one line, to tell requests apart.
    pub(super) fn line(&self) -> String {
        let notify = self.notify.as_ref().map(Notify::word);
        let words = self.words().map(|(_, word)| word).chain(notify);
        words.collect::<Vec<_>>().join(" ")
    }
}

impl OwnWishes {
    /// RCPT as it would say the same; `all` are the wishes of the whole message.
    ///
    /// # Errors
    /// As [`Wishes::mail`].
    pub(super) fn rcpt(
        &self,
        mailbox: &Mailbox,
        all: &Wishes,
        offers: &Offers,
    ) -> Result<RcptTo, Problem> {
        let mut rcpt = RcptTo::new(mailbox.clone());
        let notify = self.notify.as_ref().or(all.notify.as_ref());
        for (name, word) in [
            ("notify", notify.map(Notify::word)),
            ("orcpt", self.orcpt.as_deref().map(original).transpose()?),
        ] {
            let read = word.map_or(Ok(()), |word| rcpt.read_parameters(&word, offers));
            read.map_err(|reply| refused(name, &reply))?;
        }
        Ok(rcpt)
    }
}

fn refused(name: &str, reply: &Reply) -> Problem {
    match reply.code.get() {
        555 => Problem::wrong(format!("'{name}' is not on offer here: {reply}")),
        _ => Problem::wrong(format!("'{name}' cannot be granted: {reply}")),
    }
}

/// A word of a query as JSON has it.
fn word<T: for<'de> Deserialize<'de>>(text: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::from(text)).ok()
}

/// `type;address`; without a type it is an address of mail. The type is an atom, or what follows a
/// space in it would be another word.
fn original(text: &str) -> Result<String, Problem> {
    let usual = if text.is_ascii() { "rfc822" } else { "utf-8" };
    let (kind, address) = text.split_once(';').unwrap_or((usual, text));
    let atom = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if kind.is_empty() || !kind.bytes().all(atom) {
        return Err(Problem::wrong(format!("'{kind}' in 'orcpt' is no type of addresses")));
    }
    let original = OriginalRecipient { kind: kind.to_owned(), address: address.to_owned() };
    Ok(format!("ORCPT={}", original.wire()))
}

impl DeliverBy {
    /// `seconds`, `seconds;return`, `seconds;notify`, each of the latter with `;trace`.
    fn read(text: &str) -> Option<DeliverBy> {
        let mut words = text.split(';');
        let seconds = words.next()?.parse().ok()?;
        let mode = words.next().map_or(Some(Mode::Return), word)?;
        let trace = words.next();
        let known = trace.is_none_or(|word| word == "trace") && words.next().is_none();
        known.then_some(DeliverBy { seconds, mode, trace: trace.is_some() })
    }

    fn word(self) -> String {
        let mode = if self.mode == Mode::Return { 'R' } else { 'N' };
        format!("BY={};{mode}{}", self.seconds, if self.trace { "T" } else { "" })
    }
}

impl Notify {
    /// `never`, or events with commas between them.
    fn read(text: &str) -> Option<Notify> {
        match text {
            "never" => Some(Notify::Never(Never::Never)),
            events => events.split(',').map(word).collect::<Option<_>>().map(Notify::Of),
        }
    }

    fn word(&self) -> String {
        let Notify::Of(events) = self else { return "NOTIFY=NEVER".to_owned() };
        let name = |event: &Event| match event {
            Event::Success => "SUCCESS",
            Event::Failure => "FAILURE",
            Event::Delay => "DELAY",
        };
        // An empty list is no value, and is refused as such.
        format!("NOTIFY={}", events.iter().map(name).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use waypost_smtp::server::FutureRelease;

    use super::*;

    const OFFERS: Offers = Offers {
        dsn: true,
        binary_mime: true,
        require_tls: true,
        deliver_by: Some(60),
        future_release: Some(FutureRelease { interval: 3600, until: 10_000 }),
        mt_priority: true,
        limits: true,
    };

    fn read(pairs: &[(&str, &str)]) -> Result<MailFrom, Problem> {
        let mut wishes = Wishes::default();
        for (key, value) in pairs {
            wishes.read(key, value)?;
        }
        wishes.mail(&ReversePath::Null, &OFFERS)
    }

    #[test]
    fn wishes_are_what_mail_would_say() {
        let mail = read(&[
            ("ret", "headers"),
            ("envid", "order 4711+x"),
            ("require_tls", "true"),
            ("priority", "-3"),
            ("hold_for", "60"),
            ("deliver_by", "120;notify;trace"),
        ])
        .unwrap();
        assert_eq!(mail.envid.as_deref(), Some("order 4711+x"));
        assert_eq!(mail.ret.map(|ret| ret.to_string()).as_deref(), Some("HDRS"));
        assert_eq!(mail.priority.map(|priority| priority.get()), Some(-3));
        assert_eq!(mail.deliver_by.map(|by| by.to_string()).as_deref(), Some("120;NT"));
        assert!(mail.require_tls && mail.hold.is_some());
    }

    #[test]
    fn and_are_held_to_the_same_limits() {
        for (pairs, status) in [
            (&[("hold_for", "3601")][..], 422),
            (&[("hold_for", "-1")], 422),
            (&[("hold_for", "60"), ("hold_until", "1970-01-01T00:01:00Z")], 422),
            (&[("hold_until", "1970-01-01T00:01:00Z RET=FULL")], 422),
            (&[("deliver_by", "59")], 422),
            (&[("deliver_by", "60;return;trace;more")], 422),
            (&[("priority", "10")], 422),
            (&[("ret", "FULL")], 422),
            (&[("envid", "")], 422),
            (&[("envid", "über")], 422),
            (&[("notify", "success,never")], 422),
            (&[("ret", "full"), ("ret", "full")], 400),
            (&[("by", "60")], 400),
        ] {
            let problem = read(pairs).unwrap_err();
            assert_eq!(problem.status.as_u16(), status, "{pairs:?}: {}", problem.detail);
        }
        let nothing = Offers { future_release: None, ..OFFERS };
        let wishes = Wishes { hold_for: Some(1), ..Wishes::default() };
        let problem = wishes.mail(&ReversePath::Null, &nothing).unwrap_err();
        assert!(problem.detail.contains("not on offer"), "{}", problem.detail);
    }

    #[test]
    fn recipients_have_wishes_of_their_own() {
        let mailbox: Mailbox = "b@d.example".parse().unwrap();
        let all = Wishes { notify: Notify::read("failure,delay"), ..Wishes::default() };
        let rcpt = |own: &OwnWishes| own.rcpt(&mailbox, &all, &OFFERS);
        let mut own = OwnWishes::default();
        assert_eq!(rcpt(&own).unwrap().notify.to_string(), "FAILURE,DELAY");
        own.notify = Notify::read("never");
        own.orcpt = Some("list+x@d.example".to_owned());
        let told = rcpt(&own).unwrap();
        assert_eq!(told.notify.to_string(), "NEVER");
        assert_eq!(told.original.unwrap().to_string(), "rfc822; list+x@d.example");
        for orcpt in ["rfc 822;a@b", ";a@b", "rfc822;", "rfc822;a\r\nb"] {
            own.orcpt = Some(orcpt.to_owned());
            assert!(rcpt(&own).is_err(), "{orcpt}");
        }
        own = OwnWishes { notify: Some(Notify::Of(Vec::new())), orcpt: None };
        assert!(rcpt(&own).is_err(), "no events are no wish");
    }
}
