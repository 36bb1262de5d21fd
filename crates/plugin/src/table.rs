//! Read-only maps from files, which the host loads and indexes for all plugins.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use waypost_mail::Network;
use waypost_mail::network::masked;

/// Largest file of a table.
const MAX_FILE: u64 = 512 * 1024 * 1024;

/// What is wrong with a table's file.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It cannot be read.
    #[error("table {name}: cannot read {path}: {error}")]
    Io {
        /// The table.
        name: String,
        /// Its file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A line is no row.
    #[error("table {name}: {path}, line {line}: {problem}")]
    Line {
        /// The table.
        name: String,
        /// Its file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
}

/// All tables of a generation.
#[derive(Debug, Default)]
pub(crate) struct Tables(BTreeMap<String, Table>);

/// One table: `key value` a line, `#` before a comment.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: HashMap<Box<str>, Box<str>>,
    /// Networks among the keys, by their first address and prefix.
    networks: HashMap<(IpAddr, u8), Box<str>>,
    /// Lengths of those prefixes, longest first.
    prefixes: Vec<(bool, u8)>,
}

impl Tables {
    /// Reads every file.
    pub(crate) fn load(files: &BTreeMap<String, PathBuf>) -> Result<Tables, Vec<TableError>> {
        let mut tables = BTreeMap::new();
        let mut errors = Vec::new();
        for (name, path) in files {
            match load(name, path) {
                Ok(table) => {
                    tables.insert(name.clone(), table);
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Tables(tables)) } else { Err(errors) }
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Table> {
        self.0.get(name)
    }
}

fn load(name: &str, path: &Path) -> Result<Table, TableError> {
    let io = |error| TableError::Io { name: name.to_owned(), path: path.to_owned(), error };
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > MAX_FILE {
        return Err(io(std::io::Error::other("it is over 512 MiB")));
    }
    let text = std::fs::read_to_string(path).map_err(io)?;
    Table::parse(&text).map_err(|(line, problem)| TableError::Line {
        name: name.to_owned(),
        path: path.to_owned(),
        line,
        problem,
    })
}

impl Table {
    /// Reads rows; fails with the number of a line and what is wrong with it.
    fn parse(text: &str) -> Result<Table, (usize, &'static str)> {
        let mut table = Table::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            if key.len() > 512 || value.len() > 4096 {
                return Err((index + 1, "a key has at most 512 octets and a value 4096"));
            }
            table.add(key, value.trim());
        }
        table.prefixes.sort_unstable_by_key(|(_, prefix)| std::cmp::Reverse(*prefix));
        Ok(table)
    }

    /// Of equal keys the first one counts.
    fn add(&mut self, key: &str, value: &str) {
        if let Ok(network) = key.parse::<Network>() {
            let kind = (network.address().is_ipv4(), network.prefix());
            if !self.prefixes.contains(&kind) {
                self.prefixes.push(kind);
            }
            let place = (network.address(), network.prefix());
            self.networks.entry(place).or_insert_with(|| value.into());
        }
        self.rows.entry(key.to_ascii_lowercase().into()).or_insert_with(|| value.into());
    }

    /// The value of a key, in any case.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.rows.get(key.to_ascii_lowercase().as_str()).map(AsRef::as_ref)
    }

    /// Key and value of the longest suffix of a domain.
    pub(crate) fn get_domain(&self, domain: &str) -> Option<(String, &str)> {
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        let mut rest = domain.as_str();
        loop {
            if let Some(value) = self.rows.get(rest) {
                return Some((rest.to_owned(), value));
            }
            rest = rest.split_once('.')?.1;
        }
    }

    /// Key and value of the longest prefix that contains an address.
    pub(crate) fn get_ip(&self, ip: IpAddr) -> Option<(String, &str)> {
        let ip = ip.to_canonical();
        let candidates = self.prefixes.iter().filter(|(v4, _)| *v4 == ip.is_ipv4());
        candidates.map(|(_, prefix)| (masked(ip, *prefix), *prefix)).find_map(|place| {
            let value = self.networks.get(&place)?;
            Some((format!("{}/{}", place.0, place.1), &**value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_keys_suffixes_and_prefixes() {
        let text = "# a comment\nExample.org  first \nexample.org second\nflag\n\
                    10.0.0.0/8 wide\n10.1.0.0/16 narrow\n2001:db8::/32 six\n192.0.2.7 one\n";
        let table = Table::parse(text).unwrap();
        assert_eq!(table.get("EXAMPLE.org"), Some("first"));
        assert_eq!((table.get("flag"), table.get("none")), (Some(""), None));
        assert_eq!(table.get_domain("a.b.example.org."), Some(("example.org".into(), "first")));
        assert_eq!(table.get_domain("notexample.org"), None);
        let ip = |text: &str| {
            table.get_ip(text.parse().unwrap()).map(|(key, value)| (key, value.to_owned()))
        };
        assert_eq!(ip("10.1.2.3"), Some(("10.1.0.0/16".into(), "narrow".into())));
        assert_eq!(ip("::ffff:10.2.2.3"), Some(("10.0.0.0/8".into(), "wide".into())));
        assert_eq!(ip("2001:db8::9"), Some(("2001:db8::/32".into(), "six".into())));
        assert_eq!(ip("192.0.2.7"), Some(("192.0.2.7/32".into(), "one".into())));
        assert_eq!(ip("192.0.2.8"), None);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let text = format!("a b\n{} c\n", "k".repeat(600));
        assert_eq!(Table::parse(&text).unwrap_err().0, 2);
    }
}
