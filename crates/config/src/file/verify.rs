//! `[verify]`: whose mail is verified on the way in, how, and what follows.

use std::time::Duration;

use waypost_identity::verify::Checks;
use waypost_intake::{Action, Whose};
use waypost_smtp::Domain;

use super::{count, one_of, span};
use crate::mistake::Notes;
use crate::section::{At, Section};

const CHECKS: &str = "name some of: spf, dkim, dmarc, arc, iprev";
const WHOSE: [(&str, Whose); 3] =
    [("none", Whose::Nobodys), ("strangers", Whose::Strangers), ("all", Whose::Everybodys)];
const ACTIONS: [(&str, Action); 3] =
    [("none", Action::Nothing), ("hold", Action::Hold), ("refuse", Action::Refuse)];

/// `[verify]`.
#[derive(Debug, Default)]
pub(crate) struct Verify {
    pub(crate) mail: Option<Whose>,
    pub(crate) checks: Option<At<Checks>>,
    pub(crate) id: Option<At<Domain>>,
    pub(crate) signatures: Option<usize>,
    pub(crate) timeout: Option<At<Duration>>,
    pub(crate) dmarc_fail: Option<At<Action>>,
    pub(crate) spf_fail: Option<At<Action>>,
    pub(crate) iprev_fail: Option<At<Action>>,
    pub(crate) act_on: Option<Whose>,
    pub(crate) seal: Option<Vouching>,
}

/// With which key a domain vouches: `[verify.seal]`, `[[dkim2]]`.
#[derive(Debug)]
pub(crate) struct Vouching {
    pub(crate) key: At<String>,
    pub(crate) domain: At<String>,
    pub(crate) selector: At<String>,
}

/// Reads it.
pub(super) fn verify(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Verify {
    let Some(mut section) = section else { return Verify::default() };
    let at = section.at().clone();
    let timeout = span(&mut section, "timeout", notes).map(|value| At { value, at });
    let verify = Verify {
        mail: whose(&mut section, "mail", notes),
        checks: checks(&mut section, notes),
        id: section.parsed("authserv-id", "a name: \"example.org\"", notes),
        signatures: count(&mut section, "signatures", notes),
        timeout,
        dmarc_fail: action(&mut section, "dmarc-fail", notes),
        spf_fail: action(&mut section, "spf-fail", notes),
        iprev_fail: action(&mut section, "iprev-fail", notes),
        act_on: whose(&mut section, "act-on", notes),
        seal: section.section("seal", notes).and_then(|section| vouching(section, notes)),
    };
    section.end(notes);
    verify
}

/// Reads with which key a domain vouches.
pub(super) fn vouching(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<Vouching> {
    let mut text = |key: &str, hint: &str| {
        let found = section.string(key, notes);
        section.required(key, found, hint, notes)
    };
    let key = text("key", "the name of a key in [keys]");
    let domain = text("domain", "domain = \"example.org\"");
    let selector = text("selector", "selector = \"2026\"");
    section.end(notes);
    Some(Vouching { key: key?, domain: domain?, selector: selector? })
}

/// Whose mail is meant.
pub(super) fn whose(section: &mut Section<'_>, key: &str, notes: &mut Notes<'_>) -> Option<Whose> {
    let word = one_of(section, key, &WHOSE.map(|(word, _)| word), notes)?;
    WHOSE.iter().find(|(other, _)| *other == word).map(|(_, whose)| *whose)
}

fn action(section: &mut Section<'_>, key: &str, notes: &mut Notes<'_>) -> Option<At<Action>> {
    let at = section.at().clone();
    let word = one_of(section, key, &ACTIONS.map(|(word, _)| word), notes)?;
    let (_, action) = ACTIONS.iter().find(|(other, _)| *other == word)?;
    Some(At { value: *action, at })
}

fn checks(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Option<At<Checks>> {
    let path = section.path("checks");
    let list = section.list::<String>("checks", CHECKS, notes)?;
    let mut checks = Checks::NONE;
    for name in list.value {
        match name.value.as_str() {
            "spf" => checks.spf = true,
            "dkim" => checks.dkim = true,
            "dmarc" => checks.dmarc = true,
            "arc" => checks.arc = true,
            "iprev" => checks.iprev = true,
            other => notes.add(&name.at, format!("'{path}' cannot have '{other}'"), CHECKS),
        }
    }
    Some(At { value: checks, at: list.at })
}
