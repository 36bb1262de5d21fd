use serde::Deserialize;
use waypost_sdk::prelude::*;

/// Its own section of the configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tokens {
    secret: String,
}

impl Plugin for Tokens {
    type Config = Tokens;

    fn new(config: Tokens) -> Result<Tokens, String> {
        Ok(config)
    }
}

impl OnAuth for Tokens {
    /// Grants: `auth`, and `secrets` for the one that is named.
    ///
    /// A password of an application is the HMAC of its name: nothing is kept for any of them.
    fn on_auth(
        &self,
        _: &CallInfo,
        _: &Session,
        credentials: &Credentials,
    ) -> Decision<AuthDecision> {
        if !credentials.authcid.starts_with("app-") {
            return Ok(AuthDecision::Proceed);
        }
        let token = secrets::hmac_sha256(&self.secret, credentials.authcid.as_bytes())?;
        let token: String = token.iter().map(|octet| format!("{octet:02x}")).collect();
        if credentials.secret == token {
            return Ok(AuthDecision::Allow(credentials.authcid.clone()));
        }
        Ok(AuthDecision::Deny(reject("Wrong name or token").code(PermanentCode::R535).into()))
    }
}

waypost_sdk::export!(Tokens: auth);

#[test]
fn a_wrong_token_is_denied_and_others_are_for_the_next() {
    use waypost_sdk::testing::{Host, call, session};
    let plugin = Tokens { secret: "apps".to_owned() };
    let host = Host::new().secret("apps", b"key");
    let ask = |authcid: &str| {
        let credentials = Credentials {
            mechanism: "PLAIN".to_owned(),
            authzid: None,
            authcid: authcid.to_owned(),
            secret: "wrong".to_owned(),
        };
        host.run(|| plugin.on_auth(&call(), &session(), &credentials)).unwrap()
    };
    assert!(matches!(ask("app-shop"), AuthDecision::Deny(_)));
    assert!(matches!(ask("anna"), AuthDecision::Proceed));
}
