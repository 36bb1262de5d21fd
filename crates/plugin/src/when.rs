//! Which sessions and messages a plugin is asked about: conditions of the configuration that the host
//! looks at before anything is copied for a guest.

use waypost_mail::{Attr, DomainPattern, Facts, HeaderBlock, Network, Recipient};
use waypost_smtp::{Domain, ReversePath};

/// Conditions; all that are given must hold, of a list one is enough. What is not known yet at a stage
/// (the sender when a peer connects) does not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Names of listeners.
    pub listeners: Vec<String>,
    /// Networks of the peer.
    pub clients: Vec<Network>,
    /// Somebody is logged in, or nobody is.
    pub authenticated: Option<bool>,
    /// The connection is encrypted, or not.
    pub tls: Option<bool>,
    /// Domains of the reverse path.
    pub sender_domains: Vec<DomainPattern>,
    /// Domains of recipients. At RCPT it chooses among the recipients; later one is enough.
    pub recipient_domains: Vec<DomainPattern>,
    /// The message has at least this many octets.
    pub size_from: Option<u64>,
    /// The message has at most this many octets.
    pub size_to: Option<u64>,
    /// A header field of one of these names is there.
    pub headers: Vec<String>,
    /// Session, message or recipient metadata, `plugin/key` and its value.
    pub tags: Vec<(String, String)>,
}

/// What is known at a stage; what is absent is not known yet.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The session.
    pub session: &'a Facts,
    /// The reverse path.
    pub sender: Option<&'a ReversePath>,
    /// The recipients in question.
    pub recipients: Option<&'a [Recipient]>,
    /// Octets of the message.
    pub size: Option<u64>,
    /// Its header.
    pub header: Option<&'a HeaderBlock>,
    /// Message metadata.
    pub meta: &'a [Attr],
}

impl<'a> Known<'a> {
    /// What is known of a session alone.
    pub fn session(session: &'a Facts) -> Known<'a> {
        Known { session, sender: None, recipients: None, size: None, header: None, meta: &[] }
    }
}

impl Filter {
    /// True when there is no condition.
    pub fn is_open(&self) -> bool {
        *self == Filter::default()
    }

    /// True when every condition holds.
    pub fn holds(&self, known: &Known<'_>) -> bool {
        self.is_open() || self.objection(known).is_none()
    }

    /// True when every condition that is not about a recipient holds, and `recipient` is covered.
    pub(crate) fn covers(&self, recipient: &Recipient) -> bool {
        self.recipient_domains.is_empty()
            || matches(&self.recipient_domains, recipient.mailbox.domain())
    }

    /// The first condition that does not hold, in words.
    pub fn objection(&self, known: &Known<'_>) -> Option<String> {
        self.session_objection(known.session)
            .or_else(|| self.envelope_objection(known))
            .or_else(|| self.message_objection(known))
            .or_else(|| self.tag_objection(known))
    }

    fn session_objection(&self, session: &Facts) -> Option<String> {
        if !self.listeners.is_empty() && !self.listeners.contains(&session.listener) {
            return Some(format!("the listener is {}", session.listener));
        }
        let ip = session.client.ip();
        if !self.clients.is_empty() && !self.clients.iter().any(|network| network.contains(ip)) {
            return Some(format!("the client {ip} is in none of its networks"));
        }
        if self.authenticated.is_some_and(|wanted| wanted != session.identity.is_some()) {
            let who = if session.identity.is_some() { "somebody is" } else { "nobody is" };
            return Some(format!("{who} logged in"));
        }
        if self.tls.is_some_and(|wanted| wanted != session.tls.is_some()) {
            let is = if session.tls.is_some() { "is" } else { "is not" };
            return Some(format!("the connection {is} encrypted"));
        }
        None
    }

    fn envelope_objection(&self, known: &Known<'_>) -> Option<String> {
        if !self.sender_domains.is_empty() {
            match known.sender {
                None => return Some("the sender is not known yet".to_owned()),
                Some(ReversePath::Null) => return Some("the sender is <>".to_owned()),
                Some(ReversePath::Mailbox(sender)) => {
                    if !matches(&self.sender_domains, sender.domain()) {
                        return Some(format!("the sender's domain is {}", sender.domain()));
                    }
                }
            }
        }
        if self.recipient_domains.is_empty() {
            return None;
        }
        match known.recipients {
            None => Some("the recipients are not known yet".to_owned()),
            Some(all) if all.iter().any(|recipient| self.covers(recipient)) => None,
            Some(_) => Some("no recipient is in one of its domains".to_owned()),
        }
    }

    fn message_objection(&self, known: &Known<'_>) -> Option<String> {
        if self.size_from.is_some() || self.size_to.is_some() {
            let Some(size) = known.size else {
                return Some("the size is not known yet".to_owned());
            };
            let within = self.size_from.is_none_or(|from| size >= from)
                && self.size_to.is_none_or(|to| size <= to);
            if !within {
                return Some(format!("the message has {size} octets"));
            }
        }
        if self.headers.is_empty() {
            return None;
        }
        match known.header {
            None => Some("the header is not known yet".to_owned()),
            Some(header) if self.headers.iter().any(|name| header.count_named(name) > 0) => None,
            Some(_) => Some(format!("there is no field {}", self.headers.join(" or "))),
        }
    }

    fn tag_objection(&self, known: &Known<'_>) -> Option<String> {
        let is = |attrs: &[Attr], (name, value): &(String, String)| {
            attrs.iter().any(|attr| attr.name == *name && attr.value == *value)
        };
        let tagged = |tag: &&(String, String)| {
            is(known.meta, tag)
                || is(&known.session.meta, tag)
                || known.recipients.unwrap_or_default().iter().any(|r| is(&r.meta, tag))
        };
        let missing = self.tags.iter().find(|tag| !tagged(tag))?;
        Some(format!("there is no tag {} = {:?}", missing.0, missing.1))
    }
}

fn matches(patterns: &[DomainPattern], domain: &Domain) -> bool {
    patterns.iter().any(|pattern| pattern.matches(domain))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waypost_mail::SessionId;

    use super::*;

    fn recipient(address: &str) -> Recipient {
        Recipient::new(0, address.parse().unwrap())
    }

    #[test]
    fn every_condition_that_is_given_must_hold() {
        let mut session = Facts::internal(SessionId(1));
        session.client = "192.0.2.77:4000".parse().unwrap();
        session.listener = "mx".to_owned();
        let sender = ReversePath::Mailbox("a@sub.example.org".parse().unwrap());
        let recipients = [recipient("b@example.net")];
        let header = HeaderBlock::parse(Bytes::from_static(b"List-Id: x\r\n"));
        let meta = [Attr { name: "guard/score".into(), value: "high".into() }];
        let known = Known {
            session: &session,
            sender: Some(&sender),
            recipients: Some(&recipients),
            size: Some(1000),
            header: Some(&header),
            meta: &meta,
        };
        let all = Filter {
            listeners: vec!["mx".into()],
            clients: vec!["192.0.2.64/27".parse().unwrap()],
            authenticated: Some(false),
            tls: Some(false),
            sender_domains: vec!["*.example.org".parse().unwrap()],
            recipient_domains: vec!["example.net".parse().unwrap()],
            size_from: Some(1000),
            size_to: Some(1000),
            headers: vec!["list-id".into()],
            tags: vec![("guard/score".into(), "high".into())],
        };
        assert_eq!(all.objection(&known), None);
        let broken: [fn(&mut Filter); 9] = [
            |f| f.listeners = vec!["submission".into()],
            |f| f.clients = vec!["192.0.2.0/26".parse().unwrap()],
            |f| f.authenticated = Some(true),
            |f| f.tls = Some(true),
            |f| f.sender_domains = vec!["example.org".parse().unwrap()],
            |f| f.recipient_domains = vec!["example.com".parse().unwrap()],
            |f| f.size_to = Some(999),
            |f| f.headers = vec!["Subject".into()],
            |f| f.tags[0].1 = "low".into(),
        ];
        for (index, breaks) in broken.iter().enumerate() {
            let mut filter = all.clone();
            breaks(&mut filter);
            assert!(filter.objection(&known).is_some(), "condition {index}");
        }
    }

    #[test]
    fn what_is_not_known_yet_does_not_hold() {
        let session = Facts::internal(SessionId(1));
        let filter = Filter { sender_domains: vec!["*".parse().unwrap()], ..Filter::default() };
        assert_eq!(
            filter.objection(&Known::session(&session)).as_deref(),
            Some("the sender is not known yet")
        );
        assert!(Filter::default().holds(&Known::session(&session)));
    }
}
