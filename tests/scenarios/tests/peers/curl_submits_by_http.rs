//! curl submits by HTTP: a message as it is or as JSON, by token, with a key that makes it one message.
//! Every answer is held against the document that describes the door.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use waypost_harness::hooks::{RecordingHooks, Stage};
use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, Running, eventually};

use crate::curl::{self, Curl};

fn home() -> (Home, String) {
    let home = Home::new()
        .set("relay", "domains", "[]")
        .set("auth", "senders", "\"any\"")
        .door(Door::Http);
    let token = home.token("shop");
    (home.tokens(), token)
}

#[tokio::test]
async fn a_message_as_it_is() {
    let upstream = Upstream::new();
    let (home, token) = home();
    let home = home.route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let curl = Curl::to(&relay, &token).await;
    let answer =
        curl.raw("?from=bounce@shop.example&to=b@dest.example&to=c@dest.example", &[]).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let id = answer.body["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.body["recipients"][1]["address"], "c@dest.example");
    assert_eq!(answer.body["recipients"][1]["text"], format!("OK queued as {id}"));
    relay.empty().await;
    let mail = upstream.mails().pop().unwrap();
    assert_eq!((mail.from.as_str(), mail.to.len()), ("bounce@shop.example", 2));
    let text = mail.content.replace("\r\n ", " ");
    assert!(
        text.starts_with(
            "Received: from [127.0.0.1] ([127.0.0.1]) by relay.example (Waypost) with HTTP id"
        ),
        "{text}"
    );
    assert!(text.ends_with("\r\n\r\nHello\r\n.\r\n") && !text.contains("Bcc"), "{text}");
    let fields = [
        "-H",
        "Envelope-From: a@shop.example",
        "-H",
        "Envelope-To: b@dest.example, c@dest.example",
    ];
    assert_eq!(curl.raw("", &fields).await.status, 202);
    relay.stop().await;
}

/// A token is a login: it sends as what is its own, and at a socket of this machine nobody needs one.
#[tokio::test]
async fn as_what_is_its_own() {
    let upstream = Upstream::new();
    let home = Home::new().http_socket().door(Door::Http);
    let token = home.token("a@shop.example");
    let home = home.tokens().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let curl = Curl::to(&relay, &token).await;
    assert_eq!(curl.raw("?from=other@shop.example&to=b@dest.example", &[]).await.status, 403);
    assert_eq!(curl.raw("?from=a@shop.example&to=b@dest.example", &[]).await.status, 202);
    let socket = home.local_socket().display().to_string();
    let base = vec!["--unix-socket".to_owned(), socket];
    let curl = Curl::at("http://relay.example".to_owned(), base).await;
    assert_eq!(curl.raw("?from=other@shop.example&to=b@dest.example", &[]).await.status, 202);
    relay.empty().await;
    assert_eq!(upstream.mails().len(), 2);
    relay.stop().await;
}

#[tokio::test]
async fn a_message_in_json() {
    let upstream = Upstream::new();
    let (home, token) = home();
    let home = home.route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let curl = Curl::to(&relay, &token).await;
    let letter = json!({
        "from": "Shop <a@shop.example>", "to": [{"email": "b@dest.example", "name": "B"}],
        "bcc": "c@dest.example", "subject": "Order", "text": "Thanks", "html": "<p>Thanks",
        "attachments": [{"filename": "bill.pdf", "content_type": "application/pdf", "content": "JVBERg=="}]
    });
    let answer = curl.json(&letter, &[]).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    relay.empty().await;
    let mail = upstream.mails().pop().unwrap();
    assert_eq!(
        (mail.from.as_str(), mail.to.as_slice()),
        ("a@shop.example", &["b@dest.example".to_owned(), "c@dest.example".to_owned()][..])
    );
    assert!(
        mail.content.contains("bill.pdf") && !mail.content.contains("c@dest.example"),
        "{}",
        mail.content
    );
    relay.stop().await;
}

#[tokio::test]
async fn and_hears_of_each_recipient_or_what_is_wrong() {
    let policy = std::sync::Arc::new(RecordingHooks::new());
    let upstream = Upstream::new();
    let (home, token) = home();
    let home = home
        .hooks(policy.clone())
        .set("limits", "message-size", "\"64KiB\"")
        .set("http", "json-size", "\"32KiB\"")
        .route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let curl = Curl::to(&relay, &token).await;
    let query = "?from=a@shop.example&to=b@dest.example";
    let kind = "message/rfc822";
    let large = "x".repeat(70_000);
    for (answer, status) in [
        (curl.post(query, "text/plain", &[], curl::RAW).await, 415),
        (curl.post("?to=b@dest.example", kind, &[], curl::RAW).await, 422),
        (curl.post(query, kind, &[], &large).await, 413),
        (curl.post(query, kind, &[], "a: b\n\n\0\n").await, 422),
        (curl.post(query, kind, &[], &"x".repeat(1000)).await, 422),
        (curl.post("?from=a&to=b@dest.example", kind, &[], curl::RAW).await, 422),
        (curl.post("?size=1", kind, &[], curl::RAW).await, 400),
        (curl.post(query, kind, &["-H", "Idempotency-Key;"], curl::RAW).await, 400),
        (curl.json(&json!({"from": "a@shop.example"}), &[]).await, 422),
        (curl.post("", "application/json", &[], "{").await, 400),
        (curl.json(&json!({"from": "a@shop.example", "text": large}), &[]).await, 413),
    ] {
        assert_eq!(answer.status, status, "{answer:?}");
    }
    for (stage, reply, status) in [
        (Stage::Connect, "421 4.3.2 busy", 503),
        (Stage::Sender, "550 5.7.1 not you", 403),
        (Stage::Recipients, "550 5.1.1 nobody", 422),
        (Stage::Recipients, "452 4.2.2 full", 503),
        (Stage::Message, "554 5.6.0 malformed", 422),
    ] {
        policy.refuse(stage, reply);
        let answer = curl.raw(query, &[]).await;
        assert_eq!(answer.status, status, "{reply}: {answer:?}");
        policy.relent();
    }
    let stranger = Curl::to(&relay, "waypost_wrong").await;
    assert_eq!(stranger.raw(query, &[]).await.status, 401);
    let nobody = Curl::at(stranger.url.clone(), Vec::new()).await;
    assert_eq!(nobody.raw(query, &[]).await.status, 401);
    assert_eq!(curl.call("/v1/other", &[], "").await.0, 404);
    assert_eq!(curl.call("/v1/messages", &[], "").await.0, 405);
    assert!(relay.queued().is_empty() && upstream.mails().is_empty());
    relay.stop().await;
}

#[tokio::test]
async fn with_a_key_that_makes_it_one_message() {
    let upstream = Upstream::new();
    let (home, token) = home();
    let home = home.route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let curl = Curl::to(&relay, &token).await;
    let query = "?from=a@shop.example&to=b@dest.example";
    let key = ["-H", "Idempotency-Key: order-4711"];
    let (first, second) = tokio::join!(curl.raw(query, &key), curl.raw(query, &key));
    assert_eq!((first.status, &first.body), (202, &second.body));
    assert!(first.replayed != second.replayed, "{first:?} {second:?}");
    relay.empty().await;
    // The same after the message is gone, and after a restart.
    assert!(curl.raw(query, &key).await.replayed);
    relay.stop().await;
    let relay = home.start().await;
    let curl = Curl::to(&relay, &token).await;
    let again = curl.raw(query, &key).await;
    assert_eq!((again.replayed, &again.body), (true, &first.body));
    let other = curl.raw("?from=a@shop.example&to=c@dest.example", &key).await;
    assert_eq!(other.status, 422, "{other:?}");
    assert_eq!(upstream.mails().len(), 1);
    let new = curl.raw(query, &["-H", "Idempotency-Key: order-4712"]).await;
    assert!(!new.replayed && new.body["id"] != first.body["id"]);
    eventually("both arrive", || upstream.mails().len() == 2).await;
    relay.stop().await;
}

/// Many recipients make an answer that is larger than one value of the ledger.
#[tokio::test]
async fn with_a_key_for_many_recipients_and_one_that_was_refused() {
    let policy = std::sync::Arc::new(RecordingHooks::new());
    let upstream = Upstream::new();
    let (home, token) = home();
    let home = home.hooks(policy.clone()).route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let curl = Curl::to(&relay, &token).await;
    let to: Vec<String> = (0..200).map(|number| format!("r{number}@dest.example")).collect();
    let letter = json!({"from": "a@shop.example", "to": to, "text": "x"});
    let key = ["-H", "Idempotency-Key: many"];
    policy.refuse(Stage::Message, "451 4.7.1 later");
    assert_eq!(curl.json(&letter, &key).await.status, 503);
    policy.relent();
    let first = curl.json(&letter, &key).await;
    assert_eq!((first.status, first.replayed), (202, false), "what was refused may be tried again");
    let again = curl.json(&letter, &key).await;
    assert_eq!((again.replayed, &again.body), (true, &first.body));
    relay.stop().await;
}

/// The head of a request whose body does not come, with the first line of it.
async fn slow(relay: &Running, token: &str) -> TcpStream {
    let head = format!(
        "POST /v1/messages?from=a@shop.example&to=b@dest.example HTTP/1.1\r\nHost: x\r\n\
         Authorization: Bearer {token}\r\nContent-Type: message/rfc822\r\n\
         Content-Length: 100\r\n\r\nA: b\r\n"
    );
    let mut stream = TcpStream::connect(relay.address(Door::Http)).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn not_too_many_at_once() {
    let upstream = Upstream::new();
    let (home, token) = home();
    let home = home.set("http", "requests", "1").route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let curl = Curl::to(&relay, &token).await;
    let other = slow(&relay, &token).await;
    let query = "?from=a@shop.example&to=b@dest.example";
    let mut taken = 0;
    while curl.raw(query, &[]).await.status == 202 {
        taken += 1;
        assert!(taken < 1000, "the other request is not counted");
    }
    drop(other);
    while curl.raw(query, &[]).await.status == 503 {}
    relay.stop().await;
}

#[tokio::test]
async fn not_too_slowly_and_not_with_too_long_a_head() {
    let (home, token) = home();
    let relay = home.set("http", "body-timeout", "\"1s\"").start().await;
    let mut answer = String::new();
    slow(&relay, &token).await.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let curl = Curl::to(&relay, &token).await;
    let long = format!("X-Long: {}", "x".repeat(100_000));
    assert_eq!(curl.call("/v1/openapi.json", &["-H", &long], "").await.0, 431);
    assert!(relay.queued().is_empty());
    relay.stop().await;
}

#[tokio::test]
async fn over_tls() {
    let upstream = Upstream::new();
    let home = Home::new()
        .certificate(&["relay.example"])
        .set("auth", "senders", "\"any\"")
        .door(Door::Https);
    let token = home.token("shop");
    let home = home.tokens().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let port = relay.address(Door::Https).port();
    let base = [
        "--cacert".to_owned(),
        home.authority_file().display().to_string(),
        "--resolve".to_owned(),
        format!("relay.example:{port}:127.0.0.1"),
        "-H".to_owned(),
        format!("Authorization: Bearer {token}"),
    ];
    let curl = Curl::at(format!("https://relay.example:{port}"), base.to_vec()).await;
    assert_eq!(curl.raw("?from=a@shop.example&to=b@dest.example", &[]).await.status, 202);
    relay.empty().await;
    let text = upstream.mails().pop().unwrap().content.replace("\r\n ", " ");
    assert!(text.contains(" with HTTPS id ") && text.contains(" (using TLSv1.3 "), "{text}");
    relay.stop().await;
}
