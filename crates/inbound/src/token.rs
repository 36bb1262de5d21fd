//! Bearer tokens: who vouches for them, and what they must say.

mod bearer;
mod claims;
mod introspection;
mod jws;
mod keys;

use std::sync::Arc;
use std::time::Duration;

use waypost_mail::Timestamp;
use waypost_mail::fetch::Fetch;

pub(crate) use bearer::{Bearer, BearerKind, refusal};
pub(crate) use claims::Refused;
pub use claims::TokenRules;
pub use jws::Algorithm;
pub use keys::{KeySet, KeySetError};

use crate::Secret;
use introspection::Introspection;
use keys::Keys;

/// How tokens are checked.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// Who says that a token is good.
    pub issuer: TokenIssuer,
    /// What it must say.
    pub rules: TokenRules,
    /// How long a question to the issuer may take.
    pub timeout: Duration,
}

/// Who says that a token is good.
#[derive(Debug, Clone)]
pub enum TokenIssuer {
    /// Its introspection endpoint is asked about each (RFC 7662).
    Introspection {
        /// The endpoint.
        url: String,
        /// Who we are there.
        client_id: String,
        /// The secret that proves it.
        secret: Secret,
        /// How long a token that was good is taken without asking again; never past its end.
        cache: Duration,
    },
    /// It signs them (RFC 7519), with keys that were read from a file.
    Keys {
        /// The keys.
        keys: KeySet,
        /// The only algorithms taken.
        algorithms: Vec<Algorithm>,
    },
    /// It signs them, with keys that it publishes.
    PublishedKeys {
        /// Where.
        url: String,
        /// The only algorithms taken.
        algorithms: Vec<Algorithm>,
        /// How long the keys are good without looking again.
        refresh: Duration,
    },
}

/// What became of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenResult {
    /// It is this user's.
    Granted(String),
    /// It is nobody's here.
    Refused(Refused),
    /// Nobody knows now; for the log. 454.
    Unavailable(String),
}

/// Checks tokens. Another one is made with other settings, and has forgotten everything.
#[derive(Debug)]
pub(crate) struct Tokens {
    rules: TokenRules,
    issuer: Issuer,
}

#[derive(Debug)]
enum Issuer {
    Asked(Introspection),
    Signing(Keys),
}

impl Tokens {
    pub(crate) fn new(settings: &TokenSettings, fetch: Arc<dyn Fetch>) -> Tokens {
        let timeout = settings.timeout;
        let issuer = match settings.issuer.clone() {
            TokenIssuer::Introspection { url, client_id, secret, cache } => {
                Issuer::Asked(Introspection::new(url, (&client_id, &secret), cache, timeout, fetch))
            }
            TokenIssuer::Keys { keys, algorithms } => {
                Issuer::Signing(Keys::fixed(keys, algorithms))
            }
            TokenIssuer::PublishedKeys { url, algorithms, refresh } => {
                Issuer::Signing(Keys::published(url, algorithms, refresh, timeout, fetch))
            }
        };
        Tokens { rules: settings.rules.clone(), issuer }
    }

    /// The scope that a token must have, for the answer to one that is refused.
    pub(crate) fn scope(&self) -> String {
        self.rules.scope.join(" ")
    }

    /// Whose token this is. `claimed` is whom the peer says it is, if it does.
    pub(crate) async fn check(
        &self,
        token: &str,
        claimed: Option<&str>,
        now: Timestamp,
    ) -> TokenResult {
        let claims = match &self.issuer {
            Issuer::Asked(introspection) => introspection.claims(token, now).await,
            Issuer::Signing(keys) => keys.claims(token).await,
        };
        let (claims, must_end) = match claims {
            Ok(claims) => (claims, matches!(self.issuer, Issuer::Signing(_))),
            Err(NoClaims::Refused(why)) => return TokenResult::Refused(why),
            Err(NoClaims::Unavailable(why)) => return TokenResult::Unavailable(why),
        };
        match self.rules.judge(&claims, must_end, claimed, now) {
            Ok(user) => TokenResult::Granted(user),
            Err(why) => TokenResult::Refused(why),
        }
    }
}

/// Why nobody knows what a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NoClaims {
    Refused(Refused),
    Unavailable(String),
}

impl From<Refused> for NoClaims {
    fn from(refused: Refused) -> NoClaims {
        NoClaims::Refused(refused)
    }
}
