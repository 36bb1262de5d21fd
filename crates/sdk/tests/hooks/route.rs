use serde::Deserialize;
use waypost_sdk::prelude::*;

/// Its own section of the configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Customers {
    table: String,
}

impl Plugin for Customers {
    type Config = Customers;

    fn new(config: Customers) -> Result<Customers, String> {
        Ok(config)
    }
}

impl OnRoute for Customers {
    /// Grants: `tables` for the one with the hosts of domains.
    fn on_route(&self, _: &CallInfo, message: &Queued) -> Decision<Vec<RouteGroup>> {
        let mut decided = Vec::new();
        for recipient in &message.recipients {
            let found = tables::get_domain(&self.table, &recipient.address.domain)?;
            let Some((domain, host)) = found else { continue };
            let hop = Hop::Host(HostPort { host, port: 25, implicit_tls: false });
            let route = Route { hops: vec![hop], tls: TlsPolicy::Verify, ..Route::default() };
            let reasons = vec![because("customer", domain)];
            decided.push((recipient.id, RouteDecision::Route(route), reasons));
        }
        // Recipients with the same way travel together; who is not decided about takes the next.
        Ok(waypost_sdk::group_routes(decided))
    }
}

waypost_sdk::export!(Customers: route);

#[test]
fn domains_below_take_the_same_way() {
    use waypost_sdk::testing::{Host, call, queued};
    let plugin = Customers { table: "customers".to_owned() };
    let host = Host::new().table("customers", [("a.example", "mail.a.example")]);
    let message = queued(None, &["x@a.example", "y@b.example", "z@sub.a.example"]);
    let groups = host.run(|| plugin.on_route(&call(), &message)).unwrap();
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].recipients, [0, 2]);
}
