//! DMARC (RFC 9989): alignment by SPF and DKIM, relaxed and strict, policies of domains below.

use serde_json::{Value, json};
use waypost_harness::zone::Fault;
use waypost_identity::keygen::dns_record;
use waypost_identity::verify::{AuthResult, DmarcPolicy};

use crate::dkim::Keys;
use crate::world::{World, encoded};

fn zone(keys: &Keys) -> String {
    let policies = r#"
$ORIGIN relaxed.example.
@            TXT "v=spf1 ip4:192.0.2.1 -all"
mail         TXT "v=spf1 ip4:192.0.2.1 -all"
mail         A 192.0.2.1
_dmarc       TXT "v=DMARC1; p=reject; sp=quarantine"
$ORIGIN strict.example.
@            TXT "v=spf1 ip4:192.0.2.1 -all"
mail         TXT "v=spf1 ip4:192.0.2.1 -all"
_dmarc       TXT "v=DMARC1; p=quarantine; adkim=s; aspf=s"
$ORIGIN watching.example.
_dmarc       TXT "v=DMARC1; p=none; rua=mailto:r@watching.example"
$ORIGIN testing.example.
_dmarc       TXT "v=DMARC1; p=reject; t=y; pct=0"
$ORIGIN twice.example.
_dmarc       TXT "v=DMARC1; p=reject"
_dmarc       TXT "v=DMARC1; p=none"
$ORIGIN silent.example.
@            TXT "v=spf1 ip4:192.0.2.1 -all"
"#;
    let key = |domain: &str| dns_record("s", domain, keys.key.public()).unwrap().zone_text;
    let at = |domain: &str| [key(domain), key(&format!("mail.{domain}"))].concat();
    ["relaxed.example", "strict.example"].iter().fold(policies.to_owned(), |zone, domain| {
        let begin = format!("$ORIGIN {domain}.\n");
        zone.replace(&begin, &format!("{begin}{}", at(domain)))
    })
}

struct Case {
    author: &'static str,
    sender: &'static str,
    /// Who signs, if anybody.
    signer: Option<&'static str>,
    good_address: bool,
    expected: (AuthResult, DmarcPolicy),
}

fn cases() -> Vec<Case> {
    use AuthResult::{Fail, None as Nothing, Pass};
    use DmarcPolicy::{None as No, Quarantine, Reject};
    let case = |author, sender, signer, good_address, expected| Case {
        author,
        sender,
        signer,
        good_address,
        expected,
    };
    vec![
        case("relaxed.example", "relaxed.example", None, true, (Pass, Reject)),
        case("relaxed.example", "mail.relaxed.example", None, true, (Pass, Reject)),
        case("mail.relaxed.example", "relaxed.example", None, true, (Pass, Quarantine)),
        case("relaxed.example", "relaxed.example", None, false, (Fail, Reject)),
        case("relaxed.example", "silent.example", None, true, (Fail, Reject)),
        case("mail.relaxed.example", "silent.example", None, true, (Fail, Quarantine)),
        case("relaxed.example", "silent.example", Some("relaxed.example"), true, (Pass, Reject)),
        case(
            "relaxed.example",
            "silent.example",
            Some("mail.relaxed.example"),
            true,
            (Pass, Reject),
        ),
        case("strict.example", "strict.example", None, true, (Pass, Quarantine)),
        case("strict.example", "mail.strict.example", None, true, (Fail, Quarantine)),
        case(
            "strict.example",
            "silent.example",
            Some("mail.strict.example"),
            true,
            (Fail, Quarantine),
        ),
        case("strict.example", "silent.example", Some("strict.example"), false, (Pass, Quarantine)),
        case("watching.example", "silent.example", None, true, (Fail, No)),
        case("silent.example", "silent.example", None, true, (Nothing, No)),
    ]
}

async fn message(world: &World, keys: &Keys, case: &Case) -> Vec<u8> {
    let text = format!(
        "From: A <a@{}>\r\nTo: b@dest.example\r\nDate: Mon, 23 Nov 2026 18:41:00 +0000\r\n\
         Message-ID: <1@a>\r\nSubject: s\r\n\r\nx\r\n",
        case.author
    );
    match case.signer {
        Some(signer) => world.signed(text.as_bytes(), signer, keys.pem(), json!({})).await,
        None => text.into_bytes(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alignment_is_found_as_authheaders_finds_it() {
    let keys = Keys::new();
    let world = World::new(&zone(&keys)).await;
    let mut asked: Vec<Value> = Vec::new();
    for case in cases() {
        let message = message(&world, &keys, &case).await;
        let ip = if case.good_address { "192.0.2.1" } else { "203.0.113.1" };
        let sender = format!("a@{}", case.sender);
        let found = world.finds(&message, Some((ip, "h.example")), &sender).await;
        let dmarc = found.dmarc.clone().unwrap();
        assert_eq!((dmarc.result, dmarc.policy), case.expected, "{}: {found:?}", case.author);
        asked.push(json!({
            "do": "judge", "message": encoded(&message), "ip": ip, "helo": "h.example",
            "sender": sender,
        }));
    }
    for (case, said) in cases().iter().zip(world.opinions(asked).await) {
        // authheaders looks for the organizational domain in a list, where there is no such top.
        if case.author.starts_with("mail.") {
            continue;
        }
        let expected = case.expected.0.word();
        assert_eq!(said["dmarc"], expected, "{} by {}: {said}", case.author, case.sender);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rfc_9989_says_of_odd_policies() {
    let keys = Keys::new();
    let world = World::new(&zone(&keys)).await;
    world.zone.fault("_dmarc.down.example", "TXT", Fault::ServFail);
    let found = async |header: &str| {
        let message = format!("{header}Subject: s\r\n\r\nx\r\n");
        let from = Some(("203.0.113.1", "h.example"));
        let found = world.finds(message.as_bytes(), from, "a@silent.example").await;
        let dmarc = found.dmarc.unwrap();
        (dmarc.result, dmarc.policy)
    };
    use AuthResult::{Fail, None as Nothing, PermError, TempError};
    use DmarcPolicy::{None as No, Quarantine, Reject};
    // §4.7: a test takes one step back, and `pct` says nothing any more.
    assert_eq!(found("From: a@testing.example\r\n").await, (Fail, Quarantine));
    // §4.10: two policies are none.
    assert_eq!(found("From: a@twice.example\r\n").await, (Nothing, No));
    assert_eq!(found("From: a@deep.down.twice.example\r\n").await, (Nothing, No));
    assert_eq!(found("From: a@nowhere.invalid\r\n").await, (Nothing, No));
    assert_eq!(found("From: a@down.example\r\n").await.0, TempError);
    // One field with authors of two domains is exempt; two fields are no message.
    let two = "From: a@relaxed.example, b@strict.example\r\n";
    assert_eq!(found(two).await, (Nothing, No));
    let twice = "From: a@relaxed.example\r\nFrom: b@silent.example\r\n";
    assert_eq!(found(twice).await, (PermError, Reject));
    assert_eq!(found("X: y\r\n").await, (PermError, Reject));
}
