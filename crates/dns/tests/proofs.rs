//! What a foreign server's signed zones prove, and what happens where signatures do not come through.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::proto::rr::RecordType;
use tempfile::NamedTempFile;
use waypost_dns::{Config, Dane, DnsError, Dnssec, MxAnswer, Resolver, Validator, Vouched, dane};
use waypost_dns::{Hickory, Tlsa};
use waypost_harness::knot::Knot;
use waypost_harness::meddler::{Lie, Meddler};
use waypost_harness::zone::{Fault, Zone};

const DIGEST: &str = "1111111111111111111111111111111111111111111111111111111111111111";

fn zones() -> String {
    format!(
        "$ORIGIN signed.\n\
         @ MX 10 mx\n\
         mx A 192.0.2.1\n\
         six AAAA 2001:db8::1\n\
         bare TXT \"no address\"\n\
         alias CNAME mx\n\
         half CNAME mx.plain.\n\
         lost CNAME mx.forged.\n\
         web CNAME mx.plain.\n\
         doubt A 192.0.2.2\n\
         nx MX 0 .\n\
         away MX 10 mx.plain.\n\
         _25._tcp.mx TLSA 3 1 1 {DIGEST}\n\
         _25._tcp.six TLSA 3 1 1 {DIGEST}\n\
         _25._tcp.half TLSA 3 1 1 {DIGEST}\n\
         _25._tcp.away CNAME _dane.away\n\
         _dane.away TLSA 2 0 1 {DIGEST}\n\
         away A 192.0.2.3\n\
         leads A 192.0.2.8\n\
         _25._tcp.leads CNAME _dane.plain.\n\
         $ORIGIN _tcp.doubt.signed.\n\
         ; forged\n\
         _25 TLSA 3 1 1 {DIGEST}\n\
         $ORIGIN hashed.\n\
         ; hashed\n\
         @ MX 10 mx\n\
         mx A 192.0.2.6\n\
         $ORIGIN wild.\n\
         mx A 192.0.2.7\n\
         _25._tcp.mx TLSA 3 1 1 {DIGEST}\n\
         * CNAME bare.signed.\n\
         $ORIGIN plain.\n\
         ; unsigned\n\
         @ MX 10 mx\n\
         mx A 192.0.2.4\n\
         _25._tcp.mx TLSA 3 1 1 {DIGEST}\n\
         _dane TLSA 3 1 1 {DIGEST}\n\
         elsewhere MX 10 mx.signed.\n\
         web CNAME bare.signed.\n\
         $ORIGIN forged.\n\
         ; forged\n\
         @ MX 10 mx\n\
         mx A 192.0.2.5\n"
    )
}

fn config(server: SocketAddr, anchor: &NamedTempFile) -> Config {
    Config {
        servers: vec![server],
        trust_anchor: Some(anchor.path().to_owned()),
        timeout: Duration::from_secs(20),
        ..Config::default()
    }
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn required(base: &str, usage: u8, selector: u8) -> Dane {
    Dane::of(base, vec![Tlsa { usage, selector, matching: 1, data: vec![0x11; 32] }])
}

#[tokio::test]
async fn what_is_signed_is_proven_and_what_is_not_is_told_apart_from_what_is_forged() {
    let knot = Knot::serve(&zones());
    let anchor = file(knot.trust_anchor());
    let validator = Validator::new(&config(knot.addr, &anchor)).unwrap();
    assert!(validator.works().await);

    for (domain, secure) in [("signed", true), ("plain", false), ("elsewhere.plain", false)] {
        let (answer, proven) = validator.mx(domain).await.unwrap();
        assert!(matches!(answer, MxAnswer::Exchangers(_)) && proven == secure, "{domain}");
    }
    let (answer, proven) = validator.mx("bare.signed").await.unwrap();
    assert!(answer == MxAnswer::Implicit && proven, "that there is no MX is proven");
    assert_eq!(validator.mx("nx.signed").await.unwrap(), (MxAnswer::Null, true));
    assert_eq!(validator.mx("nobody.signed").await.unwrap(), (MxAnswer::NoSuchDomain, true));
    assert!(matches!(validator.mx("forged").await, Err(DnsError::Bogus { .. })));

    for (host, expected) in [
        ("mx.signed", required("mx.signed", 3, 1)),
        ("MX.Signed", required("mx.signed", 3, 1)),
        ("six.signed", required("six.signed", 3, 1)),
        ("alias.signed", required("mx.signed", 3, 1)),
        ("half.signed", required("half.signed", 3, 1)),
        ("away.signed", required("away.signed", 2, 0)),
        ("bare.signed", Dane::Absent),
        // Records that anybody can forge demand nothing.
        ("leads.signed", Dane::Absent),
        ("mx.plain", Dane::Absent),
        ("192.0.2.1", Dane::Absent),
        ("[192.0.2.1]", Dane::Absent),
    ] {
        assert_eq!(dane(&validator, host, 25).await.unwrap(), expected, "{host}");
    }
    assert_eq!(dane(&validator, "mx.signed", 587).await.unwrap(), Dane::Absent, "another port");
    for host in ["doubt.signed", "mx.forged", "lost.signed"] {
        let answer = dane(&validator, host, 25).await;
        assert!(matches!(answer, Err(DnsError::Bogus { .. })), "{host}: {answer:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_is_no_answer() {
    let text = format!("$ORIGIN signed.\nmx A 192.0.2.1\n_25._tcp.mx TLSA 3 1 1 {DIGEST}\n");
    let zone = Zone::serve_signed(&text).await;
    let anchor = file(&zone.trust_anchor());
    let validator = Validator::new(&config(zone.addr, &anchor)).unwrap();
    assert!(validator.works().await);
    assert_eq!(dane(&validator, "mx.signed", 25).await, Ok(required("mx.signed", 3, 1)));
    zone.fault("_25._tcp.mx.signed", "TLSA", Fault::ServFail);
    let validator = Validator::new(&config(zone.addr, &anchor)).unwrap();
    let answer = dane(&validator, "mx.signed", 25).await;
    assert!(matches!(answer, Err(DnsError::Failed { .. })), "{answer:?}");
    zone.heal();
    assert_eq!(dane(&validator, "mx.signed", 25).await, Ok(required("mx.signed", 3, 1)));
}

#[tokio::test]
async fn keys_that_cannot_be_had_do_not_make_a_zone_unsigned() {
    let text = format!("$ORIGIN signed.\nmx A 192.0.2.1\n_25._tcp.mx TLSA 3 1 1 {DIGEST}\n");
    let zone = Zone::serve_signed(&text).await;
    let anchor = file(&zone.trust_anchor());
    zone.fault("signed", "DNSKEY", Fault::ServFail);
    let validator = Validator::new(&config(zone.addr, &anchor)).unwrap();
    let answer = dane(&validator, "mx.signed", 25).await;
    assert!(answer.is_err(), "{answer:?}");
}

#[tokio::test]
async fn where_signatures_do_not_come_through_nothing_is_validated() {
    let stripping = Zone::serve("$ORIGIN signed.\n@ MX 10 mx\nmx A 192.0.2.1\n").await;
    let signed = Zone::serve_signed("$ORIGIN signed.\n@ MX 10 mx\n").await;
    let anchor = file(&signed.trust_anchor());
    let validator = Validator::new(&config(stripping.addr, &anchor)).unwrap();
    assert!(!validator.works().await);
    let asked = stripping.asked("signed", "SOA");
    assert!(!validator.works().await, "and it is not asked again at once");
    assert_eq!(stripping.asked("signed", "SOA"), asked);
}

#[tokio::test]
async fn proven_exchangers_count_and_forged_ones_do_not() {
    let knot = Knot::serve("$ORIGIN signed.\n@ MX 10 mx\n$ORIGIN plain.\n; unsigned\n@ MX 10 mx\n");
    let liar = Zone::serve("$ORIGIN .\nsigned. MX 10 evil.\nplain. MX 10 evil.\n").await;
    let anchor = file(knot.trust_anchor());
    let validator = Validator::new(&config(knot.addr, &anchor)).unwrap();
    let plain = Config { servers: vec![liar.addr], ..Config::default() };
    let plain = Hickory::new(plain).unwrap();
    let vouched = Vouched::new(&plain, &validator);
    let exchanger = |answer| match answer {
        Ok(MxAnswer::Exchangers(records)) => records[0].exchange.clone(),
        other => format!("{other:?}"),
    };
    assert_eq!(exchanger(vouched.mx("signed").await), "mx.signed");
    assert!(vouched.is_secure());
    assert_eq!(exchanger(vouched.mx("plain").await), "evil", "nobody can know better");
    assert!(!vouched.is_secure());
}

/// From a zone that is provably unsigned, and has nothing to do with the question.
const STRANGER: &str = "plain. SOA ns. hostmaster. 1 3600 600 86400 60";
const LIES: &[(&str, &str, Lie)] = &[
    ("_25._tcp.mx.signed.", "TLSA", Lie::Nothing(STRANGER)),
    ("six.signed.", "ANY", Lie::Nothing(STRANGER)),
    ("signed.", "MX", Lie::Nothing(STRANGER)),
    // A proof that counts for nothing, of a signed zone that is as strange.
    (
        "_25._tcp.away.signed.",
        "TLSA",
        Lie::DeniedAs("nobody.hashed.", &[RecordType::NSEC3, RecordType::RRSIG]),
    ),
    (
        "away.signed.",
        "MX",
        Lie::DeniedAs("nobody.hashed.", &[RecordType::NSEC3, RecordType::RRSIG]),
    ),
    // Nothing at all, and what is said of names that do not exist.
    ("_25._tcp.half.signed.", "TLSA", Lie::Nothing("")),
    ("_25._tcp.mx.wild.", "TLSA", Lie::SaidAs("nobody.wild.", STRANGER)),
];

#[tokio::test]
async fn nothing_is_taken_away_by_who_can_answer_for_the_server() {
    let knot = Knot::serve(&zones());
    let anchor = file(knot.trust_anchor());
    let honest = Validator::new(&config(knot.addr, &anchor)).unwrap();
    let meddler = Meddler::before(knot.addr, LIES).await;
    let validator = Validator::new(&config(meddler.addr, &anchor)).unwrap();
    assert!(validator.works().await);
    for host in ["mx.signed", "six.signed", "away.signed", "half.signed", "mx.wild"] {
        let truth = dane(&honest, host, 25).await.unwrap();
        assert!(matches!(truth, Dane::Required(_)), "{host}: {truth:?}");
        let answer = dane(&validator, host, 25).await;
        assert!(matches!(answer, Err(DnsError::Bogus { .. })), "{host}: {answer:?}");
    }
    for domain in ["signed", "away.signed"] {
        let answer = validator.mx(domain).await;
        assert!(matches!(answer, Err(DnsError::Bogus { .. })), "{domain}: {answer:?}");
    }
    assert!(dane(&validator, "alias.signed", 25).await.is_err(), "by way of an alias");
}

/// The resolver that finds the way validates too where it has a trust anchor, and is fooled no more easily.
#[tokio::test]
async fn nor_is_the_plain_resolver_fooled_where_it_has_a_trust_anchor() {
    let knot = Knot::serve(&zones());
    let anchor = file(knot.trust_anchor());
    let honest = Hickory::new(config(knot.addr, &anchor)).unwrap();
    let meddler = Meddler::before(knot.addr, LIES).await;
    let plain = Hickory::new(config(meddler.addr, &anchor)).unwrap();
    for domain in ["signed", "away.signed"] {
        let truth = honest.mx(domain).await;
        assert!(matches!(truth, Ok(MxAnswer::Exchangers(_))), "{domain}: {truth:?}");
        let answer = plain.mx(domain).await;
        assert!(matches!(answer, Err(DnsError::Bogus { .. })), "{domain}: {answer:?}");
    }
    let six: Vec<std::net::IpAddr> = vec!["2001:db8::1".parse().unwrap()];
    assert_eq!(honest.addresses("six.signed").await, Ok(six));
    assert!(plain.addresses("six.signed").await.is_err());
    // What is unsigned, an alias or not there is found as before.
    assert_eq!(honest.addresses("alias.signed").await.map(|all| all.len()), Ok(1));
    assert_eq!(honest.addresses("half.signed").await.map(|all| all.len()), Ok(1));
    assert_eq!(honest.addresses("mx.plain").await.map(|all| all.len()), Ok(1));
    assert_eq!(honest.mx("nobody.signed").await, Ok(MxAnswer::NoSuchDomain));
    assert_eq!(honest.mx("bare.signed").await, Ok(MxAnswer::Implicit));
}

#[tokio::test]
async fn absence_is_proven_for_the_name_that_was_asked_for() {
    let knot = Knot::serve(&zones());
    let anchor = file(knot.trust_anchor());
    let validator = Validator::new(&config(knot.addr, &anchor)).unwrap();
    let implicit = |secure| Ok((MxAnswer::Implicit, secure));
    assert_eq!(validator.mx("web.plain").await, implicit(false), "an alias that anybody can forge");
    assert_eq!(validator.mx("web.signed").await, implicit(false), "an alias to what is not signed");
    assert_eq!(validator.mx("mx.wild").await, implicit(true));
    // RFC 9276 §3.2: so many iterations prove nothing, and refute nothing.
    let nobody = validator.mx("nobody.hashed").await;
    assert_eq!(nobody, Ok((MxAnswer::NoSuchDomain, false)));
    assert_eq!(dane(&validator, "mx.hashed", 25).await, Ok(Dane::Absent));
    // Servers may leave out why there is nothing where nothing is signed.
    const BARE: &[(&str, &str, Lie)] =
        &[("mx.plain.", "MX", Lie::Nothing("")), ("bare.signed.", "MX", Lie::Nothing(""))];
    let meddler = Meddler::before(knot.addr, BARE).await;
    let validator = Validator::new(&config(meddler.addr, &anchor)).unwrap();
    assert_eq!(validator.mx("mx.plain").await, implicit(false));
    assert!(validator.mx("bare.signed").await.is_err());
}
