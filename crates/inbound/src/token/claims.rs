//! What a token says, and whether that is enough.

use std::time::Duration;

use serde_json::{Map, Value};
use waypost_mail::Timestamp;

use crate::users::prepare_name;

/// What a token must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRules {
    /// Who made it, `iss`. Absent: anybody that the issuer speaks for.
    pub issuer: Option<String>,
    /// For whom it was made: one of these is in `aud`. Empty: for anybody.
    pub audience: Vec<String>,
    /// All of these are in `scope`.
    pub scope: Vec<String>,
    /// The claim that names the user.
    pub user_claim: String,
    /// How far the issuer's clock may be from ours.
    pub clock_skew: Duration,
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("it is no token of the kind that is taken here")]
    NoToken,
    #[error("the issuer does not vouch for it")]
    Inactive,
    #[error("it is signed by no key that is trusted, or not as it should be")]
    Signature,
    #[error("it has ended or has not begun")]
    Time,
    #[error("it was made by another issuer")]
    Issuer,
    #[error("it was made for others")]
    Audience,
    #[error("it lacks the scope that is asked for")]
    Scope,
    #[error("it names no user, or another than the client does")]
    User,
}

impl Refused {
    /// True for a token that its issuer never made, or does not know any more.
    pub(crate) fn is_a_guess(self) -> bool {
        matches!(self, Refused::NoToken | Refused::Inactive | Refused::Signature)
    }

    /// What the client is told (RFC 7628 §3.2.2, RFC 6750 §3.1).
    pub(crate) fn status(self) -> &'static str {
        match self {
            Refused::Scope => "insufficient_scope",
            _ => "invalid_token",
        }
    }
}

/// A token's claims (RFC 7519 §4), or what introspection says of it (RFC 7662 §2.2).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Claims(pub(super) Map<String, Value>);

impl Claims {
    pub(super) fn parse(json: &[u8]) -> Option<Claims> {
        serde_json::from_slice(json).ok().map(Claims)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// A moment in seconds since 1970, in milliseconds. An error when it is there and is none.
    pub(super) fn moment(&self, name: &str) -> Result<Option<Timestamp>, Refused> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0).ok_or(Refused::Time)?;
        Ok(Some(Timestamp((seconds * 1000.0) as u64)))
    }

    /// One text, or a list of them.
    fn texts(&self, name: &str) -> Vec<&str> {
        match self.0.get(name) {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

impl TokenRules {
    /// The user whom these claims name. `must_end` says that a token without an end is refused.
    pub(super) fn judge(
        &self,
        claims: &Claims,
        must_end: bool,
        claimed: Option<&str>,
        now: Timestamp,
    ) -> Result<String, Refused> {
        let (ends, begins) = (claims.moment("exp")?, claims.moment("nbf")?);
        let ended = match ends {
            Some(ends) => now >= ends.after(self.clock_skew),
            None => must_end,
        };
        if ended || begins.is_some_and(|begins| begins > now.after(self.clock_skew)) {
            return Err(Refused::Time);
        }
        if self.issuer.as_deref().is_some_and(|issuer| claims.text("iss") != Some(issuer)) {
            return Err(Refused::Issuer);
        }
        let audience = claims.texts("aud");
        let meant = |name: &String| audience.contains(&name.as_str());
        if !self.audience.is_empty() && !self.audience.iter().any(meant) {
            return Err(Refused::Audience);
        }
        // `scope` is one text with spaces (RFC 8693 §4.2); some issuers have a list in `scp`.
        let scopes: Vec<&str> = [claims.texts("scope"), claims.texts("scp")].concat();
        let scopes: Vec<&str> = scopes.iter().flat_map(|text| text.split(' ')).collect();
        if !self.scope.iter().all(|wanted| scopes.contains(&wanted.as_str())) {
            return Err(Refused::Scope);
        }
        let user = claims.text(&self.user_claim).and_then(|name| prepare_name(name).ok());
        let user = user.ok_or(Refused::User)?;
        let same = |claimed: &str| {
            prepare_name(claimed).is_ok_and(|claimed| claimed.eq_ignore_ascii_case(&user))
        };
        if !claimed.is_none_or(same) {
            return Err(Refused::User);
        }
        Ok(user)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules() -> TokenRules {
        TokenRules {
            issuer: Some("https://id.example".into()),
            audience: vec!["mail".into(), "relay".into()],
            scope: vec!["send".into()],
            user_claim: "email".into(),
            clock_skew: Duration::from_secs(60),
        }
    }

    /// A good token with this changed, at second 1000.
    fn judged(change: Value) -> Result<String, Refused> {
        let mut claims = json!({
            "iss": "https://id.example", "aud": ["other", "relay"], "scope": "read send",
            "email": "alice@example.org", "exp": 1100, "nbf": 900,
        });
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        let claims = Claims(claims.as_object().unwrap().clone());
        rules().judge(&claims, true, None, Timestamp(1_000_000))
    }

    #[test]
    fn everything_asked_for_must_be_there() {
        assert_eq!(judged(json!({})).as_deref(), Ok("alice@example.org"));
        for (change, expected) in [
            (json!({ "exp": 941 }), Ok(())),
            (json!({ "exp": 940 }), Err(Refused::Time)),
            (json!({ "exp": null }), Err(Refused::Time)),
            (json!({ "exp": "1100" }), Err(Refused::Time)),
            (json!({ "exp": 1e300 }), Ok(())),
            (json!({ "nbf": 1060 }), Ok(())),
            (json!({ "nbf": 1061 }), Err(Refused::Time)),
            (json!({ "nbf": null }), Ok(())),
            (json!({ "iss": "https://id.example/" }), Err(Refused::Issuer)),
            (json!({ "iss": null }), Err(Refused::Issuer)),
            (json!({ "aud": "mail" }), Ok(())),
            (json!({ "aud": "other" }), Err(Refused::Audience)),
            (json!({ "aud": null }), Err(Refused::Audience)),
            (json!({ "scope": "sender" }), Err(Refused::Scope)),
            (json!({ "scope": null, "scp": ["send"] }), Ok(())),
            (json!({ "scope": null }), Err(Refused::Scope)),
            (json!({ "email": null, "sub": "alice" }), Err(Refused::User)),
            (json!({ "email": "a b" }), Err(Refused::User)),
            (json!({ "email": 5 }), Err(Refused::User)),
        ] {
            assert_eq!(judged(change.clone()).map(drop), expected, "{change}");
        }
    }

    #[test]
    fn the_client_names_the_same_user_or_nobody() {
        let claims = json!({ "sub": "alice@example.org" });
        let claims = Claims(claims.as_object().unwrap().clone());
        let rules = TokenRules {
            issuer: None,
            audience: Vec::new(),
            scope: Vec::new(),
            user_claim: "sub".into(),
            clock_skew: Duration::ZERO,
        };
        let judge = |claimed| rules.judge(&claims, false, claimed, Timestamp(0));
        assert!(judge(None).is_ok() && judge(Some("Alice@Example.org")).is_ok());
        assert_eq!(judge(Some("bob@example.org")), Err(Refused::User));
    }
}
