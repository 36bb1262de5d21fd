//! SPF (RFC 7208): every result, its limits, and where pyspf is of another opinion.

use serde_json::json;
use waypost_harness::zone::Fault;
use waypost_identity::verify::AuthResult::{
    self, Fail, Neutral, Pass, PermError, SoftFail, TempError,
};

use crate::world::World;

const ZONE: &str = r#"
$ORIGIN example.
pass         TXT "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"
split        TXT "v=spf1 ip4:192.0" ".2.1 -all"
soft         TXT "v=spf1 ~all"
neutral      TXT "v=spf1 ?all"
silent       TXT "v=spf1 ip4:198.51.100.1"
none         TXT "no policy at all"
twice        TXT "v=spf1 ip4:192.0.2.1 -all"
twice        TXT "v=spf1 -all"
beside       TXT "v=spf1 ip4:192.0.2.1 -all"
beside       TXT "site-verification=1"
broken       TXT "v=spf1 ip4:192.0.2.999 -all"
aaa-broken   TXT "v=spf1 unknown:mechanism ip4:192.0.2.1"
aaa-broken   TXT "site-verification=1"
byname       TXT "v=spf1 a mx -all"
byname       A   198.51.100.1
byname       MX  10 mx
mx           A   192.0.2.1
redirect     TXT "v=spf1 redirect=pass.example"
includes     TXT "v=spf1 include:pass.example -all"
included-not TXT "v=spf1 include:soft.example ?all"
includes-nil TXT "v=spf1 include:nowhere.example ip4:192.0.2.1 -all"
inc-twice    TXT "v=spf1 include:twice.example -all"
loop         TXT "v=spf1 include:loop.example -all"
macro        TXT "v=spf1 exists:%{l}.%{i}._spf.macro.example -all"
a.192.0.2.1._spf.macro A 127.0.0.2
eleven       TXT "v=spf1 a:a1.example a:a1.example a:a1.example a:a1.example a:a1.example a:a1.example a:a1.example a:a1.example a:a1.example a:a1.example a:mx.example -all"
ten          TXT "v=spf1 a:a1.example a:a1.example a:a1.example a:a1.example a:a1.example a:a1.example a:a1.example a:a1.example a:a1.example a:mx.example -all"
a1           A   198.51.100.9
voids-2      TXT "v=spf1 a:v1.example a:v2.example ip4:192.0.2.1 -all"
voids-3      TXT "v=spf1 a:v1.example a:v2.example a:v3.example ip4:192.0.2.1 -all"
voids-mx     TXT "v=spf1 mx:v1.example mx:v2.example mx:v3.example ip4:192.0.2.1 -all"
voids-exists TXT "v=spf1 exists:v1.example exists:v2.example exists:v3.example exists:v4.example ip4:192.0.2.1 a:mx.example -all"
six-only     TXT "v=spf1 mx -all"
six-only     MX  10 six1
six-only     MX  20 six2
six-only     MX  30 six3
six-only     MX  40 mx
six1         AAAA 2001:db8::1
six2         AAAA 2001:db8::2
six3         AAAA 2001:db8::3
helo         TXT "v=spf1 ip4:192.0.2.1 -all"
down         TXT "v=spf1 include:servfail.example -all"
"#;

struct Case {
    domain: &'static str,
    ip: &'static str,
    expected: AuthResult,
    /// Where pyspf says something else, and is not wrong.
    pyspf: Option<&'static str>,
}

fn case(domain: &'static str, ip: &'static str, expected: AuthResult) -> Case {
    Case { domain, ip, expected, pyspf: None }
}

fn cases() -> Vec<Case> {
    const GOOD: &str = "192.0.2.1";
    const BAD: &str = "203.0.113.1";
    vec![
        case("pass", GOOD, Pass),
        case("pass", "2001:db8::77", Pass),
        case("pass", BAD, Fail),
        case("pass", "2001:db9::77", Fail),
        case("split", GOOD, Pass),
        case("soft", BAD, SoftFail),
        case("neutral", BAD, Neutral),
        case("silent", BAD, Neutral),
        case("none", GOOD, AuthResult::None),
        case("nowhere", GOOD, AuthResult::None),
        case("twice", GOOD, PermError),
        case("beside", GOOD, Pass),
        case("broken", GOOD, PermError),
        case("aaa-broken", GOOD, PermError),
        case("byname", GOOD, Pass),
        case("byname", BAD, Fail),
        case("redirect", GOOD, Pass),
        case("redirect", BAD, Fail),
        case("includes", GOOD, Pass),
        case("includes", BAD, Fail),
        case("included-not", BAD, Neutral),
        case("includes-nil", GOOD, PermError),
        case("inc-twice", GOOD, PermError),
        case("loop", GOOD, PermError),
        case("macro", GOOD, Pass),
        case("macro", BAD, Fail),
        case("ten", GOOD, Pass),
        case("eleven", GOOD, PermError),
        case("voids-2", GOOD, Pass),
        case("voids-3", GOOD, PermError),
        case("voids-mx", GOOD, PermError),
        case("voids-exists", GOOD, PermError),
        // The hosts of one MX question are one question to us, each is one to pyspf.
        Case { pyspf: Some("permerror"), ..case("six-only", GOOD, Pass) },
        case("servfail", GOOD, TempError),
        case("down", GOOD, TempError),
    ]
}

const MESSAGE: &[u8] = b"From: a@example.org\r\n\r\nx\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn every_result_is_found_as_pyspf_finds_it() {
    let world = World::new(ZONE).await;
    world.zone.fault("servfail.example", "TXT", Fault::ServFail);
    let mut asked = Vec::new();
    for case in cases() {
        let sender = format!("a@{}.example", case.domain);
        let found = world.finds(MESSAGE, Some((case.ip, "helo.example")), &sender).await;
        let spf = found.spf.unwrap();
        assert_eq!(spf.result, case.expected, "{} from {}: {:?}", case.domain, case.ip, spf.reason);
        assert_eq!((spf.domain, spf.by_helo), (format!("{}.example", case.domain), false));
        asked.push(json!({"do": "spf", "ip": case.ip, "helo": "helo.example", "sender": sender}));
    }
    for (case, said) in cases().iter().zip(world.opinions(asked).await) {
        let expected = case.pyspf.unwrap_or(case.expected.word());
        assert_eq!(said, expected, "pyspf: {} from {}", case.domain, case.ip);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_sender_the_name_of_helo_is_asked_about() {
    let world = World::new(ZONE).await;
    for (helo, ip, expected) in [
        ("helo.example", "192.0.2.1", Pass),
        ("helo.example", "203.0.113.1", Fail),
        ("[192.0.2.1]", "192.0.2.1", AuthResult::None),
        ("localhost", "192.0.2.1", AuthResult::None),
        ("not a name", "192.0.2.1", AuthResult::None),
    ] {
        let spf = world.finds(MESSAGE, Some((ip, helo)), "").await.spf.unwrap();
        assert_eq!((spf.result, spf.by_helo), (expected, true), "{helo}");
        assert_eq!(spf.domain, helo);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_no_server_brought_has_no_spf_and_no_iprev() {
    let world = World::new(ZONE).await;
    let found = world.finds(MESSAGE, None, "a@pass.example").await;
    assert_eq!((found.spf, found.iprev), (None, None));
    assert_eq!(world.zone.asked("pass.example", "TXT"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn address_and_name_must_point_at_each_other() {
    let zone = "$ORIGIN 2.0.192.in-addr.arpa.\n1 PTR good.example.\n2 PTR other.example.\n\
        3 PTR nowhere.example.\n5 PTR good.example.\n\
        $ORIGIN example.\ngood A 192.0.2.1\nother A 192.0.2.9\n";
    let world = World::new(zone).await;
    world.zone.fault("6.2.0.192.in-addr.arpa", "PTR", Fault::ServFail);
    for (last, expected, name) in [
        (1, Pass, Some("good.example")),
        (2, Fail, None),
        (3, Fail, None),
        (4, PermError, None),
        (5, Fail, None),
        (6, TempError, None),
    ] {
        let ip = format!("192.0.2.{last}");
        let found = world.finds(MESSAGE, Some((&ip, "h")), "a@example.org").await.iprev.unwrap();
        assert_eq!((found.result, found.name.as_deref()), (expected, name), "{ip}");
    }
    assert_eq!(world.verifier.metrics().verified("iprev", Fail), 3);
}
