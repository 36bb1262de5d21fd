//! What a sender can do about a failure, in words.

use crate::{Category, Diagnosis, Disposition, Why};

/// What a sender can do about the failure of a recipient.
pub(super) fn advice_about(why: &Why) -> &'static str {
    match why {
        Why::NeedsBinaryMime(_) => {
            "send it again in an encoding that every server takes (base64), if your program can."
        }
        Why::NeedsEightBit(_) | Why::NeedsSmtputf8(_) => {
            "send it again without accented letters in addresses and header fields, as an \
             attachment if need be; the recipient's server is an old one."
        }
        Why::Unconvertible { header: true, .. } => {
            "send it again without accented letters in addresses and header fields; the \
             recipient's server is an old one."
        }
        Why::Unconvertible { .. } => {
            "send it again without its signature, or in an encoding that every server takes \
             (quoted-printable, base64); the recipient's server is an old one."
        }
        Why::RequireTls { .. } => {
            "your message may only travel encrypted, and the way to the recipient does not promise \
             that; send it again without that demand if it may be read by others."
        }
        Why::NeedsDeliverBy(_) => {
            "send it again without a deadline; the recipient's server knows none."
        }
        Why::Loop(_) | Why::NoAddress(_) => {
            "tell the recipient by other means that the mail set-up of their domain is faulty."
        }
        Why::Expired(_) => {
            "try again later; if it is urgent, reach the recipient by other means, their mail \
             server could not be used for a long time."
        }
        Why::Policy(_) | Why::Operator(_) => "ask your postmaster.",
        _ => advice(why.diagnosis()),
    }
}

/// What a sender can do about a failure that means this.
pub fn advice(diagnosis: Diagnosis) -> &'static str {
    if diagnosis.disposition == Disposition::Uncertain {
        return "ask the recipient before you send it again: it may have arrived all the same, the \
                connection was lost before their server said so.";
    }
    use Category as C;
    match diagnosis.category {
        C::BadMailbox => {
            "check the address for mistakes, and ask the recipient for their present one."
        }
        C::BadDomain => {
            "check the part of the address behind the @ for mistakes; no mail can be sent to it \
             as it is written."
        }
        C::Moved => "ask the recipient for their present address; this one is not in use any more.",
        C::Inactive => {
            "reach the recipient by other means; this mailbox is not in use at the moment."
        }
        C::Full => "try again later; the recipient's mailbox is full.",
        C::List => "ask who runs the list or group; it does not take mail from everybody.",
        C::TooBig => "send less at once, or a link to a place where it can be fetched.",
        C::Attachment => {
            "send it without its attachment or links, which the recipient's server does not take; \
             offer the file in another way."
        }
        C::Virus => {
            "have your computer looked at: the recipient's server found harmful software in the \
             message."
        }
        C::Spam => {
            "the recipient's server takes the message for spam; write it in other words, with \
             fewer links, or ask the recipient by other means to let your mail in."
        }
        C::Malformed => {
            "the message is not written as the rules of mail want it; if a program of yours made \
             it, its maker has to mend that."
        }
        C::Conversion => {
            "send it again in plain text without accented letters in addresses; the recipient's \
             server is an old one."
        }
        C::BadSender => "check your own address: the recipient's server does not accept it.",
        C::SenderBlocked => {
            "the recipient does not want mail from your address; ask them by other means if you \
             think that is a mistake."
        }
        C::Unauthenticated => {
            "your domain does not prove that the message is yours (SPF, DKIM, DMARC); show this \
             notice to your postmaster."
        }
        C::ReverseDns | C::Blocklisted | C::Reputation | C::RateLimited | C::Connections => {
            "nothing is wrong with your message: the recipient's server does not trust the server \
             that sends for you; show this notice to your postmaster."
        }
        C::RelayDenied => {
            "check the part of the address behind the @; if it is right, tell the recipient by \
             other means that their server refuses mail for it."
        }
        C::Denied => {
            "the recipient's server refuses it for reasons of its own, named above; ask the \
             recipient by other means to let your mail in, or ask your postmaster."
        }
        C::Loop => {
            "tell the recipient by other means that the mail set-up of their domain is faulty."
        }
        C::TlsNeeded | C::AuthNeeded | C::Local => "ask your postmaster.",
        C::Greylisted
        | C::TooManyRecipients
        | C::Busy
        | C::StorageFull
        | C::SystemError
        | C::Routing
        | C::Unreachable
        | C::Lost
        | C::Dns
        | C::Expired => "try again later, and ask your postmaster if that does not help.",
        C::Protocol | C::Other => {
            "read what the recipient's server said; it refused the message for good."
        }
    }
}
