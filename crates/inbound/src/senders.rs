//! Who may send as whom: the addresses that stand behind a login.

use std::fmt;
use std::str::FromStr;

use waypost_mail::{DomainPattern, HeaderBlock};
use waypost_smtp::{Domain, Mailbox, ReversePath};

use crate::from_field::authors;

/// What binds senders to logins. The default is strict: a login may send as its own name, where that
/// is an address, and as what it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SenderRules {
    /// Every login may send as anybody. Nothing else counts then.
    pub free: bool,
    /// The addresses in the From field are held to the same rules.
    pub from_field: bool,
    /// What logins were given besides what the users file says.
    pub rules: Vec<SenderRule>,
}

/// Logins, and what they may send as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderRule {
    /// These logins.
    pub users: Vec<Wildcard>,
    /// May send as these.
    pub may: Vec<SenderPattern>,
}

impl SenderRules {
    /// True when `user` may send as `sender`; `held` is what the users file gives.
    pub fn allow(&self, user: &str, held: &[SenderPattern], sender: &ReversePath) -> bool {
        let given = self.rules.iter().filter(|rule| rule.users.iter().any(|u| u.covers(user)));
        let own = sender.mailbox().is_some_and(|mailbox| is_named(mailbox, user));
        self.free
            || own
            || held.iter().chain(given.flat_map(|rule| &rule.may)).any(|may| may.covers(sender))
    }

    /// True when `user` may have written a message with this header: there is one From field, and
    /// every address in it is the user's to send as.
    pub fn allow_from(&self, user: &str, held: &[SenderPattern], header: &HeaderBlock) -> bool {
        let allowed = |mailbox: Mailbox| self.allow(user, held, &ReversePath::Mailbox(mailbox));
        let authors = authors(header);
        self.free || authors.is_some_and(|authors| authors.into_iter().all(allowed))
    }
}

/// An address, or many: `alice@example.org`, `billing-*@example.org`, `@example.org`,
/// `@*.example.org`, `*` for every address, `<>` for the null sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderPattern {
    /// Addresses with such a local part in this domain. Local parts are compared without case.
    Within(Wildcard, DomainPattern),
    /// Every address; not the null sender.
    Anybody,
    /// The null sender, which notices and receipts use.
    Null,
}

/// What is no pattern of senders.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no pattern of senders: write \"alice@example.org\", \"app-*@example.org\", \
     \"@example.org\", \"@*.example.org\", \"*\" or \"<>\""
)]
pub struct SenderPatternError(String);

impl SenderPattern {
    /// True when it covers `sender`.
    pub fn covers(&self, sender: &ReversePath) -> bool {
        match (self, sender) {
            (SenderPattern::Null, ReversePath::Null) => true,
            (SenderPattern::Anybody, ReversePath::Mailbox(_)) => true,
            (SenderPattern::Within(local, domain), ReversePath::Mailbox(mailbox)) => {
                local.covers(mailbox.local()) && domain.matches(mailbox.domain())
            }
            _ => false,
        }
    }
}

impl FromStr for SenderPattern {
    type Err = SenderPatternError;
    fn from_str(text: &str) -> Result<SenderPattern, SenderPatternError> {
        let refuse = || SenderPatternError(text.to_owned());
        match text {
            "*" => return Ok(SenderPattern::Anybody),
            "<>" => return Ok(SenderPattern::Null),
            _ => {}
        }
        let (local, domain) = text.rsplit_once('@').ok_or_else(refuse)?;
        let domain = domain.parse().map_err(|_| refuse())?;
        let local = if local.is_empty() { "*" } else { local };
        // What stands for the wildcard must leave a local part that could be one.
        let legal = Domain::parse("example.org")
            .and_then(|domain| Mailbox::new(local.replace('*', "x"), domain));
        legal.map_err(|_| refuse())?;
        if text.contains([',', ' ', '\t']) {
            return Err(refuse());
        }
        Ok(SenderPattern::Within(Wildcard(local.to_owned()), domain))
    }
}

impl fmt::Display for SenderPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SenderPattern::Anybody => f.write_str("*"),
            SenderPattern::Null => f.write_str("<>"),
            SenderPattern::Within(Wildcard(local), domain) if local == "*" => {
                write!(f, "@{domain}")
            }
            SenderPattern::Within(Wildcard(local), domain) => write!(f, "{local}@{domain}"),
        }
    }
}

/// Text in which `*` stands for anything, also for nothing. ASCII letters match in either case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wildcard(pub String);

impl Wildcard {
    /// True when it stands for `text`.
    pub fn covers(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        let pattern = self.0.to_ascii_lowercase();
        let mut parts = pattern.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = text.strip_prefix(first) else { return false };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else { return rest.is_empty() };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

/// True when a login of this name is this address.
fn is_named(mailbox: &Mailbox, user: &str) -> bool {
    Mailbox::parse(user).is_ok_and(|own| {
        own.domain() == mailbox.domain() && own.local().eq_ignore_ascii_case(mailbox.local())
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn path(text: &str) -> ReversePath {
        match text {
            "" => ReversePath::Null,
            text => ReversePath::Mailbox(Mailbox::parse(text).unwrap()),
        }
    }

    fn covers(pattern: &str, sender: &str) -> bool {
        let pattern: SenderPattern = pattern.parse().unwrap();
        assert_eq!(pattern.to_string().parse(), Ok(pattern.clone()));
        pattern.covers(&path(sender))
    }

    #[test]
    fn patterns_cover_what_they_say() {
        for (pattern, sender, expected) in [
            ("alice@example.org", "Alice@EXAMPLE.org", true),
            ("alice@example.org", "alice@sub.example.org", false),
            ("alice@example.org", "alice+tag@example.org", false),
            ("alice+*@example.org", "alice+tag@example.org", true),
            ("app-*-x@example.org", "app-1-x@example.org", true),
            ("app-*-x@example.org", "app-x@example.org", false),
            ("@example.org", "anybody@example.org", true),
            ("@example.org", "anybody@badexample.org", false),
            ("@*.example.org", "anybody@a.b.example.org", true),
            ("@*.example.org", "anybody@example.org", false),
            ("*", "x@anywhere.example", true),
            ("*", "", false),
            ("<>", "", true),
            ("<>", "x@anywhere.example", false),
        ] {
            assert_eq!(covers(pattern, sender), expected, "{pattern} {sender}");
        }
        for bad in ["", "alice", "@", "alice@", "a b@example.org", "@a..b", "a,b@example.org"] {
            assert!(bad.parse::<SenderPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_anything_in_between() {
        for (pattern, text, expected) in [
            ("a", "A", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("*a*b*", "xaxbx", true),
            ("*a*b*", "xbxax", false),
            ("a*a", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(Wildcard(pattern.into()).covers(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_login_sends_as_itself_and_as_what_it_was_given() {
        let rule = |user: &str, may: &str| SenderRule {
            users: vec![Wildcard(user.into())],
            may: vec![may.parse().unwrap()],
        };
        let rules = SenderRules {
            rules: vec![rule("app-*", "@apps.example"), rule("*", "<>")],
            ..SenderRules::default()
        };
        let held = ["team@example.org".parse().unwrap()];
        let allow = |user: &str, sender: &str| rules.allow(user, &held, &path(sender));
        assert!(allow("alice@example.org", "Alice@example.org"));
        assert!(!allow("alice@example.org", "bob@example.org"));
        assert!(allow("app-7", "x@apps.example") && !allow("bob", "x@apps.example"));
        assert!(allow("bob", "") && allow("bob", "team@example.org"));
        let none = SenderRules::default();
        assert!(
            !none.allow("bob", &[], &path("")) && !none.allow("bob", &[], &path("b@o.example"))
        );
        let free = SenderRules { free: true, ..SenderRules::default() };
        assert!(free.allow("bob", &[], &path("")) && free.allow("bob", &[], &path("b@o.example")));
    }

    #[test]
    fn the_from_field_is_held_to_the_same() {
        let rules = SenderRules::default();
        let allow = |text: &'static str| {
            let header = HeaderBlock::parse(Bytes::from_static(text.as_bytes()));
            rules.allow_from("alice@example.org", &["@team.example".parse().unwrap()], &header)
        };
        assert!(allow("From: Alice <alice@example.org>\r\n"));
        assert!(allow("From: alice@example.org,\r\n \"B, C\" <x@team.example>\r\n"));
        assert!(allow("fRoM : =?utf-8?q?boss=40example=2Eorg?= <alice@example.org>\r\n"));
        for bad in [
            "From: bob@example.org\r\n",
            "From: alice@example.org, bob@example.org\r\n",
            "From: alice@example.org\r\nFrom: bob@example.org\r\n",
            "From: a group: alice@example.org, bob@example.org;\r\n",
            "From: <>\r\n",
            "From: alice\r\n",
            "From:\r\n",
            "Subject: x\r\n",
        ] {
            assert!(!allow(bad), "{bad:?}");
        }
    }
}
