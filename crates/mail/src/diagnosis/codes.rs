//! What a reply means by its numbers alone: phase, code, and enhanced status as the IANA registry
//! has it (RFC 5248).

use waypost_smtp::{Phase, Reply, Severity};

use super::{Category, Diagnosis, Disposition, Scope};

impl Diagnosis {
    /// What a refusal means whose words nobody knows. The first digit says for how long, with two
    /// exceptions: 552 to RCPT means the same as 452 (RFC 5321 §4.5.3.1.10), and logins and TLS that the
    /// other side asks for are for an operator to mend.
    pub fn by_code(phase: Phase, reply: &Reply) -> Diagnosis {
        let known = reply.enhanced.and_then(|status| by_status(phase, status.1, status.2));
        let found = known.unwrap_or_else(|| by_digits(phase, reply.code.get()));
        let crowded = found.category == Category::TooManyRecipients;
        let disposition = match (reply.severity(), found.category) {
            _ if crowded && phase == Phase::Rcpt => Disposition::Transient,
            (Severity::Permanent, Category::AuthNeeded) => Disposition::LocalFault,
            (Severity::Permanent, _) => Disposition::Permanent,
            _ => found.disposition,
        };
        Diagnosis { disposition, ..found }
    }
}

/// By subject and detail. Those that say nothing of their own (X.0.0, X.7.0, X.7.1 …) are left to the
/// digits or called denied.
fn by_status(phase: Phase, subject: u16, detail: u16) -> Option<Diagnosis> {
    use Category as C;
    let usual = |category| Some(Diagnosis::new(Disposition::Transient, category));
    let about = |category, scope| usual(category).map(|diagnosis| diagnosis.about(scope));
    let limit = |category| Some(Diagnosis::new(Disposition::RateLimit, category));
    match (subject, detail) {
        // RFC 3463 §3.2
        // Some address is bad: that it is the recipient's is not said.
        (1, 0) if phase != Phase::Mail => about(C::BadMailbox, Scope::Mailbox),
        (1, 1 | 3 | 4) if phase != Phase::Mail => usual(C::BadMailbox),
        (1, 2) if phase != Phase::Mail => usual(C::BadDomain),
        (1, 5) => None,
        (1, 6) => usual(C::Moved),
        (1, 7..=9) => usual(C::BadSender),
        (1, 0..=4) => usual(C::BadSender),
        (1, 10) if phase == Phase::Mail => usual(C::BadSender),
        // RFC 7505 §4.2
        (1, 10) => usual(C::BadDomain),
        // RFC 3463 §3.3
        (2, 0) => about(C::Other, Scope::Mailbox),
        (2, 1) => usual(C::Inactive),
        (2, 2) => usual(C::Full),
        (2, 3) => usual(C::TooBig),
        (2, 4) => usual(C::List),
        // RFC 3463 §3.4
        (3, 0) => usual(C::SystemError),
        (3, 1) => usual(C::StorageFull),
        (3, 2) => usual(C::Busy),
        (3, 3) => usual(C::Protocol),
        (3, 4) => usual(C::TooBig),
        (3, 5) => usual(C::SystemError),
        // RFC 3463 §3.5
        (4, 1) => usual(C::Routing),
        (4, 2) => about(C::Lost, Scope::Provider),
        (4, 3) => usual(C::Dns),
        (4, 4) => usual(C::Routing),
        (4, 5) => usual(C::Busy),
        (4, 6) => usual(C::Loop),
        (4, 7) => usual(C::Expired),
        // RFC 3463 §3.6
        (5, 3) => usual(C::TooManyRecipients),
        (5, _) => usual(C::Protocol),
        // RFC 3463 §3.7, RFC 6531 §3.2
        (6, 0) => usual(C::Malformed),
        (6, 1..=10) => usual(C::Conversion),
        // RFC 3463 §3.8, RFC 7372 §3, RFC 8617 §11.3
        (7, 2) => usual(C::List),
        (7, 4..=7) => usual(C::TlsNeeded),
        (7, 8 | 9 | 11..=14) => usual(C::AuthNeeded),
        (7, 10) => usual(C::TlsNeeded),
        (7, 17) => usual(C::Inactive),
        (7, 18) => usual(C::Inactive),
        (7, 20..=24 | 26 | 29) => usual(C::Unauthenticated),
        (7, 25) => usual(C::ReverseDns),
        // RFC 7505 §4.2
        (7, 27) => usual(C::BadSender),
        (7, 28) => limit(C::RateLimited),
        (7, 30) => usual(C::TlsNeeded),
        _ => None,
    }
}

/// By the code alone (RFC 5321 §4.2.3, RFC 7504, RFC 4954 §6), where the same number means other things at
/// other commands. None but 556 is about the recipient in a way that would keep other mail from it:
/// servers use the others for what they do not like, too.
fn by_digits(phase: Phase, code: u16) -> Diagnosis {
    use Category as C;
    let usual = |category| Diagnosis::new(Disposition::Transient, category);
    match (code, phase) {
        (421, _) => usual(C::Busy),
        // The same is said for a mailbox in use, for greylisting and for limits.
        (450, Phase::Rcpt) => usual(C::Other).about(Scope::Recipient),
        (451 | 450, _) => usual(C::SystemError),
        (452 | 552, Phase::Rcpt) => usual(C::TooManyRecipients),
        (452, _) => usual(C::StorageFull),
        (454, Phase::StartTls) => usual(C::TlsNeeded),
        (454 | 530 | 534 | 535 | 538, _) => usual(C::AuthNeeded),
        (455 | 500..=504 | 555, _) => usual(C::Protocol),
        (521 | 556, Phase::Greeting | Phase::Ehlo) => usual(C::BadDomain).about(Scope::Host),
        (521, _) => usual(C::BadDomain).about(Scope::Provider),
        (556, _) => usual(C::BadDomain),
        (551, Phase::Rcpt) => usual(C::Moved).about(Scope::Mailbox),
        (552, _) => usual(C::TooBig),
        (553, Phase::Rcpt) => usual(C::BadMailbox).about(Scope::Mailbox),
        (553, Phase::Mail) => usual(C::BadSender),
        // Whether the mailbox is unknown or the mail unwanted, only words can tell.
        (550..=599, Phase::Greeting | Phase::Ehlo) => usual(C::Denied).about(Scope::Source),
        (550..=599, Phase::Mail) => usual(C::Denied).about(Scope::Sender),
        (550..=599, Phase::Data | Phase::Body | Phase::Eod) => {
            usual(C::Denied).about(Scope::Content)
        }
        (550..=599, _) => usual(C::Denied),
        _ => usual(C::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(phase: Phase, text: &str) -> String {
        let reply: Reply = text.parse().unwrap();
        Diagnosis::by_code(phase, &reply).to_string()
    }

    #[test]
    fn numbers_are_read() {
        for (phase, text, expected) in [
            (Phase::Rcpt, "550 5.1.1 x", "permanent/recipient/bad-mailbox"),
            (Phase::Rcpt, "450 4.1.1 x", "transient/recipient/bad-mailbox"),
            (Phase::Rcpt, "550 x", "permanent/provider/denied"),
            (Phase::Rcpt, "450 x", "transient/recipient/other"),
            (Phase::Rcpt, "452 x", "transient/host/too-many-recipients"),
            (Phase::Rcpt, "552 x", "transient/host/too-many-recipients"),
            (Phase::Rcpt, "552 5.2.2 x", "permanent/mailbox/full"),
            (Phase::Eod, "552 x", "permanent/content/too-big"),
            (Phase::Eod, "554 5.7.1 x", "permanent/content/denied"),
            (Phase::Eod, "550 5.7.26 x", "permanent/sender/unauthenticated"),
            (Phase::Greeting, "554 x", "permanent/source/denied"),
            (Phase::Greeting, "421 x", "transient/host/busy"),
            (Phase::Mail, "421 4.7.28 x", "rate-limit/source/rate-limited"),
            (Phase::Mail, "550 5.1.8 x", "permanent/sender/bad-sender"),
            (Phase::Mail, "530 5.7.0 x", "local-fault/relay/auth-needed"),
            (Phase::Rcpt, "556 5.1.10 x", "permanent/recipient/bad-domain"),
            (Phase::Rcpt, "521 x", "permanent/provider/bad-domain"),
            (Phase::Rcpt, "556 x", "permanent/recipient/bad-domain"),
            (Phase::Rcpt, "551 x", "permanent/mailbox/moved"),
            (Phase::Rcpt, "553 x", "permanent/mailbox/bad-mailbox"),
            (Phase::Rcpt, "550 5.1.0 x", "permanent/mailbox/bad-mailbox"),
        ] {
            assert_eq!(said(phase, text), expected, "{text} to {phase}");
        }
    }

    #[test]
    fn every_reply_has_a_meaning_that_agrees_with_its_first_digit() {
        let phases = [Phase::Greeting, Phase::Mail, Phase::Rcpt, Phase::Data, Phase::Eod];
        let codes = (400..600u16).filter_map(waypost_smtp::Code::new);
        for (phase, code) in codes.flat_map(|code| phases.map(|phase| (phase, code))) {
            for status in (0..9).flat_map(|subject| (0..40).map(move |detail| (subject, detail))) {
                let enhanced = Some(waypost_smtp::Enhanced(5, status.0, status.1));
                let reply = Reply { code, enhanced, text: "".into() };
                let found = Diagnosis::by_code(phase, &reply);
                let crowded = found.category == Category::TooManyRecipients;
                if reply.severity() == Severity::Transient {
                    assert!(!found.is_permanent(), "{reply} to {phase}: {found}");
                } else if !crowded {
                    assert_ne!(found.disposition, Disposition::Transient, "{reply} to {phase}");
                }
            }
        }
    }
}
