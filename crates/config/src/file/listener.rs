//! `[[listener]]`: where mail comes in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use waypost_inbound::{ListenerKind, Place};

use super::door::door;
use super::{ADDRESS, Listener, count, octets, one_of, path, span};
use crate::mistake::Notes;
use crate::section::{At, Section};
use crate::units::{UnitError, Word};

/// Where programs of this machine hand in mail unless told otherwise.
pub(crate) const LOCAL_SOCKET: &str = "/run/waypost/submit.sock";

const KINDS: [(&str, ListenerKind); 7] = [
    ("relay", ListenerKind::Relay),
    ("submission", ListenerKind::Submission),
    ("submissions", ListenerKind::Submissions),
    ("lmtp", ListenerKind::Lmtp),
    ("local", ListenerKind::Local),
    ("http", ListenerKind::Http),
    ("https", ListenerKind::Https),
];

/// Reads one listener.
pub(crate) fn listener(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<Listener> {
    let words = KINDS.map(|(word, _)| word);
    let word = one_of(&mut section, "kind", &words, notes);
    let kind = word.and_then(|word| KINDS.iter().find(|(other, _)| *other == word));
    if kind.is_none() {
        let hint = "one of: relay, submission, submissions, lmtp, local, http, https";
        section.required::<()>("kind", None, hint, notes);
    }
    let name = section.parsed::<Word>("name", "it names the listener in logs", notes);
    let place = place(&mut section, kind.map(|(_, kind)| *kind), notes);
    let at = section.at().clone();
    let door = door(&mut section, notes);
    section.end(notes);
    let ((word, kind), place) = (*kind?, place?);
    let name = match (name, place.value.tcp()) {
        (Some(name), _) => At { value: name.value.0, at: name.at },
        (None, Some(address)) => At { value: format!("{word}-{}", address.port()), at },
        (None, None) => At { value: word.to_owned(), at },
    };
    Some(Listener { name, kind, place, door })
}

/// An address, or a Unix socket where the kind allows one.
fn place(
    section: &mut Section<'_>,
    kind: Option<ListenerKind>,
    notes: &mut Notes<'_>,
) -> Option<At<Place>> {
    let address = section.parsed::<SocketAddr>("address", ADDRESS, notes);
    let socket = path(section, "socket", notes);
    let mode = section.parsed::<Mode>("mode", "permissions of the socket: \"0660\"", notes);
    let kind = kind?;
    let usual = || At { value: PathBuf::from(LOCAL_SOCKET), at: section.at().clone() };
    let socket = socket.or_else(|| (kind == ListenerKind::Local).then(usual));
    if let (Some(mode), None) = (&mode, &socket) {
        let message = "'listener.mode' is for a Unix socket, and there is none";
        notes.add(&mode.at, message, "remove it, or name a socket instead of an address");
        return None;
    }
    match (address, socket) {
        (Some(address), None) => Some(At { value: Place::Tcp(address.value), at: address.at }),
        (None, None) => {
            section.required::<()>("address", None, ADDRESS, notes);
            None
        }
        (Some(address), Some(_)) => {
            let message = match kind {
                ListenerKind::Local => "a 'local' listener has a Unix socket and no address",
                _ => "a listener has an address or a socket, not both",
            };
            notes.add(&address.at, message, "remove the address, or write a second listener");
            None
        }
        (None, Some(socket)) => {
            let open_to_all = match kind {
                ListenerKind::Lmtp | ListenerKind::Http => 0o660,
                ListenerKind::Local => 0o666,
                _ => {
                    let message =
                        "only listeners of the kinds 'lmtp', 'http' and 'local' have a Unix socket";
                    notes.add(&socket.at, message, ADDRESS);
                    return None;
                }
            };
            let mode = mode.map_or(open_to_all, |mode| mode.value.0);
            Some(At { value: Place::Unix { path: socket.value, mode }, at: socket.at })
        }
    }
}

/// `[http]`: what the HTTP doors are told.
#[derive(Debug, Default)]
pub(crate) struct Http {
    pub(crate) tokens: Option<At<PathBuf>>,
    pub(crate) requests: Option<usize>,
    pub(crate) json_size: Option<u64>,
    pub(crate) body_timeout: Option<Duration>,
    pub(crate) key_lifetime: Option<Duration>,
}

/// Reads it.
pub(crate) fn http(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Http {
    let Some(mut section) = section else { return Http::default() };
    let http = Http {
        tokens: path(&mut section, "tokens", notes),
        requests: count(&mut section, "requests", notes),
        json_size: octets(&mut section, "json-size", notes),
        body_timeout: span(&mut section, "body-timeout", notes),
        key_lifetime: span(&mut section, "key-lifetime", notes),
    };
    section.end(notes);
    http
}

/// Permissions in octal digits.
struct Mode(u32);

impl FromStr for Mode {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Mode, UnitError> {
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
        mode.map(Mode).ok_or_else(|| UnitError::new(text, "permissions in octal digits"))
    }
}
