//! From a hop to the hosts to try, through a real DNS server.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use waypost_dns::{Config, Hickory, Host, OwnAddresses, Search, hosts, ways};
use waypost_harness::zone::{Fault, Zone};
use waypost_mail::{NextHop, Why};
use waypost_smtp::Domain;

const PORT: u16 = 2525;

/// A zone, a resolver that asks it, and what this relay listens on.
struct Net {
    zone: Zone,
    resolver: Hickory,
    own: OwnAddresses,
}

impl Net {
    async fn new() -> Net {
        let zone = Zone::serve(include_str!("zones/mail.zone")).await;
        let timeout = Duration::from_secs(1);
        let config = Config { servers: vec![zone.addr], timeout, ..Config::default() };
        Net { zone, resolver: Hickory::new(config).unwrap(), own: OwnAddresses::default() }
    }

    async fn listening_on(listener: &str) -> Net {
        let own = OwnAddresses::new([listener.parse().unwrap()], []);
        Net { own, ..Net::new().await }
    }

    fn search(&self, seed: u64) -> Search<'_> {
        Search::new(PORT, &self.own, seed)
    }

    async fn hosts(&self, domain: &str) -> Result<Vec<Host>, Why> {
        self.hosts_of(&mx(domain)).await
    }

    async fn hosts_of(&self, hop: &NextHop) -> Result<Vec<Host>, Why> {
        hosts(&self.resolver, hop, &self.search(1)).await
    }

    /// The last numbers of the addresses, which tell the hosts of the zone apart.
    async fn order(&self, domain: &str) -> Vec<u16> {
        self.hosts(domain).await.unwrap().iter().map(number).collect()
    }
}

fn mx(domain: &str) -> NextHop {
    NextHop::Mx(Domain::parse(domain).unwrap())
}

fn smart(host: &str, port: u16) -> NextHop {
    NextHop::Host { host: host.to_owned(), port, implicit_tls: false }
}

fn number(host: &Host) -> u16 {
    match host.address.ip() {
        IpAddr::V4(ip) => ip.octets()[3].into(),
        IpAddr::V6(ip) => ip.segments()[7],
    }
}

#[tokio::test]
async fn exchangers_are_tried_in_order_of_preference() {
    let net = Net::new().await;
    let found = net.hosts("several.example").await.unwrap();
    let first = Host {
        name: "mx1.several.example".into(),
        address: SocketAddr::from(([192, 0, 2, 11], PORT)),
        preference: 10,
    };
    assert_eq!(found[0], first);
    assert_eq!(net.order("several.example").await, [11, 12, 13]);
    assert_eq!(net.order("alias.example").await, [11, 12, 13]);
    assert_eq!(net.order("mxalias.example").await, [11]);
}

#[tokio::test]
async fn all_exchangers_are_named_in_one_order_whatever_becomes_of_them() {
    let net = Net::new().await;
    let named = async |domain: &str| {
        let ways = ways(&net.resolver, &mx(domain), &net.search(rand::random())).await.unwrap();
        ways.exchangers.iter().map(|mx| mx.exchange.clone()).collect::<Vec<_>>().join(" ")
    };
    let several = "mx1.several.example mx2.several.example mx3.several.example";
    assert_eq!(named("several.example").await, several);
    assert_eq!(named("alias.example").await, several);
    assert_eq!(named("half.example").await, "nobody.half.example mx1.several.example");
    assert_eq!(named("implicit.example").await, "implicit.example");
    assert_eq!(named("[192.0.2.7]").await, "");
}

#[tokio::test]
async fn chance_decides_among_equals_and_the_seed_decides_chance() {
    let net = Net::new().await;
    let mut seen = BTreeSet::new();
    for seed in 0..20 {
        let once = hosts(&net.resolver, &mx("equal.example"), &net.search(seed)).await.unwrap();
        let again = hosts(&net.resolver, &mx("equal.example"), &net.search(seed)).await.unwrap();
        assert_eq!(once.len(), again.len());
        assert_eq!(number(&once[2]), 23, "the worse one is last");
        seen.insert(once.iter().map(number).collect::<Vec<_>>());
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn the_domain_itself_is_the_host_where_no_mx_is() {
    let net = Net::new().await;
    assert_eq!(net.order("implicit.example").await, [31]);
    assert_eq!(net.zone.asked("implicit.example", "MX"), 1);
}

#[tokio::test]
async fn why_there_is_no_host_is_told_apart() {
    let net = Net::new().await;
    let domain = |name: &str| format!("{name}.example");
    for (name, why) in [
        ("null", Why::NullMx(domain("null"))),
        ("nobody", Why::NoSuchDomain(domain("nobody"))),
        ("dangling", Why::NoSuchDomain(domain("dangling"))),
        ("bare", Why::NoAddress(domain("bare"))),
        ("homeless", Why::NoAddress(domain("homeless"))),
        ("addressed", Why::NoAddress(domain("addressed"))),
        ("unspecified", Why::NoAddress(domain("unspecified"))),
    ] {
        assert_eq!(net.hosts(&domain(name)).await, Err(why));
    }
}

#[tokio::test]
async fn failures_defer_and_never_bounce() {
    let net = Net::new().await;
    net.zone.fault("several.example", "MX", Fault::ServFail);
    net.zone.fault("equal.example", "MX", Fault::Silence);
    net.zone.fault("implicit.example", "A", Fault::ServFail);
    for domain in ["several.example", "equal.example", "implicit.example"] {
        let why = net.hosts(domain).await.unwrap_err();
        assert!(matches!(why, Why::DnsFailed(_)), "{why:?}");
        assert!(!why.is_permanent());
        assert!(why.to_string().contains(domain), "{why}");
    }
}

#[tokio::test]
async fn an_exchanger_that_cannot_be_resolved_does_not_stop_the_others() {
    let net = Net::new().await;
    net.zone.fault("mx1.several.example", "ANY", Fault::ServFail);
    assert_eq!(net.order("several.example").await, [12, 13]);
    assert_eq!(net.hosts("half.example").await.map_err(|why| why.label()), Err("dns-failed"));
    net.zone.heal();
    assert_eq!(net.order("half.example").await, [11]);
}

#[tokio::test]
async fn ipv6_alone_and_families_by_turns() {
    let net = Net::new().await;
    assert_eq!(net.order("six.example").await, [6]);
    let both = net.hosts("both.example").await.unwrap();
    let pattern: Vec<bool> = both.iter().map(|host| host.address.is_ipv6()).collect();
    assert_eq!(pattern, [true, false, true, false]);
}

#[tokio::test]
async fn mail_does_not_come_back_to_us() {
    let net = Net::listening_on("192.0.2.52:2525").await;
    assert_eq!(net.order("ours.example").await, [51], "what is no better than us is left out");
    assert_eq!(net.hosts("onlyus.example").await, Err(Why::Loop("onlyus.example".into())));

    net.zone.fault("best.ours.example", "ANY", Fault::ServFail);
    let why = net.hosts("ours.example").await.unwrap_err();
    assert!(matches!(why, Why::DnsFailed(_)), "the better one may come back: {why:?}");
}

#[tokio::test]
async fn an_exchanger_of_our_name_is_us_whatever_its_address() {
    let mut net = Net::listening_on("10.0.0.1:2525").await;
    assert_eq!(net.hosts("ours.example").await.unwrap().len(), 4);
    net.own = net.own.named("us.ours.example");
    assert_eq!(net.order("ours.example").await, [51]);
    assert_eq!(net.hosts("onlyus.example").await, Err(Why::Loop("onlyus.example".into())));
    assert_eq!(net.order("equal.example").await.len(), 3);
}

#[tokio::test]
async fn another_port_of_our_address_is_not_us() {
    let net = Net::listening_on("192.0.2.52:25").await;
    assert_eq!(net.hosts("ours.example").await.unwrap().len(), 4);
    assert_eq!(net.hosts("onlyus.example").await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_configured_host_or_a_literal_may_be_us_too() {
    let net = Net::listening_on("192.0.2.52:2525").await;
    let name = smart("us.ours.example", 2525);
    assert_eq!(net.hosts_of(&name).await, Err(Why::Loop("us.ours.example".into())));
    let literal = net.hosts("[192.0.2.52]").await;
    assert_eq!(literal, Err(Why::Loop("[192.0.2.52]".into())));
    assert_eq!(net.hosts_of(&smart("us.ours.example", 25)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_literal_is_its_own_host() {
    let net = Net::new().await;
    for (literal, address) in
        [("[192.0.2.7]", "192.0.2.7:2525"), ("[IPv6:2001:db8::7]", "[2001:db8::7]:2525")]
    {
        let name = literal.to_owned();
        let expected = Host { name, address: address.parse().unwrap(), preference: 0 };
        assert_eq!(net.hosts(literal).await, Ok(vec![expected]));
    }
}

#[tokio::test]
async fn a_configured_host_is_not_asked_for_mx() {
    let net = Net::new().await;
    let found = net.hosts_of(&smart("mx1.several.example", 587)).await.unwrap();
    assert_eq!(found[0].address, SocketAddr::from(([192, 0, 2, 11], 587)));
    assert_eq!(net.zone.asked("mx1.several.example", "MX"), 0);

    let found = net.hosts_of(&smart("2001:db8::25", 465)).await.unwrap();
    assert_eq!(found[0].address, "[2001:db8::25]:465".parse().unwrap());

    let mistyped = net.hosts_of(&smart("nobody.example", 25)).await.unwrap_err();
    assert_eq!(mistyped, Why::NoAddress("nobody.example".into()));
    assert!(!mistyped.is_permanent(), "an operator's mistake must not bounce mail");
}

#[tokio::test]
async fn numbers_are_bounded() {
    let net = Net::new().await;
    let bounded = async |max_exchangers, max_hosts| {
        let search = Search { max_exchangers, max_hosts, ..net.search(3) };
        hosts(&net.resolver, &mx("crowd.example"), &search).await.unwrap()
    };
    let found = bounded(10, 10).await;
    assert_eq!(found.iter().filter(|host| host.preference == 10).count(), 5, "half of them");
    assert_eq!(found.last().map(number), Some(108));
    let distinct: HashSet<SocketAddr> = found.iter().map(|host| host.address).collect();
    assert_eq!(distinct.len(), found.len(), "an address of two exchangers counts once");
    assert_eq!(bounded(10, 4).await.len(), 4);
    assert_eq!(bounded(10, 4).await.iter().filter(|h| h.preference == 10).count(), 2);
    assert_eq!(bounded(1, 10).await.len(), 6, "the only one may have all");
    assert_eq!(net.zone.asked("m2.crowd.example", "A"), 3, "what is not tried is not asked");
}
