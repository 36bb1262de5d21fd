use serde_json::{Value, json};
use waypost_sdk::prelude::*;
use waypost_sdk::testing::{Host, call, queued};

use super::{Retry, in_words, jittered, reply};

fn plugin(config: Value) -> Result<Retry, String> {
    let config = serde_json::from_value(config).map_err(|wrong| wrong.to_string())?;
    Retry::new(config)
}

fn result(disposition: &str, said: &str, attempts: u32) -> AttemptResult {
    let reply = reply::sample(said);
    AttemptResult {
        recipients: vec![0],
        disposition: disposition.into(),
        category: "refused".into(),
        phase: "eod".into(),
        reply,
        error: None,
        attempts,
        planned_retry_ms: None,
    }
}

fn attempt(domain: &str, target: &str, results: Vec<AttemptResult>) -> Attempt {
    Attempt {
        message: queued(Some("s@s.example"), &[&format!("r@{domain}"), &format!("q@{domain}")]),
        target: Some(target.into()),
        lane: domain.into(),
        results,
    }
}

fn ask(plugin: &Retry, attempt: &Attempt) -> AttemptOutcome {
    Host::new().run(|| plugin.on_attempt(&call(), attempt)).unwrap()
}

/// One result at a host nobody knows.
fn one(config: Value, disposition: &str, said: &str, attempts: u32) -> AttemptOutcome {
    ask(
        &plugin(config).unwrap(),
        &attempt(
            "r.example",
            "mx.r.example[192.0.2.9]:25",
            vec![result(disposition, said, attempts)],
        ),
    )
}

fn decision(outcome: &AttemptOutcome) -> &AttemptDecision {
    &outcome.groups[0].decision
}

fn minutes(outcome: &AttemptOutcome) -> u64 {
    match decision(outcome) {
        AttemptDecision::RetryAt(moment) => (moment - call().now_ms) / 60_000,
        other => panic!("{other:?}"),
    }
}

fn rule(outcome: &AttemptOutcome) -> &str {
    outcome.groups[0].reasons[0].rule.as_deref().unwrap()
}

const FULL: &str = "452 4.2.2 Mailbox full";
const GREY: &str = "450 4.2.0 Greylisted";
const LISTED: &str = "554 5.7.1 blocked using zen.spamhaus.org";

fn exact() -> Value {
    json!({"jitter": 0})
}

#[test]
fn the_curve_follows_the_kind_and_the_tries() {
    let waits: Vec<u64> = (1..5).map(|n| minutes(&one(exact(), "transient", GREY, n))).collect();
    assert_eq!(waits, [5, 10, 15, 30]);
    let outcome = one(exact(), "transient", FULL, 1);
    assert_eq!((minutes(&outcome), rule(&outcome)), (60, "everybody/full"));
    assert_eq!(outcome.groups[0].reasons[0].code, "mailbox-full");
    assert!(outcome.advice.is_empty());
}

#[test]
fn what_was_delivered_or_unknown_or_wordless_is_left_alone() {
    assert!(one(exact(), "delivered", "250 ok", 1).groups.is_empty());
    assert!(one(exact(), "unknown", "", 1).groups.is_empty());
    assert!(one(exact(), "transient", "", 1).groups.is_empty(), "no reply: the host's plan");
    assert!(one(exact(), "transient", "450 gibberish", 1).groups.is_empty());
}

#[test]
fn refusals_for_now_that_never_change_are_given_up() {
    let unknown = "450 4.1.1 Recipient address rejected: unverified address";
    assert!(matches!(
        decision(&one(exact(), "transient", unknown, 2)),
        AttemptDecision::RetryAt(_)
    ));
    let outcome = one(exact(), "transient", unknown, 3);
    let AttemptDecision::Fail(reply) = decision(&outcome) else { panic!() };
    assert_eq!(reply.enhanced, Some((1, 1)));
    assert!(reply.text.contains("3 tries") && reply.text.contains("unverified"), "{}", reply.text);
    let wordy = one(exact(), "transient", "450 user is over quota", 8);
    let AttemptDecision::Fail(reply) = decision(&wordy) else { panic!() };
    assert_eq!(reply.enhanced, Some((2, 2)), "the kind's own status");
}

#[test]
fn a_refusal_for_good_bounces_and_may_slow_the_lane() {
    let outcome = one(exact(), "permanent", LISTED, 1);
    assert_eq!(
        (decision(&outcome), rule(&outcome)),
        (&AttemptDecision::Proceed, "everybody/block-list")
    );
    assert_eq!((outcome.advice.len(), outcome.advice[0].pause_s), (1, Some(7200)));
    let patient = one(json!({"jitter": 0, "blocks": "retry"}), "permanent", LISTED, 1);
    assert_eq!(minutes(&patient), 60);
    let unknown = one(json!({"blocks": "retry"}), "permanent", "550 5.1.1 no", 1);
    assert_eq!(decision(&unknown), &AttemptDecision::Proceed);
}

#[test]
fn the_provider_is_told_by_host_before_domain() {
    let retry = plugin(exact()).unwrap();
    let said = || {
        vec![result(
            "transient",
            "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred",
            1,
        )]
    };
    let at = |domain: &str, target: &str| {
        let outcome = ask(&retry, &attempt(domain, target, said()));
        rule(&outcome).to_owned()
    };
    assert_eq!(at("a.example", "mta5.am0.yahoodns.net[192.0.2.9]:25"), "yahoo/complaints-long");
    assert_eq!(at("yahoo.com", "relay.a.example:25"), "yahoo/complaints-long");
    assert_eq!(at("a.example", "mx.a.example[192.0.2.9]:25"), "everybody/system-in-words");
    let without = plugin(json!({"without": ["yahoo"]})).unwrap();
    let outcome =
        ask(&without, &attempt("yahoo.com", "mta5.am0.yahoodns.net[192.0.2.9]:25", said()));
    assert_eq!(rule(&outcome), "everybody/system-in-words");
    let silent = plugin(json!({"without": ["yahoo", "everybody"]})).unwrap();
    assert!(ask(&silent, &attempt("yahoo.com", "x[1]:25", said())).groups.is_empty());
    assert!(silent.self_test().is_empty(), "{:?}", silent.self_test());
}

#[test]
fn each_group_of_recipients_has_its_answer_and_the_lane_one_advice() {
    let retry = plugin(exact()).unwrap();
    let mut second = result("transient", "421 too many connections", 1);
    second.recipients = vec![1];
    let results = vec![result("transient", "451 4.7.1 rate limit", 1), second];
    let outcome = ask(&retry, &attempt("r.example", "mx[1]:25", results));
    assert_eq!(outcome.groups.iter().map(|g| g.recipients[0]).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(outcome.advice.len(), 1);
    assert_eq!((outcome.advice[0].max_concurrent, outcome.advice[0].valid_s), (Some(1), 3600));
}

#[test]
fn operators_rules_come_first_and_may_do_anything() {
    let with = |then: Value| json!({"jitter": 0, "rules": [{"id": "mine", "kind": "policy", "when": {"text": ["full"]}, "then": then}]});
    assert_eq!(minutes(&one(with(json!({"wait": "7m"})), "transient", FULL, 1)), 7);
    assert_eq!(minutes(&one(with(json!({"wait": "7m"})), "permanent", FULL, 1)), 7);
    let held = one(with(json!({"hold": "look"})), "permanent", FULL, 1);
    assert_eq!(decision(&held), &AttemptDecision::Hold("look".into()));
    let other =
        one(with(json!({"reroute": {"named": "smart", "source": "b"}})), "transient", FULL, 1);
    let AttemptDecision::Reroute(route) = decision(&other) else { panic!() };
    assert_eq!(
        (route.hops.as_slice(), route.source.as_deref()),
        (&[Hop::Named("smart".into())][..], Some("b"))
    );
    assert!(matches!(
        decision(&one(with(json!({"give-up": true})), "transient", FULL, 1)),
        AttemptDecision::Fail(_)
    ));
    assert_eq!(
        decision(&one(with(json!({"proceed": true})), "transient", FULL, 1)),
        &AttemptDecision::Proceed
    );
    let only_slow = one(with(json!({"slow": {"pause": "1m", "for": "2m"}})), "transient", FULL, 1);
    assert_eq!(
        (decision(&only_slow), only_slow.advice[0].pause_s),
        (&AttemptDecision::Proceed, Some(60))
    );
    let kinds = json!({"jitter": 0, "kinds": {"mailbox-full": {"curve": "mine"}}, "curves": {"mine": ["3m"]}});
    assert_eq!(minutes(&one(kinds, "transient", FULL, 5)), 3);
}

#[test]
fn rules_without_a_reply_read_the_relays_words() {
    let config = json!({"jitter": 0, "rules": [{"id": "down", "kind": "system", "when": {"category": ["unreachable"]}, "then": {"wait": "2m"}}]});
    let mut unreachable = result("transient", "", 1);
    unreachable.category = "unreachable".into();
    let mut attempt = attempt("r.example", "x", vec![unreachable]);
    attempt.target = None;
    assert_eq!(minutes(&ask(&plugin(config).unwrap(), &attempt)), 2);
}

#[test]
fn jitter_is_repeatable_and_stays_within() {
    let spread: Vec<u64> = (0..200).map(|seed| jittered(600_000, 10, seed, "m1")).collect();
    assert!(spread.iter().all(|ms| (540_000..=660_000).contains(ms)));
    assert!(spread.iter().max().unwrap() - spread.iter().min().unwrap() > 100_000);
    assert_eq!(jittered(600_000, 10, 7, "m1"), jittered(600_000, 10, 7, "m1"));
    assert_ne!(jittered(600_000, 10, 7, "m1"), jittered(600_000, 10, 7, "m2"));
    assert_eq!(jittered(600_000, 0, 7, "m1"), 600_000);
}

#[test]
fn bad_configurations_are_refused_with_the_path_of_the_key() {
    let refused = |config: Value, start: &str| {
        let wrong = plugin(config).unwrap_err();
        assert!(wrong.contains(start), "{wrong}");
    };
    let rule = |when: Value, then: Value| json!({"rules": [{"id": "a", "kind": "spam", "when": when, "then": then}]});
    let good = json!({"text": ["x"]});
    refused(json!({"jitter": 60}), "jitter");
    refused(json!({"without": ["nobody"]}), "without: `nobody` is no pack; there are apple");
    refused(json!({"curves": {"a": []}}), "curves.a");
    refused(
        json!({"kinds": {"spam": {"curve": "none"}}}),
        "kinds.spam.curve: `none` is no curve; there are block",
    );
    refused(rule(good.clone(), json!({})), "rules[0].then: it does nothing");
    refused(
        rule(good.clone(), json!({"wait": "1m", "give-up": true})),
        "rules[0].then.give-up: there is `wait`",
    );
    refused(rule(good.clone(), json!({"give-up-after": 0})), "rules[0].then.give-up-after");
    refused(rule(good.clone(), json!({"slow": {"for": "1m"}})), "rules[0].then.slow");
    refused(
        rule(good.clone(), json!({"slow": {"pause": "1m", "for": "2d"}})),
        "rules[0].then.slow.for",
    );
    refused(rule(good.clone(), json!({"reroute": {}})), "rules[0].then.reroute");
    refused(
        rule(good.clone(), json!({"reroute": {"named": "A b"}})),
        "rules[0].then.reroute: `A b`",
    );
    refused(rule(json!({"class": 2}), json!({"wait": "1m"})), "rules[0].when.class");
    refused(rule(json!({"provider": ["nobody"]}), json!({"wait": "1m"})), "rules[0].when.provider");
    refused(rule(json!({"status": ["2.0.0"]}), json!({"wait": "1m"})), "no enhanced status");
    refused(rule(json!({"text": ["*"]}), json!({"wait": "1m"})), "an empty text");
    let two = |first: Value, second: Value| {
        json!({"rules": [
            {"id": "a", "kind": "spam", "when": first},
            {"id": "b", "kind": "spam", "when": second},
        ]})
    };
    refused(two(json!({"class": 4}), json!({"code": [421]})), "rules[1]: never reached");
    refused(
        json!({"rules": [{"id": "a", "kind": "spam", "when": {"text": ["x"]}, "samples": ["550 y"]}]}),
        "caught by no rule",
    );
    refused(
        json!({"rules": [{"id": "a", "kind": "spam", "when": {"text": ["x"]}, "samples": ["y"]}]}),
        "is no reply",
    );
    assert!(plugin(two(json!({"code": [421]}), json!({"class": 4}))).is_ok());
}

#[test]
fn the_self_test_finds_nothing_to_complain_of() {
    assert!(plugin(json!({})).unwrap().self_test().is_empty());
}

#[test]
fn times_are_said_no_shorter_than_they_are() {
    let said = [1, 1000, 119_000, 119_001, 180_001].map(in_words);
    assert_eq!(said, ["1 s", "1 s", "119 s", "2 min", "4 min"]);
}
