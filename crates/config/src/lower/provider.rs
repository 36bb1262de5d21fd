//! Providers of the file and of the pack it names, with what is left open filled in.

use toml::de::DeTable;
use waypost_delivery::{Allowance, Provider, Providers};
use waypost_queue::SiteLimits;

use crate::check;
use crate::file::{self, File, Pack};
use crate::mistake::Notes;
use crate::section::{At, Section};
use crate::settings::PackSettings;

/// Those of the file come first, so that a pack cannot take anything from them.
pub(super) fn providers(
    file: &File,
    queue: &waypost_queue::Config,
    allowance: Allowance,
    notes: &mut Notes<'_>,
) -> (Providers, Option<PackSettings>) {
    let usual = SiteLimits {
        at_once: queue.per_destination,
        first: queue.first_per_destination,
        rate: queue.rate_per_destination,
    };
    let lower = |provider: &file::Provider| self::provider(provider, usual, allowance);
    let mut all: Vec<Provider> = file.providers.iter().map(lower).collect();
    let Some(path) = &file.delivery.providers else { return (Providers::new(all), None) };
    let Some(pack) = read(path, notes) else { return (Providers::new(all), None) };
    for given in &pack.providers {
        if !file.providers.iter().any(|own| own.name.value == given.name.value) {
            all.push(lower(given));
        }
    }
    let Pack { version, source, .. } = pack;
    let settings = PackSettings { file: path.value.clone(), version, source };
    (Providers::new(all), Some(settings))
}

fn provider(given: &file::Provider, usual: SiteLimits, allowance: Allowance) -> Provider {
    let at_once = given.connections.unwrap_or(usual.at_once);
    let first = given.first_connections.as_ref().map_or(usual.first, |first| first.value);
    Provider {
        name: given.name.value.clone(),
        mx: given.mx.clone(),
        domains: given.domains.clone(),
        limits: SiteLimits { at_once, first, rate: given.message_rate.or(usual.rate) },
        allowance: Allowance {
            messages_per_connection: given
                .messages_per_connection
                .unwrap_or(allowance.messages_per_connection),
            recipients_per_transaction: given
                .recipients
                .unwrap_or(allowance.recipients_per_transaction),
            connection_rate: given.connection_rate.or(allowance.connection_rate),
            chunking: given.chunking.unwrap_or(allowance.chunking),
        },
    }
}

/// The pack. What is wrong with it is told with its own lines, where the file names it.
fn read(path: &At<std::path::PathBuf>, notes: &mut Notes<'_>) -> Option<Pack> {
    let source = match std::fs::read_to_string(&path.value) {
        Ok(source) => source,
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.value.display());
            notes.add(&path.at, message, "a file of [[provider]] tables with version and source");
            return None;
        }
    };
    let mut own = Notes::new(&path.value, &source);
    let pack = parse(&source, &mut own);
    let mistakes = own.into_mistakes();
    for mistake in &mistakes.list {
        let place = match (mistake.line, mistake.column) {
            (Some(line), Some(column)) => format!(":{line}:{column}"),
            _ => String::new(),
        };
        let message = format!("{}{place}: {}", path.value.display(), mistake.message);
        notes.add(&path.at, message, mistake.hint.as_deref().unwrap_or_default());
    }
    pack.filter(|_| mistakes.list.is_empty())
}

fn parse(source: &str, notes: &mut Notes<'_>) -> Option<Pack> {
    let (table, errors) = DeTable::parse_recoverable(source);
    for error in &errors {
        notes.add(&error.span().unwrap_or(0..0), error.message().to_owned(), "");
    }
    if !errors.is_empty() {
        return None;
    }
    let pack = file::pack(Section::new("", table.span(), table.into_inner()), notes)?;
    check::provider::check(&pack.providers, notes);
    Some(pack)
}
