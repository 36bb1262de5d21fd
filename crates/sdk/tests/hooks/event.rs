use serde::Deserialize;
use waypost_sdk::prelude::*;

/// Its own section of the configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bounces {}

impl Plugin for Bounces {
    type Config = Bounces;

    fn new(config: Bounces) -> Result<Bounces, String> {
        Ok(config)
    }

    fn interest(&self) -> Interest {
        Interest::default().events(["delivery.*"])
    }
}

impl OnEvents for Bounces {
    fn on_events(&self, _: &CallInfo, events: &[Event]) -> Decision<()> {
        for event in events {
            metrics::count("outcomes", &[Attr::new("kind", event.kind.as_str())], 1);
            if event.kind == "delivery.bounced" {
                log::info!("bounced: {}", event.text);
            }
        }
        Ok(())
    }
}

waypost_sdk::export!(Bounces: events);

#[test]
fn bounces_are_counted_and_told() {
    use waypost_sdk::testing::{Host, call};
    let event = Event {
        kind: "delivery.bounced".to_owned(),
        at_ms: 0,
        message_id: None,
        text: "<b@b.example>".to_owned(),
        ext: Vec::new(),
    };
    let host = Host::new();
    host.run(|| Bounces {}.on_events(&call(), &[event])).unwrap();
    assert_eq!(host.counted("outcomes"), 1);
    assert_eq!(host.logged(), ["bounced: <b@b.example>"]);
}
