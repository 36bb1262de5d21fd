//! curl shows tokens by HTTP that nobody made: it waits, and its address is shut out; others are not.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home};

use crate::curl::Curl;

const QUERY: &str = "?from=a@shop.example&to=b@dest.example";

/// From `127.0.0.x`, with this token.
fn from(curl: &Curl, last: u8, token: &str) -> Curl {
    let own = format!("127.0.0.{last}");
    let token = format!("Authorization: Bearer {token}");
    let base = ["--interface", &own, "-H", &token].map(str::to_owned).to_vec();
    Curl { base, url: curl.url.clone(), document: curl.document.clone() }
}

#[tokio::test]
async fn and_is_shut_out() {
    let upstream = Upstream::new();
    let home = Home::new()
        .set("relay", "domains", "[]")
        .set("auth", "senders", "\"any\"")
        .set("auth.failures", "delay", "\"2m\"")
        .set("auth.failures", "max-delay", "\"2m\"")
        .set("auth.failures", "ban-after", "3")
        .set("auth.failures", "ban", "\"30m\"")
        .door(Door::Http);
    let token = home.token("shop");
    let home = home.tokens().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let curl = Curl::to(&relay, &token).await;
    let answer = from(&curl, 2, "waypost_one").raw(QUERY, &[]).await;
    assert_eq!((answer.status, answer.again), (401, Some(120)));
    // The same again comes too early, and does not count.
    for _ in 0..5 {
        let early = from(&curl, 2, "waypost_one").raw(QUERY, &[]).await;
        assert_eq!(early.status, 429);
        assert!(early.again.is_some_and(|again| (1..=120).contains(&again)), "{early:?}");
    }
    // Who has a token that is known is let in meanwhile, from there too.
    assert_eq!(from(&curl, 2, &token).raw(QUERY, &[]).await.status, 202);
    assert_eq!(from(&curl, 2, "waypost_two").raw(QUERY, &[]).await.status, 401);
    let answer = from(&curl, 2, "waypost_three").raw(QUERY, &[]).await;
    assert_eq!((answer.status, answer.again), (429, Some(1800)));
    // Before a request is read.
    let (status, head, _) = from(&curl, 2, &token).call("/v1/openapi.json", &[], "").await;
    assert_eq!(status, 429);
    assert!(head.contains("retry-after: 1"), "{head}");
    assert_eq!(from(&curl, 3, &token).raw(QUERY, &[]).await.status, 202);
    let logins = "waypost_inbound_logins_total{mechanism=\"BEARER\",result=\"early\"}";
    assert_eq!(relay.counter(logins).await, 5);
    assert_eq!(relay.counter("waypost_inbound_bans_total").await, 1);
    relay.stop().await;

    let relay = home.start().await;
    let curl = Curl::to(&relay, &token).await;
    assert_eq!(from(&curl, 2, &token).call("/v1/openapi.json", &[], "").await.0, 429);
    relay.stop().await;
}
