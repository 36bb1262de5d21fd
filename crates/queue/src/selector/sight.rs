//! One recipient as selectors see it.

use std::borrow::Cow;

use waypost_mail::MessageId;

use super::{Field, RecipientStanding, Term};
use crate::index::ReplyClass;

/// One recipient of a message, and what is known of both. Texts are empty where there is nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight<'a> {
    pub(crate) id: MessageId,
    /// Milliseconds since the message was accepted.
    pub(crate) age: u64,
    pub(crate) size: u64,
    /// Local part and domain; both empty for the null sender.
    pub(crate) sender: (&'a str, &'a str),
    pub(crate) listener: &'a str,
    pub(crate) user: &'a str,
    pub(crate) tenant: &'a str,
    /// Divided by spaces.
    pub(crate) tags: &'a str,
    pub(crate) class: &'a str,
    /// Local part and domain.
    pub(crate) recipient: (&'a str, &'a str),
    pub(crate) destination: &'a str,
    pub(crate) standing: RecipientStanding,
    pub(crate) tries: u32,
    pub(crate) reply: ReplyClass,
}

impl Sight<'_> {
    pub(super) fn is(&self, term: &Term) -> bool {
        match term {
            Term::Id(ids) => ids.contains(&self.id),
            Term::State(states) => states.contains(&self.standing),
            Term::Number(field, bounds) => bounds.has(match field {
                Field::Age => self.age,
                Field::Size => self.size,
                _ => u64::from(self.tries),
            }),
            Term::Text(Field::Tag, patterns) => patterns.iter().any(|pattern| {
                let none = self.tags.is_empty() && pattern.covers("");
                none || self.tags.split_ascii_whitespace().any(|tag| pattern.covers(tag))
            }),
            Term::Text(Field::Reply, patterns) => {
                patterns.iter().any(|pattern| self.reply.names(|name| pattern.covers(name)))
            }
            Term::Text(field, patterns) => {
                let value = self.value(*field);
                patterns.iter().any(|pattern| pattern.covers(&value))
            }
        }
    }

    /// What a field says, as text.
    pub(crate) fn value(&self, field: Field) -> Cow<'_, str> {
        match field {
            Field::Id => self.id.to_string().into(),
            Field::Sender => address(self.sender),
            Field::Recipient => address(self.recipient),
            Field::Domain => self.recipient.1.into(),
            Field::Destination => self.destination.into(),
            Field::State => self.standing.name().into(),
            Field::Age => age_band(self.age).into(),
            Field::Size => size_band(self.size).into(),
            Field::Attempts => self.tries.to_string().into(),
            Field::Tenant => self.tenant.into(),
            Field::Tag => self.tags.into(),
            Field::Listener => self.listener.into(),
            Field::User => self.user.into(),
            Field::Class => self.class.into(),
            Field::Reply => self.reply.to_string().into(),
        }
    }
}

fn address<'a>((local, domain): (&'a str, &'a str)) -> Cow<'a, str> {
    if domain.is_empty() { local.into() } else { format!("{local}@{domain}").into() }
}

fn age_band(age: u64) -> &'static str {
    match age / 60_000 {
        0..5 => "under 5m",
        5..60 => "5m to 1h",
        60..240 => "1h to 4h",
        240..1440 => "4h to 1d",
        _ => "over 1d",
    }
}

fn size_band(size: u64) -> &'static str {
    match size {
        0..10_240 => "under 10 KiB",
        10_240..102_400 => "10 KiB to 100 KiB",
        102_400..1_048_576 => "100 KiB to 1 MiB",
        1_048_576..10_485_760 => "1 MiB to 10 MiB",
        _ => "over 10 MiB",
    }
}
