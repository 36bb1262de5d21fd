//! Who speaks for whom: the PROXY protocol and XCLIENT.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use waypost_hooks::*;
use waypost_mail::{Attr, Facts, Protocol, Recipient};

use super::setup::{House, Peer, b64};
use crate::ListenerKind::{Relay, Submission, Submissions};
use crate::metrics::RefusedLabels;
use crate::{DoorRules, ProxyRule, Settings, XclientPeers};

/// Remembers who was said to connect.
#[derive(Debug, Default)]
struct Watch(Mutex<Vec<Facts>>);

#[async_trait]
impl Hooks for Watch {
    async fn on_connect(&self, session: &Facts) -> Result<SessionAnswer, Fault> {
        self.0.lock().unwrap().push(session.clone());
        let meta = vec![Attr { name: "seen/client".into(), value: session.client.to_string() }];
        Ok(SessionAnswer { meta, ..SessionAnswer::default() })
    }

    async fn on_helo(&self, _: &Facts) -> Result<SessionAnswer, Fault> {
        Ok(SessionAnswer::default())
    }

    async fn on_auth(&self, _: &Facts, _: &Credentials) -> Result<AuthDecision, Fault> {
        Ok(AuthDecision::Proceed)
    }

    async fn on_sender(&self, _: &Transaction<'_>) -> Result<SenderAnswer, Fault> {
        Ok(SenderAnswer::default())
    }

    async fn on_recipients(
        &self,
        _: &Transaction<'_>,
        all: &[Recipient],
    ) -> Result<Vec<RecipientAnswer>, Fault> {
        Ok(all.iter().map(|_| RecipientAnswer::default()).collect())
    }

    async fn on_message(&self, _: &MessageView<'_>) -> Result<MessageAnswer, Fault> {
        Ok(MessageAnswer::default())
    }

    async fn on_route(&self, _: &RouteView<'_>) -> Result<Vec<RouteGroup>, Fault> {
        Ok(Vec::new())
    }

    async fn on_prepare(&self, _: &PreparedCopy<'_>) -> Result<Preparation, Fault> {
        Ok(Preparation::default())
    }

    async fn on_attempt(&self, _: &Attempt<'_>) -> Result<AttemptAnswer, Fault> {
        Ok(AttemptAnswer::default())
    }

    async fn on_events(&self, _: &[Event]) -> Result<(), Fault> {
        Ok(())
    }
}

impl Watch {
    fn last(&self) -> Facts {
        self.0.lock().unwrap().last().unwrap().clone()
    }
}

/// All listeners are behind proxies on this machine.
fn behind_proxies(settings: &mut Settings) {
    let rule = ProxyRule {
        networks: vec!["127.0.0.0/8".parse().unwrap()],
        others: false,
        timeout: Duration::from_millis(500),
    };
    for kind in super::setup::KINDS {
        let rules = DoorRules { proxy: Some(rule.clone()), ..DoorRules::default() };
        settings.doors.insert(kind.to_string(), rules);
    }
}

fn trusts_loopback(settings: &mut Settings, login: bool) {
    let xclient = XclientPeers { networks: vec!["127.0.0.0/8".parse().unwrap()], login };
    for kind in super::setup::KINDS {
        let rules = DoorRules { xclient: xclient.clone(), ..DoorRules::default() };
        settings.doors.insert(kind.to_string(), rules);
    }
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.25 4711 25\r\n";

fn v2(command: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut octets = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    octets.extend([command, kind, 0, rest.len() as u8]);
    octets.extend(rest);
    octets
}

async fn refused(house: &House, reason: &'static str, count: u64) {
    let label = RefusedLabels { listener: "relay".into(), reason };
    let counter = house.server.metrics().refused.get_or_create_owned(&label);
    while counter.get() < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_client_that_a_proxy_names_is_the_client_of_everything() {
    let watch = Arc::new(Watch::default());
    let house = House::with(watch.clone(), Duration::from_secs(5), |s| {
        behind_proxies(s);
        s.relay.networks.push("192.0.2.0/24".parse().unwrap());
        s.limits.max_sessions_per_address = 1;
    })
    .await;
    let v4 = [192, 0, 2, 7, 198, 51, 100, 25, 0x12, 0x67, 0, 25];
    let with_tlvs = [&v4[..], &[0x20, 0, 5, 1, 0, 0, 0, 0]].concat();
    for header in [V1.to_vec(), v2(0x21, 0x11, &v4), v2(0x21, 0x11, &with_tlvs)] {
        let mut peer = house.connect(Relay).await;
        // In two pieces, and the second with nothing of SMTP.
        peer.send(&header[..9]).await;
        peer.send(&header[9..]).await;
        assert!(peer.reply().await.starts_with("220"));
        let facts = watch.last();
        assert_eq!(facts.client, "192.0.2.7:4711".parse::<SocketAddr>().unwrap());
        assert_eq!(facts.local, "198.51.100.25:25".parse::<SocketAddr>().unwrap());
        peer.expect("EHLO client.example", "250-").await;
        assert!(peer.deliver("x@anywhere.example").await.starts_with("250"));
    }
    let ids = house.spool_ids();
    assert_eq!(ids.len(), 3);
    let text = house.text(ids[0]);
    assert!(text.contains("from client.example ([192.0.2.7])"), "{text}");
}

#[tokio::test]
async fn strangers_behind_a_proxy_are_strangers_each_with_its_own_share() {
    let house = House::open(|s| {
        behind_proxies(s);
        s.relay.networks.push("127.0.0.0/8".parse().unwrap());
        s.limits.max_sessions_per_address = 1;
    })
    .await;
    let enter = async |line: &str| {
        let mut peer = house.connect(Relay).await;
        peer.send(line.as_bytes()).await;
        let reply = peer.reply().await;
        (peer, reply)
    };
    let (mut first, reply) = enter("PROXY TCP4 203.0.113.1 127.0.0.1 1 25\r\n").await;
    assert!(reply.starts_with("220"), "{reply}");
    let (_again, reply) = enter("PROXY TCP4 203.0.113.1 127.0.0.1 2 25\r\n").await;
    assert_eq!(reply, "421 4.7.0 Too many sessions from your address");
    let (_other, reply) = enter("PROXY TCP4 203.0.113.2 127.0.0.1 1 25\r\n").await;
    assert!(reply.starts_with("220"), "{reply}");
    first.expect("EHLO client.example", "250-").await;
    first.expect("MAIL FROM:<a@b.example>", "250").await;
    first.expect("RCPT TO:<x@anywhere.example>", "550 5.7.1").await;

    // A client that the proxy does not know has no rights of the proxy; the proxy itself has.
    for (header, reply) in [
        (b"PROXY UNKNOWN\r\n".to_vec(), "550 5.7.1"),
        (v2(0x21, 0x00, &[]), "550 5.7.1"),
        (v2(0x20, 0x00, &[]), "250 2.1.5"),
    ] {
        let mut peer = house.connect(Relay).await;
        peer.send(&header).await;
        assert!(peer.reply().await.starts_with("220"));
        peer.expect("EHLO client.example", "250-").await;
        peer.expect("MAIL FROM:<a@b.example>", "250").await;
        peer.expect("RCPT TO:<x@anywhere.example>", reply).await;
    }
}

#[tokio::test]
async fn the_header_comes_before_tls_too() {
    let watch = Arc::new(Watch::default());
    let house = House::with(watch.clone(), Duration::from_secs(5), behind_proxies).await;
    let mut peer = house.connect(Submissions).await;
    peer.send(V1).await;
    let mut peer = peer.encrypt(&house.roots, "mx.example.org").await;
    assert!(peer.reply().await.starts_with("220"));
    assert_eq!(watch.last().client.ip(), "192.0.2.7".parse::<IpAddr>().unwrap());
}

#[tokio::test]
async fn a_proxy_that_says_nothing_or_nonsense_is_cut_off() {
    let house = House::open(behind_proxies).await;
    for (count, said) in [(1, &b""[..]), (2, b"EHLO no-proxy.example\r\n"), (3, &V1[..20])] {
        let mut peer = house.connect(Relay).await;
        peer.send(said).await;
        refused(&house, "proxy-header", count).await;
        assert!(peer.is_over().await);
    }
}

#[tokio::test]
async fn who_is_no_proxy_is_refused_or_a_plain_client() {
    let elsewhere = |s: &mut Settings, others| {
        behind_proxies(s);
        for rules in s.doors.values_mut() {
            let rule = rules.proxy.as_mut().unwrap();
            (rule.networks, rule.others) = (vec!["192.0.2.0/24".parse().unwrap()], others);
        }
    };
    let house = House::open(|s| elsewhere(s, false)).await;
    let mut peer = house.connect(Relay).await;
    assert!(peer.reply().await.starts_with("554 5.7.1 "));
    assert!(peer.is_over().await);
    refused(&house, "no-proxy", 1).await;

    let watch = Arc::new(Watch::default());
    let plain = |s: &mut Settings| elsewhere(s, true);
    let house = House::with(watch.clone(), Duration::from_secs(5), plain).await;
    let mut peer = house.knock(Relay).await;
    peer.expect(std::str::from_utf8(V1).unwrap().trim_end(), "500 ").await;
    assert!(watch.last().client.ip().is_loopback());
}

#[tokio::test]
async fn the_client_of_xclient_takes_the_place_of_the_peer() {
    let watch = Arc::new(Watch::default());
    let house = House::with(watch.clone(), Duration::from_secs(5), |s| {
        trusts_loopback(s, false);
        s.relay.networks.push("127.0.0.0/8".parse().unwrap());
        s.relay.domains.push("example.org".parse().unwrap());
    })
    .await;
    let mut peer = house.knock(Relay).await;
    let offered = peer.say("EHLO proxy.example").await;
    assert!(offered.contains("XCLIENT NAME ADDR") && !offered.contains("LOGIN"), "{offered}");
    peer.expect("XCLIENT LOGIN=anna", "550 5.7.0").await;
    let said = "XCLIENT NAME=mx.client.example ADDR=192.0.2.7 PORT=4711 PROTO=ESMTP \
        HELO=client.example DESTADDR=198.51.100.25 DESTPORT=25";
    peer.expect(said, "220 mx.example.org").await;
    let facts = watch.last();
    assert_eq!(facts.client, "192.0.2.7:4711".parse::<SocketAddr>().unwrap());
    assert_eq!(facts.local, "198.51.100.25:25".parse::<SocketAddr>().unwrap());
    assert_eq!(facts.helo.as_deref(), Some("client.example"));
    assert_eq!((facts.protocol, facts.may_relay), (Protocol::Esmtp, false));
    assert!(facts.meta.is_empty(), "what policy knew was about the peer");
    peer.expect("MAIL FROM:<a@b.example>", "503").await;
    let offered = peer.say("EHLO client.example").await;
    assert!(!offered.contains("XCLIENT"), "{offered}");
    peer.expect("XCLIENT ADDR=127.0.0.1", "502").await;
    assert!(peer.deliver("x@example.org").await.starts_with("250"));
    peer.expect("MAIL FROM:<a@b.example>", "250").await;
    peer.expect("RCPT TO:<x@anywhere.example>", "550 5.7.1").await;
    let (entry, text) = house.message();
    assert!(text.contains("from client.example (mx.client.example [192.0.2.7])"), "{text}");
    assert_eq!(entry.facts.meta[0].value, "192.0.2.7:4711");
}

/// The channel is the proxy's: nothing that is bound to it is offered to its client.
#[tokio::test]
async fn xclient_takes_back_what_is_bound_to_the_channel() {
    let house = House::open(|s| trusts_loopback(s, false)).await;
    let mut peer = house.encrypted(Submissions).await;
    let offered = peer.say("EHLO proxy.example").await;
    assert!(offered.contains("SCRAM-SHA-256-PLUS"), "{offered}");
    peer.expect("XCLIENT ADDR=192.0.2.7", "220").await;
    let offered = peer.say("EHLO client.example").await;
    assert!(!offered.contains("-PLUS") && offered.contains("SCRAM-SHA-256"), "{offered}");
    peer.expect("AUTH SCRAM-SHA-256-PLUS", "504").await;
}

#[tokio::test]
async fn xclient_knows_of_logins_only_where_that_is_said() {
    let house = House::open(|s| trusts_loopback(s, true)).await;
    let mut peer = house.encrypted(Submission).await;
    peer.expect("MAIL FROM:<a@b.example>", "530").await;
    peer.expect("XCLIENT ADDR=192.0.2.7 LOGIN=anna+40example.org", "220").await;
    peer.expect("EHLO client.example", "250-").await;
    assert!(peer.deliver("x@anywhere.example").await.starts_with("250"));
    assert_eq!(house.message().0.facts.identity.as_deref(), Some("anna@example.org"));
    // A login of the peer's own is not its client's.
    let mut peer = house.encrypted(Submission).await;
    peer.expect(&format!("AUTH PLAIN {}", b64("\0alice\0wonder")), "235").await;
    peer.expect("XCLIENT ADDR=192.0.2.8", "220").await;
    peer.expect("EHLO client.example", "250-").await;
    peer.expect("MAIL FROM:<a@b.example>", "530").await;
}

#[tokio::test]
async fn xclient_gives_no_more_than_a_share_and_unknown_clients_no_rights() {
    let house = House::open(|s| {
        trusts_loopback(s, false);
        s.relay.networks.push("127.0.0.0/8".parse().unwrap());
        s.limits.max_sessions_per_address = 1;
    })
    .await;
    let mut first = house.knock(Relay).await;
    first.expect("XCLIENT ADDR=203.0.113.1", "220").await;
    let mut second: Peer = house.knock(Relay).await;
    second.expect("XCLIENT ADDR=203.0.113.1", "421 4.7.0 Too many sessions").await;
    assert!(second.is_over().await);
    let mut unknown = house.knock(Relay).await;
    unknown.expect("XCLIENT ADDR=[UNAVAILABLE] NAME=[TEMPUNAVAIL]", "220").await;
    unknown.expect("EHLO client.example", "250-").await;
    unknown.expect("MAIL FROM:<a@b.example>", "250").await;
    unknown.expect("RCPT TO:<x@anywhere.example>", "550 5.7.1").await;
    unknown.expect("RSET", "250").await;
    unknown.expect("XCLIENT ADDR=127.0.0.1", "502").await;
    let stranger = House::with(Arc::new(Pass), Duration::from_secs(5), |_| {}).await;
    stranger.knock(Relay).await.expect("XCLIENT ADDR=192.0.2.7", "502").await;
}
