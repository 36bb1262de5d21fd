//! Fields added, set and removed.

use waypost_sdk::patterns::Glob;
use waypost_sdk::prelude::*;
use waypost_sdk::types::NewHeader;

use crate::config::{self, When};

/// Names that are not ours to touch: signatures, and the trace of the relay.
const FORBIDDEN: &[&str] = &["dkim-signature", "received", "return-path", "arc-*"];

/// What the relay and others vouch by: removed when named, never by a wildcard.
const VOUCHING: &str = "authentication-results";

/// A field to add, set or remove.
#[derive(Debug)]
pub(crate) struct Field {
    change: Change,
    when: When,
}

#[derive(Debug)]
enum Change {
    Add { name: String, value: Vec<Piece>, bottom: bool, if_absent: bool },
    Set { name: String, value: Vec<Piece>, bottom: bool },
    Remove(Glob),
}

#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    Sender,
    Recipient,
    Identity,
    ClientIp,
    Listener,
    Id,
}

/// Refuses names that are not ours to touch.
pub(crate) fn must_be_free(name: &str) -> Result<(), String> {
    if FORBIDDEN.iter().any(|glob| Glob::new(glob).matches(name)) {
        return Err(format!("`{name}` is not touched by this plugin"));
    }
    let is_name = |c: u8| c.is_ascii_graphic() && c != b':';
    match name.len() {
        1..=76 if name.bytes().all(is_name) => Ok(()),
        _ => Err(format!("`{name}` is no name of a field")),
    }
}

impl Field {
    pub(crate) fn of(config: &config::Field) -> Result<Field, (&'static str, String)> {
        let change = match (&config.add, &config.set, &config.remove) {
            (Some(name), None, None) => {
                must_be_free(name).map_err(|wrong| ("add", wrong))?;
                Change::Add {
                    name: name.clone(),
                    value: template(config)?,
                    bottom: config.bottom,
                    if_absent: config.if_absent,
                }
            }
            (None, Some(name), None) => {
                must_be_free(name).map_err(|wrong| ("set", wrong))?;
                Change::Set { name: name.clone(), value: template(config)?, bottom: config.bottom }
            }
            (None, None, Some(name)) => {
                must_be_free(name).map_err(|wrong| ("remove", wrong))?;
                if config.value.is_some() {
                    return Err(("value", "what is removed needs none".to_owned()));
                }
                Change::Remove(Glob::new(name))
            }
            _ => return Err(("", "say exactly one of `add`, `set` and `remove`".to_owned())),
        };
        if config.if_absent && config.add.is_none() {
            return Err(("if-absent", "only `add` asks for it".to_owned()));
        }
        Ok(Field { change, when: config.when.clone() })
    }

    /// The name, as the plugin wants to be told of it.
    pub(crate) fn interest(&self) -> String {
        match &self.change {
            Change::Add { name, .. } | Change::Set { name, .. } => name.clone(),
            Change::Remove(glob) => glob.to_string(),
        }
    }

    pub(crate) fn apply(
        &self,
        asked: &Asked<'_>,
        headers: &[Header],
        outcome: MessageOutcome,
    ) -> MessageOutcome {
        if !self.when.holds(asked) {
            return outcome;
        }
        match &self.change {
            Change::Remove(glob) => remove(glob, headers, outcome),
            Change::Add { name, if_absent, .. } if *if_absent && first(headers, name).is_some() => {
                outcome
            }
            Change::Add { name, value, bottom, .. } => match fill(value, asked) {
                Some(value) => add(name, value, *bottom, outcome),
                None => outcome.because("left-alone", format!("{name}: a fact is absent")),
            },
            Change::Set { name, value, bottom } => match fill(value, asked) {
                Some(value) => set(name, value, *bottom, headers, outcome),
                None => outcome.because("left-alone", format!("{name}: a fact is absent")),
            },
        }
    }
}

fn first<'a>(headers: &'a [Header], name: &str) -> Option<&'a Header> {
    headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))
}

fn remove(glob: &Glob, headers: &[Header], mut outcome: MessageOutcome) -> MessageOutcome {
    for header in headers.iter().filter(|header| glob.matches(&header.name)) {
        let by_wildcard = !glob.to_string().eq_ignore_ascii_case(&header.name);
        let vouches = by_wildcard && header.name.eq_ignore_ascii_case(VOUCHING);
        // A wildcard matches them, and they stay: the relay would refuse the whole answer.
        if must_be_free(&header.name).is_ok() && !vouches {
            let why = header.name.clone();
            outcome = outcome.remove_header(header.id).because("field-removed", why);
        }
    }
    outcome
}

fn add(name: &str, value: String, bottom: bool, outcome: MessageOutcome) -> MessageOutcome {
    let field = if bottom { NewHeader::bottom(name, value) } else { NewHeader::top(name, value) };
    outcome.edit(MessageEdit::AddHeader(field)).because("field-added", name)
}

fn set(
    name: &str,
    value: String,
    bottom: bool,
    headers: &[Header],
    mut outcome: MessageOutcome,
) -> MessageOutcome {
    let mut present = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let Some(first) = present.next() else { return add(name, value, bottom, outcome) };
    if first.value != value {
        outcome = outcome.change_header(first.id, value).because("field-changed", name);
    }
    present.fold(outcome, |outcome, header| outcome.remove_header(header.id))
}

fn template(config: &config::Field) -> Result<Vec<Piece>, (&'static str, String)> {
    let wrong = |text: &str| ("value", text.to_owned());
    let value = config.value.as_deref().ok_or_else(|| wrong("a field needs one"))?;
    if value.chars().any(char::is_control) {
        return Err(wrong("control characters cannot stand in a field"));
    }
    let mut pieces = Vec::new();
    let mut rest = value;
    while let Some((before, behind)) = rest.split_once('{') {
        let (name, after) =
            behind.split_once('}').ok_or_else(|| wrong("a brace does not close"))?;
        pieces.push(Piece::Text(before.to_owned()));
        pieces.push(match name {
            "sender" => Piece::Sender,
            "recipient" => Piece::Recipient,
            "identity" => Piece::Identity,
            "client-ip" => Piece::ClientIp,
            "listener" => Piece::Listener,
            "id" => Piece::Id,
            _ => {
                return Err(wrong(&format!(
                    "`{{{name}}}` is no fact; there are {{sender}}, {{recipient}}, {{identity}}, \
                     {{client-ip}}, {{listener}} and {{id}}"
                )));
            }
        });
        rest = after;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

/// Filled; absent when a fact is.
fn fill(pieces: &[Piece], asked: &Asked<'_>) -> Option<String> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(plain) => text.push_str(plain),
            Piece::Sender => match &asked.envelope.sender {
                Some(sender) => text.push_str(&sender.to_string()),
                None => text.push_str("<>"),
            },
            // Others must not learn who else gets the message.
            Piece::Recipient => match asked.envelope.recipients.as_slice() {
                [only] => text.push_str(&only.address.to_string()),
                _ => return None,
            },
            Piece::Identity => text.push_str(asked.session.identity.as_deref()?),
            Piece::ClientIp => text.push_str(&asked.session.client_ip),
            Piece::Listener => text.push_str(&asked.session.listener),
            Piece::Id => text.push_str(asked.envelope.id.as_deref()?),
        }
    }
    text.retain(|c| !c.is_control());
    Some(text)
}
