use serde::Deserialize;
use waypost_sdk::prelude::*;

/// Its own section of the configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnName {
    name: String,
}

impl Plugin for OwnName {
    type Config = OwnName;

    fn new(config: OwnName) -> Result<OwnName, String> {
        Ok(config)
    }
}

impl OnHelo for OwnName {
    fn on_helo(&self, _: &CallInfo, session: &Session) -> Decision<SessionOutcome> {
        let helo = session.helo.as_deref().unwrap_or_default();
        if session.may_relay || !helo.eq_ignore_ascii_case(&self.name) {
            return Ok(SessionOutcome::proceed());
        }
        Ok(SessionOutcome::disconnect(reject("That is my name"))
            .because("own-name", format!("{} says it is {helo}", session.client_ip)))
    }
}

waypost_sdk::export!(OwnName: helo);

#[test]
fn nobody_else_has_our_name() {
    use waypost_sdk::testing::{call, session};
    let plugin = OwnName { name: "CLIENT.example".to_owned() };
    let said = plugin.on_helo(&call(), &session()).unwrap();
    assert!(matches!(said.verdict, Verdict::Disconnect(_)));
}
