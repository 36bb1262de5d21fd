//! Who is behind many domains, and what may be asked of them.

use waypost_mail::DomainPattern;
use waypost_queue::Rate;

use super::queue::rate;
use super::{PATTERN, count};
use crate::mistake::Notes;
use crate::section::{At, Section};
use crate::units::Word;

const NAMES: &str = "write \"mx.example.net\" or \"*.mx.example.net\"";

/// One of them; what is left open is as for everybody.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: At<String>,
    pub(crate) mx: Vec<DomainPattern>,
    pub(crate) domains: Vec<DomainPattern>,
    pub(crate) connections: Option<usize>,
    pub(crate) first_connections: Option<At<usize>>,
    pub(crate) connection_rate: Option<Rate>,
    pub(crate) messages_per_connection: Option<u32>,
    pub(crate) message_rate: Option<Rate>,
    pub(crate) recipients: Option<usize>,
    pub(crate) chunking: Option<bool>,
}

/// A file of them, and where it comes from.
#[derive(Debug)]
pub(crate) struct Pack {
    pub(crate) version: String,
    pub(crate) source: String,
    pub(crate) providers: Vec<Provider>,
}

pub(crate) fn pack(mut top: Section<'_>, notes: &mut Notes<'_>) -> Option<Pack> {
    let version = top.string("version", notes);
    let version = top.required("version", version, "version = \"2026-11\"", notes);
    let source = top.string("source", notes);
    let hint = "source = \"where these limits were read, and when\"";
    let source = top.required("source", source, hint, notes);
    let providers = providers(&mut top, notes);
    top.end(notes);
    Some(Pack { version: version?.value, source: source?.value, providers })
}

pub(super) fn providers(top: &mut Section<'_>, notes: &mut Notes<'_>) -> Vec<Provider> {
    let sections = top.sections("provider", notes).into_iter();
    sections.filter_map(|section| provider(section, notes)).collect()
}

fn provider(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<Provider> {
    let name = section.parsed::<Word>("name", "it names the site in lists and logs", notes);
    let name = section.required("name", name, "name = \"example\"", notes);
    let mut patterns = |key, hint, notes: &mut Notes<'_>| {
        let list = section.list::<DomainPattern>(key, hint, notes);
        list.map_or_else(Vec::new, |list| list.value.into_iter().map(|at| at.value).collect())
    };
    let (mx, domains) = (patterns("mx", NAMES, notes), patterns("domains", PATTERN, notes));
    let first = section.integer("first-connections", 1..1_000_001, notes);
    let first = first.and_then(|At { value, at }| {
        let value = usize::try_from(value).ok()?;
        Some(At { value, at })
    });
    let connections = count(&mut section, "connections", notes);
    let connection_rate = rate(&mut section, "connection-rate", notes);
    let messages_per_connection = count(&mut section, "messages-per-connection", notes);
    let message_rate = rate(&mut section, "message-rate", notes);
    let recipients = count(&mut section, "recipients-per-transaction", notes);
    let chunking = section.boolean("chunking", notes).map(|chunking| chunking.value);
    section.end(notes);
    Some(Provider {
        name: name?.map(|name| name.0),
        mx,
        domains,
        connections,
        first_connections: first,
        connection_rate,
        messages_per_connection,
        message_rate,
        recipients,
        chunking,
    })
}
