//! For whose mail.

use waypost_sdk::prelude::*;

use crate::config::When;

impl When {
    pub(crate) fn holds(&self, asked: &Asked<'_>) -> bool {
        let session = asked.session;
        let ours =
            session.may_relay || session.identity.is_some() || session.listener == "internal";
        let sender = asked.envelope.sender.as_ref();
        (self.anybody || ours)
            && (self.sender.is_empty() || self.sender.iter().any(|p| p.matches_sender(sender)))
            && (self.recipient.is_empty()
                || asked
                    .envelope
                    .recipients
                    .iter()
                    .any(|recipient| self.recipient.iter().any(|p| p.matches(&recipient.address))))
            && (self.identity.is_empty()
                || session
                    .identity
                    .as_deref()
                    .is_some_and(|who| self.identity.iter().any(|glob| glob.matches(who))))
            && (self.listener.is_empty()
                || self.listener.iter().any(|glob| glob.matches(&session.listener)))
    }
}
