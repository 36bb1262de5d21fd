//! How users log in, and what they may do then.

use std::time::Duration;

use waypost_inbound::users::prepare_name;
use waypost_inbound::{CertificateRule, SenderPattern};
use waypost_mail::Network;
use waypost_plugin::Mode;

use super::token::{self, OAuth};
use super::{File, NETWORK, one_of, span};
use crate::mistake::Notes;
use crate::section::{At, Section};

const CERTIFICATE: &str =
    "certificate = \"sha256:…\", or a host name or mail address that it is for";
const SENDERS: &str = "may-send-as = [\"alice@example.org\", \"@example.org\", \"<>\"]";

/// `[auth]`.
#[derive(Debug, Default)]
pub(crate) struct AuthSection {
    pub(crate) scram_sha_1: bool,
    pub(crate) oauth: Option<OAuth>,
    pub(crate) certificates: Vec<Owner>,
    pub(crate) certificate_address: Option<At<bool>>,
    /// Logins may send as anybody.
    pub(crate) free_senders: bool,
    pub(crate) from_field: bool,
    pub(crate) senders: Vec<Senders>,
    pub(crate) failures: Failures,
}

/// `[[auth.certificate]]`.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) certificate: At<CertificateRule>,
    pub(crate) user: String,
}

/// `[[auth.sender]]`.
#[derive(Debug)]
pub(crate) struct Senders {
    pub(crate) users: Vec<String>,
    pub(crate) may: Vec<SenderPattern>,
}

/// `[auth.failures]`.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    pub(crate) delay: Option<Duration>,
    pub(crate) max_delay: Option<At<Duration>>,
    pub(crate) ban_after: Option<u32>,
    pub(crate) window: Option<Duration>,
    pub(crate) ban: Option<Duration>,
    pub(crate) never_ban: Vec<Network>,
}

impl File {
    /// A plugin sees passwords and says whose they are.
    pub(crate) fn asks_policy_about_passwords(&self) -> bool {
        self.plugins
            .iter()
            .any(|plugin| plugin.config.grants.auth && matches!(plugin.config.mode, Mode::Enforce))
    }

    /// Somebody could log in, where there is TLS.
    pub(crate) fn lets_log_in(&self) -> bool {
        let auth = &self.auth;
        self.users_file.is_some()
            || auth.oauth.is_some()
            || !auth.certificates.is_empty()
            || auth.certificate_address.as_ref().is_some_and(|yes| yes.value)
            || self.asks_policy_about_passwords()
    }
}

pub(super) fn auth(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> AuthSection {
    let Some(mut section) = section else { return AuthSection::default() };
    let is = |section: &mut Section<'_>, key, notes: &mut Notes<'_>| {
        section.boolean(key, notes).is_some_and(|yes| yes.value)
    };
    let senders = one_of(&mut section, "senders", &["own", "any"], notes);
    let auth = AuthSection {
        scram_sha_1: is(&mut section, "scram-sha-1", notes),
        oauth: section.section("oauth", notes).and_then(|s| token::oauth(s, notes)),
        certificates: section
            .sections("certificate", notes)
            .into_iter()
            .filter_map(|section| owner(section, notes))
            .collect(),
        certificate_address: section.boolean("certificate-address", notes),
        free_senders: senders.as_deref() == Some("any"),
        from_field: is(&mut section, "from-field", notes),
        senders: section
            .sections("sender", notes)
            .into_iter()
            .filter_map(|section| self::senders(section, notes))
            .collect(),
        failures: failures(section.section("failures", notes), notes),
    };
    section.end(notes);
    auth
}

fn owner(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<Owner> {
    let certificate = section.parsed("certificate", CERTIFICATE, notes);
    let certificate = section.required("certificate", certificate, CERTIFICATE, notes);
    let user = section.string("user", notes);
    let user = section.required("user", user, "the name to log in as", notes);
    section.end(notes);
    let user = user?;
    if prepare_name(&user.value).as_ref() != Ok(&user.value) {
        let message = format!("'auth.certificate.user': '{}' is no name of a user", user.value);
        notes.add(&user.at, message, "without white space, as `waypost user list` writes it");
        return None;
    }
    Some(Owner { certificate: certificate?, user: user.value })
}

fn senders(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<Senders> {
    let hint = "users = [\"alice\", \"app-*\"]";
    let users = section.list::<String>("users", hint, notes);
    let users = section.required("users", users, hint, notes);
    let may = section.list::<SenderPattern>("may-send-as", SENDERS, notes);
    let may = section.required("may-send-as", may, SENDERS, notes);
    section.end(notes);
    let users = users?.value.into_iter().map(|user| user.value).collect();
    Some(Senders { users, may: may?.value.into_iter().map(|may| may.value).collect() })
}

fn failures(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Failures {
    let Some(mut section) = section else { return Failures::default() };
    let at = section.at().clone();
    let delay = span(&mut section, "delay", notes);
    let max_delay = span(&mut section, "max-delay", notes).map(|value| At { value, at });
    let ban_after = section.integer("ban-after", 0..1_000_001, notes);
    let never_ban = section.list::<Network>("never-ban", NETWORK, notes);
    let failures = Failures {
        delay,
        max_delay,
        ban_after: ban_after.and_then(|count| u32::try_from(count.value).ok()),
        window: span(&mut section, "window", notes),
        ban: span(&mut section, "ban", notes),
        never_ban: never_ban
            .map_or_else(Vec::new, |list| list.value.into_iter().map(|n| n.value).collect()),
    };
    section.end(notes);
    failures
}
