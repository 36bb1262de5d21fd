//! Which recipients are meant: one small language for every list, summary and change.
//!
//! `domain:example.net age>2h not state:held` selects recipients, each judged by itself; a message is
//! listed when one of its recipients is selected, and a change touches the selected ones alone. The
//! page `docs/selectors.md` tells the whole language; [`parse`] reads it and [`sight`] judges.

mod parse;
mod pattern;
mod sight;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use waypost_mail::MessageId;

pub use parse::SelectorError;
pub use pattern::Pattern;
pub(crate) use sight::Sight;

/// Longest selector, in octets.
pub const MAX_SELECTOR: usize = 256 * 1024;

/// Which recipients are meant. Without a condition, every one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector {
    pub(crate) test: Option<Test>,
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Test {
    /// Each must hold; at least two.
    All(Vec<Test>),
    /// One must hold; at least two.
    Any(Vec<Test>),
    /// It must not hold.
    Not(Box<Test>),
    /// What a key must be.
    Is(Term),
}

/// What one key must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Term {
    /// One of these messages.
    Id(Vec<MessageId>),
    /// A text that one of these patterns covers.
    Text(Field, Vec<Pattern>),
    /// In one of these states.
    State(Vec<RecipientStanding>),
    /// A number within these bounds.
    Number(Field, Bounds),
}

/// What is known of a recipient, and what summaries group by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    /// Id of the message.
    Id,
    /// Envelope sender; empty for the null sender.
    Sender,
    /// Address of the recipient.
    Recipient,
    /// Domain of the recipient.
    Domain,
    /// What the schedule groups by: lane, domain, or host and port.
    Destination,
    /// How the recipient stands.
    State,
    /// Time since the message was accepted.
    Age,
    /// Octets of the message.
    Size,
    /// Attempts made for the recipient.
    Attempts,
    /// On whose account the message goes.
    Tenant,
    /// Words that policy put on the message.
    Tag,
    /// The listener it came by.
    Listener,
    /// Who was logged in.
    User,
    /// The queue class.
    Class,
    /// Class of the last reply or failure.
    Reply,
}

/// How a recipient stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecipientStanding {
    /// It waits for its next attempt.
    Waiting,
    /// It is held.
    Held,
    /// An attempt is under way.
    InFlight,
    /// It is settled, while others of the same message are not.
    Done,
}

/// Least and most, both included: milliseconds, octets or a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) least: u64,
    pub(crate) most: u64,
}

impl Selector {
    /// Everything.
    pub fn everything() -> Selector {
        Selector::default()
    }

    /// All recipients of one message.
    pub fn message(id: MessageId) -> Selector {
        Selector { test: Some(Test::Is(Term::Id(vec![id]))) }
    }

    /// True when there is no condition.
    pub fn is_everything(&self) -> bool {
        self.test.is_none()
    }

    /// The messages, when nothing but ids is named: such a one may be absent or damaged.
    pub fn only_ids(&self) -> Option<&[MessageId]> {
        match &self.test {
            Some(Test::Is(Term::Id(ids))) => Some(ids),
            _ => None,
        }
    }

    /// The fields it looks at.
    pub fn fields(&self) -> Vec<Field> {
        let mut fields = Vec::new();
        if let Some(test) = &self.test {
            test.fields(&mut fields);
        }
        fields
    }

    /// The messages it is about, when every other one is excluded from the beginning.
    pub(crate) fn among(&self) -> Option<&[MessageId]> {
        match self.test.as_ref()? {
            Test::Is(Term::Id(ids)) => Some(ids),
            Test::All(tests) => tests.iter().find_map(|test| match test {
                Test::Is(Term::Id(ids)) => Some(ids.as_slice()),
                _ => None,
            }),
            _ => None,
        }
    }

    /// True when the recipient is meant.
    pub(crate) fn selects(&self, sight: &Sight<'_>) -> bool {
        self.test.as_ref().is_none_or(|test| test.holds(sight))
    }
}

impl Test {
    fn fields(&self, fields: &mut Vec<Field>) {
        match self {
            Test::All(tests) | Test::Any(tests) => tests.iter().for_each(|t| t.fields(fields)),
            Test::Not(test) => test.fields(fields),
            Test::Is(term) => fields.push(term.field()),
        }
    }

    fn holds(&self, sight: &Sight<'_>) -> bool {
        match self {
            Test::All(tests) => tests.iter().all(|test| test.holds(sight)),
            Test::Any(tests) => tests.iter().any(|test| test.holds(sight)),
            Test::Not(test) => !test.holds(sight),
            Test::Is(term) => sight.is(term),
        }
    }
}

impl Term {
    fn field(&self) -> Field {
        match self {
            Term::Id(_) => Field::Id,
            Term::State(_) => Field::State,
            Term::Text(field, _) | Term::Number(field, _) => *field,
        }
    }
}

impl Bounds {
    pub(crate) const ANY: Bounds = Bounds { least: 0, most: u64::MAX };

    pub(crate) fn has(self, number: u64) -> bool {
        (self.least..=self.most).contains(&number)
    }
}

impl Field {
    /// Every field.
    pub const ALL: [Field; 15] = [
        Field::Id,
        Field::Sender,
        Field::Recipient,
        Field::Domain,
        Field::Destination,
        Field::State,
        Field::Age,
        Field::Size,
        Field::Attempts,
        Field::Tenant,
        Field::Tag,
        Field::Listener,
        Field::User,
        Field::Class,
        Field::Reply,
    ];

    /// Its name in selectors.
    pub fn name(self) -> &'static str {
        match self {
            Field::Id => "id",
            Field::Sender => "sender",
            Field::Recipient => "recipient",
            Field::Domain => "domain",
            Field::Destination => "destination",
            Field::State => "state",
            Field::Age => "age",
            Field::Size => "size",
            Field::Attempts => "attempts",
            Field::Tenant => "tenant",
            Field::Tag => "tag",
            Field::Listener => "listener",
            Field::User => "user",
            Field::Class => "class",
            Field::Reply => "reply",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Field {
    type Err = String;
    fn from_str(text: &str) -> Result<Field, String> {
        let known = Field::ALL.into_iter().find(|field| field.name() == text);
        known.ok_or_else(|| format!("'{text}' is no field: {}", parse::known_keys()))
    }
}

impl RecipientStanding {
    pub(crate) const ALL: [RecipientStanding; 4] = [
        RecipientStanding::Waiting,
        RecipientStanding::Held,
        RecipientStanding::InFlight,
        RecipientStanding::Done,
    ];

    /// Its name in selectors.
    pub fn name(self) -> &'static str {
        match self {
            RecipientStanding::Waiting => "waiting",
            RecipientStanding::Held => "held",
            RecipientStanding::InFlight => "in-flight",
            RecipientStanding::Done => "done",
        }
    }
}

impl FromStr for Selector {
    type Err = SelectorError;
    fn from_str(text: &str) -> Result<Selector, SelectorError> {
        parse::parse(text)
    }
}

impl TryFrom<String> for Selector {
    type Error = SelectorError;
    fn try_from(text: String) -> Result<Selector, SelectorError> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> String {
        selector.to_string()
    }
}

/// The selector as it may be written.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.test.as_ref().map_or(Ok(()), |test| test.fmt(f))
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nested = |f: &mut fmt::Formatter<'_>, test: &Test| match test {
            Test::Is(_) | Test::Not(_) => test.fmt(f),
            Test::All(_) | Test::Any(_) => write!(f, "({test})"),
        };
        let (tests, between) = match self {
            Test::All(tests) => (tests, " "),
            Test::Any(tests) => (tests, " or "),
            Test::Not(test) => {
                f.write_str("not ")?;
                return nested(f, test);
            }
            Test::Is(term) => return term.fmt(f),
        };
        for (place, test) in tests.iter().enumerate() {
            f.write_str(if place == 0 { "" } else { between })?;
            nested(f, test)?;
        }
        Ok(())
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.field())?;
        match self {
            Term::Id(ids) => list(f, ids, |id| id.to_string()),
            Term::Text(_, patterns) => list(f, patterns, Pattern::to_string),
            Term::State(states) => list(f, states, |state| state.name().to_owned()),
            Term::Number(field, bounds) => {
                let show = |number| match field {
                    Field::Age => show_span(number),
                    _ => number.to_string(),
                };
                match *bounds {
                    Bounds { least, most } if least == most && *field != Field::Age => {
                        f.write_str(&show(least))
                    }
                    Bounds { least, most: u64::MAX } => write!(f, "{}..", show(least)),
                    Bounds { least: 0, most } => write!(f, "..{}", show(most)),
                    Bounds { least, most } => write!(f, "{}..{}", show(least), show(most)),
                }
            }
        }
    }
}

fn list<T>(f: &mut fmt::Formatter<'_>, items: &[T], show: impl Fn(&T) -> String) -> fmt::Result {
    let items: Vec<String> = items.iter().map(show).collect();
    f.write_str(&items.join(","))
}

fn show_span(milliseconds: u64) -> String {
    let span = Duration::from_millis(milliseconds);
    match (span.subsec_millis(), span.as_secs()) {
        (0, seconds) => format!("{seconds}s"),
        _ => format!("{milliseconds}ms"),
    }
}

#[cfg(test)]
mod tests;
