//! Ways to go: routes, the hosts they lead to, and logins there.

use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use waypost_mail::{Convert, DomainPattern, Heed, TlsLevel};
use waypost_smtp::{Code, Enhanced, PermanentReply, Reply};

use super::{PATTERN, one_of, path, port};
use crate::mistake::Notes;
use crate::names::Name;
use crate::section::{At, Section};
use crate::units::HostName;

const FAIL: &str = "a reply of class 5: fail = \"550 5.1.2 We have left that place\"";

#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) domains: Vec<At<DomainPattern>>,
    pub(crate) via: Via,
    pub(crate) source: Option<At<Name>>,
    pub(crate) tls: TlsLevel,
    pub(crate) auth: Option<Auth>,
    pub(crate) heed: Heed,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) convert: Convert,
    pub(crate) cut_through: bool,
}

/// What we show to hosts that ask who we are.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) chain: At<PathBuf>,
    pub(crate) key: At<PathBuf>,
}

#[derive(Debug)]
pub(crate) enum Via {
    Mx,
    Hosts(Vec<Hop>),
    Fail(PermanentReply),
    Discard,
}

#[derive(Debug)]
pub(crate) struct Hop {
    pub(crate) at: Range<usize>,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) implicit_tls: bool,
    pub(crate) lmtp: bool,
    pub(crate) priority: Option<u16>,
    pub(crate) weight: Option<u16>,
}

/// Login at a smart host. The password itself is never in the file.
#[derive(Debug)]
pub(crate) struct Auth {
    pub(crate) at: Range<usize>,
    pub(crate) user: String,
    pub(crate) password: Secret,
}

/// Where a secret comes from.
#[derive(Debug)]
pub(crate) enum Secret {
    File(At<PathBuf>),
    Environment(At<String>),
}

pub(super) fn route(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<Route> {
    let domains = section.list("domains", PATTERN, notes);
    let domains = section.required("domains", domains, "domains = [\"*\"]", notes);
    let via = via(&mut section, notes);
    let source = section.parsed::<Name>("source", "the name of a pool in [policy.sources]", notes);
    let tls = level(&mut section, notes);
    let auth = login(&mut section, notes);
    let heed = heed(&mut section, tls, &via, notes);
    let certificate = certificate(&mut section, &via, notes);
    let cut_through = cut_through(&mut section, &via, notes);
    let convert = convert(&mut section, notes);
    section.end(notes);
    Some(Route {
        domains: domains?.value,
        via: via?,
        source,
        tls,
        auth,
        heed,
        certificate,
        convert,
        cut_through,
    })
}

/// What becomes of mail that a host cannot take as it is.
fn convert(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Convert {
    match one_of(section, "convert", &["never", "unsigned", "always"], notes).as_deref() {
        Some("never") => Convert::Never,
        Some("always") => Convert::Always,
        _ => Convert::Unsigned,
    }
}

/// Whether messages are tried while their submitters wait.
fn cut_through(section: &mut Section<'_>, via: &Option<Via>, notes: &mut Notes<'_>) -> bool {
    let Some(given) = section.boolean("cut-through", notes).filter(|given| given.value) else {
        return false;
    };
    let (message, hint) = match via {
        Some(Via::Hosts(hosts)) if hosts.len() > 1 => (
            "'route.cut-through' is true where 'route.via' names several hosts",
            "the reply of one next hop is passed on: name one host, or leave out cut-through",
        ),
        Some(Via::Fail(_) | Via::Discard) => (
            "'route.cut-through' is true where the route leads nowhere",
            "leave out cut-through: there is no next hop to wait for",
        ),
        Some(Via::Mx | Via::Hosts(_)) | None => return true,
    };
    notes.add(&given.at, message, hint);
    false
}

/// Where mail goes, if anywhere: one of three keys says so, or none does.
fn via(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Option<Via> {
    let refusal = section.parsed::<Refusal>("fail", FAIL, notes);
    let discard = section.boolean("discard", notes).is_some_and(|discard| discard.value);
    let given = section.string_or_sections("via", notes);
    if usize::from(refusal.is_some()) + usize::from(discard) + usize::from(given.is_some()) > 1 {
        let message = "a route has one of via, fail and discard";
        notes.add(section.at(), message, "keep one; another [[route]] may have the other");
        return None;
    }
    match given {
        Some(Ok(text)) if text.value == "mx" => Some(Via::Mx),
        Some(Ok(text)) => {
            let hint = "via = \"mx\" or via = [{ host = \"smtp.example.net\", port = 587 }]";
            notes.add(&text.at, format!("'route.via': '{}' is no way to go", text.value), hint);
            None
        }
        Some(Err(hosts)) => hops(hosts, notes).map(Via::Hosts),
        None if discard => Some(Via::Discard),
        None => Some(refusal.map_or(Via::Mx, |refusal| Via::Fail(refusal.value.0))),
    }
}

/// A reply of class 5, as it is written in the protocol.
struct Refusal(PermanentReply);

impl FromStr for Refusal {
    type Err = String;
    fn from_str(text: &str) -> Result<Refusal, String> {
        let wrong = || format!("'{text}' does not refuse for good");
        let (code, rest) = text.split_once(' ').ok_or_else(wrong)?;
        let code = code.parse().ok().and_then(Code::new).ok_or_else(wrong)?;
        let (enhanced, words) = Enhanced::split(rest).map_or((None, rest), |(e, w)| (Some(e), w));
        let reply = Reply { code, enhanced, text: "".into() }.with_text(words);
        PermanentReply::new(reply)
            .filter(|_| !words.trim().is_empty())
            .map(Refusal)
            .ok_or_else(wrong)
    }
}

fn certificate(
    section: &mut Section<'_>,
    via: &Option<Via>,
    notes: &mut Notes<'_>,
) -> Option<Certificate> {
    let mut section = section.section("client-certificate", notes)?;
    let chain = path(&mut section, "chain", notes);
    let chain = section.required("chain", chain, "chain = \"/etc/waypost/client.pem\"", notes);
    let key = path(&mut section, "key", notes);
    let key = section.required("key", key, "key = \"/etc/waypost/client.key\"", notes);
    let at = section.at().clone();
    section.end(notes);
    if !matches!(via, Some(Via::Hosts(_))) {
        let message = "'route.client-certificate' is given where 'route.via' names no hosts";
        notes.add(&at, message, "say who you are to hosts that you know, not to every domain");
        return None;
    }
    Some(Certificate { chain: chain?, key: key? })
}

/// What the recipient's side publishes, and whether it counts.
fn heed(
    section: &mut Section<'_>,
    tls: TlsLevel,
    via: &Option<Via>,
    notes: &mut Notes<'_>,
) -> Heed {
    let dane = section.boolean("dane", notes);
    let mta_sts = section.boolean("mta-sts", notes);
    for (key, given) in [("dane", &dane), ("mta-sts", &mta_sts)] {
        if let Some(given) = given.as_ref().filter(|given| given.value && tls == TlsLevel::Never) {
            let message = format!("'route.{key}' is true where 'route.tls' is \"never\"");
            notes.add(&given.at, message, "leave out one of them");
        }
    }
    if let Some(given) = mta_sts.as_ref().filter(|given| given.value)
        && matches!(via, Some(Via::Hosts(_)))
    {
        let message = "'route.mta-sts' is true where 'route.via' names hosts";
        notes.add(&given.at, message, "a domain's policy is about its own mail exchangers alone");
    }
    Heed { dane: dane.map(|given| given.value), mta_sts: mta_sts.map(|given| given.value) }
}

/// The hosts that can be read, if any.
pub(super) fn hops(hosts: Vec<Section<'_>>, notes: &mut Notes<'_>) -> Option<Vec<Hop>> {
    let hops: Vec<Hop> = hosts.into_iter().filter_map(|section| hop(section, notes)).collect();
    (!hops.is_empty()).then_some(hops)
}

fn hop(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<Hop> {
    let host = section.parsed::<HostName>("host", "a host name or an address", notes);
    let host = section.required("host", host, "host = \"smtp.example.net\"", notes);
    let port = port(&mut section, "port", notes);
    let implicit_tls = section.boolean("implicit-tls", notes).is_some_and(|b| b.value);
    let lmtp = section.boolean("lmtp", notes).is_some_and(|lmtp| lmtp.value);
    let priority = section.integer("priority", 0..1001, notes);
    let weight = section.integer("weight", 1..1001, notes);
    let number = |found: Option<At<u64>>| found.and_then(|n| u16::try_from(n.value).ok());
    let (priority, weight) = (number(priority), number(weight));
    let at = section.at().clone();
    section.end(notes);
    Some(Hop { at, host: host?.value.0, port, implicit_tls, lmtp, priority, weight })
}

pub(super) fn level(section: &mut Section<'_>, notes: &mut Notes<'_>) -> TlsLevel {
    let levels = ["never", "opportunistic", "encrypt", "verify"];
    match one_of(section, "tls", &levels, notes).as_deref() {
        Some("never") => TlsLevel::Never,
        Some("encrypt") => TlsLevel::Encrypt,
        Some("verify") => TlsLevel::Verify,
        _ => TlsLevel::Opportunistic,
    }
}

pub(super) fn login(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Option<Auth> {
    let mut section = section.section("auth", notes)?;
    let user = section.string("user", notes);
    let user = section.required("user", user, "the name to log in with", notes);
    let password = secret(&mut section, ["password-file", "password-env"], notes);
    let at = section.at().clone();
    section.end(notes);
    Some(Auth { at, user: user?.value, password: password? })
}

/// What one of two keys leads to: a file, or else a variable of the environment.
pub(super) fn secret(
    section: &mut Section<'_>,
    [file, variable]: [&str; 2],
    notes: &mut Notes<'_>,
) -> Option<Secret> {
    let at = section.at().clone();
    match (path(section, file, notes), section.string(variable, notes)) {
        (Some(file), None) => Some(Secret::File(file)),
        (None, Some(variable)) => Some(Secret::Environment(variable)),
        (Some(_), Some(_)) => {
            notes.add(&at, format!("both {file} and {variable} are given"), "keep one of them");
            None
        }
        (None, None) => {
            let message = format!("'{}' has neither {file} nor {variable}", section.name());
            let hint = format!("{file} = \"/etc/waypost/…\" or {variable} = \"NAME\"");
            notes.add(&at, message, &hint);
            None
        }
    }
}
