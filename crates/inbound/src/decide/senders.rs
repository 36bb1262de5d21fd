//! MAIL and the From field: a login sends as what is its own (RFC 6409 §6.1).

use tracing::info;
use waypost_mail::HeaderBlock;
use waypost_smtp::{Reply, ReversePath};

use super::Decider;
use crate::senders::{SenderPattern, SenderRules};

/// 550 5.7.1, which is what RFC 6409 §6.1 advises.
const NOT_YOURS: Reply =
    Reply::fixed(550, (5, 7, 1), "You are not logged in as somebody who may send as this address");
/// 550 5.7.1
const NOT_WRITTEN_BY_YOU: Reply = Reply::fixed(
    550,
    (5, 7, 1),
    "The From field must name addresses that you may send as, and nothing else",
);

/// A login and what it may send as.
#[derive(Debug, Clone, Copy)]
pub(super) struct Author<'a> {
    user: &'a str,
    held: &'a [SenderPattern],
    rules: &'a SenderRules,
}

impl Decider {
    /// Who is held to the rules about senders: whoever logged in here, by whatever mechanism.
    pub(super) fn author(&self) -> Option<Author<'_>> {
        let user = self.facts.identity.as_deref().filter(|_| self.logged_in)?;
        let settings = &self.current.settings;
        let held = settings.users.get(user).map_or(&[][..], |account| &account.send_as);
        Some(Author { user, held, rules: &settings.auth.senders })
    }

    /// The reply to a MAIL with a sender that is not the peer's.
    pub(super) fn refused_sender(&self, sender: &ReversePath) -> Option<Reply> {
        let Author { user, held, rules } = self.author()?;
        if rules.allow(user, held, sender) {
            return None;
        }
        self.metrics.sender_denied.inc();
        info!(user, %sender, "sender refused: the login may not send as this address");
        Some(NOT_YOURS)
    }
}

impl Author<'_> {
    /// Refuses a message that says it is from somebody else, where that is looked at.
    pub(super) fn check(self, header: &HeaderBlock) -> Result<(), Reply> {
        let Author { user, held, rules } = self;
        if !rules.from_field || rules.allow_from(user, held, header) {
            return Ok(());
        }
        info!(user, "message refused: its From field is not the login's");
        Err(NOT_WRITTEN_BY_YOU)
    }
}
