//! Each limit of the configuration file holds in the program: its value there is what a peer meets,
//! and what is counted. Clients of any address come through a proxy.

use std::fs;
use std::time::Duration;

use waypost_harness::upstream::{Act, Upstream};
use waypost_scenarios::{Door, Home, PASSWORD, Peer, Running, USER, b64, eventually};
use waypost_smtp::Phase;

/// With these values in `[limits]`.
fn limits(home: Home, values: &[(&str, &str)]) -> Home {
    values.iter().fold(home, |home, (key, value)| home.set("limits", key, value))
}

/// Where clients come through a proxy.
async fn proxied(values: &[(&str, &str)]) -> Running {
    let home = Home::new().doors_say("proxy = { networks = [\"127.0.0.0/8\"] }\n");
    limits(home, values).start().await
}

/// What a client of this address hears first; it stays as long as what is answered is kept.
async fn greeted(relay: &Running, client: &str) -> (String, Peer) {
    let mut peer = Peer::to(relay.address(Door::Relay)).await;
    let (family, here) = if client.contains(':') { ("TCP6", "::1") } else { ("TCP4", "127.0.0.1") };
    peer.send(format!("PROXY {family} {client} {here} 4711 25\r\n")).await;
    (peer.reply().await, peer)
}

/// Each client in turn, and the beginning of its greeting; all of them stay.
async fn all_are_greeted(relay: &Running, clients: &[(&str, &str)]) {
    let mut here = Vec::new();
    for (client, greeting) in clients {
        let (heard, peer) = greeted(relay, client).await;
        assert!(heard.starts_with(greeting), "{client} heard {heard}");
        here.push(peer);
    }
}

async fn refused(relay: &Running, reason: &str) -> u64 {
    let labels = format!("{{listener=\"relay\",reason=\"{reason}\"}}");
    relay.counter(&format!("waypost_inbound_refused_total{labels}")).await
}

async fn refusals(relay: &Running, reason: &str) -> u64 {
    let labels = format!("{{listener=\"relay\",reason=\"{reason}\"}}");
    relay.counter(&format!("waypost_inbound_refusals_total{labels}")).await
}

#[tokio::test]
async fn session_rate_per_address() {
    let relay = proxied(&[("session-rate-per-address", "\"2/1h\"")]).await;
    all_are_greeted(
        &relay,
        &[
            ("192.0.2.1", "220"),
            ("192.0.2.1", "220"),
            ("192.0.2.1", "421 4.7.0 Too many new sessions"),
            ("192.0.2.2", "220"),
        ],
    )
    .await;
    assert_eq!(refused(&relay, "session-rate-per-address").await, 1);
    relay.stop().await;
}

#[tokio::test]
async fn session_rate_per_network_and_the_networks_size() {
    for (bits, second) in [("24", "421 4.7.0 Too many new sessions"), ("25", "220")] {
        let values = [("session-rate-per-network", "\"1/1h\""), ("network-prefix-v4", bits)];
        let relay = proxied(&values).await;
        let clients = [("192.0.2.1", "220"), ("192.0.2.200", second), ("192.0.3.1", "220")];
        all_are_greeted(&relay, &clients).await;
        let counted = refused(&relay, "session-rate-per-network").await;
        assert_eq!(counted, u64::from(bits == "24"), "/{bits}");
        relay.stop().await;
    }
}

#[tokio::test]
async fn prefixes_of_ipv6() {
    for (bits, second) in [("48", "421 4.7.0 Too many sessions from your network"), ("56", "220")] {
        let values = [("sessions-per-network", "1"), ("network-prefix-v6", bits)];
        let relay = proxied(&values).await;
        let clients = [("2001:db8:0:1::1", "220"), ("2001:db8:0:101::1", second)];
        all_are_greeted(&relay, &clients).await;
        relay.stop().await;
    }
    for (bits, second) in [("64", "421 4.7.0 Too many sessions from your address"), ("128", "220")]
    {
        let values = [("sessions-per-address", "1"), ("address-prefix-v6", bits)];
        let relay = proxied(&values).await;
        let clients = [("2001:db8:0:1::1", "220"), ("2001:db8:0:1::2", second)];
        all_are_greeted(&relay, &clients).await;
        relay.stop().await;
    }
}

#[tokio::test]
async fn messages_per_address() {
    let relay = proxied(&[("messages-per-address", "[\"2/1h\", \"100/1d\"]")]).await;
    let (_, mut peer) = greeted(&relay, "192.0.2.1").await;
    peer.hello().await;
    for reply in ["250", "250", "450 4.7.1"] {
        peer.expect("MAIL FROM:<a@sender.example>", reply).await;
        peer.expect("RSET", "250").await;
    }
    let (_, mut other) = greeted(&relay, "192.0.2.2").await;
    other.hello().await;
    other.expect("MAIL FROM:<a@sender.example>", "250").await;
    assert_eq!(refusals(&relay, "message-rate").await, 1);
    relay.stop().await;
}

#[tokio::test]
async fn messages_per_user() {
    let home = limits(Home::new().users(), &[("messages-per-user", "[\"1/1h\"]")]);
    let relay = home.start().await;
    for (door, reply) in [(Door::Submissions, "250"), (Door::Submissions, "450 4.7.1")] {
        let mut peer = relay.peer(door).await;
        peer.hello().await;
        peer.expect(&format!("AUTH PLAIN {}", b64(format!("\0{USER}\0{PASSWORD}"))), "235").await;
        peer.expect("MAIL FROM:<a@sender.example>", reply).await;
    }
    relay.stop().await;
}

#[tokio::test]
async fn messages_per_session() {
    let relay = limits(Home::new(), &[("messages-per-session", "1")]).start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.deliver("a@sender.example", &["b@inside.example"], "Subject: x\r\n\r\n").await;
    peer.expect("MAIL FROM:<a@sender.example>", "421").await;
    relay.stop().await;
}

#[tokio::test]
async fn memory() {
    let relay = limits(Home::new(), &[("memory", "\"1KiB\"")]).start().await;
    let mut peer = Peer::to(relay.address(Door::Relay)).await;
    peer.hear("421 4.3.1").await;
    assert_eq!(refused(&relay, "memory").await, 1);
    relay.stop().await;
    let relay = limits(Home::new(), &[("memory", "\"100GiB\"")]).start().await;
    relay.peer(Door::Relay).await;
    relay.stop().await;
}

/// A body for which there is no room in memory goes to a file, however small it is.
#[tokio::test]
async fn body_memory() {
    let home = limits(Home::new(), &[("body-memory", "\"1KiB\"")]);
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.envelope("a@sender.example", &["b@inside.example"]).await;
    peer.expect("DATA", "354").await;
    peer.send("Subject: x\r\n\r\n").await;
    peer.send(format!("{}\r\n", "z".repeat(70)).repeat(200)).await;
    let incoming = home.spool().join("incoming");
    eventually("the body is in a file", || fs::read_dir(&incoming).unwrap().count() == 1).await;
    peer.expect(".", "250").await;
    relay.stop().await;
}

#[tokio::test]
async fn data_timeout_and_minimum_rate() {
    for (values, said) in [
        (&[("data-timeout", "\"500ms\"")][..], "421 4.4.2 Waited too long"),
        (&[("data-timeout", "\"1s\""), ("minimum-rate", "\"1MiB\"")], "421 4.4.2"),
    ] {
        let relay = limits(Home::new(), values).start().await;
        let mut peer = relay.peer(Door::Relay).await;
        peer.hello().await;
        peer.envelope("a@sender.example", &["b@inside.example"]).await;
        peer.expect("DATA", "354").await;
        if values.len() == 1 {
            peer.send("Subject: half").await;
            peer.hear(said).await;
        } else {
            // Never silent for a second, and much too slow.
            let heard = tokio::time::timeout(waypost_scenarios::PATIENCE, async {
                loop {
                    peer.send("x").await;
                    let silent = Duration::from_millis(100);
                    if let Ok(reply) = tokio::time::timeout(silent, peer.reply()).await {
                        return reply;
                    }
                }
            });
            let heard = heard.await.unwrap();
            assert!(heard.starts_with("421 4.4.2 Message comes too slowly"), "{heard}");
        }
        relay.stop().await;
    }
}

#[tokio::test]
async fn handshake_timeout_and_session_time() {
    let home = limits(Home::new().users(), &[("handshake-timeout", "\"300ms\"")]);
    let relay = home.start().await;
    let mut silent = Peer::to(relay.address(Door::Submissions)).await;
    assert!(silent.has_ended(waypost_scenarios::PATIENCE).await, "nobody shakes hands");
    relay.stop().await;
    let relay = limits(Home::new(), &[("session-time", "\"300ms\"")]).start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hear("421 4.4.2 Session lasted too long").await;
    relay.stop().await;
}

#[tokio::test]
async fn header_fields() {
    let relay = limits(Home::new(), &[("header-fields", "3")]).start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    for (fields, reply) in [(3, "250"), (4, "552")] {
        peer.envelope("a@sender.example", &["b@inside.example"]).await;
        let content = format!("{}\r\nText\r\n", "X-Field: x\r\n".repeat(fields));
        let said = peer.data(content).await;
        assert!(said.starts_with(reply), "{fields}: {said}");
    }
    relay.stop().await;
}

#[tokio::test]
async fn hold() {
    for (hold, offered) in [("\"1h\"", true), ("\"0s\"", false)] {
        let relay = limits(Home::new().users(), &[("hold", hold)]).start().await;
        let mut peer = relay.peer(Door::Submissions).await;
        let extensions = peer.hello().await;
        let told = extensions.iter().any(|line| line.contains("FUTURERELEASE 3600 "));
        assert_eq!(told, offered, "{hold}: {extensions:?}");
        peer.login().await;
        let replies = if offered { ["250", "501"] } else { ["555", "555"] };
        for (seconds, reply) in [3600, 3601].into_iter().zip(replies) {
            let said = peer.say(&format!("MAIL FROM:<a@sender.example> HOLDFOR={seconds}")).await;
            assert!(said.starts_with(reply), "{hold} {seconds}: {said}");
            peer.expect("RSET", "250").await;
        }
        relay.stop().await;
    }
}

#[tokio::test]
async fn delay_notices() {
    let upstream = Upstream::new().on(Phase::Rcpt, Act::Say("451 4.2.0 later".to_owned()));
    let senders = Upstream::new();
    let home = Home::new()
        .trusting()
        .route_first("sender.example", senders.listen().await.unwrap())
        .route("*", upstream.listen().await.unwrap())
        .set("queue", "delay-notices", "[\"300ms\"]");
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.deliver("a@sender.example", &["b@dest.example"], "Subject: x\r\n\r\nText\r\n").await;
    eventually("the notice", || !senders.mails().is_empty()).await;
    let notice = senders.mails().pop().unwrap().content;
    assert!(notice.contains("Action: delayed"), "{notice}");
    relay.stop().await;
}
