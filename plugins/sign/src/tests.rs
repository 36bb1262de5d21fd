use serde_json::{Value, json};
use waypost_sdk::prelude::*;
use waypost_sdk::testing::{Host, call, envelope, session};

use super::Sign;

fn plugin(config: Value) -> Result<Sign, String> {
    let config = serde_json::from_value(config).map_err(|wrong| wrong.to_string())?;
    Sign::new(config)
}

fn one_rule(mut rule: Value) -> Value {
    let defaults = json!({"name": "r", "signatures": [{"selector": "s1", "key": "k"}]});
    for (key, value) in defaults.as_object().unwrap() {
        if rule.get(key).is_none()
            && !(key == "signatures" && (rule.get("table").is_some() || rule.get("skip").is_some()))
        {
            rule[key] = value.clone();
        }
    }
    json!({"rules": [rule]})
}

fn submitter() -> Session {
    Session { identity: Some("eve".into()), may_relay: true, ..session() }
}

fn ask(config: Value, session: &Session, head: &str) -> MessageOutcome {
    ask_host(Host::new(), config, session, head).unwrap()
}

fn ask_host(host: Host, config: Value, session: &Session, head: &str) -> Decision<MessageOutcome> {
    let plugin = plugin(config).unwrap();
    let host = host.message(format!("{head}\n\nbody\n"));
    let info = host.message_info(&plugin.interest());
    let (call, envelope) = (call(), envelope(Some("e@a.example"), &["x@y.example"]));
    let asked = Asked { call: &call, session, envelope: &envelope };
    host.run(|| plugin.on_message(&asked, &info))
}

fn signed(outcome: &MessageOutcome) -> Vec<String> {
    let what = |edit: &MessageEdit| match edit {
        MessageEdit::Sign(request) => {
            format!("{} {} {}", request.domain, request.selector, request.key)
        }
        other => panic!("{other:?}"),
    };
    outcome.edits.iter().map(what).collect()
}

fn codes(outcome: &MessageOutcome) -> Vec<&str> {
    outcome.reasons.iter().map(|reason| reason.code.as_str()).collect()
}

const FROM: &str = "From: Eve <eve@a.example>";

#[test]
fn who_submits_is_signed_for_and_strangers_are_not() {
    let config = one_rule(json!({"from": ["a.example"]}));
    let outcome = ask(config.clone(), &submitter(), FROM);
    assert_eq!(signed(&outcome), ["a.example s1 k"]);
    assert_eq!(outcome.reasons, [because("signed", "a.example by s1").rule("r")]);
    let outcome = ask(config.clone(), &session(), FROM);
    assert_eq!((signed(&outcome).len(), codes(&outcome)), (0, vec!["no-rule"]));
    let notice = Session { listener: "internal".into(), ..session() };
    assert_eq!(signed(&ask(config, &notice, FROM)).len(), 1);
}

#[test]
fn only_if_can_be_narrower_or_wider() {
    let network = Session { may_relay: true, ..session() };
    let narrow = one_rule(json!({"only-if": ["authenticated"]}));
    assert!(signed(&ask(narrow.clone(), &network, FROM)).is_empty());
    assert_eq!(signed(&ask(narrow, &submitter(), FROM)).len(), 1);
    let wide = one_rule(json!({"only-if": ["anybody"]}));
    assert_eq!(signed(&ask(wide, &session(), FROM)).len(), 1);
    let none = one_rule(json!({"only-if": []}));
    assert!(signed(&ask(none, &submitter(), FROM)).is_empty());
}

#[test]
fn domains_exact_relaxed_and_wild() {
    let sub = "From: e@x.Mail.a.example";
    let of = |rule: Value, head: &str| signed(&ask(one_rule(rule), &submitter(), head));
    assert!(of(json!({"from": ["a.example"]}), sub).is_empty());
    assert_eq!(of(json!({"from": ["a.example"], "relaxed": true}), sub), ["a.example s1 k"]);
    assert_eq!(
        of(json!({"from": ["a.example", "mail.a.example"], "relaxed": true}), sub),
        ["mail.a.example s1 k"]
    );
    assert!(of(json!({"from": ["a.example"], "relaxed": true}), "From: e@ba.example").is_empty());
    assert_eq!(of(json!({"from": ["*.a.example"]}), sub), ["x.mail.a.example s1 k"]);
    assert_eq!(of(json!({}), "From: e@anything.example"), ["anything.example s1 k"]);
    let fixed = json!({"from": ["*"], "signatures": [{"domain": "esp.example", "selector": "e", "key": "k2"}]});
    assert_eq!(of(fixed, sub), ["esp.example e k2"]);
}

#[test]
fn two_signatures_with_their_fields_and_lifetime() {
    let config = one_rule(json!({
        "signatures": [{"selector": "rsa", "key": "k-rsa"}, {"selector": "ed", "key": "k-ed"}],
        "headers": ["From", "Subject"], "oversign": ["From"], "expire": "7d",
    }));
    let outcome = ask(config, &submitter(), FROM);
    assert_eq!(signed(&outcome), ["a.example rsa k-rsa", "a.example ed k-ed"]);
    let MessageEdit::Sign(request) = &outcome.edits[1] else { panic!() };
    assert_eq!(request.headers, ["From", "Subject"]);
    assert_eq!((request.oversign.len(), request.expire_after_s), (1, Some(604_800)));
}

#[test]
fn tenants_by_identity_metadata_and_network() {
    let config = json!({"rules": [
        {"name": "acme", "identity": ["acme-*"], "signatures": [{"selector": "acme", "key": "a"}]},
        {"name": "tag", "meta": {"guard/tenant": "beta"}, "signatures": [{"selector": "beta", "key": "b"}]},
        {"name": "net", "client": ["192.0.2.0/24"], "signatures": [{"selector": "net", "key": "n"}]},
    ]});
    let acme = Session { identity: Some("acme-7".into()), ..submitter() };
    assert_eq!(signed(&ask(config.clone(), &acme, FROM)), ["a.example acme a"]);
    let beta = Session { meta: vec![Attr::new("guard/tenant", "beta")], ..submitter() };
    assert_eq!(signed(&ask(config.clone(), &beta, FROM)), ["a.example beta b"]);
    assert_eq!(signed(&ask(config.clone(), &submitter(), FROM)), ["a.example net n"]);
    let far = Session { client_ip: "2001:db8::1".into(), ..submitter() };
    assert!(signed(&ask(config, &far, FROM)).is_empty());
}

#[test]
fn what_is_signed_already_is_not_signed_again() {
    let config = one_rule(json!({}));
    let of = |field: &str| {
        let outcome = ask(config.clone(), &submitter(), &format!("{field}\n{FROM}"));
        (signed(&outcome).len(), outcome.reasons[0].code.clone())
    };
    let ours = "DKIM-Signature: v=1; a=rsa-sha256; d=A.example;\n\ts=s1; bh=abc=; b=d\n ef=";
    assert_eq!(of(ours), (0, "already-signed".into()));
    for other in [
        "DKIM-Signature: v=1; d=b.example; s=s1; bh=abc=; b=def=",
        "DKIM-Signature: v=1; d=a.example; s=s2; bh=abc=; b=def=",
        "DKIM-Signature: v=1; d=a.example; s=s1; bh=abc=; b=",
        "X-DKIM-Signature: v=1; d=a.example; s=s1; bh=abc=; b=def=",
    ] {
        assert_eq!(of(other), (1, "signed".into()), "{other}");
    }
}

#[test]
fn rules_that_skip_end_the_search() {
    let config = json!({"rules": [
        {"name": "not-this", "from": ["a.example"], "skip": true},
        {"name": "all", "signatures": [{"selector": "s", "key": "k"}]},
    ]});
    let outcome = ask(config.clone(), &submitter(), FROM);
    assert_eq!(outcome.reasons[0].rule.as_deref(), Some("not-this"));
    assert!(signed(&outcome).is_empty());
    assert_eq!(signed(&ask(config, &submitter(), "From: b@b.example")).len(), 1);
}

#[test]
fn what_nothing_signs_is_refused_when_asked_for() {
    let mut config = one_rule(json!({"from": ["b.example"]}));
    config["otherwise"] = json!("refuse");
    config["refusal"] = json!("Not ours");
    let outcome = ask(config.clone(), &submitter(), FROM);
    let MessageVerdict::Refuse(Refusal::Reject(reply)) = &outcome.verdict else { panic!() };
    assert_eq!((reply.text.as_str(), reply.enhanced), ("Not ours", Some((7, 1))));
    assert_eq!(codes(&outcome), ["no-rule"]);
    assert_eq!(codes(&ask(config, &submitter(), "Subject: x")), ["no-from"]);
}

#[test]
fn several_authors_are_refused_when_asked_for() {
    let mut config = one_rule(json!({}));
    config["several-authors"] = json!("refuse");
    let outcome = ask(config, &submitter(), "From: a@a.example, b@b.example");
    assert!(matches!(outcome.verdict, MessageVerdict::Refuse(Refusal::Reject(_))));
}

#[test]
fn tables_know_many_domains() {
    let rows = [("a.example", "s1:k1 s2:k2"), ("broken.example", "s1"), ("c.example", "")];
    let host = || Host::new().table("domains", rows);
    let config = |relaxed: bool| one_rule(json!({"table": "domains", "relaxed": relaxed}));
    let of = |relaxed: bool, from: &str| {
        ask_host(host(), config(relaxed), &submitter(), &format!("From: e@{from}"))
            .map(|o| signed(&o))
    };
    assert_eq!(of(false, "a.example").unwrap(), ["a.example s1 k1", "a.example s2 k2"]);
    assert!(of(false, "x.a.example").unwrap().is_empty());
    assert_eq!(of(true, "x.a.example").unwrap(), ["a.example s1 k1", "a.example s2 k2"]);
    assert!(of(true, "other.example").unwrap().is_empty());
    assert!(of(true, "broken.example").unwrap_err().why().contains("broken.example"));
    assert!(of(true, "c.example").is_err());
    let denied = ask_host(Host::new(), config(false), &submitter(), FROM);
    assert!(denied.unwrap_err().why().contains("grant"));
    let plugin = plugin(config(false)).unwrap();
    assert_eq!(host().run(|| plugin.self_test()), [""; 0]);
    assert!(Host::new().run(|| plugin.self_test())[0].contains("`domains`"));
}

#[test]
fn bad_configurations_are_refused_with_the_path_of_the_key() {
    let refused = |config: Value, start: &str| {
        let wrong = plugin(config).unwrap_err();
        assert!(wrong.starts_with(start), "{wrong}");
    };
    refused(one_rule(json!({"signatures": []})), "rules[0].signatures");
    refused(one_rule(json!({"headers": ["Subject"]})), "rules[0].headers: `from`");
    refused(one_rule(json!({"oversign": ["a:b"]})), "rules[0].oversign");
    refused(
        one_rule(json!({"signatures": [{"selector": "a b", "key": "k"}]})),
        "rules[0].signatures[0].selector",
    );
    refused(
        one_rule(json!({"signatures": [{"selector": "a", "key": ""}]})),
        "rules[0].signatures[0].key",
    );
    refused(
        one_rule(
            json!({"signatures": [{"selector": "a", "key": "k"}, {"selector": "a", "key": "l"}]}),
        ),
        "rules[0].signatures[1].selector",
    );
    refused(one_rule(json!({"skip": true, "table": "t"})), "rules[0].skip");
    refused(one_rule(json!({"name": ""})), "rules[0].name");
    refused(json!({"refusal": "x"}), "refusal");
    let rule = |name: &str, from: Value| json!({"name": name, "from": from, "signatures": [{"selector": "s", "key": "k"}]});
    refused(
        json!({"rules": [rule("a", json!(["*.a.example"])), rule("b", json!(["x.a.example"]))]}),
        "rules[1]: never reached",
    );
    refused(
        json!({"rules": [rule("a", json!([])), rule("b", json!(["x.a.example"]))]}),
        "rules[1]: never reached",
    );
    refused(
        json!({"rules": [rule("a", json!(["a.example"])), rule("a", json!(["b.example"]))]}),
        "rules[1].name",
    );
    assert!(
        plugin(
            json!({"rules": [rule("a", json!(["a.example"])), rule("b", json!(["*.a.example"]))]})
        )
        .is_ok()
    );
    assert!(plugin(json!({"rulez": []})).unwrap_err().contains("unknown field `rulez`"));
}
