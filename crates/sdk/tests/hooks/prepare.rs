use serde::Deserialize;
use waypost_sdk::prelude::*;

/// Its own section of the configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Verp {
    domain: String,
}

impl Plugin for Verp {
    type Config = Verp;

    fn new(config: Verp) -> Result<Verp, String> {
        Ok(config)
    }
}

impl OnPrepare for Verp {
    /// Grants: `edit = { sender = true }`.
    fn on_prepare(&self, _: &CallInfo, delivery: &Delivery) -> Decision<PrepareOutcome> {
        let Queued { sender, recipients, .. } = &delivery.message;
        // Notices are sent from <>, and must stay so.
        let (Some(sender), [recipient]) = (sender, recipients.as_slice()) else {
            return Ok(PrepareOutcome::as_it_is());
        };
        let to = &recipient.address;
        let local = format!("{}+{}={}", sender.local, to.local, to.domain);
        let sender = SenderChange::To(Mailbox::new(local, self.domain.clone()));
        Ok(PrepareOutcome::as_it_is().sender(sender))
    }
}

waypost_sdk::export!(Verp: prepare);

#[test]
fn a_bounce_names_who_it_is_about() {
    use waypost_sdk::testing::{call, queued};
    let plugin = Verp { domain: "bounce.example".to_owned() };
    let delivery = Delivery {
        message: queued(Some("news@a.example"), &["b@b.example"]),
        target: "mx.b.example[192.0.2.2]:25".to_owned(),
        lane: "b.example".to_owned(),
        source: None,
    };
    let said = plugin.on_prepare(&call(), &delivery).unwrap();
    let SenderChange::To(sender) = said.sender else { panic!("it has another sender") };
    assert_eq!(sender.local, "news+b=b.example");
}
