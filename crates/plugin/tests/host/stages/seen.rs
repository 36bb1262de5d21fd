//! What each stage is told.

use serde_json::json;
use waypost_hooks::{AuthDecision, EventKind, Hop, Remedy, RouteDecision, SenderChange};
use waypost_mail::{Attr, Timestamp};
use waypost_plugin::{Access, PluginConfig, Stage};

use crate::testbed::mail::{facts, letter};
use crate::testbed::{Bed, NOON, witness};

fn all(config: serde_json::Value) -> PluginConfig {
    let mut plugin = witness("w", config);
    plugin.grants.auth = true;
    plugin.grants.kv.insert("witness".to_owned(), Access::Write);
    plugin.grants.edit.sender = true;
    plugin
}

const SESSION: &str = "saw: session mx 192.0.2.7:4711 192.0.2.25:25 helo Some(\"client.example\") \
                       esmtp true tls Some(\"1.3 TLS_AES_128_GCM_SHA256 None\") identity None \
                       relay false meta ";

#[tokio::test]
async fn sessions() {
    let script = json!({"verdict": "450 not now", "delay_ms": 1500, "meta": [["key", "value"]]});
    let mut bed = Bed::with([all(json!({"answers": {"connect": script, "helo": script}}))]).await;
    for stage in [Stage::Connect, Stage::Helo] {
        let answer = bed.ask(stage, "mx").await.unwrap();
        assert!(answer.contains("450") && answer.contains("1.5s"), "{answer}");
        assert!(answer.contains("w/key") && answer.contains("not now"), "{answer}");
        let reasons = bed.reasons();
        let call = format!("saw: generation 1 now {} budget 5000 dry-run false", NOON.0);
        assert_eq!(reasons, [call, SESSION.to_owned()]);
    }
}

#[tokio::test]
async fn logins() {
    let script = json!({"identity": "alice"});
    let mut plugin = all(json!({"answers": {"auth": script}}));
    let bed = Bed::with([plugin.clone()]).await;
    let answer = bed.auth(&facts("mx")).await.unwrap();
    assert_eq!(answer, AuthDecision::Allow("alice".to_owned()));
    // Told by what it kept: never the password, of which the test guest keeps the length.
    bed.policy.flush().await.unwrap();
    let kept = ledger(&bed).await;
    assert!(kept.iter().any(|row| row.contains("PLAIN None somebody 8")), "{kept:?}");
    assert!(!kept.iter().any(|row| row.contains("a secret")));
    // Without the grant it is not even asked.
    plugin.grants.auth = false;
    let bed = Bed::with([plugin]).await;
    assert_eq!(bed.auth(&facts("mx")).await.unwrap(), AuthDecision::Proceed);
    let plugin = all(json!({"answers": {"auth": {"verdict": "535 no"}}}));
    let bed = Bed::with([plugin]).await;
    assert!(matches!(bed.auth(&facts("mx")).await.unwrap(), AuthDecision::Deny(_)));
}

async fn ledger(bed: &Bed) -> Vec<String> {
    use waypost_mail::Ledger as _;
    let rows = bed.ledger.list("plugin-kv/", usize::MAX, bed.now()).await.unwrap();
    rows.into_iter().map(|(_, value)| String::from_utf8_lossy(&value[8..]).into_owned()).collect()
}

#[tokio::test]
async fn senders() {
    let plugin = all(json!({"answers": {"sender": {"sender": "<>", "meta": [["k", "v"]]}}}));
    let mut bed = Bed::with([plugin]).await;
    let (answer, change) = bed.sender(&facts("mx")).await.unwrap();
    assert_eq!(change, SenderChange::To(waypost_smtp::ReversePath::Null));
    assert_eq!(answer.meta, [Attr { name: "w/k".into(), value: "v".into() }]);
    assert_eq!(
        bed.reasons()[1],
        "saw: envelope id false sender sender@sender.example size Some(1234) utf8 false body \
         8bitmime count 0 meta "
    );
}

#[tokio::test]
async fn recipients_are_answered_one_by_one() {
    use waypost_hooks::Verdict;
    let script = json!({"recipients": [["one", "550 no such user"], ["two", "450 later"]]});
    let mut bed = Bed::with([all(json!({"answers": {"recipients": script}}))]).await;
    let to = ["one@example.org", "two@example.org", "three@example.org"];
    let answers = bed.recipients(&facts("mx"), &to).await.unwrap();
    let codes: Vec<u16> = answers
        .iter()
        .map(|answer| match &answer.verdict {
            Verdict::Refuse(refusal) => refusal.reply().code.get(),
            _ => 0,
        })
        .collect();
    assert_eq!(codes, [550, 450, 0]);
    let reasons = bed.reasons();
    assert_eq!(reasons[0], SESSION);
    assert_eq!(
        reasons[2..],
        [
            "saw: recipient 0 one@example.org meta ",
            "saw: recipient 1 two@example.org meta ",
            "saw: recipient 2 three@example.org meta ",
        ]
    );
}

#[tokio::test]
async fn messages() {
    let mut bed = Bed::with([all(json!({"headers": ["subject", "RECEIVED"]}))]).await;
    bed.message(&facts("mx"), &letter()).await.unwrap();
    assert_eq!(
        bed.reasons(),
        [
            "saw: envelope id true sender sender@sender.example size Some(1234) utf8 false body 8bitmime \
         count 2 meta ",
            "saw: message size 70 fields 3 hops 1 headers 0=Received=by a|1=Subject=a subject",
            "saw: recipient 0 one@example.org meta ",
            "saw: recipient 1 two@example.org meta ",
        ]
    );
}

#[tokio::test]
async fn routes_copies_and_attempts() {
    let hops = json!([["one", "relay.example", 2525]]);
    let config = json!({"headers": ["*"], "answers": {
        "route": {"hops": hops},
        "prepare": {"add": [["X-Copy", "yes"]], "sender": "bounce@verp.example"},
        "attempt": {"until": 4711, "advice": ["example.org", 60]},
    }});
    let mut bed = Bed::with([all(config)]).await;
    let (facts, letter) = (facts("mx"), letter());
    let groups = bed.route(&facts, &letter).await.unwrap();
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].recipients, [0]);
    let RouteDecision::Route(way) = &groups[0].decision else { panic!("{groups:?}") };
    let hop = Hop::Host { host: "relay.example".into(), port: 2525, implicit_tls: false };
    assert_eq!((&way.hops[..], way.tls), (&[hop][..], None));
    let saw = bed.reasons();
    assert!(saw[0].contains("expires None sender sender@sender.example meta "), "{saw:?}");
    assert!(saw[1].contains("2=X-A=one"), "{saw:?}");

    let copy = bed.prepare(&facts, &letter).await.unwrap();
    assert_eq!(copy.add_headers, [("X-Copy".to_owned(), "yes".to_owned())]);
    assert!(matches!(copy.sender, SenderChange::To(path) if path.to_string().contains("verp")));
    let saw = bed.reasons();
    assert!(saw[0].contains(&format!("expires Some({}) ", NOON.0 + 1000)), "{saw:?}");
    assert!(saw[0].ends_with("meta other/key=value"), "{saw:?}");
    assert_eq!(saw[4], "saw: mx.example.org[192.0.2.1]:25 example.org Some(\"pool\")");

    let answer = bed.attempt(&facts, &letter).await.unwrap();
    let again = Remedy::RetryAt(Timestamp(4711));
    assert_eq!(answer.remedies, [(0, again.clone()), (1, again)]);
    assert_eq!(answer.advice[0].destination, "example.org");
    let saw = bed.reasons();
    assert_eq!(saw[4], "saw: Some(\"mx.example.org[192.0.2.1]:25\") example.org");
    assert_eq!(
        saw[5],
        format!(
            "saw: result [0, 1] transient refused rcpt reply Some(\"450 Some((4, 2, 1)) later\") \
             error None attempts 3 planned Some({})",
            NOON.0
        )
    );
}

/// Events come to who wants them; a batch has an end.
#[tokio::test]
async fn events_by_interest() {
    use waypost_hooks::{Event, Hooks as _};
    let mut bed = Bed::with([all(json!({"events": ["delivery.*", "message.refused"]}))]).await;
    for kind in [EventKind::SessionOpened, EventKind::MessageAccepted, EventKind::SessionClosed] {
        bed.event(kind, "unwanted").await;
    }
    assert_eq!(bed.decisions().len(), 0);
    bed.event(EventKind::Bounced, "wanted").await;
    bed.event(EventKind::MessageRefused, "wanted too").await;
    assert_eq!(bed.decisions().len(), 2);
    let event = Event { kind: EventKind::Delivered, at: NOON, message: None, text: "x".to_owned() };
    bed.answers.on_events(&vec![event; 300]).await.unwrap();
    let abouts: Vec<String> = bed.decisions().into_iter().map(|d| d.about).collect();
    assert_eq!(abouts, ["256 events", "44 events"]);
    bed.policy.flush().await.unwrap();
    let kept = ledger(&bed).await;
    assert!(kept.iter().any(|row| row.contains("delivery.bounced") && row.ends_with("wanted")));
}

/// Timers fire, one at a time, until another policy is in force.
#[tokio::test]
async fn timers_fire_until_they_are_retired() {
    let mut bed = Bed::with([all(json!({"timers": [["tick", 1], ["tock", 1]]}))]).await;
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    let told = bed.decisions();
    for name in ["tick", "tock"] {
        let count = told.iter().filter(|d| d.about == name && d.stage == Stage::Timer).count();
        assert_eq!(count, 2, "{told:?}");
    }
    let silent = crate::testbed::policy([]);
    bed.reload(&silent, waypost_plugin::Change::by("test")).await.unwrap();
    bed.decisions();
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    assert_eq!(bed.decisions().len(), 0);
}
