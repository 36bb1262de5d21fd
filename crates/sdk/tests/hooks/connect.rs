use serde::Deserialize;
use waypost_sdk::prelude::*;

/// Its own section of the configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Blocklist {
    zone: String,
}

impl Plugin for Blocklist {
    type Config = Blocklist;

    fn new(config: Blocklist) -> Result<Blocklist, String> {
        Ok(config)
    }
}

impl OnConnect for Blocklist {
    /// Grants: `dns`.
    fn on_connect(&self, _: &CallInfo, session: &Session) -> Decision<SessionOutcome> {
        let Some((a, b, c, d)) = octets(&session.client_ip) else {
            return Ok(SessionOutcome::proceed());
        };
        let name = format!("{d}.{c}.{b}.{a}.{}", self.zone);
        if dns::lookup(&name, "a")?.records.is_empty() {
            return Ok(SessionOutcome::proceed());
        }
        Ok(SessionOutcome::refuse(reject("Your address is on a list of ours").status(7, 1))
            .because("listed", format!("{} is in {}", session.client_ip, self.zone)))
    }
}

/// Those of an IPv4 address.
fn octets(ip: &str) -> Option<(&str, &str, &str, &str)> {
    let mut octets = ip.split('.');
    Some((octets.next()?, octets.next()?, octets.next()?, octets.next()?))
}

waypost_sdk::export!(Blocklist: connect);

#[test]
fn who_is_listed_is_refused() {
    use waypost_sdk::testing::{Host, call, session};
    let plugin = Blocklist { zone: "list.example".to_owned() };
    let host = Host::new().dns("1.2.0.192.list.example", "a", ["127.0.0.2"]);
    let said = host.run(|| plugin.on_connect(&call(), &session())).unwrap();
    assert!(matches!(said.verdict, Verdict::Refuse(Refusal::Reject(_))));
    let other = Session { client_ip: "192.0.2.2".to_owned(), ..session() };
    let said = host.run(|| plugin.on_connect(&call(), &other)).unwrap();
    assert!(matches!(said.verdict, Verdict::Proceed));
}
