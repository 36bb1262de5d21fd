//! What is different from door to door. Everything else is the same, and so is policy.

use waypost_intake::Door;
use waypost_mail::Protocol;
use waypost_smtp::Domain;
use waypost_smtp::server::{LongLines, OutOfTurn, Strictness};

use crate::{ListenerKind, Settings};

/// How mail comes in by one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Manner(pub(crate) ListenerKind);

impl Manner {
    /// The protocol, once greeted with EHLO or LHLO (`extended`) or before and with HELO.
    pub(crate) fn protocol(self, extended: bool) -> Protocol {
        match self.0 {
            ListenerKind::Lmtp => Protocol::Lmtp,
            ListenerKind::Local => Protocol::Local,
            ListenerKind::Http | ListenerKind::Https => Protocol::Http,
            _ if extended => Protocol::Esmtp,
            _ => Protocol::Smtp,
        }
    }

    /// Each recipient that was named has an answer of its own behind the message.
    pub(crate) fn answers_each(self) -> bool {
        self.0 == ListenerKind::Lmtp || self.0.is_http()
    }

    /// The domain of addresses without one, where these are taken.
    pub(crate) fn origin(self, settings: &Settings) -> Option<Domain> {
        (self.0 == ListenerKind::Local).then(|| settings.origin()).flatten()
    }

    /// What is held against a peer. A program of this machine often writes all it has to say at once,
    /// and lines of any length: its words come from nobody else, and its lines are folded.
    pub(crate) fn strictness(self, settings: &Settings) -> Strictness {
        match self.0 {
            ListenerKind::Local => {
                Strictness { long_lines: LongLines::Fold, out_of_turn: OutOfTurn::Take }
            }
            _ => settings.strict,
        }
    }

    /// Whether messages are completed.
    pub(crate) fn door(self) -> Door {
        if self.0.is_submission() { Door::Submission } else { Door::Relay }
    }
}
