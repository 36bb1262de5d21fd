//! What a refusal means, in one word.

use serde::Deserialize;

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// We send too much.
    RateLimit,
    /// We connect too often.
    ConnectionLimit,
    /// Our address is held in low esteem.
    Reputation,
    /// Our address or domain is on a list.
    BlockList,
    /// Strangers shall come back later.
    Greylist,
    /// The mailbox takes no more.
    MailboxFull,
    /// There is no such mailbox.
    UserUnknown,
    /// The mailbox is there, and closed.
    Inactive,
    /// There is no such domain there, or it takes no mail.
    BadDomain,
    /// They do not take mail for that domain from us.
    RelayDenied,
    /// SPF, DKIM, DMARC or the name of our address.
    Authentication,
    /// Some rule of theirs.
    Policy,
    /// The message looks like spam.
    Spam,
    /// A virus, a forbidden attachment, a forbidden link.
    Content,
    /// The message is too big.
    Size,
    /// More recipients than they take at once.
    TooManyRecipients,
    /// They want encryption, or another one.
    Tls,
    /// They do not like how we speak.
    Protocol,
    /// The message goes in circles.
    Loop,
    /// Trouble of theirs.
    System,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 20] = [
        Kind::RateLimit,
        Kind::ConnectionLimit,
        Kind::Reputation,
        Kind::BlockList,
        Kind::Greylist,
        Kind::MailboxFull,
        Kind::UserUnknown,
        Kind::Inactive,
        Kind::BadDomain,
        Kind::RelayDenied,
        Kind::Authentication,
        Kind::Policy,
        Kind::Spam,
        Kind::Content,
        Kind::Size,
        Kind::TooManyRecipients,
        Kind::Tls,
        Kind::Protocol,
        Kind::Loop,
        Kind::System,
    ];

    /// The word, as in configuration and reasons.
    pub fn word(self) -> &'static str {
        match self {
            Kind::RateLimit => "rate-limit",
            Kind::ConnectionLimit => "connection-limit",
            Kind::Reputation => "reputation",
            Kind::BlockList => "block-list",
            Kind::Greylist => "greylist",
            Kind::MailboxFull => "mailbox-full",
            Kind::UserUnknown => "user-unknown",
            Kind::Inactive => "inactive",
            Kind::BadDomain => "bad-domain",
            Kind::RelayDenied => "relay-denied",
            Kind::Authentication => "authentication",
            Kind::Policy => "policy",
            Kind::Spam => "spam",
            Kind::Content => "content",
            Kind::Size => "size",
            Kind::TooManyRecipients => "too-many-recipients",
            Kind::Tls => "tls",
            Kind::Protocol => "protocol",
            Kind::Loop => "loop",
            Kind::System => "system",
        }
    }

    /// About where we send from, not about this message: waiting helps even after a 5xx.
    pub fn is_about_the_source(self) -> bool {
        matches!(self, Kind::RateLimit | Kind::ConnectionLimit | Kind::Reputation | Kind::BlockList)
    }

    /// Subject and detail of the enhanced status of a bounce, where the server gave none (RFC 3463).
    pub(crate) fn status(self) -> (u16, u16) {
        match self {
            Kind::UserUnknown => (1, 1),
            Kind::Inactive => (2, 1),
            Kind::MailboxFull => (2, 2),
            Kind::BadDomain => (1, 2),
            Kind::Size => (3, 4),
            Kind::Loop => (4, 6),
            Kind::TooManyRecipients => (5, 3),
            Kind::Protocol => (5, 0),
            Kind::System => (3, 0),
            Kind::RateLimit
            | Kind::ConnectionLimit
            | Kind::Reputation
            | Kind::BlockList
            | Kind::Greylist
            | Kind::RelayDenied
            | Kind::Authentication
            | Kind::Policy
            | Kind::Spam
            | Kind::Content
            | Kind::Tls => (7, 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn words_are_those_of_the_configuration() {
        for kind in Kind::ALL {
            let read: Kind = serde_json::from_value(kind.word().into()).unwrap();
            assert_eq!(read, kind);
        }
    }
}
