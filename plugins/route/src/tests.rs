use serde_json::{Value, json};
use waypost_sdk::prelude::*;
use waypost_sdk::testing::{Host, call, queued};

use super::Router;

fn plugin(config: Value) -> Result<Router, String> {
    let config = serde_json::from_value(config).map_err(|wrong| wrong.to_string())?;
    Router::new(config)
}

fn rules(rules: Value) -> Router {
    plugin(json!({ "rules": rules })).unwrap()
}

/// What one rule, holding for `held`, does with a message to `r@r.example`.
fn takes(mut rule: Value, message: &Queued) -> bool {
    rule["name"] = json!("r");
    rule["hold"] = json!("held");
    let groups = rules(json!([rule])).on_route(&call(), message).unwrap();
    !groups.is_empty()
}

fn message() -> Queued {
    queued(Some("s@sender.example"), &["r@r.example"])
}

fn hops(group: &RouteGroup) -> &[Hop] {
    match &group.decision {
        RouteDecision::Route(route) => &route.hops,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_condition_takes_what_it_names_and_nothing_else() {
    let mut m = message();
    m.session.identity = Some("acme-1".into());
    m.message.size = 5000;
    m.meta = vec![Attr::new("guard/class", "bulk")];
    m.recipients[0].meta = vec![Attr::new("alias/of", "list")];
    m.message.headers =
        vec![Header { id: 0, name: "X-Class".into(), value: "Bulk mail".into(), lossy: false }];
    for rule in [
        json!({}),
        json!({"recipient": ["r@r.example"]}),
        json!({"recipient": ["x.example", "*@R.example"]}),
        json!({"recipient": ["*.example"]}),
        json!({"sender": ["sender.example"]}),
        json!({"sender": ["<>", "s@*"]}),
        json!({"identity": ["acme-*"]}),
        json!({"listener": ["mx"]}),
        json!({"client": ["192.0.2.0/24"]}),
        json!({"meta": {"guard/class": "bulk", "alias/of": "*"}}),
        json!({"larger-than": "4KB", "smaller-than": "6KB"}),
        json!({"header": [{"name": "x-class", "contains": "BULK"}]}),
        json!({"header": [{"name": "x-class", "glob": "bulk*"}, {"name": "X-Other", "absent": true}]}),
        json!({"header": [{"name": "x-class"}]}),
    ] {
        assert!(takes(rule.clone(), &m), "{rule}");
    }
    for rule in [
        json!({"recipient": ["q@r.example"]}),
        json!({"recipient": ["*.r.example"]}),
        json!({"sender": ["<>"]}),
        json!({"identity": ["beta"]}),
        json!({"listener": ["internal"]}),
        json!({"client": ["2001:db8::/32"]}),
        json!({"meta": {"guard/class": "list"}}),
        json!({"meta": {"guard/none": "*"}}),
        json!({"larger-than": "5000"}),
        json!({"smaller-than": "5000"}),
        json!({"header": [{"name": "x-class", "glob": "bulk"}]}),
        json!({"header": [{"name": "x-class", "absent": true}]}),
        json!({"header": [{"name": "subject"}]}),
        json!({"recipient": ["r@r.example"], "sender": ["other.example"]}),
    ] {
        assert!(!takes(rule.clone(), &m), "{rule}");
    }
}

#[test]
fn the_null_sender_is_a_sender_of_its_own() {
    let notice = queued(None, &["r@r.example"]);
    assert!(takes(json!({"sender": ["<>"]}), &notice));
    assert!(!takes(json!({"sender": ["*"]}), &notice));
}

#[test]
fn the_first_rule_wins_and_equal_decisions_are_one_group() {
    let router = rules(json!([
        {"name": "vip", "recipient": ["v@a.example"], "to": {"named": "vip"}},
        {"name": "a", "recipient": ["a.example"], "to": [{"host": "a.relay.example", "port": 2525}, {"mx": "backup.example"}], "tls": "encrypt"},
        {"name": "none", "recipient": ["gone.example"], "fail": {"text": "Gone", "code": 556, "status": "5.1.10"}},
    ]));
    let to = ["x@a.example", "v@a.example", "y@a.example", "q@gone.example", "z@else.example"];
    let groups = router.on_route(&call(), &queued(Some("s@s"), &to)).unwrap();
    let ids: Vec<&[u32]> = groups.iter().map(|group| group.recipients.as_slice()).collect();
    assert_eq!(ids, [&[1][..], &[0, 2], &[3]], "recipient 4 is left to the configured routes");
    assert_eq!(hops(&groups[0]), [Hop::Named("vip".into())]);
    let host = HostPort { host: "a.relay.example".into(), port: 2525, implicit_tls: false };
    assert_eq!(hops(&groups[1]), [Hop::Host(host), Hop::Mx("backup.example".into())]);
    let RouteDecision::Fail(reply) = &groups[2].decision else { panic!() };
    assert_eq!((reply.code, reply.enhanced), (PermanentCode::R556, Some((1, 10))));
    assert_eq!(
        groups[1].reasons,
        [because("routed", "a.relay.example:2525, the exchangers of backup.example").rule("a")]
    );
}

#[test]
fn lanes_are_made_of_facts() {
    let router = rules(
        json!([{"name": "t", "lane": "{identity}.{domain}", "source": "pool-{listener}", "delay": "10m"}]),
    );
    let mut m = queued(Some("s@s"), &["a@a.example", "b@b.example", "c@a.example"]);
    m.session.identity = Some("Eve@x".into());
    let groups = router.on_route(&call(), &m).unwrap();
    assert_eq!(groups.len(), 2);
    let RouteDecision::Route(route) = &groups[0].decision else { panic!() };
    assert_eq!(
        (route.lane.as_deref(), route.source.as_deref()),
        (Some("eve-x.a.example"), Some("pool-mx"))
    );
    assert_eq!(route.not_before_ms, Some(m.received_ms + 600_000));
    assert!(route.hops.is_empty());
}

#[test]
fn proceed_ends_the_search() {
    let router = rules(json!([
        {"name": "own", "recipient": ["own.example"], "proceed": true},
        {"name": "rest", "to": {"host": "192.0.2.9", "implicit-tls": true}},
    ]));
    let groups = router.on_route(&call(), &queued(None, &["a@own.example", "b@b"])).unwrap();
    assert_eq!((&groups[0].decision, groups[0].recipients[0]), (&RouteDecision::Proceed, 0));
    let host = HostPort { host: "192.0.2.9".into(), port: 465, implicit_tls: true };
    assert_eq!(hops(&groups[1]), [Hop::Host(host)]);
}

#[test]
fn tables_route_many_recipients_by_one_question() {
    let router = rules(json!([
        {"name": "people", "recipient-table": {"name": "people", "by": "address"}, "to": {"named": "{row}"}},
        {"name": "domains", "recipient-table": {"name": "domains", "by": "domain"}, "to": {"host": "{row}", "port": 24}},
    ]));
    let host = Host::new()
        .table("people", [("eve@a.example", "exchange")])
        .table("domains", [("a.example", "h1.example"), ("b.a.example", "h2.example")]);
    let to = ["Eve@a.example", "bob@a.example", "x@c.b.a.example", "y@other.example"];
    let groups = host.run(|| router.on_route(&call(), &queued(None, &to))).unwrap();
    let named = |group: &RouteGroup| match &hops(group)[0] {
        Hop::Named(name) => name.clone(),
        Hop::Host(host) => host.host.clone(),
        Hop::Mx(domain) => domain.clone(),
    };
    let found: Vec<(u32, String)> = groups.iter().map(|g| (g.recipients[0], named(g))).collect();
    assert_eq!(found, [(0, "exchange".into()), (1, "h1.example".into()), (2, "h2.example".into())]);
    assert!(host.run(|| router.self_test()).is_empty());

    let nothing_granted = Host::new();
    let undecided = nothing_granted.run(|| router.on_route(&call(), &queued(None, &to)));
    assert!(undecided.unwrap_err().why().contains("grant"));
    assert_eq!(nothing_granted.run(|| router.self_test()).len(), 2);
}

#[test]
fn thousands_of_recipients_are_a_few_groups() {
    let router = rules(json!([{"name": "a", "recipient": ["*.a.example"], "lane": "a"}]));
    let to: Vec<String> = (0..5000).map(|i| format!("u{i}@d{}.a.example", i % 7)).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let groups = router.on_route(&call(), &queued(None, &to)).unwrap();
    assert_eq!((groups.len(), groups[0].recipients.len()), (1, 5000));
}

#[test]
fn bad_configurations_are_refused_with_the_path_of_the_key() {
    let refused = |rule: Value, start: &str| {
        let mut rule = rule;
        rule["name"] = json!("r");
        let wrong = plugin(
            json!({"rules": [{"name": "ok", "recipient": ["x.example"], "hold": "x"}, rule]}),
        )
        .unwrap_err();
        assert!(wrong.starts_with(start), "{wrong}");
    };
    refused(json!({}), "rules[1].to: the rule decides nothing");
    refused(json!({"hold": "x", "lane": "y"}), "rules[1].hold");
    refused(json!({"to": {"mx": "a", "host": "b"}}), "rules[1].to: a next hop is exactly one");
    refused(json!({"to": {"host": "a b"}}), "rules[1].to.host: `a b`");
    refused(json!({"to": [{"host": "a"}, {"mx": "a", "port": 25}]}), "rules[1].to[1].port");
    refused(json!({"to": {"host": "{identity}"}}), "rules[1].to.host");
    refused(json!({"to": {"host": "{row}"}}), "rules[1].to.host: {row}");
    refused(json!({"to": []}), "rules[1].to: no next hop");
    refused(json!({"lane": "{x}"}), "rules[1].lane");
    refused(json!({"lane": "Lane {domain}"}), "rules[1].lane: `Lane {domain}` is no name");
    refused(json!({"source": ""}), "rules[1].source");
    refused(json!({"to": {"named": "A B"}}), "rules[1].to.named");
    refused(json!({"fail": {"text": "x", "code": 450}}), "rules[1].fail.code");
    refused(json!({"fail": {"text": "x", "status": "4.1.1"}}), "rules[1].fail.status");
    refused(json!({"fail": {"text": " "}}), "rules[1].fail.text");
    refused(json!({"hold": ""}), "rules[1].hold");
    refused(json!({"hold": "x", "recipient": ["<>"]}), "rules[1].recipient");
    refused(
        json!({"hold": "x", "header": [{"name": "a", "glob": "b", "absent": true}]}),
        "rules[1].header[0]",
    );
    refused(
        json!({"hold": "x", "larger-than": "10", "smaller-than": "11"}),
        "rules[1].smaller-than",
    );
    refused(json!({"hold": "x", "recipient": ["y@x.example"]}), "rules[1]: never reached");
    let same =
        json!({"rules": [{"name": "r", "lane": "a", "sender": ["x"]}, {"name": "r", "lane": "b"}]});
    assert!(plugin(same).unwrap_err().starts_with("rules[1].name"));
}

#[test]
fn a_rule_is_hidden_only_by_one_that_takes_all_of_it() {
    let hidden = |first: Value, second: Value| {
        let (mut first, mut second) = (first, second);
        (first["name"], first["hold"]) = (json!("a"), json!("x"));
        (second["name"], second["hold"]) = (json!("b"), json!("y"));
        plugin(json!({"rules": [first, second]})).is_err()
    };
    for (first, second) in [
        (json!({}), json!({"sender": ["<>"]})),
        (json!({"sender": ["*", "<>"]}), json!({})),
        (json!({"client": ["10.0.0.0/8"]}), json!({"client": ["10.1.0.0/16"], "listener": ["mx"]})),
        (json!({"larger-than": "10"}), json!({"larger-than": "20"})),
        (
            json!({"header": [{"name": "a", "contains": "x"}]}),
            json!({"header": [{"name": "A", "glob": "axb*"}]}),
        ),
        (
            json!({"recipient-table": {"name": "t", "by": "domain"}}),
            json!({"recipient-table": {"name": "t", "by": "domain"}}),
        ),
    ] {
        assert!(hidden(first.clone(), second.clone()), "{first} {second}");
    }
    for (first, second) in [
        (json!({"sender": ["*"]}), json!({})),
        (json!({"client": ["10.1.0.0/16"]}), json!({"client": ["10.0.0.0/8"]})),
        (json!({"larger-than": "20"}), json!({"larger-than": "10"})),
        (json!({"header": [{"name": "a", "contains": "x"}]}), json!({"header": [{"name": "a"}]})),
        (json!({"recipient-table": {"name": "t", "by": "domain"}}), json!({})),
        (json!({"meta": {"a/b": "1"}}), json!({"meta": {"a/b": "2"}})),
        (json!({"recipient": ["a.example"]}), json!({"recipient": ["a.example", "b.example"]})),
    ] {
        assert!(!hidden(first.clone(), second.clone()), "{first} {second}");
    }
}

#[test]
fn the_path_of_a_wrong_type_leads_into_the_hop() {
    let text = r#"{"rules":[{"name":"a","to":[{"host":"h"},{"host":7}]}]}"#;
    let mut reader = serde_json::Deserializer::from_str(text);
    let wrong = serde_path_to_error::deserialize::<_, super::Config>(&mut reader).unwrap_err();
    assert_eq!(wrong.path().to_string(), "rules[0].to[1].host");
}
