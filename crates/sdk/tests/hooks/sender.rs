use serde::Deserialize;
use waypost_sdk::prelude::*;

/// Its own section of the configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnSenders {
    domains: Vec<String>,
}

impl Plugin for OwnSenders {
    type Config = OwnSenders;

    fn new(config: OwnSenders) -> Result<OwnSenders, String> {
        Ok(config)
    }
}

impl OnSender for OwnSenders {
    fn on_sender(&self, asked: &Asked<'_>) -> Decision<SessionOutcome> {
        let Some(sender) = &asked.envelope.sender else { return Ok(SessionOutcome::proceed()) };
        if asked.session.may_relay || !self.domains.contains(&sender.domain) {
            return Ok(SessionOutcome::proceed());
        }
        Ok(SessionOutcome::refuse(reject("Log in to send as one of us").status(7, 1))
            .because("forged", format!("{} from outside", sender.domain)))
    }
}

waypost_sdk::export!(OwnSenders: sender);

#[test]
fn strangers_do_not_send_as_us() {
    use waypost_sdk::testing::{call, envelope, session};
    let plugin = OwnSenders { domains: vec!["ours.example".to_owned()] };
    let (call, session) = (call(), session());
    let ask = |sender| {
        let envelope = envelope(sender, &[]);
        let asked = Asked { call: &call, session: &session, envelope: &envelope };
        plugin.on_sender(&asked).unwrap().verdict
    };
    assert!(matches!(ask(Some("a@ours.example")), Verdict::Refuse(_)));
    assert!(matches!(ask(None), Verdict::Proceed));
}
