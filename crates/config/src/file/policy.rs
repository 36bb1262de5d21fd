//! What plugins share: tables, limits, secrets, keys, next hops and source addresses by name.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use waypost_mail::TlsLevel;
use waypost_plugin::Bucket;
use waypost_smtp::Domain;

use super::{Auth, Hop, Named, Secret, path, route, span};
use crate::mistake::Notes;
use crate::names::{PluginName, SourceIp};
use crate::section::{At, Item, Section, parse};

const NAME: &str = "write a name such as \"customers\" or \"main-2026\"";
const PROXY: &str =
    "\"socks5://192.0.2.1:1080\", or \"proxy://192.0.2.1:5000\" for the PROXY protocol";
const SOURCES: &str =
    "addresses = [\"192.0.2.10\", { address = \"192.0.2.11\", ehlo = \"out2.example.org\" }]";

/// `[policy]`.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    pub(crate) directory: Option<PathBuf>,
    pub(crate) compiler: Option<At<PathBuf>>,
    pub(crate) watch: bool,
    pub(crate) keep: Option<usize>,
    pub(crate) order: Option<At<Vec<At<PluginName>>>>,
    pub(crate) tables: Named<At<PathBuf>>,
    pub(crate) limits: Named<Bucket>,
    pub(crate) secrets: Named<Secret>,
    pub(crate) hops: Named<NextHop>,
    pub(crate) sources: Named<Vec<Source>>,
}

/// A next hop that plugins name.
#[derive(Debug)]
pub(crate) struct NextHop {
    pub(crate) via: Vec<Hop>,
    pub(crate) tls: TlsLevel,
    pub(crate) auth: Option<Auth>,
}

/// A source address, and the name that goes with it.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) address: At<SourceIp>,
    pub(crate) ehlo: Option<Domain>,
    pub(crate) weight: Option<u16>,
    pub(crate) proxy: Option<At<ProxyPlace>>,
    pub(crate) auth: Option<Auth>,
}

/// A proxy that has the address: `socks5://` or `proxy://`, and where it listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProxyPlace {
    pub(crate) at: SocketAddr,
    pub(crate) socks: bool,
}

impl FromStr for ProxyPlace {
    type Err = String;
    fn from_str(text: &str) -> Result<ProxyPlace, String> {
        let (socks, at) = match text.split_once("://") {
            Some(("socks5", at)) => (true, at),
            Some(("proxy", at)) => (false, at),
            _ => return Err(format!("'{text}' is no proxy")),
        };
        let at = at.parse().map_err(|_| format!("'{at}' is no address with a port"))?;
        Ok(ProxyPlace { at, socks })
    }
}

pub(super) fn keys(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Named<At<PathBuf>> {
    tables(section, notes, |mut section, notes| {
        let file = path(&mut section, "file", notes);
        let file = section.required("file", file, "the PEM file with the private key", notes);
        section.end(notes);
        file
    })
}

pub(super) fn policy(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Policy {
    let Some(mut section) = section else { return Policy::default() };
    let files = section.section("tables", notes);
    let policy = Policy {
        directory: path(&mut section, "directory", notes).map(|path| path.value),
        compiler: path(&mut section, "compiler", notes),
        watch: section.boolean("watch", notes).is_some_and(|watch| watch.value),
        keep: section
            .integer("keep", 1..101, notes)
            .and_then(|keep| usize::try_from(keep.value).ok()),
        order: section.list("order", "the name of a [[plugin]]", notes),
        tables: files.map_or_else(Vec::new, |files| files.each(NAME, notes, path)),
        limits: tables(section.section("limits", notes), notes, bucket),
        secrets: tables(section.section("secrets", notes), notes, |mut section, notes| {
            let secret = route::secret(&mut section, ["file", "env"], notes);
            section.end(notes);
            secret
        }),
        hops: tables(section.section("hops", notes), notes, hop),
        sources: tables(section.section("sources", notes), notes, pool),
    };
    section.end(notes);
    policy
}

/// Tables below this one, whose names the operator chooses.
fn tables<T>(
    section: Option<Section<'_>>,
    notes: &mut Notes<'_>,
    read: impl Fn(Section<'_>, &mut Notes<'_>) -> Option<T>,
) -> Named<T> {
    let Some(section) = section else { return Vec::new() };
    section.each(NAME, notes, |section, key, notes| read(section.section(key, notes)?, notes))
}

fn bucket(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<Bucket> {
    let mut count = |key, notes: &mut Notes<'_>| section.integer(key, 1..1_000_000_001, notes);
    let (tokens, burst) = (count("tokens", notes), count("burst", notes));
    let tokens = section.required("tokens", tokens, "tokens = 100", notes);
    let at = section.at().clone();
    let per = span(&mut section, "per", notes).map(|value| At { value, at });
    let per = section.required("per", per, "per = \"1m\"", notes);
    section.end(notes);
    let tokens = u32::try_from(tokens?.value).ok()?;
    let burst = burst.and_then(|burst| u32::try_from(burst.value).ok()).unwrap_or(tokens);
    Some(Bucket { tokens, per: per?.value, burst })
}

fn hop(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<NextHop> {
    let hosts = section.sections("via", notes);
    if hosts.is_empty() {
        let hint = "via = [{ host = \"smtp.example.net\", port = 587 }]";
        section.required::<()>("via", None, hint, notes);
    }
    let via = route::hops(hosts, notes);
    let tls = route::level(&mut section, notes);
    let auth = route::login(&mut section, notes);
    section.end(notes);
    Some(NextHop { via: via?, tls, auth })
}

fn pool(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<Vec<Source>> {
    let addresses = section.strings_and_sections("addresses", notes);
    let addresses = section.required("addresses", addresses, SOURCES, notes);
    let (path, at) = (section.path("addresses"), section.at().clone());
    section.end(notes);
    let addresses = addresses?.value;
    if addresses.is_empty() {
        notes.add(&at, format!("'{path}' is empty"), SOURCES);
    }
    let source = |item| match item {
        Item::Text(text) => source(&path, text, notes),
        Item::Table(section) => described_source(section, notes),
    };
    Some(addresses.into_iter().filter_map(source).collect())
}

fn source(path: &str, text: At<String>, notes: &mut Notes<'_>) -> Option<Source> {
    let address = parse(path, text, SOURCES, notes)?;
    Some(Source { address, ehlo: None, weight: None, proxy: None, auth: None })
}

fn described_source(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<Source> {
    let address = section.parsed::<SourceIp>("address", "an address of this machine", notes);
    let address = section.required("address", address, "address = \"192.0.2.10\"", notes);
    let ehlo = section.parsed::<Domain>("ehlo", "the name of that address", notes);
    let weight = section.integer("weight", 1..1001, notes);
    let proxy = section.parsed::<ProxyPlace>("proxy", PROXY, notes);
    let auth = route::login(&mut section, notes);
    section.end(notes);
    Some(Source {
        address: address?,
        ehlo: ehlo.map(|ehlo| ehlo.value),
        weight: weight.and_then(|weight| u16::try_from(weight.value).ok()),
        proxy,
        auth,
    })
}
