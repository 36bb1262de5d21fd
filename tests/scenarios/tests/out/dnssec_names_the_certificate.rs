//! DANE against a foreign, signed DNS: who proves the named key gets mail, who cannot gets none, and what
//! nobody can vouch for goes on as before.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use waypost_harness::authority::{Authority, Certified};
use waypost_harness::knot::Knot;
use waypost_harness::upstream::{Act, Upstream};
use waypost_harness::zone::Zone;
use waypost_mail::Why;
use waypost_scenarios::{Door, Home};
use waypost_smtp::Phase;

use crate::way::{ALICE, Way, patient};

/// Upstreams at addresses of their own, all on one port.
pub(crate) struct Hosts {
    pub(crate) port: u16,
    listeners: Vec<TcpListener>,
}

impl Hosts {
    /// Listeners at 127.0.0.2 and so on.
    pub(crate) async fn new(count: u8) -> Hosts {
        'again: for _ in 0..50 {
            let first = TcpListener::bind(("127.0.0.2", 0)).await.unwrap();
            let port = first.local_addr().unwrap().port();
            let mut listeners = vec![first];
            for number in 1..count {
                let address = SocketAddr::from(([127, 0, 0, 2 + number], port));
                match TcpListener::bind(address).await {
                    Ok(listener) => listeners.push(listener),
                    Err(_) => continue 'again,
                }
            }
            listeners.reverse();
            return Hosts { port, listeners };
        }
        panic!("no port is free on all addresses");
    }

    /// The next address, where this upstream answers from now on.
    pub(crate) fn put(&mut self, upstream: &Upstream) -> String {
        let listener = self.listeners.pop().unwrap();
        let address = listener.local_addr().unwrap().ip().to_string();
        upstream.attend(listener);
        address
    }
}

pub(crate) fn hex(octets: &[u8]) -> String {
    let mut text = String::new();
    for octet in octets {
        let _ = write!(text, "{octet:02x}");
    }
    text
}

pub(crate) fn up(certified: &Certified) -> Upstream {
    Upstream::new().with_tls(certified.server.clone())
}

pub(crate) fn anchored(home: Home, anchor: &str) -> Home {
    let file = home.path("anchor");
    fs::write(&file, anchor).unwrap();
    // Validating takes a while on a busy machine.
    let home = home.set("dns", "timeout", "\"20s\"");
    home.set("dns", "trust-anchor", &format!("{file:?}"))
}

async fn dane_connections(way: &Way) -> u64 {
    way.relay.counter("waypost_delivery_protections_total{protection=\"dane\"}").await
}

#[tokio::test]
async fn good_keys_bad_keys_no_keys() {
    let mut hosts = Hosts::new(9).await;
    let port = hosts.port;
    let stranger = Authority::new().unwrap();
    let odd = stranger.expired(&["elsewhere.example"]).unwrap();
    let named = stranger.certified(&["mx.ta.signed"]).unwrap();
    let refusal = Act::Say("454 4.7.0 not now".to_owned());
    let (good, vouched, wrong) = (up(&odd), up(&named), up(&odd));
    let (stripped, refusing, unusable) =
        (Upstream::new(), up(&odd).on(Phase::StartTls, refusal), up(&odd));
    let (doubtful, second, plain) = (up(&odd), up(&odd), up(&odd));
    let [a, b, c, d, e, f, g, h, i] =
        [&good, &vouched, &wrong, &stripped, &refusing, &unusable, &doubtful, &second, &plain]
            .map(|upstream| hosts.put(upstream));
    let (key, authority) = (hex(&odd.key), hex(&named.authority));
    let other = "22".repeat(32);
    let knot = Knot::serve(&format!(
        "$ORIGIN signed.\n\
         ee MX 10 mx.ee\nmx.ee A {a}\n_{port}._tcp.mx.ee TLSA 3 1 0 {key}\n\
         ta MX 10 mx.ta\nmx.ta A {b}\n_{port}._tcp.mx.ta TLSA 2 0 0 {authority}\n\
         wrong MX 10 mx.wrong\nmx.wrong A {c}\n_{port}._tcp.mx.wrong TLSA 3 1 1 {other}\n\
         stripped MX 10 mx.stripped\nmx.stripped A {d}\n_{port}._tcp.mx.stripped TLSA 3 1 0 {key}\n\
         refusing MX 10 mx.refusing\nmx.refusing A {e}\n_{port}._tcp.mx.refusing TLSA 3 1 0 {key}\n\
         unusable MX 10 mx.unusable\nmx.unusable A {f}\n_{port}._tcp.mx.unusable TLSA 1 1 1 {other}\n\
         doubt MX 10 mx.doubt\nmx.doubt A {g}\n\
         second MX 10 mx.doubt\nsecond MX 20 mx.second\nmx.second A {h}\n\
         _{port}._tcp.mx.second TLSA 3 1 0 {key}\n\
         alias MX 10 www.alias\nwww.alias CNAME mx.ee\n\
         $ORIGIN _tcp.mx.doubt.signed.\n; forged\n_{port} TLSA 3 1 0 {key}\n\
         $ORIGIN plain.\n; unsigned\n\
         @ MX 10 mx\nmx A {i}\n_{port}._tcp.mx TLSA 3 1 1 {other}\n\
         away MX 10 mx.ee.signed.\nlost MX 10 mx.wrong.signed.\n\
         $ORIGIN forged.\n; forged\n@ MX 10 mx\nmx A {i}\n"
    ));
    let home = anchored(patient(Home::new()).dns(knot.addr, port), knot.trust_anchor());
    // Nothing here is vouched for by an authority: only DANE proves it.
    let way = Way::through(home).await;
    let send = async |domain: &str| way.post(ALICE, &[&format!("bob@{domain}")], "Hello").await;

    for (domain, upstream, dane) in [
        ("ee.signed", &good, 1),
        ("ta.signed", &vouched, 2),
        ("alias.signed", &good, 2),
        ("away.plain", &good, 2),
        ("unusable.signed", &unusable, 2),
        ("second.signed", &second, 3),
        ("plain", &plain, 3),
    ] {
        let before = upstream.mails().len();
        let id = send(domain).await;
        way.settled(&id).await;
        let mails = upstream.mails();
        assert_eq!(mails.len(), before + 1, "{domain}");
        assert!(mails[before].tls, "{domain}");
        assert!(dane_connections(&way).await >= dane, "{domain}");
    }
    for (domain, upstream, cause) in [
        ("wrong.signed", &wrong, "none of the TLSA records"),
        ("lost.plain", &wrong, "none of the TLSA records"),
        ("stripped.signed", &stripped, "does not offer STARTTLS"),
        ("refusing.signed", &refusing, "refused STARTTLS"),
    ] {
        let why = way.deferred(&send(domain).await).await;
        assert!(matches!(why, Why::TlsRequired { .. }), "{domain}: {why}");
        assert!(why.to_string().contains(cause), "{domain}: {why}");
        assert!(why.to_string().contains("DANE"), "{domain}: {why}");
        assert!(!upstream.heard().contains("MAIL FROM"), "{domain}: nothing was said");
    }
    for domain in ["doubt.signed", "forged"] {
        let why = way.deferred(&send(domain).await).await;
        assert!(matches!(&why, Why::DnsFailed(text) if text.contains("DNSSEC")), "{domain}: {why}");
    }
    assert_eq!(doubtful.connections(), 0, "nobody knows what it must prove");
    assert!(way.alice.mails().is_empty(), "what may get better is not bounced");
    way.relay.stop().await;
}

/// Shows a certificate to who asks for this name, and to nobody else.
#[derive(Debug)]
struct OnlyFor(&'static str, Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for OnlyFor {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.server_name() == Some(self.0) { self.1.resolve(hello) } else { None }
    }
}

/// RFC 7672 §8.1: a host behind an alias may have a certificate for each of its names.
#[tokio::test]
async fn a_host_is_asked_for_the_name_that_its_records_are_under() {
    let mut hosts = Hosts::new(1).await;
    let certified = Authority::new().unwrap().certified(&["mx.ee.signed"]).unwrap();
    let mut tls = (*certified.server).clone();
    tls.cert_resolver = Arc::new(OnlyFor("mx.ee.signed", tls.cert_resolver.clone()));
    let upstream = Upstream::new().with_tls(Arc::new(tls));
    let (address, port, key) = (hosts.put(&upstream), hosts.port, hex(&certified.key));
    let knot = Knot::serve(&format!(
        "$ORIGIN signed.\nalias MX 10 www.alias\nwww.alias CNAME mx.ee\nmx.ee A {address}\n\
         _{port}._tcp.mx.ee TLSA 3 1 0 {key}\n"
    ));
    let home = anchored(patient(Home::new()).dns(knot.addr, port), knot.trust_anchor());
    let way = Way::through(home).await;
    let id = way.post(ALICE, &["bob@alias.signed"], "Hello").await;
    way.settled(&id).await;
    assert_eq!((upstream.mails().len(), dane_connections(&way).await), (1, 1));
    way.relay.stop().await;
}

/// The submitter hears the host with the named key, and goes when there is another one.
#[tokio::test]
async fn also_while_the_submitter_waits() {
    let mut hosts = Hosts::new(2).await;
    let port = hosts.port;
    let odd = Authority::new().unwrap().expired(&["elsewhere.example"]).unwrap();
    let (good, wrong) = (up(&odd), up(&odd));
    let [a, b] = [&good, &wrong].map(|upstream| hosts.put(upstream));
    let (key, other) = (hex(&odd.key), "22".repeat(32));
    let knot = Knot::serve(&format!(
        "$ORIGIN signed.\n\
         good MX 10 mx.good\nmx.good A {a}\n_{port}._tcp.mx.good TLSA 3 1 0 {key}\n\
         wrong MX 10 mx.wrong\nmx.wrong A {b}\n_{port}._tcp.mx.wrong TLSA 3 1 1 {other}\n"
    ));
    let home = anchored(patient(Home::new()).dns(knot.addr, port), knot.trust_anchor());
    let way = Way::through(home.route_as("*", "cut-through = true\n")).await;
    let mut peer = way.relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.envelope(ALICE, &["bob@good.signed"]).await;
    let reply = peer.data("Subject: x\r\n\r\ny\r\n").await;
    assert!(reply.contains(" delivered to mx.good.signed["), "{reply}");
    assert_eq!((good.mails().len(), dane_connections(&way).await), (1, 1));
    peer.envelope(ALICE, &["bob@wrong.signed"]).await;
    let reply = peer.data("Subject: x\r\n\r\ny\r\n").await;
    let id = reply.strip_prefix("250 2.0.0 OK queued as ").expect(&reply);
    let why = way.deferred(id).await;
    assert!(matches!(why, Why::TlsRequired { .. }), "{why}");
    assert!(!wrong.heard().contains("MAIL FROM"), "{}", wrong.heard());
    way.relay.stop().await;
}

#[tokio::test]
async fn a_route_may_do_without() {
    let mut hosts = Hosts::new(1).await;
    let certified = Authority::new().unwrap().certified(&["mx.signed"]).unwrap();
    let upstream = up(&certified);
    let (address, port) = (hosts.put(&upstream), hosts.port);
    let other = "22".repeat(32);
    let knot = Knot::serve(&format!(
        "$ORIGIN signed.\n@ MX 10 mx\nmx A {address}\n_{port}._tcp.mx TLSA 3 1 1 {other}\n"
    ));
    let home = anchored(patient(Home::new()).dns(knot.addr, port), knot.trust_anchor());
    let way = Way::through(home.route_as("signed", "dane = false")).await;
    let id = way.post(ALICE, &["bob@signed"], "Hello").await;
    way.settled(&id).await;
    assert_eq!((upstream.mails().len(), dane_connections(&way).await), (1, 0));
    way.relay.stop().await;
}

#[tokio::test]
async fn where_signatures_do_not_come_through_mail_flows_without_dane() {
    let mut hosts = Hosts::new(1).await;
    let certified = Authority::new().unwrap().certified(&["mx.signed"]).unwrap();
    let upstream = up(&certified);
    let (address, port) = (hosts.put(&upstream), hosts.port);
    let other = "22".repeat(32);
    let stripping = Zone::serve(&format!(
        "$ORIGIN signed.\n@ MX 10 mx\nmx A {address}\n_{port}._tcp.mx TLSA 3 1 1 {other}\n"
    ))
    .await;
    let way = Way::through(patient(Home::new()).dns(stripping.addr, port)).await;
    let id = way.post(ALICE, &["bob@signed"], "Hello").await;
    way.settled(&id).await;
    assert_eq!((upstream.mails().len(), dane_connections(&way).await), (1, 0));
    assert!(upstream.mails()[0].tls);
    way.relay.stop().await;
}
