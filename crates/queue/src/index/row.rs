//! What a row says of a recipient, in few octets.

use waypost_mail::Timestamp;

use super::ReplyClass;
use super::names::Name;
use super::reply::Replies;
use crate::classes::ClassId;
use crate::selector::RecipientStanding;

/// A moment in whole seconds since 1970, rounded up: what is looked for at that moment is due. The
/// highest one means never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Seconds(u32);

impl From<Timestamp> for Seconds {
    fn from(Timestamp(milliseconds): Timestamp) -> Seconds {
        Seconds(u32::try_from(milliseconds.div_ceil(1000)).unwrap_or(u32::MAX))
    }
}

impl From<Seconds> for Timestamp {
    fn from(Seconds(seconds): Seconds) -> Timestamp {
        if seconds == u32::MAX { Timestamp(u64::MAX) } else { Timestamp(u64::from(seconds) * 1000) }
    }
}

impl Seconds {
    /// The moment this stands for: `due`, when that may be it.
    pub(crate) fn exactly(self, due: Timestamp) -> Timestamp {
        if Seconds::from(due) == self { due } else { self.into() }
    }
}

/// How a recipient stands, as it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) standing: RecipientStanding,
    pub(crate) due: Timestamp,
    pub(crate) tries: u32,
    pub(crate) reply: ReplyClass,
}

/// One recipient.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) local: Box<str>,
    pub(super) domain: Name,
    pub(super) destination: Name,
    pub(super) id: u32,
    pub(super) due: Seconds,
    pub(super) tries: u16,
    pub(super) route: u16,
    pub(super) reply: u16,
    pub(super) class: ClassId,
    /// Never [`RecipientStanding::InFlight`]: that is for leases to say.
    pub(super) standing: RecipientStanding,
}

impl Slot {
    pub(super) fn mark(&mut self, mark: Mark, replies: &mut Replies) {
        self.standing = mark.standing;
        self.due = mark.due.into();
        self.tries = u16::try_from(mark.tries).unwrap_or(u16::MAX);
        self.reply = replies.keep(mark.reply);
    }
}

impl Default for Slot {
    fn default() -> Slot {
        Slot {
            local: Box::default(),
            domain: Name::default(),
            destination: Name::default(),
            id: 0,
            due: Seconds::default(),
            tries: 0,
            route: 0,
            reply: 0,
            class: ClassId::default(),
            standing: RecipientStanding::Waiting,
        }
    }
}

/// Mostly one, which then needs no allocation.
#[derive(Debug)]
pub(super) enum Recipients {
    One(Slot),
    Many(Box<[Slot]>),
}

impl Recipients {
    pub(super) fn as_slice(&self) -> &[Slot] {
        match self {
            Recipients::One(slot) => std::slice::from_ref(slot),
            Recipients::Many(slots) => slots,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Slot] {
        match self {
            Recipients::One(slot) => std::slice::from_mut(slot),
            Recipients::Many(slots) => slots,
        }
    }
}

impl Default for Recipients {
    fn default() -> Recipients {
        Recipients::Many(Box::default())
    }
}

impl From<Vec<Slot>> for Recipients {
    fn from(mut slots: Vec<Slot>) -> Recipients {
        match slots.pop() {
            Some(only) if slots.is_empty() => Recipients::One(only),
            last => {
                slots.extend(last);
                Recipients::Many(slots.into())
            }
        }
    }
}

const _: () = assert!(size_of::<super::Row>() <= 88, "a million rows are to fit");
