//! swaks speaks for others, by XCLIENT and by the PROXY protocol.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, Running};

use crate::program::{Ended, run};

async fn swaks(relay: &Running, more: &[&str]) -> Ended {
    let port = relay.address(Door::Relay).port().to_string();
    let usual = ["--server", "127.0.0.1", "--port", &port, "--ehlo", "client.example"];
    let mail = ["--from", "a@sender.example", "--to", "b@dest.example"];
    run("swaks", "swaks", &[&usual[..], &mail, more].concat(), "").await
}

fn addresses(from: &str) -> [&str; 8] {
    [
        "--proxy-source",
        from,
        "--proxy-source-port",
        "4711",
        "--proxy-dest",
        "198.51.100.25",
        "--proxy-dest-port",
        "25",
    ]
}

#[tokio::test]
async fn by_xclient_where_it_is_trusted() {
    let upstream = Upstream::new();
    let home = Home::new()
        .doors_say("xclient = { networks = [\"127.0.0.1\"], login = true }")
        .set("relay", "networks", "[\"192.0.2.0/24\"]")
        .route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let known = ["--xclient-addr", "192.0.2.7", "--xclient-name", "mx.client.example"];
    let more =
        ["--xclient-port", "4711", "--xclient-proto", "ESMTP", "--xclient-helo", "its.example"];
    let ended = swaks(&relay, &[&known[..], &more].concat()).await;
    assert!(ended.success, "{}", ended.said);
    let ended = swaks(&relay, &["--xclient-addr", "203.0.113.7"]).await;
    assert!(ended.said.contains("550 5.7.1 Relaying denied"), "{}", ended.said);
    // Who is logged in sends as what is theirs.
    let login = ["--xclient-addr", "IPV6:2001:db8::7", "--xclient-login", "anna@example.org"];
    let ended = swaks(&relay, &login).await;
    assert!(ended.said.contains("550 5.7.1 You are not logged in as somebody"), "{}", ended.said);
    let ended = swaks(&relay, &[&login[..], &["--from", "anna@example.org"]].concat()).await;
    assert!(ended.success, "{}", ended.said);
    relay.empty().await;
    let seen: Vec<String> = upstream.mails().into_iter().map(|mail| mail.content).collect();
    let by = |text: &str| seen.iter().any(|mail| mail.replace("\r\n ", " ").contains(text));
    assert!(by("from client.example (mx.client.example [192.0.2.7]) by "), "{seen:?}");
    assert!(
        by("from client.example ([IPv6:2001:db8::7]) by relay.example (Waypost) with ESMTPA "),
        "{seen:?}"
    );

    home.doors_say("xclient = { networks = [\"192.0.2.1\"] }").reload().await.unwrap();
    let ended = swaks(&relay, &known).await;
    assert!(!ended.success && ended.said.contains("did not advertise XCLIENT"), "{}", ended.said);
}

#[tokio::test]
async fn by_the_proxy_protocol_where_it_is_wanted() {
    let upstream = Upstream::new();
    let home = Home::new()
        .doors_say("proxy = { networks = [\"127.0.0.1\"], timeout = \"500ms\" }")
        .set("relay", "networks", "[\"192.0.2.0/24\"]")
        .route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let v1 = ["--proxy-version", "1", "--proxy-family", "TCP4"];
    let v2 = ["--proxy-version", "2", "--proxy-family", "AF_INET"];
    let v2 = [&v2[..], &["--proxy-protocol", "STREAM", "--proxy-command", "PROXY"]].concat();
    for version in [&v1[..], &v2] {
        let ended = swaks(&relay, &[version, &addresses("192.0.2.7")].concat()).await;
        assert!(ended.success, "{}", ended.said);
        let ended = swaks(&relay, &[version, &addresses("203.0.113.7")].concat()).await;
        assert!(ended.said.contains("550 5.7.1 Relaying denied"), "{}", ended.said);
    }
    relay.empty().await;
    let seen: Vec<String> = upstream.mails().into_iter().map(|mail| mail.content).collect();
    assert_eq!(seen.len(), 2);
    for text in seen {
        assert!(text.contains("from client.example ([192.0.2.7])"), "{text}");
    }
    // Without a header there is no session, and no greeting.
    let ended = swaks(&relay, &[]).await;
    assert!(!ended.success && !ended.said.contains("220 relay.example"), "{}", ended.said);
}
