//! curl asks by HTTP for what SMTP has parameters for: notices, encryption, urgency, times.

use serde_json::{Value, json};
use waypost_harness::upstream::Upstream;
use waypost_mail::Entry;
use waypost_scenarios::{Door, Home, Running};
use waypost_smtp::{ByMode, Notify, Return};

use crate::curl::{Answer, Curl};

async fn door() -> (Upstream, Running, Curl) {
    let upstream = Upstream::new();
    let home = Home::new()
        .set("relay", "domains", "[]")
        .set("auth", "senders", "\"any\"")
        .door(Door::Http);
    let token = home.token("shop");
    let relay = home.tokens().route("*", upstream.listen().await.unwrap()).start().await;
    let curl = Curl::to(&relay, &token).await;
    (upstream, relay, curl)
}

/// A message that waits.
fn kept(relay: &Running, answer: &Answer) -> Entry {
    assert_eq!(answer.status, 202, "{answer:?}");
    let id = answer.body["id"].as_str().unwrap().parse().unwrap();
    relay.queue().show(id).unwrap()
}

#[tokio::test]
async fn in_json_for_each_recipient() {
    let (_upstream, relay, curl) = door().await;
    let letter = json!({
        "from": "a@shop.example",
        "to": [
            {"email": "b@dest.example", "notify": ["success", "delay"], "orcpt": "rfc822;list+x@dest.example"},
            {"email": "c@dest.example", "notify": "never"},
            "d@dest.example"
        ],
        "text": "x", "notify": ["failure"], "ret": "headers", "envid": "order 4711",
        "require_tls": true, "hold_for": 3600,
        "deliver_by": {"seconds": 86400, "mode": "notify", "trace": true}
    });
    let entry = kept(&relay, &curl.json(&letter, &[]).await);
    let terms = &entry.terms;
    assert_eq!((terms.ret, terms.envid.as_deref()), (Some(Return::Headers), Some("order 4711")));
    assert!(terms.require_tls);
    assert_eq!(terms.hold_until, Some(entry.received.after(std::time::Duration::from_secs(3600))));
    let by = terms.deliver_by.unwrap();
    assert_eq!((by.at.0 - entry.received.0, by.mode, by.trace), (86_400_000, ByMode::Notify, true));
    let notify: Vec<Notify> = entry.recipients.iter().map(|r| r.recipient.notify).collect();
    let of = |success, failure, delay| Notify::Of { success, failure, delay };
    assert_eq!(notify, [of(true, false, true), Notify::Never, of(false, true, false)]);
    let original = entry.recipients[0].recipient.original.as_ref().unwrap();
    assert_eq!(original.to_string(), "rfc822; list+x@dest.example");
    relay.stop().await;
}

#[tokio::test]
async fn in_the_query_for_a_message_as_it_is() {
    let (_upstream, relay, curl) = door().await;
    let query = "?from=a@shop.example&to=b@dest.example&ret=full&envid=QQ1&notify=success,failure\
                 &require_tls=true&hold_for=60&deliver_by=3600;return";
    let entry = kept(&relay, &curl.raw(query, &[]).await);
    assert_eq!((entry.terms.ret, entry.terms.envid.as_deref()), (Some(Return::Full), Some("QQ1")));
    assert!(entry.terms.require_tls && entry.terms.hold_until.is_some());
    assert_eq!(entry.terms.deliver_by.map(|by| by.mode), Some(ByMode::Return));
    assert!(entry.recipients[0].recipient.notify.on_success());
    // The envelope may be in fields beside it.
    let fields = ["-H", "Envelope-From: a@shop.example", "-H", "Envelope-To: b@dest.example"];
    let entry = kept(&relay, &curl.raw("?hold_for=60&notify=never", &fields).await);
    assert_eq!(entry.recipients[0].recipient.notify, Notify::Never);
    relay.stop().await;
}

#[tokio::test]
async fn and_is_told_what_cannot_be() {
    let (upstream, relay, curl) = door().await;
    for (wish, said) in [
        (json!({"hold_for": 8 * 86_400}), "hold_for"),
        (json!({"hold_for": 60, "hold_until": "2100-01-01T00:00:00Z"}), "hold_until"),
        (json!({"deliver_by": {"seconds": -1, "mode": "return"}}), "deliver_by"),
        (json!({"priority": 10}), "priority"),
        (json!({"envid": ""}), "envid"),
        (json!({"notify": []}), "notify"),
        (json!({"ret": "some"}), "some"),
        (json!({"to": [{"email": "b@dest.example", "orcpt": "a b;c"}]}), "orcpt"),
        (json!({"from": {"email": "a@shop.example", "notify": "never"}}), "recipients"),
    ] {
        let mut letter = json!({"from": "a@shop.example", "to": "b@dest.example", "text": "x"});
        let Value::Object(wish) = wish else { panic!("an object") };
        letter.as_object_mut().unwrap().extend(wish.clone());
        let answer = curl.json(&letter, &[]).await;
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(answer.status == 422 && detail.contains(said), "{wish:?}: {answer:?}");
    }
    let query = "?from=a@shop.example&to=b@dest.example";
    for (more, status) in [("&ret=some", 422), ("&hold_for=x", 422), ("&ret=full&ret=full", 400)] {
        assert_eq!(curl.raw(&format!("{query}{more}"), &[]).await.status, status, "{more}");
    }
    assert!(relay.queued().is_empty() && upstream.mails().is_empty());
    relay.stop().await;
}
