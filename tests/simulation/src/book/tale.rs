//! What is known of one message.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use waypost_mail::{Entry, MessageId, RecipientState, Timestamp};
use waypost_smtp::{Mailbox, Notify};

use super::{Law, Lawful, demand};
use crate::visit::token_of;
use crate::witness::Letter;

/// One message.
#[derive(Debug)]
pub struct Tale {
    /// Its own.
    pub id: MessageId,
    /// As the spool got it.
    pub content: Bytes,
    /// What is promised.
    pub standing: Standing,
    /// Storage failed while it came: whoever sent it may have heard that it was refused.
    pub doubted: bool,
    /// What its sender calls it.
    pub(super) token: Option<u64>,
    pub(super) parts: BTreeMap<u32, Part>,
    /// It was tried before it was durable.
    pub(super) through: bool,
    /// Of a notice: the message and recipients whose bounce it tells.
    pub(super) about: Option<(MessageId, Vec<u32>)>,
    /// There is somebody to tell.
    pub(super) has_sender: bool,
    /// How much time had gone by when it came.
    pub(super) born: Duration,
    /// When it was accepted, by the clock of that moment.
    pub(super) received: Timestamp,
}

/// What a peer may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing yet: it is on its way.
    Coming,
    /// It was refused, or never finished.
    Refused,
    /// It was refused because storage failed in the middle: it may be there after a restart.
    Doubtful,
    /// It was accepted.
    Kept,
    /// Nothing: it is tried while its submitter waits, and is not durable.
    Passing,
    /// Nothing more: it was tried so, and nothing is left of it.
    Passed,
}

/// One recipient of a message.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) mailbox: Mailbox,
    pub(super) notify: Notify,
    /// Notices of delay that were sent.
    pub(super) told: u8,
    /// How often a next hop took it.
    pub(super) taken: u32,
    /// It may be taken once more: what became of an attempt is not known for sure.
    pub(super) excused: bool,
    /// It is refused by policy and must not be attempted.
    pub(super) doomed: bool,
    pub(super) end: End,
    pub(super) not_before: Timestamp,
}

/// How a recipient stands in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It waits.
    Open,
    /// It is held.
    Held,
    /// It is settled for good.
    Done,
    /// Either of these: storage failed, or a crash came, while it changed.
    Unsure,
}

impl Tale {
    /// A message that is about to be kept.
    pub(super) fn of(
        letter: &Letter,
        about: Option<(MessageId, Vec<u32>)>,
        born: Duration,
    ) -> Tale {
        let Letter { entry, content } = letter;
        let part = |recipient: &waypost_mail::RecipientEntry| {
            let part = Part {
                mailbox: recipient.recipient.mailbox.clone(),
                notify: recipient.recipient.notify,
                told: 0,
                taken: 0,
                excused: false,
                doomed: false,
                end: End::Open,
                not_before: Timestamp(0),
            };
            (recipient.recipient.id, part)
        };
        Tale {
            id: entry.id,
            content: content.clone(),
            standing: Standing::Coming,
            doubted: false,
            token: token_of(content),
            parts: entry.recipients.iter().map(part).collect(),
            through: false,
            about,
            has_sender: entry.sender.mailbox().is_some(),
            born,
            received: entry.received,
        }
    }

    /// True when it goes to nobody but those of the letter, who are told of what its sender wants to hear.
    pub fn has_envelope(&self, sent: &waypost_smtp::client::Letter) -> bool {
        let known = |part: &Part| {
            let to = sent.recipients.iter().find(|to| to.mailbox == part.mailbox);
            to.is_some_and(|to| to.notify == part.notify)
        };
        self.has_sender == sent.sender.mailbox().is_some() && self.parts.values().all(known)
    }

    /// True when each recipient is with a next hop, or `dropped` says so of it.
    pub fn is_away(&self, dropped: impl Fn(u32) -> bool) -> bool {
        self.parts.iter().all(|(recipient, part)| part.taken > 0 || dropped(*recipient))
    }

    /// True when a recipient is with a next hop, or `dropped` says so of it.
    pub fn is_away_for_some(&self, dropped: impl Fn(u32) -> bool) -> bool {
        self.parts.iter().any(|(recipient, part)| part.taken > 0 || dropped(*recipient))
    }

    /// True when a next hop has it for somebody, and there is no doubt that we know.
    pub fn is_known_to_be_taken(&self) -> bool {
        self.parts.values().any(|part| part.taken > 0 && !part.excused)
    }

    /// Somebody may have it in hand.
    pub(super) fn may_be_taken(&self) -> bool {
        match self.standing {
            Standing::Kept | Standing::Passing => true,
            // It becomes durable while it is tried.
            Standing::Coming => self.through,
            Standing::Refused | Standing::Doubtful | Standing::Passed => false,
        }
    }

    /// What is left of it is about to be kept.
    pub(super) fn is_left(&mut self, entry: &Entry) {
        self.standing = Standing::Coming;
        for recipient in &entry.recipients {
            let Some(part) = self.parts.get_mut(&recipient.recipient.id) else { continue };
            part.end = end_of(&recipient.state);
            match &recipient.state {
                RecipientState::Waiting { due, tries, last } => {
                    part.not_before = *due;
                    let refused = last.as_ref().is_some_and(|why| why.is_permanent());
                    part.doomed |= *tries == 0 && refused;
                }
                _ => part.excused &= part.end != End::Done,
            }
        }
    }

    pub(super) fn ends(&self) -> BTreeMap<u32, End> {
        self.parts.iter().map(|(id, part)| (*id, part.end)).collect()
    }

    /// Nobody heard whether it was accepted; it was.
    pub(super) fn turns_out_to_be_there(&mut self) {
        if self.standing == Standing::Doubtful {
            self.standing = Standing::Kept;
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.parts.values().all(|part| part.end == End::Done)
    }

    /// What was unsure is as the spool has it.
    pub(super) fn adopt(&mut self, entry: Option<&Entry>) {
        for (id, part) in &mut self.parts {
            if part.end == End::Unsure {
                part.end = state_in(entry, *id);
            }
            let found = entry.and_then(|e| e.recipients.iter().find(|r| r.recipient.id == *id));
            part.told = found.map_or(part.told, |found| part.told.max(found.told));
        }
    }

    pub(super) fn check(&self, id: MessageId, entry: Option<&Entry>, hurt: bool) -> Lawful {
        for (recipient, part) in &self.parts {
            let found = state_in(entry, *recipient);
            let as_told = match part.end {
                End::Unsure => true,
                // What cannot be read is held.
                End::Open if hurt => found != End::Done,
                end => found == end,
            };
            let law = match part.end {
                End::Held => Law::HeldStays,
                End::Done => Law::SettledOnce,
                End::Open | End::Unsure => Law::AcceptedIsKept,
            };
            demand(law, as_told, || {
                let there = entry.is_some();
                format!("{id} {recipient} is {:?}, in the spool {found:?} (row: {there})", part.end)
            })?;
        }
        Ok(())
    }
}

fn state_in(entry: Option<&Entry>, recipient: u32) -> End {
    let found = entry.and_then(|e| e.recipients.iter().find(|r| r.recipient.id == recipient));
    found.map_or(End::Done, |found| end_of(&found.state))
}

fn end_of(state: &RecipientState) -> End {
    match state {
        RecipientState::Done(_) => End::Done,
        RecipientState::Held { .. } => End::Held,
        RecipientState::Waiting { .. } => End::Open,
    }
}
