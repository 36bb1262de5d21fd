//! From the model to how users log in.

use std::fs;
use std::time::Duration;

use waypost_inbound::token::{KeySet, TokenIssuer, TokenRules};
use waypost_inbound::{
    AuthSettings, CertificateLogins, FailureRules, Secret, SenderRule, SenderRules, TokenSettings,
    Wildcard,
};

use crate::file::{AuthSection, File, Issuer, OAuth};
use crate::mistake::Notes;
use crate::secret;

/// How long an answer about a token is good.
const CACHE: Duration = Duration::from_secs(60);
/// How long published keys are good.
const REFRESH: Duration = Duration::from_secs(600);
/// How far an issuer's clock may be from ours.
const SKEW: Duration = Duration::from_secs(60);
/// How long an issuer may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Nothing when something that is named in the file cannot be used.
pub(super) fn auth(file: &File, notes: &mut Notes<'_>) -> Option<AuthSettings> {
    let tokens = match &file.auth.oauth {
        Some(oauth) => Some(tokens(oauth, notes)?),
        None => None,
    };
    Some(AuthSettings {
        scram_sha_1: file.auth.scram_sha_1,
        policy: file.asks_policy_about_passwords(),
        tokens,
        certificates: certificates(&file.auth),
        senders: senders(&file.auth),
        failures: failures(&file.auth),
    })
}

fn tokens(oauth: &OAuth, notes: &mut Notes<'_>) -> Option<TokenSettings> {
    let issuer = match &oauth.issuer {
        Issuer::Introspection { url, client_id, secret, cache } => TokenIssuer::Introspection {
            url: url.clone(),
            client_id: client_id.clone(),
            secret: Secret::new(secret::read(secret, notes)?),
            cache: cache.unwrap_or(CACHE),
        },
        Issuer::KeysFile { file, algorithms } => {
            let read = fs::read(&file.value).map_err(|error| error.to_string());
            let keys = read.and_then(|json| KeySet::parse(&json).map_err(|e| e.to_string()));
            match keys {
                Ok(keys) => TokenIssuer::Keys { keys, algorithms: algorithms.clone() },
                Err(problem) => {
                    let message = format!("{} cannot be used: {problem}", file.value.display());
                    notes.add(&file.at, message, "a JSON Web Key Set with public keys (RFC 7517)");
                    return None;
                }
            }
        }
        Issuer::KeysUrl { url, algorithms, refresh } => TokenIssuer::PublishedKeys {
            url: url.clone(),
            algorithms: algorithms.clone(),
            refresh: refresh.unwrap_or(REFRESH),
        },
    };
    let usual_claim = match issuer {
        TokenIssuer::Introspection { .. } => "username",
        TokenIssuer::Keys { .. } | TokenIssuer::PublishedKeys { .. } => "sub",
    };
    let rules = TokenRules {
        issuer: oauth.made_by.as_ref().map(|issuer| issuer.value.clone()),
        audience: oauth.audience.clone(),
        scope: oauth.scope.clone(),
        user_claim: oauth.user_claim.clone().unwrap_or_else(|| usual_claim.to_owned()),
        clock_skew: oauth.clock_skew.unwrap_or(SKEW),
    };
    Some(TokenSettings { issuer, rules, timeout: oauth.timeout.unwrap_or(TIMEOUT) })
}

fn certificates(auth: &AuthSection) -> CertificateLogins {
    let owners = auth.certificates.iter();
    CertificateLogins {
        rules: owners.map(|o| (o.certificate.value.clone(), o.user.clone())).collect(),
        by_address: auth.certificate_address.as_ref().is_some_and(|yes| yes.value),
    }
}

fn senders(auth: &AuthSection) -> SenderRules {
    let rules = auth.senders.iter().map(|given| SenderRule {
        users: given.users.iter().cloned().map(Wildcard).collect(),
        may: given.may.clone(),
    });
    let rules = rules.collect();
    SenderRules { free: auth.free_senders, from_field: auth.from_field, rules }
}

fn failures(auth: &AuthSection) -> FailureRules {
    let (given, usual) = (&auth.failures, FailureRules::default());
    let delay = given.delay.unwrap_or(usual.delay);
    FailureRules {
        delay,
        max_delay: given.max_delay.as_ref().map_or(usual.max_delay.max(delay), |max| max.value),
        ban_after: given.ban_after.unwrap_or(usual.ban_after),
        window: given.window.unwrap_or(usual.window),
        ban: given.ban.unwrap_or(usual.ban),
        never_ban: given.never_ban.clone(),
    }
}
