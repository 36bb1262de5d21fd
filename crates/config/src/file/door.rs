//! What is special at one listener, and TLS at all of them.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use waypost_mail::Fingerprint;

use super::{one_of, path, span};
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
    pub(crate) ciphers: Vec<At<String>>,
    pub(crate) clients: Option<Clients>,
}

/// `client-certificates`
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) at: Range<usize>,
    pub(crate) required: bool,
    pub(crate) authorities: Option<At<PathBuf>>,
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
        let hint = "write the names that IANA gives them";
        let ciphers = tls.list::<String>("ciphers", hint, notes);
        door.ciphers = ciphers.map_or_else(Vec::new, |list| list.value);
        tls.end(notes);
    }
    let certificates = section.section("client-certificates", notes);
    door.clients = certificates.and_then(|section| clients(section, notes));
    door
}

/// Nothing when nobody is to be asked.
fn clients(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<Clients> {
    let mode = one_of(&mut section, "mode", &["none", "ask", "require"], notes);
    if mode.is_none() {
        let hint = "mode = \"none\", \"ask\" or \"require\"";
        section.required::<()>("mode", None, hint, notes);
    }
    let authorities = path(&mut section, "ca-file", notes);
    let fingerprints = section.list("fingerprints", PRINT, notes);
    let fingerprints: Vec<At<Fingerprint>> = fingerprints.map_or_else(Vec::new, |list| list.value);
    let at = section.at().clone();
    section.end(notes);
    let required = match mode.as_deref()? {
        "none" => return None,
        mode => mode == "require",
    };
    Some(Clients { at, required, authorities, fingerprints })
}
