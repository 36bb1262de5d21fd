//! What is special at one listener, and TLS at all of them.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use waypost_intake::Whose;
use waypost_mail::{Fingerprint, Network};

use super::{NETWORK, one_of, path, span, verify};
use crate::mistake::Notes;
use crate::section::{At, Section};

const PRINT: &str =
    "write \"sha256:\" and 64 hexadecimal digits: openssl x509 -noout -fingerprint -sha256";
/// Keys of session tickets live in rustls for so long.
const LONGEST_ROTATION: Duration = Duration::from_secs(6 * 3600);

/// `[tls]`
#[derive(Debug, Default)]
pub(crate) struct Tls {
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) ca_file: Option<At<PathBuf>>,
    pub(crate) look_at_files: Option<Duration>,
    pub(crate) ticket_rotation: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) certificate: At<PathBuf>,
    pub(crate) key: At<PathBuf>,
}

/// What a `[[listener]]` says besides its name, kind and address.
#[derive(Debug, Default)]
pub(crate) struct Door {
    /// Where `tls` stands.
    pub(crate) tls: Option<Range<usize>>,
    /// Nothing older than TLS 1.3.
    pub(crate) only_tls13: bool,
    pub(crate) extended_master_secret: bool,
    pub(crate) ciphers: Vec<At<String>>,
    pub(crate) clients: Option<Clients>,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) xclient: Option<Xclient>,
    pub(crate) priority: Priority,
    /// Whose mail is verified here.
    pub(crate) verify: Option<Whose>,
}

/// `priority`
#[derive(Debug, Default)]
pub(crate) struct Priority {
    pub(crate) offer: Option<bool>,
    /// From -9 to 9.
    pub(crate) highest: Option<i8>,
}

/// `proxy`
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) networks: Vec<At<Network>>,
    /// Others come in too.
    pub(crate) others: bool,
    pub(crate) timeout: Option<Duration>,
}

/// `xclient`
#[derive(Debug)]
pub(crate) struct Xclient {
    pub(crate) networks: Vec<At<Network>>,
    pub(crate) login: bool,
}

/// `client-certificates`
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) at: Range<usize>,
    pub(crate) required: bool,
    pub(crate) authorities: Option<At<PathBuf>>,
    pub(crate) revoked: Option<At<PathBuf>>,
    pub(crate) fingerprints: Vec<At<Fingerprint>>,
}

pub(crate) fn tls(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Tls {
    let Some(mut section) = section else { return Tls::default() };
    let ca_file = path(&mut section, "ca-file", notes);
    let look_at_files = span(&mut section, "look-at-files", notes);
    let ticket_rotation = rotation(&mut section, notes);
    let pairs = section.sections("certificate", notes).into_iter();
    let certificates = pairs.filter_map(|mut pair| {
        let chain = path(&mut pair, "chain", notes);
        let chain = pair.required("chain", chain, "the PEM file with the certificate chain", notes);
        let key = path(&mut pair, "key", notes);
        let key = pair.required("key", key, "the PEM file with the private key", notes);
        pair.end(notes);
        Some(Certificate { certificate: chain?, key: key? })
    });
    let certificates = certificates.collect();
    section.end(notes);
    Tls { certificates, ca_file, look_at_files, ticket_rotation }
}

fn rotation(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Option<Duration> {
    let at = section.at().clone();
    let rotation = span(section, "ticket-rotation", notes)?;
    if (Duration::from_secs(60)..=LONGEST_ROTATION).contains(&rotation) {
        return Some(rotation);
    }
    notes.add(&at, "'tls.ticket-rotation' must be from 1m to 6h", "the usual is 6h");
    None
}

pub(super) fn door(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Door {
    let mut door = Door::default();
    if let Some(mut tls) = section.section("tls", notes) {
        door.tls = Some(tls.at().clone());
        let oldest = one_of(&mut tls, "oldest", &["1.2", "1.3"], notes);
        door.only_tls13 = oldest.as_deref() == Some("1.3");
        let demanded = tls.boolean("extended-master-secret", notes);
        door.extended_master_secret = demanded.is_some_and(|demanded| demanded.value);
        let hint = "write the names that IANA gives them";
        let ciphers = tls.list::<String>("ciphers", hint, notes);
        door.ciphers = ciphers.map_or_else(Vec::new, |list| list.value);
        tls.end(notes);
    }
    let certificates = section.section("client-certificates", notes);
    door.clients = certificates.and_then(|section| clients(section, notes));
    let section_of_proxy = section.section("proxy", notes);
    door.proxy = section_of_proxy.and_then(|section| proxy(section, notes));
    let section_of_xclient = section.section("xclient", notes);
    door.xclient = section_of_xclient.and_then(|section| xclient(section, notes));
    let section_of_priority = section.section("priority", notes);
    door.priority = section_of_priority.map(|section| priority(section, notes)).unwrap_or_default();
    door.verify = verify::whose(section, "verify", notes);
    door
}

fn priority(mut section: Section<'_>, notes: &mut Notes<'_>) -> Priority {
    let offer = section.boolean("offer", notes).map(|offer| offer.value);
    let highest = section.signed("highest", -9..=9, notes);
    section.end(notes);
    Priority { offer, highest: highest.and_then(|highest| i8::try_from(highest).ok()) }
}

fn proxy(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<Proxy> {
    let networks = peers(&mut section, notes);
    let others = one_of(&mut section, "others", &["refuse", "plain"], notes);
    let timeout = span(&mut section, "timeout", notes);
    section.end(notes);
    Some(Proxy { networks: networks?, others: others.as_deref() == Some("plain"), timeout })
}

fn xclient(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<Xclient> {
    let networks = peers(&mut section, notes);
    let login = section.boolean("login", notes);
    section.end(notes);
    Some(Xclient { networks: networks?, login: login.is_some_and(|login| login.value) })
}

/// Those who say who somebody else is. Whoever may say that may say anything, so it is not the world.
fn peers(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Option<Vec<At<Network>>> {
    let list = section.list::<Network>("networks", NETWORK, notes);
    let list = section.required("networks", list, "networks = [\"192.0.2.10\"]", notes)?;
    if list.value.is_empty() {
        notes.add(&list.at, format!("'{}' is empty", section.path("networks")), NETWORK);
        return None;
    }
    for network in list.value.iter().filter(|network| network.value.is_the_internet()) {
        let message = format!("{} would let strangers say who they are", network.value);
        notes.add(&network.at, message, "list only proxies of your own");
    }
    Some(list.value)
}

/// Nothing when nobody is to be asked.
fn clients(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<Clients> {
    let mode = one_of(&mut section, "mode", &["none", "ask", "require"], notes);
    if mode.is_none() {
        let hint = "mode = \"none\", \"ask\" or \"require\"";
        section.required::<()>("mode", None, hint, notes);
    }
    let authorities = path(&mut section, "ca-file", notes);
    let revoked = path(&mut section, "crl-file", notes);
    let fingerprints = section.list("fingerprints", PRINT, notes);
    let fingerprints: Vec<At<Fingerprint>> = fingerprints.map_or_else(Vec::new, |list| list.value);
    let at = section.at().clone();
    section.end(notes);
    let required = match mode.as_deref()? {
        "none" => return None,
        mode => mode == "require",
    };
    Some(Clients { at, required, authorities, revoked, fingerprints })
}
