//! What a failure means, however it is coded: for how long, whom it is about, and of what kind.
//!
//! Replies of 4xx and 5xx say less than they seem to: servers say "never" and mean "later", and the
//! other way round. A [`Diagnosis`] says what is meant. [`Diagnosis::by_code`] reads a reply by its
//! phase, code and enhanced status alone; a [`crate::Rulebook`] reads its words too.

mod codes;

use std::fmt;

use serde::{Deserialize, Serialize};
use waypost_smtp::{Enhanced, Reply};

use crate::words::words;

words! {
    /// For how long.
    Disposition {
        /// Trying again cannot help.
        Permanent = "permanent",
        /// Trying again may help.
        Transient = "transient",
        /// We send too much or too fast: trying again helps when we wait, and so it is with other mail.
        RateLimit = "rate-limit",
        /// It may or may not have been delivered.
        Uncertain = "uncertain",
        /// Something is wrong on our own side: an operator has to mend it.
        LocalFault = "local-fault",
    }
}

words! {
    /// Whom or what it is about.
    Scope {
        /// The address: whoever writes to it, it will be refused.
        Recipient = "recipient",
        /// The mailbox behind the address, which is there.
        Mailbox = "mailbox",
        /// The message itself.
        Content = "content",
        /// Who sends it, as address, domain or signature.
        Sender = "sender",
        /// Our own address in the network.
        Source = "source",
        /// The one host that said it.
        Host = "host",
        /// All hosts of this provider.
        Provider = "provider",
        /// How the way there must be encrypted.
        Tls = "tls",
        /// This relay and its configuration.
        Relay = "relay",
    }
}

words! {
    /// Of what kind. What is particular to a provider is in the name of the rule that found it.
    Category {
        /// There is no such address.
        BadMailbox = "bad-mailbox",
        /// There is no such domain, or it takes no mail.
        BadDomain = "bad-domain",
        /// The recipient has gone elsewhere.
        Moved = "moved",
        /// The mailbox is disabled or abandoned.
        Inactive = "inactive",
        /// The mailbox is full.
        Full = "full",
        /// A mailing list could not be expanded.
        List = "list",
        /// The address is new to the server, which waits for a second try.
        Greylisted = "greylisted",
        /// The message is too large.
        TooBig = "too-big",
        /// The content looks like spam.
        Spam = "spam",
        /// The content has a virus.
        Virus = "virus",
        /// An attachment or a link is not allowed.
        Attachment = "attachment",
        /// The message breaks the rules of its format.
        Malformed = "malformed",
        /// The content cannot be converted to what the server takes.
        Conversion = "conversion",
        /// SPF, DKIM, DMARC or ARC failed or is missing.
        Unauthenticated = "unauthenticated",
        /// The sender's address does not exist or cannot be answered.
        BadSender = "bad-sender",
        /// This sender is not wanted.
        SenderBlocked = "sender-blocked",
        /// Our address has no name, or we say another one.
        ReverseDns = "reverse-dns",
        /// Our address is on a blocklist.
        Blocklisted = "blocklisted",
        /// Our address or domain has a bad or no reputation.
        Reputation = "reputation",
        /// Too much mail in too short a time.
        RateLimited = "rate-limited",
        /// Too many connections at once.
        Connections = "connections",
        /// More recipients than the server takes at once.
        TooManyRecipients = "too-many-recipients",
        /// The server is busy or closes.
        Busy = "busy",
        /// The server has no room.
        StorageFull = "storage-full",
        /// The server has a fault.
        SystemError = "system-error",
        /// Mail goes in circles behind the server.
        Loop = "loop",
        /// The server finds no way on.
        Routing = "routing",
        /// No connection could be made.
        Unreachable = "unreachable",
        /// The connection was lost, or nothing was said in time.
        Lost = "lost",
        /// A name could not be looked up.
        Dns = "dns",
        /// The two sides do not understand each other.
        Protocol = "protocol",
        /// TLS was asked for, by either side, and is not there.
        TlsNeeded = "tls-needed",
        /// A login was asked for or failed.
        AuthNeeded = "auth-needed",
        /// The server does not relay for us.
        RelayDenied = "relay-denied",
        /// Refused by a policy that is not said.
        Denied = "denied",
        /// It took too long.
        Expired = "expired",
        /// A fault of our own.
        Local = "local",
        /// Nothing else is known.
        Other = "other",
    }
}

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Diagnosis {
    /// For how long.
    pub disposition: Disposition,
    /// Whom it is about.
    pub scope: Scope,
    /// Of what kind.
    pub category: Category,
}

impl Diagnosis {
    /// A failure of this kind, about whom such failures usually are.
    pub const fn new(disposition: Disposition, category: Category) -> Diagnosis {
        Diagnosis { disposition, scope: category.usual_scope(), category }
    }

    /// The same about somebody else.
    pub const fn about(self, scope: Scope) -> Diagnosis {
        Diagnosis { scope, ..self }
    }

    /// True when another attempt cannot help. What is about TLS waits: policies of TLS change, and
    /// mail that may not go in clear text is not lost for that.
    pub fn is_permanent(self) -> bool {
        self.disposition == Disposition::Permanent && self.scope != Scope::Tls
    }

    /// True when mail to this address will never be wanted, whoever sends it and whatever it says.
    pub fn condemns_recipient(self) -> bool {
        self.is_permanent()
            && (self.scope == Scope::Recipient || self.category == Category::Inactive)
    }

    /// The enhanced status of a reply that means this: its own subject and detail, where they say
    /// anything.
    pub fn status_of(self, reply: &Reply) -> Enhanced {
        let usual = self.status();
        match reply.enhanced {
            Some(Enhanced(_, subject, detail)) if (subject, detail) != (0, 0) => {
                Enhanced(usual.0, subject, detail)
            }
            _ => usual,
        }
    }

    /// The enhanced status where the server sent none (RFC 3463 §3).
    pub fn status(self) -> Enhanced {
        let (subject, detail) = self.category.status();
        Enhanced(if self.is_permanent() { 5 } else { 4 }, subject, detail)
    }
}

/// `permanent/recipient/bad-mailbox`.
impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.disposition, self.scope, self.category)
    }
}

impl Category {
    /// Whom a failure of this kind is about, where nothing else is said.
    pub const fn usual_scope(self) -> Scope {
        use Category as C;
        match self {
            C::BadMailbox | C::BadDomain | C::Moved | C::Greylisted => Scope::Recipient,
            C::Inactive | C::Full | C::List => Scope::Mailbox,
            C::TooBig | C::Spam | C::Virus | C::Attachment | C::Malformed | C::Conversion => {
                Scope::Content
            }
            C::Unauthenticated | C::BadSender | C::SenderBlocked => Scope::Sender,
            C::ReverseDns | C::Blocklisted | C::Reputation | C::RateLimited | C::Connections => {
                Scope::Source
            }
            C::TooManyRecipients
            | C::Busy
            | C::StorageFull
            | C::SystemError
            | C::Unreachable
            | C::Lost
            | C::Protocol => Scope::Host,
            C::Loop | C::Routing | C::Dns | C::RelayDenied | C::Denied | C::Other => {
                Scope::Provider
            }
            C::TlsNeeded => Scope::Tls,
            C::AuthNeeded | C::Local => Scope::Relay,
            C::Expired => Scope::Content,
        }
    }

    /// Subject and detail of the enhanced status for it (RFC 3463 §3 and the IANA registry).
    const fn status(self) -> (u16, u16) {
        use Category as C;
        match self {
            C::BadMailbox => (1, 1),
            C::BadDomain => (1, 2),
            C::Moved => (1, 6),
            C::Inactive => (2, 1),
            C::Full => (2, 2),
            C::List => (2, 4),
            C::TooBig => (3, 4),
            C::Malformed => (6, 0),
            C::Conversion => (6, 3),
            C::Unauthenticated => (7, 26),
            C::BadSender => (1, 8),
            C::ReverseDns => (7, 25),
            C::RateLimited | C::Connections => (7, 28),
            C::TooManyRecipients => (5, 3),
            C::Busy => (3, 2),
            C::StorageFull => (3, 1),
            C::SystemError | C::Local => (3, 0),
            C::Loop => (4, 6),
            C::Routing => (4, 4),
            C::Unreachable => (4, 1),
            C::Lost => (4, 2),
            C::Dns => (4, 3),
            C::Protocol => (5, 0),
            C::TlsNeeded => (7, 10),
            C::AuthNeeded => (7, 0),
            C::Expired => (4, 7),
            C::Greylisted
            | C::Spam
            | C::Virus
            | C::Attachment
            | C::SenderBlocked
            | C::Blocklisted
            | C::Reputation
            | C::RelayDenied
            | C::Denied => (7, 1),
            C::Other => (0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for category in Category::ALL {
            assert_eq!(category.word().parse(), Ok(*category));
        }
        let error = "temporary".parse::<Disposition>().unwrap_err().to_string();
        assert!(error.contains("transient"), "{error}");
        let diagnosis = Diagnosis::new(Disposition::Permanent, Category::BadMailbox);
        assert_eq!(diagnosis.to_string(), "permanent/recipient/bad-mailbox");
    }

    #[test]
    fn only_what_is_about_the_address_condemns_it() {
        let condemns =
            |category| Diagnosis::new(Disposition::Permanent, category).condemns_recipient();
        for category in Category::ALL {
            use Category::{BadDomain, BadMailbox, Greylisted, Inactive, Moved};
            let expected =
                matches!(category, BadMailbox | BadDomain | Moved | Greylisted | Inactive);
            assert_eq!(condemns(*category), expected, "{category}");
            let later = Diagnosis::new(Disposition::Transient, *category);
            assert!(!later.condemns_recipient(), "{category}");
        }
    }

    #[test]
    fn what_is_about_tls_waits() {
        let tls = Diagnosis::new(Disposition::Permanent, Category::TlsNeeded);
        assert!(!tls.is_permanent());
        assert_eq!(tls.status(), Enhanced(4, 7, 10));
        let full = Diagnosis::new(Disposition::Permanent, Category::Full);
        assert_eq!(full.status(), Enhanced(5, 2, 2));
    }
}
