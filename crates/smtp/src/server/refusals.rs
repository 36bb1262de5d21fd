//! What was refused, for whoever counts and logs it.

use crate::{Reply, Severity};

/// Kinds that are told apart between two looks. A group of commands seldom has three.
const KINDS: usize = 16;

/// One kind of refusal: a code and an enhanced status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The first reply of this kind.
    pub reply: Reply,
    /// How many there were.
    pub times: u64,
}

/// Refusals since somebody looked.
#[derive(Debug, Default)]
pub(super) struct Refusals(Vec<Refusal>);

impl Refusals {
    /// Counts a reply, if it is a refusal.
    pub(super) fn note(&mut self, reply: &Reply) {
        if !matches!(reply.severity(), Severity::Transient | Severity::Permanent) {
            return;
        }
        let same = |other: &Refusal| {
            (other.reply.code, other.reply.enhanced) == (reply.code, reply.enhanced)
        };
        let at = self.0.iter().position(same);
        let full = self.0.len() >= KINDS;
        match at.or(full.then_some(KINDS - 1)) {
            Some(at) => self.0[at].times += 1,
            None => self.0.push(Refusal { reply: reply.clone(), times: 1 }),
        }
    }

    pub(super) fn take(&mut self) -> Vec<Refusal> {
        std::mem::take(&mut self.0)
    }
}
