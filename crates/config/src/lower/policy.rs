//! From the model to policy: keys and secrets are read, plugins put in order.

use std::collections::BTreeMap;
use std::fs::File as SystemFile;
use std::path::PathBuf;

use waypost_delivery::{Proxy, ProxyProtocol, SocksLogin, SourceAddress, Sources};
use waypost_identity::{Keyring, SigningKey};
use waypost_plugin::{Compiler, HostConfig, PluginConfig, PolicyConfig, Secret};

use crate::file::{Auth, File, Named, ProxyPlace, Source};
use crate::mistake::Notes;
use crate::secret;
use crate::section::At;

/// How many generations are kept for a rollback where the file says nothing.
const KEEP: usize = 5;

pub(super) fn keys(file: &File, notes: &mut Notes<'_>) -> Keyring {
    let mut keys = Vec::new();
    for (name, path) in &file.keys {
        match SigningKey::load(&path.value) {
            Ok(file) if file.exposed => {
                let shown = path.value.display();
                let message = format!("everybody on this machine can read or write {shown}");
                notes.add(&path.at, message, &format!("chmod 600 {shown}"));
            }
            Ok(file) => keys.push((name.value.0.clone(), file.key)),
            Err(error) => {
                notes.add(&path.at, error.to_string(), "a PEM file that waypost may read");
            }
        }
    }
    keys.into_iter().collect()
}

pub(super) fn policy(file: &File, notes: &mut Notes<'_>) -> PolicyConfig {
    for (_, path) in &file.policy.tables {
        readable(path, "a text file with one KEY VALUE a line", notes);
    }
    let mut secrets = BTreeMap::new();
    for (name, from) in &file.policy.secrets {
        let secret = secret::read(from, notes).map(|text| Secret::new(text.into_bytes()));
        secrets.extend(secret.map(|secret| (name.value.0.clone(), secret)));
    }
    PolicyConfig {
        plugins: plugins(file, notes),
        tables: by_name(&file.policy.tables, |path| path.value.clone()),
        limits: by_name(&file.policy.limits, |bucket| *bucket),
        secrets,
    }
}

/// In the order in which they are asked.
fn plugins(file: &File, notes: &mut Notes<'_>) -> Vec<PluginConfig> {
    for plugin in &file.plugins {
        let path = At { value: plugin.config.file.clone(), at: plugin.file.clone() };
        readable(&path, "the WebAssembly component", notes);
    }
    let mut plugins: Vec<PluginConfig> = file.plugins.iter().map(|p| p.config.clone()).collect();
    if let Some(order) = &file.policy.order {
        let place = |name: &str| order.value.iter().position(|named| named.value.0 == name);
        plugins.sort_by_key(|plugin| place(&plugin.name));
    }
    plugins
}

/// What is in the file is read when a generation is made; that there is none is told here, with the
/// line.
fn readable(path: &At<PathBuf>, what: &str, notes: &mut Notes<'_>) {
    let opened = SystemFile::open(&path.value).and_then(|file| file.metadata());
    let shown = path.value.display();
    match opened {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => notes.add(&path.at, format!("{shown} is no file"), what),
        Err(error) => notes.add(&path.at, format!("cannot read {shown}: {error}"), what),
    }
}

pub(super) fn host(file: &File, notes: &mut Notes<'_>) -> HostConfig {
    let directory = file.policy.directory.clone();
    HostConfig {
        directory: directory.unwrap_or_else(|| file.spool.path.value.join("policy")),
        compiler: compiler(file, notes),
        keep: file.policy.keep.unwrap_or(KEEP),
    }
}

fn compiler(file: &File, notes: &mut Notes<'_>) -> Compiler {
    let Some(path) = &file.policy.compiler else { return Compiler::Here };
    readable(path, "the program that compiles plugins, usually /usr/bin/waypost", notes);
    Compiler::Child(path.value.clone())
}

pub(super) fn sources(file: &File, notes: &mut Notes<'_>) -> Sources {
    let mut pools = Sources::new();
    for (name, pool) in &file.policy.sources {
        let pool = pool.iter().map(|given| source(given, notes)).collect();
        pools.insert(name.value.0.clone(), pool);
    }
    pools
}

fn source(given: &Source, notes: &mut Notes<'_>) -> SourceAddress {
    let login = given.auth.as_ref().and_then(|auth| socks_login(auth, notes));
    let proxy = |place: &At<ProxyPlace>| Proxy {
        at: place.value.at,
        protocol: match place.value.socks {
            true => ProxyProtocol::Socks5(login),
            false => ProxyProtocol::Header,
        },
    };
    SourceAddress {
        ehlo: given.ehlo.clone(),
        weight: given.weight.unwrap_or(1),
        proxy: given.proxy.as_ref().map(proxy),
        ..SourceAddress::new(given.address.value.0)
    }
}

fn socks_login(auth: &Auth, notes: &mut Notes<'_>) -> Option<SocksLogin> {
    let login = SocksLogin::new(auth.user.clone(), secret::read(&auth.password, notes)?);
    if login.is_none() {
        let hint = "RFC 1929 has room for no more";
        notes.add(&auth.at, "user and password must have 1 to 255 octets each", hint);
    }
    login
}

fn by_name<T, U>(named: &Named<T>, lower: impl Fn(&T) -> U) -> BTreeMap<String, U> {
    named.iter().map(|(name, value)| (name.value.0.clone(), lower(value))).collect()
}
