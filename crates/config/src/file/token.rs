//! Logins by tokens of others.

use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use waypost_inbound::token::Algorithm;
use waypost_mail::fetch::{Origin, Scheme};

use super::{Secret, path, route, span};
use crate::mistake::Notes;
use crate::section::{At, Section};
use crate::units::UnitError;

const URL: &str = "write an https URL; http is for addresses of this machine alone";
const ALGORITHMS: &str = "write RS256, ES256 or EdDSA";

/// `[auth.oauth]`.
#[derive(Debug)]
pub(crate) struct OAuth {
    pub(crate) at: Range<usize>,
    pub(crate) issuer: Issuer,
    pub(crate) made_by: Option<At<String>>,
    pub(crate) audience: Vec<String>,
    pub(crate) scope: Vec<String>,
    pub(crate) user_claim: Option<String>,
    pub(crate) clock_skew: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
}

/// Who says that tokens are good.
#[derive(Debug)]
pub(crate) enum Issuer {
    Introspection { url: String, client_id: String, secret: Secret, cache: Option<Duration> },
    KeysFile { file: At<PathBuf>, algorithms: Vec<Algorithm> },
    KeysUrl { url: String, algorithms: Vec<Algorithm>, refresh: Option<Duration> },
}

/// The URL of a web server that tokens and secrets may be told to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TrustedUrl(String);

impl FromStr for TrustedUrl {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<TrustedUrl, UnitError> {
        let behind = text.find("://").map_or(0, |at| at + 3);
        let end = text[behind..].find('/').map_or(text.len(), |at| behind + at);
        let safe = text[..end].parse::<Origin>().is_ok_and(|origin| {
            origin.scheme == Scheme::Https || origin.ip().is_some_and(|ip| ip.is_loopback())
        });
        let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&b));
        if safe && plain {
            return Ok(TrustedUrl(text.to_owned()));
        }
        Err(UnitError::new(text, "URL that a secret may be sent to"))
    }
}

struct AlgorithmName(Algorithm);

impl FromStr for AlgorithmName {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<AlgorithmName, UnitError> {
        let known = Algorithm::named(text).map(AlgorithmName);
        known.ok_or_else(|| UnitError::new(text, "algorithm that is taken here"))
    }
}

pub(super) fn oauth(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<OAuth> {
    let at = section.at().clone();
    let issuer = issuer(&mut section, notes);
    let texts = |section: &mut Section<'_>, key: &str, notes: &mut Notes<'_>| {
        let list = section.list::<String>(key, "", notes);
        list.map_or_else(Vec::new, |list| list.value.into_iter().map(|text| text.value).collect())
    };
    let made_by = section.string("issuer", notes);
    let audience = texts(&mut section, "audience", notes);
    let scope = texts(&mut section, "scope", notes);
    let user_claim = section.string("user-claim", notes).map(|claim| claim.value);
    let (clock_skew, timeout) =
        (span(&mut section, "clock-skew", notes), span(&mut section, "timeout", notes));
    section.end(notes);
    Some(OAuth { at, issuer: issuer?, made_by, audience, scope, user_claim, clock_skew, timeout })
}

fn issuer(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Option<Issuer> {
    let at = section.at().clone();
    let asked = section.parsed::<TrustedUrl>("introspection", URL, notes);
    let file = path(section, "keys-file", notes);
    let published = section.parsed::<TrustedUrl>("keys-url", URL, notes);
    match (asked, file, published) {
        (Some(url), None, None) => {
            let client_id = section.string("client-id", notes);
            let client_id = section.required("client-id", client_id, "who we are there", notes);
            let secret = route::secret(section, ["client-secret-file", "client-secret-env"], notes);
            let cache = span(section, "cache", notes);
            let (client_id, secret) = (client_id?.value, secret?);
            Some(Issuer::Introspection { url: url.value.0, client_id, secret, cache })
        }
        (None, Some(file), None) => {
            let algorithms = algorithms(section, notes)?;
            Some(Issuer::KeysFile { file, algorithms })
        }
        (None, None, Some(url)) => {
            let (algorithms, refresh) =
                (algorithms(section, notes), span(section, "keys-refresh", notes));
            Some(Issuer::KeysUrl { url: url.value.0, algorithms: algorithms?, refresh })
        }
        _ => {
            let message =
                "'auth.oauth' names not exactly one of introspection, keys-file and keys-url";
            notes.add(&at, message, "tokens are vouched for by one of them");
            None
        }
    }
}

/// There is no default: what an issuer does not use must not be taken.
fn algorithms(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Option<Vec<Algorithm>> {
    let list = section.list::<AlgorithmName>("algorithms", ALGORITHMS, notes);
    let list = section.required("algorithms", list, "algorithms = [\"RS256\"]", notes)?;
    Some(list.value.into_iter().map(|name| name.value.0).collect())
}
