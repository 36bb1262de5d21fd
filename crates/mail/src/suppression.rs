//! Who gets no more mail: whom, from whom, why, and until when.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use waypost_smtp::{Domain, Mailbox, Reply, ReversePath};

use crate::words::words;
use crate::{Category, Timestamp, Why};

/// Longest note in octets.
pub const MAX_NOTE: usize = 256;

words! {
    /// Why somebody is on the list.
    Ground {
        /// There is no such address, domain or recipient.
        BadAddress = "bad-address",
        /// The mailbox is disabled or abandoned.
        Inactive = "inactive",
        /// The recipient complained.
        Complaint = "complaint",
        /// An operator or a program said so.
        Manual = "manual",
    }
}

/// Whom mail is not sent to: an address, or all of a domain. In lower case, since nobody has two
/// mailboxes that differ in that alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// `bob@example.net`.
    Address(String),
    /// `@example.net`.
    Domain(String),
}

/// Whose mail is not sent to them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Owner {
    /// Everybody's: `everybody`.
    Everybody,
    /// Of envelope senders in this domain: `@news.example`.
    Domain(String),
    /// Of this envelope sender: `alice@news.example`.
    Sender(String),
    /// Of who is logged in by this name: `user:app`.
    User(String),
}

/// What is neither a target nor an owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuppressionError {
    /// Neither an address nor a domain.
    #[error("'{0}' is neither an address nor a domain, such as bob@example.net or @example.net")]
    Target(String),
    /// Nobody's mail.
    #[error("'{0}' is nobody: everybody, @example.org, alice@example.org or user:NAME")]
    Owner(String),
}

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppression {
    /// Whom mail is not sent to.
    pub target: Target,
    /// Whose.
    pub owner: Owner,
    /// Why.
    pub ground: Ground,
    /// Since when.
    pub since: Timestamp,
    /// Until when; for good otherwise.
    pub expires: Option<Timestamp>,
    /// What was said, or what an operator wrote; at most [`MAX_NOTE`] octets.
    pub note: String,
}

impl Suppression {
    /// What a peer is told who names such a recipient.
    pub fn reply(&self) -> Reply {
        let status = match self.ground {
            Ground::BadAddress => (5, 1, 1),
            Ground::Inactive => (5, 2, 1),
            Ground::Complaint | Ground::Manual => (5, 7, 1),
        };
        let Suppression { target, ground, since, .. } = self;
        Reply::fixed(550, status, "").with_text(format!(
            "{target} is on the suppression list ({ground}, since {since}); ask the postmaster here to take it off"
        ))
    }

    /// The same with a note that is short enough.
    #[must_use]
    pub fn bounded(mut self) -> Suppression {
        self.note.truncate(self.note.floor_char_boundary(MAX_NOTE));
        self
    }
}

impl Ground {
    /// Why a recipient who bounced for this should get no more mail, if so: what lasts and is about the
    /// address, as a server said it or the DNS; nothing that policy or an operator here decided.
    pub fn of(why: &Why) -> Option<Ground> {
        match why.cause() {
            Why::Refused { .. } | Why::NoSuchDomain(_) | Why::NullMx(_) => {}
            _ => return None,
        }
        let diagnosis = why.diagnosis();
        let inactive = diagnosis.category == Category::Inactive;
        let ground = if inactive { Ground::Inactive } else { Ground::BadAddress };
        diagnosis.condemns_recipient().then_some(ground)
    }
}

impl Target {
    /// The address itself.
    pub fn address(mailbox: &Mailbox) -> Target {
        Target::Address(mailbox.to_string().to_lowercase())
    }

    /// All of its domain.
    pub fn domain(mailbox: &Mailbox) -> Target {
        Target::Domain(mailbox.domain().to_string().to_lowercase())
    }

    /// All of the domain that an address is in; nothing for a domain.
    pub fn of_domain(&self) -> Option<Target> {
        match self {
            Target::Address(address) => {
                address.rsplit_once('@').map(|(_, domain)| Target::Domain(domain.to_owned()))
            }
            Target::Domain(_) => None,
        }
    }

    /// True for who must be reachable whatever happened (RFC 5321 §4.5.1, RFC 2142 §4).
    pub fn is_exempt(mailbox: &Mailbox) -> bool {
        ["postmaster", "abuse"].iter().any(|name| mailbox.local().eq_ignore_ascii_case(name))
    }
}

impl Owner {
    /// All whose lists count for mail of this sender.
    pub fn of(sender: &ReversePath, user: Option<&str>) -> Vec<Owner> {
        let mut owners = vec![Owner::Everybody];
        if let Some(mailbox) = sender.mailbox() {
            owners.push(Owner::domain(mailbox));
            owners.push(Owner::sender(mailbox));
        }
        owners.extend(user.map(|user| Owner::User(user.to_owned())));
        owners
    }

    /// Senders in the domain of this one.
    pub fn domain(mailbox: &Mailbox) -> Owner {
        Owner::Domain(mailbox.domain().to_string().to_lowercase())
    }

    /// This sender.
    pub fn sender(mailbox: &Mailbox) -> Owner {
        Owner::Sender(mailbox.to_string().to_lowercase())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Address(address) => f.write_str(address),
            Target::Domain(domain) => write!(f, "@{domain}"),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Everybody => f.write_str("everybody"),
            Owner::Domain(domain) => write!(f, "@{domain}"),
            Owner::Sender(address) => f.write_str(address),
            Owner::User(user) => write!(f, "user:{user}"),
        }
    }
}

impl FromStr for Target {
    type Err = SuppressionError;
    fn from_str(text: &str) -> Result<Target, SuppressionError> {
        let refuse = || SuppressionError::Target(text.to_owned());
        match text.strip_prefix('@') {
            Some(domain) => {
                let domain = Domain::parse(domain).map_err(|_| refuse())?;
                Ok(Target::Domain(domain.to_string().to_lowercase()))
            }
            None => Mailbox::parse(text).map(|m| Target::address(&m)).map_err(|_| refuse()),
        }
    }
}

impl FromStr for Owner {
    type Err = SuppressionError;
    fn from_str(text: &str) -> Result<Owner, SuppressionError> {
        let refuse = || SuppressionError::Owner(text.to_owned());
        if text == "everybody" {
            return Ok(Owner::Everybody);
        }
        if let Some(user) = text.strip_prefix("user:") {
            let legal = !user.is_empty() && user.len() <= 255 && !user.contains(char::is_control);
            return legal.then(|| Owner::User(user.to_owned())).ok_or_else(refuse);
        }
        match text.parse::<Target>().map_err(|_| refuse())? {
            Target::Address(address) => Ok(Owner::Sender(address)),
            Target::Domain(domain) => Ok(Owner::Domain(domain)),
        }
    }
}

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = SuppressionError;
            fn try_from(text: String) -> Result<$name, SuppressionError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    )*};
}
as_text!(Target, Owner);

#[cfg(test)]
mod tests {
    use waypost_smtp::Phase;

    use super::*;

    fn refusal(text: &str) -> Why {
        let reply = text.parse().unwrap();
        Why::Refused { hop: "mx".into(), phase: Phase::Rcpt, reply }
    }

    #[test]
    fn targets_and_owners_are_read_as_they_are_written() {
        for text in ["bob@example.net", "@example.net"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in ["everybody", "@example.org", "alice@example.org", "user:app 1"] {
            assert_eq!(text.parse::<Owner>().unwrap().to_string(), text);
        }
        let bob: Target = "\"b@b\"@example.net".parse().unwrap();
        assert_eq!(bob.of_domain(), Some("@example.net".parse().unwrap()));
        assert_eq!("@example.net".parse::<Target>().unwrap().of_domain(), None);
        assert_eq!("Bob@Example.NET".parse::<Target>().unwrap().to_string(), "bob@example.net");
        for wrong in ["", "bob", "@", "user:", "a b@example.org", "bob@example.net,x@y.example"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
            assert!(wrong.parse::<Owner>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_lasts_and_is_about_the_address_is_a_ground() {
        for (reply, expected) in [
            ("550 5.1.1 x", Some(Ground::BadAddress)),
            ("550 5.2.1 x", Some(Ground::Inactive)),
            ("450 4.1.1 x", None),
            ("552 5.2.2 full", None),
            ("550 5.7.1 spam", None),
            ("550 x", None),
        ] {
            assert_eq!(Ground::of(&refusal(reply)), expected, "{reply}");
        }
        let late = Why::Expired(Some(Box::new(refusal("450 4.1.1 x"))));
        assert_eq!(Ground::of(&late), None);
        assert_eq!(Ground::of(&Why::Policy(Reply::MAILBOX_UNAVAILABLE)), None);
        assert_eq!(Ground::of(&Why::NullMx("x".into())), Some(Ground::BadAddress));
    }

    #[test]
    fn a_reply_says_why() {
        let entry = Suppression {
            target: "bob@example.net".parse().unwrap(),
            owner: Owner::Everybody,
            ground: Ground::Complaint,
            since: Timestamp(0),
            expires: None,
            note: "ü".repeat(400),
        };
        let reply = entry.reply().to_string();
        assert!(
            reply.starts_with("550 5.7.1 bob@example.net is on the suppression list (complaint")
        );
        assert!(entry.bounded().note.len() <= MAX_NOTE);
        assert!(Target::is_exempt(&"Postmaster@example.net".parse().unwrap()));
    }
}
