//! Other addresses for recipients.

use std::collections::{HashMap, HashSet};

use waypost_sdk::prelude::*;

use crate::config;

/// Aliases of aliases are followed so many times.
const DEPTH: usize = 10;

/// Who stands for whom.
#[derive(Debug)]
pub(crate) struct Aliases {
    map: HashMap<String, Vec<Mailbox>>,
    pub(crate) tables: Vec<String>,
    domains: HashMap<String, String>,
    delimiter: Option<char>,
    limit: usize,
}

impl Aliases {
    pub(crate) fn of(config: &config::Aliases) -> Result<Aliases, String> {
        let mut map = HashMap::new();
        for (from, to) in &config.map {
            let place = format!("aliases.map.{from}");
            let key = match from.strip_prefix('@') {
                Some(domain) => format!("@{}", config::domain(&place, domain)?),
                None => key(&config::address(&place, from)?),
            };
            if to.0.is_empty() {
                return Err(format!("{place}: nobody; to refuse mail, use another plugin"));
            }
            let to: Result<Vec<Mailbox>, String> =
                to.0.iter().map(|to| config::address(&place, to)).collect();
            map.insert(key, to?);
        }
        let mut domains = HashMap::new();
        for (from, to) in &config.domains {
            let place = format!("aliases.domains.{from}");
            let (from, to) = (config::domain(&place, from)?, config::domain(&place, to)?);
            domains.insert(from, to);
        }
        if config.limit == Some(0) {
            return Err("aliases.limit: at least one".to_owned());
        }
        Ok(Aliases {
            map,
            tables: config.tables.clone(),
            domains,
            delimiter: config.delimiter,
            limit: config.limit.unwrap_or(100),
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty() && self.tables.is_empty() && self.domains.is_empty()
    }

    /// Who an address stands for in the end; the address itself when it stands for nobody else.
    pub(crate) fn resolve(&self, address: &Mailbox) -> Result<Vec<Mailbox>, Undecided> {
        let mut done: Vec<Mailbox> = Vec::new();
        let mut seen = HashSet::from([key(address)]);
        let mut open = vec![address.clone()];
        for _ in 0..DEPTH {
            let rows = self.rows(&open)?;
            let mut next = Vec::new();
            for address in open {
                match self.step(&address, &rows) {
                    None => done.push(address),
                    Some(others) => {
                        for other in others {
                            if other.same(&address) {
                                // An alias that names itself: the mailbox keeps a copy.
                                done.push(other);
                            } else if seen.insert(key(&other)) {
                                next.push(other);
                            }
                        }
                    }
                }
            }
            if done.len() + next.len() > self.limit {
                return Err(format!(
                    "{address} stands for more than {} addresses; raise `aliases.limit`",
                    self.limit
                )
                .into());
            }
            open = next;
            if open.is_empty() {
                break;
            }
        }
        done.extend(open);
        // A circle of aliases ends at nobody.
        Ok(if done.is_empty() { vec![address.clone()] } else { done })
    }

    /// What the tables say, asked once for all addresses.
    fn rows(&self, addresses: &[Mailbox]) -> Result<HashMap<String, String>, HostError> {
        let mut rows = HashMap::new();
        if self.tables.is_empty() {
            return Ok(rows);
        }
        let keys = addresses.iter().flat_map(|address| {
            let (name, base, all) = self.keys(address);
            [Some(name), base, Some(all)].into_iter().flatten()
        });
        let keys: Vec<String> = keys.collect();
        for table in &self.tables {
            let values = tables::get_many(table, &keys)?;
            for (key, value) in keys.iter().zip(values) {
                if let Some(value) = value {
                    rows.entry(key.clone()).or_insert(value);
                }
            }
        }
        Ok(rows)
    }

    /// Who stands for an address: it by name, without its detail, by its domain.
    fn step(&self, address: &Mailbox, rows: &HashMap<String, String>) -> Option<Vec<Mailbox>> {
        let domain = || {
            let to = self.domains.get(&address.domain)?;
            Some(vec![Mailbox::new(address.local.clone(), to.clone())])
        };
        let (name, base, all) = self.keys(address);
        let found = |key: &String| {
            self.map.get(key).cloned().or_else(|| rows.get(key).and_then(|row| listed(row)))
        };
        found(&name).or_else(|| found(base.as_ref()?)).or_else(domain).or_else(|| found(&all))
    }

    /// Name, name without its detail if it has one, domain.
    fn keys(&self, address: &Mailbox) -> (String, Option<String>, String) {
        let base = self.delimiter.and_then(|delimiter| {
            let (base, _) = address.local.split_once(delimiter)?;
            (!base.is_empty()).then(|| key(&Mailbox::new(base, address.domain.clone())))
        });
        (key(address), base, format!("@{}", address.domain))
    }
}

fn key(address: &Mailbox) -> String {
    format!("{}@{}", address.local, address.domain).to_lowercase()
}

/// Addresses separated by commas. A row with anything else is no alias, and is logged.
fn listed(row: &str) -> Option<Vec<Mailbox>> {
    let addresses: Result<Vec<Mailbox>, _> =
        row.split(',').map(str::trim).filter(|t| !t.is_empty()).map(Mailbox::parse).collect();
    match addresses {
        Ok(addresses) if !addresses.is_empty() => Some(addresses),
        Ok(_) => None,
        Err(wrong) => {
            log::warn!("an alias in a table is left alone: {}", wrong);
            None
        }
    }
}
