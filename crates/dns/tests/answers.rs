//! What [`Hickory`] makes of the answers of a real DNS server.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::net::IpAddr;
use std::time::Duration;

use prometheus_client::registry::Registry;
use waypost_dns::{Config, DnsError, Family, Hickory, Mx, MxAnswer, Resolver};
use waypost_harness::zone::{Fault, Zone};

const MAIL: &str = include_str!("zones/mail.zone");

fn config(zone: &Zone) -> Config {
    Config { servers: vec![zone.addr], timeout: Duration::from_secs(5), ..Config::default() }
}

fn resolver(zone: &Zone) -> Hickory {
    Hickory::new(config(zone)).unwrap()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn mx_answers_are_told_apart() {
    let zone = Zone::serve(MAIL).await;
    let resolver = resolver(&zone);
    for (domain, expected) in [
        ("null.example", MxAnswer::Null),
        ("implicit.example", MxAnswer::Implicit),
        ("bare.example", MxAnswer::Implicit),
        ("addressed.example", MxAnswer::Exchangers(vec![])),
        ("nobody.example", MxAnswer::NoSuchDomain),
        ("unknown.tld", MxAnswer::NoSuchDomain),
        ("dangling.example", MxAnswer::NoSuchDomain),
    ] {
        assert_eq!(resolver.mx(domain).await, Ok(expected), "{domain}");
    }
    let only = Mx { preference: 10, exchange: "mx1.several.example".into() };
    for domain in ["broken.example", "halfnull.example"] {
        let answer = resolver.mx(domain).await;
        assert_eq!(answer, Ok(MxAnswer::Exchangers(vec![only.clone()])), "{domain}");
    }
}

#[tokio::test]
async fn an_alias_has_the_exchangers_of_its_target() {
    let zone = Zone::serve(MAIL).await;
    let resolver = resolver(&zone);
    let MxAnswer::Exchangers(mut of_alias) = resolver.mx("ALIAS.example.").await.unwrap() else {
        panic!("an alias has exchangers");
    };
    of_alias.sort();
    let names: Vec<&str> = of_alias.iter().map(|mx| mx.exchange.as_str()).collect();
    assert_eq!(names, ["mx1.several.example", "mx2.several.example", "mx3.several.example"]);
    let addresses = resolver.addresses("www.mxalias.example").await;
    assert_eq!(addresses, Ok(ips(&["192.0.2.11"])));
}

#[tokio::test]
async fn families_are_asked_and_ordered_as_configured() {
    let zone = Zone::serve(MAIL).await;
    for (family, expected) in [
        (Family::V4Only, "44"),
        (Family::V6Only, "66"),
        (Family::V4First, "4466"),
        (Family::V6First, "6644"),
        (Family::Both, "6464"),
    ] {
        let resolver = Hickory::new(Config { family, ..config(&zone) }).unwrap();
        let addresses = resolver.addresses("mx.both.example").await.unwrap();
        let pattern: String =
            addresses.iter().map(|ip| if ip.is_ipv4() { '4' } else { '6' }).collect();
        assert_eq!(pattern, expected, "{family:?}");
    }
    assert_eq!(zone.asked("mx.both.example", "A"), 4, "not for V6Only");
    assert_eq!(zone.asked("mx.both.example", "AAAA"), 4, "not for V4Only");
}

#[tokio::test]
async fn no_such_host_has_no_addresses() {
    let zone = Zone::serve(MAIL).await;
    let resolver = resolver(&zone);
    for host in ["nobody.example", "bare.example", "host.invalid"] {
        assert_eq!(resolver.addresses(host).await, Ok(vec![]), "{host}");
    }
    assert_eq!(resolver.addresses("localhost").await, Ok(ips(&["::1", "127.0.0.1"])));
}

#[tokio::test]
async fn a_failing_server_is_an_error_and_not_an_absence() {
    let zone = Zone::serve(MAIL).await;
    zone.fault("several.example", "MX", Fault::ServFail);
    zone.fault("implicit.example", "MX", Fault::Refused);
    let resolver = resolver(&zone);
    for domain in ["several.example", "implicit.example"] {
        let answer = resolver.mx(domain).await;
        assert!(matches!(answer, Err(DnsError::Failed { kind: "mx", .. })), "{answer:?}");
    }
    zone.heal();
    assert!(matches!(resolver.mx("several.example").await, Ok(MxAnswer::Exchangers(_))));
    assert_eq!(resolver.metrics().queries("mx", "failed"), 2);
    assert_eq!(resolver.metrics().queries("mx", "found"), 1);
}

#[tokio::test]
async fn one_family_is_enough_when_the_other_fails() {
    let zone = Zone::serve(MAIL).await;
    zone.fault("mx.both.example", "AAAA", Fault::ServFail);
    zone.fault("implicit.example", "A", Fault::ServFail);
    let resolver = resolver(&zone);
    let mut found = resolver.addresses("mx.both.example").await.unwrap();
    found.sort();
    assert_eq!(found, ips(&["192.0.2.41", "192.0.2.42"]));
    let lost = resolver.addresses("implicit.example").await;
    assert!(matches!(lost, Err(DnsError::Failed { kind: "a", .. })), "{lost:?}");
}

#[tokio::test]
async fn an_unresponsive_server_costs_no_more_than_the_timeout() {
    let zone = Zone::serve(MAIL).await;
    zone.fault("several.example", "ANY", Fault::Silence);
    let limit = Duration::from_millis(400);
    let resolver = Hickory::new(Config { timeout: limit, ..config(&zone) }).unwrap();
    let began = tokio::time::Instant::now();
    let answer = resolver.mx("several.example").await;
    assert!(matches!(answer, Err(DnsError::TimedOut { kind: "mx", .. })), "{answer:?}");
    let took = began.elapsed();
    assert!(took < limit * 3, "{took:?}");
    assert_eq!(resolver.metrics().queries("mx", "timeout"), 1);
}

#[tokio::test]
async fn a_server_that_is_gone_is_an_error_and_the_next_one_is_asked() {
    let zone = Zone::serve(MAIL).await;
    let gone = Zone::serve(MAIL).await.addr;
    let alone = Config { servers: vec![gone], timeout: Duration::from_secs(1), ..config(&zone) };
    let answer = Hickory::new(alone).unwrap().mx("null.example").await;
    assert!(
        matches!(answer, Err(DnsError::Failed { .. } | DnsError::TimedOut { .. })),
        "{answer:?}"
    );
    let both = Config { servers: vec![gone, zone.addr], ..config(&zone) };
    assert_eq!(Hickory::new(both).unwrap().mx("null.example").await, Ok(MxAnswer::Null));
}

#[tokio::test]
async fn answers_are_kept_for_as_long_as_they_say() {
    let zone = Zone::serve("$ORIGIN example.\nkept 60 MX 0 .\nfresh 0 MX 0 .\n").await;
    let resolver = resolver(&zone);
    for _ in 0..3 {
        assert_eq!(resolver.mx("kept.example").await, Ok(MxAnswer::Null));
        assert_eq!(resolver.mx("fresh.example").await, Ok(MxAnswer::Null));
    }
    assert_eq!(zone.asked("kept.example", "MX"), 1);
    assert_eq!(zone.asked("fresh.example", "MX"), 3);
    zone.replace("$ORIGIN example.\nfresh MX 10 mx\n");
    assert!(matches!(resolver.mx("fresh.example").await, Ok(MxAnswer::Exchangers(_))));
    assert_eq!(resolver.metrics().queries("mx", "found"), 7, "answers from the cache count");
}

#[tokio::test]
async fn an_answer_too_large_for_udp_comes_by_tcp() {
    let mut text = "$ORIGIN example.\n".to_owned();
    for n in 0..200 {
        text +=
            &format!("large MX {n} a-rather-long-name-of-a-host-{n}.another-long-label.example.\n");
    }
    let zone = Zone::serve(&text).await;
    let answer = resolver(&zone).mx("large.example").await;
    assert!(matches!(answer, Ok(MxAnswer::Exchangers(all)) if all.len() == 200));
}

#[tokio::test]
async fn a_reverse_name_counts_when_it_leads_back() {
    let zone = Zone::serve(MAIL).await;
    let resolver = resolver(&zone);
    let reverse = async |ip: &str| resolver.reverse(ip.parse().unwrap()).await.unwrap();
    assert_eq!(reverse("192.0.2.61").await.as_deref(), Some("named.example"));
    assert_eq!(reverse("::ffff:192.0.2.61").await.as_deref(), Some("named.example"));
    assert_eq!(reverse("192.0.2.62").await, None, "the name has another address");
    assert_eq!(reverse("192.0.2.63").await, None, "no name");
}

#[tokio::test]
async fn what_is_no_name_is_not_asked() {
    let zone = Zone::serve(MAIL).await;
    let resolver = resolver(&zone);
    let long = format!("{}.example", "a".repeat(64));
    for text in ["", ".", "a b.example", "x..example", "192.0.2.1", "bücher.example", &long] {
        assert_eq!(resolver.mx(text).await, Err(DnsError::BadName(text.into())), "{text:?}");
    }
}

#[tokio::test]
async fn counters_have_names_and_labels() {
    let zone = Zone::serve(MAIL).await;
    let resolver = resolver(&zone);
    let mut registry = Registry::default();
    resolver.register(&mut registry);
    resolver.mx("null.example").await.unwrap();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains(r#"dns_queries_total{kind="mx",result="found"} 1"#), "{text}");
    assert!(text.contains("dns_query_seconds_count 1"), "{text}");
}
