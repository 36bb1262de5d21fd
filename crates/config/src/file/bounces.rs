//! What bounces and complaints do: the suppression list, addresses that mail comes back to, notices.

use std::str::FromStr;
use std::time::Duration;

use waypost_intake::Reach;
use waypost_mail::suppression::Ground;
use waypost_smtp::Domain;

use super::{SPAN, one_of};
use crate::mistake::Notes;
use crate::names::Name;
use crate::section::{At, Section};
use crate::units::Span;

/// Who gets no more mail.
#[derive(Debug, Default)]
pub(crate) struct Suppression {
    pub(crate) feed: Vec<Ground>,
    pub(crate) reach: Option<Reach>,
    pub(crate) bad_address: Option<Lasting>,
    pub(crate) inactive: Option<Lasting>,
    pub(crate) complaint: Option<Lasting>,
}

/// How long something lasts; for good where there is no time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lasting(pub(crate) Option<Duration>);

/// Where mail comes back to.
#[derive(Debug)]
pub(crate) struct Bounces {
    pub(crate) domain: At<Domain>,
    pub(crate) days: u64,
    pub(crate) feedback: Vec<String>,
    pub(crate) forward: bool,
}

/// A signature for our own notices.
#[derive(Debug)]
pub(crate) struct NoticeSign {
    pub(crate) key: At<Name>,
    pub(crate) domain: At<Domain>,
    pub(crate) selector: At<String>,
}

const GROUND: &str = "any of: bad-address, inactive, complaint";
const LASTING: &str = "write a number and a unit, 30d, or \"forever\"";

pub(super) fn suppression(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Suppression {
    let Some(mut section) = section else { return Suppression::default() };
    let feed = section.list::<Fed>("feed", GROUND, notes);
    let reaches = ["sender-domain", "sender", "user", "everybody"];
    let reach = one_of(&mut section, "reach", &reaches, notes);
    let mut suppression = Suppression {
        feed: feed.map_or_else(Vec::new, |l| l.value.into_iter().map(|g| g.value.0).collect()),
        reach: reach.map(|reach| match reach.as_str() {
            "sender" => Reach::Sender,
            "user" => Reach::User,
            "everybody" => Reach::Everybody,
            _ => Reach::SenderDomain,
        }),
        ..Suppression::default()
    };
    if let Some(mut lifetime) = section.section("lifetime", notes) {
        let mut of = |key| lifetime.parsed::<Lasting>(key, LASTING, notes).map(|l| l.value);
        suppression.bad_address = of("bad-address");
        suppression.inactive = of("inactive");
        suppression.complaint = of("complaint");
        lifetime.end(notes);
    }
    section.end(notes);
    suppression
}

pub(super) fn bounces(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Option<Bounces> {
    let mut section = section?;
    let hint = "a domain of its own whose mail comes here: domain = \"bounces.example.org\"";
    let domain = section.parsed::<Domain>("domain", hint, notes);
    let domain = section.required("domain", domain, hint, notes);
    let days = section.parsed::<Span>("lifetime", SPAN, notes);
    let days = days.map_or(30, |span| span.value.0.as_secs().div_ceil(86_400).clamp(1, 365));
    let feedback = section.list::<LocalPart>("feedback", "local parts: [\"fbl\"]", notes);
    let feedback = feedback.map_or_else(
        || vec!["fbl".to_owned()],
        |list| list.value.into_iter().map(|local| local.value.0).collect(),
    );
    let forward = section.boolean("forward", notes).is_none_or(|b| b.value);
    section.end(notes);
    Some(Bounces { domain: domain?, days, feedback, forward })
}

pub(super) fn notices(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Vec<NoticeSign> {
    let Some(mut section) = section else { return Vec::new() };
    let signs = section.sections("sign", notes).into_iter();
    let signs = signs.filter_map(|sign| notice_sign(sign, notes)).collect();
    section.end(notes);
    signs
}

fn notice_sign(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<NoticeSign> {
    let key = section.parsed::<Name>("key", "a name of [keys]", notes);
    let key = section.required("key", key, "key = \"main-2026\"", notes);
    let domain = section.parsed::<Domain>("domain", "the signing domain, d=", notes);
    let domain = section.required("domain", domain, "domain = \"relay.example.org\"", notes);
    let selector = section.string("selector", notes);
    let selector = section.required("selector", selector, "selector = \"main-2026\"", notes);
    section.end(notes);
    Some(NoticeSign { key: key?, domain: domain?, selector: selector? })
}

/// A ground that feeds the list by itself.
struct Fed(Ground);

impl FromStr for Fed {
    type Err = String;
    fn from_str(text: &str) -> Result<Fed, String> {
        match text.parse() {
            Ok(ground) if ground != Ground::Manual => Ok(Fed(ground)),
            _ => Err(format!("'{text}' feeds no list")),
        }
    }
}

impl FromStr for Lasting {
    type Err = crate::units::UnitError;
    fn from_str(text: &str) -> Result<Lasting, crate::units::UnitError> {
        match text {
            "forever" => Ok(Lasting(None)),
            _ => text.parse::<Span>().map(|span| Lasting(Some(span.0))),
        }
    }
}

/// A local part that needs no quotes.
struct LocalPart(String);

impl FromStr for LocalPart {
    type Err = String;
    fn from_str(text: &str) -> Result<LocalPart, String> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.+".contains(&b);
        let whole = !text.is_empty() && text.len() <= 64 && text.bytes().all(legal);
        whole
            .then(|| LocalPart(text.to_owned()))
            .ok_or_else(|| format!("'{text}' is no local part"))
    }
}
