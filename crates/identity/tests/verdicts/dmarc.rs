//! DMARC (RFC 9989): alignment by SPF and DKIM, relaxed and strict, policies of domains below. The names
//! end with a suffix that is listed, because authheaders finds organizational domains in a list.

use serde_json::{Value, json};
use waypost_harness::zone::Fault;
use waypost_identity::keygen::dns_record;
use waypost_identity::verify::{AuthResult, DmarcPolicy};

use crate::dkim::Keys;
use crate::world::{World, encoded};

fn zone(keys: &Keys) -> String {
    let policies = r#"
$ORIGIN relaxedexample.com.
@            TXT "v=spf1 ip4:192.0.2.1 -all"
mail         TXT "v=spf1 ip4:192.0.2.1 -all"
mail         A 192.0.2.1
_dmarc       TXT "v=DMARC1; p=reject; sp=quarantine"
$ORIGIN strictexample.com.
@            TXT "v=spf1 ip4:192.0.2.1 -all"
mail         TXT "v=spf1 ip4:192.0.2.1 -all"
_dmarc       TXT "v=DMARC1; p=quarantine; adkim=s; aspf=s"
$ORIGIN watchingexample.com.
_dmarc       TXT "v=DMARC1; p=none; rua=mailto:r@watchingexample.com"
$ORIGIN testingexample.com.
_dmarc       TXT "v=DMARC1; p=reject; t=y; pct=0"
$ORIGIN twiceexample.com.
_dmarc       TXT "v=DMARC1; p=reject"
_dmarc       TXT "v=DMARC1; p=none"
$ORIGIN silentexample.com.
@            TXT "v=spf1 ip4:192.0.2.1 -all"
"#;
    let key = |domain: &str| dns_record("s", domain, keys.key.public()).unwrap().zone_text;
    let at = |domain: &str| [key(domain), key(&format!("mail.{domain}"))].concat();
    ["relaxedexample.com", "strictexample.com"].iter().fold(policies.to_owned(), |zone, domain| {
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
        case("relaxedexample.com", "relaxedexample.com", None, true, (Pass, Reject)),
        case("relaxedexample.com", "mail.relaxedexample.com", None, true, (Pass, Reject)),
        case("mail.relaxedexample.com", "relaxedexample.com", None, true, (Pass, Quarantine)),
        case("relaxedexample.com", "relaxedexample.com", None, false, (Fail, Reject)),
        case("relaxedexample.com", "silentexample.com", None, true, (Fail, Reject)),
        case("mail.relaxedexample.com", "silentexample.com", None, true, (Fail, Quarantine)),
        case(
            "relaxedexample.com",
            "silentexample.com",
            Some("relaxedexample.com"),
            true,
            (Pass, Reject),
        ),
        case(
            "relaxedexample.com",
            "silentexample.com",
            Some("mail.relaxedexample.com"),
            true,
            (Pass, Reject),
        ),
        case("strictexample.com", "strictexample.com", None, true, (Pass, Quarantine)),
        case("strictexample.com", "mail.strictexample.com", None, true, (Fail, Quarantine)),
        case(
            "strictexample.com",
            "silentexample.com",
            Some("mail.strictexample.com"),
            true,
            (Fail, Quarantine),
        ),
        case(
            "strictexample.com",
            "silentexample.com",
            Some("strictexample.com"),
            false,
            (Pass, Quarantine),
        ),
        case("watchingexample.com", "silentexample.com", None, true, (Fail, No)),
        case("silentexample.com", "silentexample.com", None, true, (Nothing, No)),
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
        let found = world.finds(message.as_bytes(), from, "a@silentexample.com").await;
        let dmarc = found.dmarc.unwrap();
        (dmarc.result, dmarc.policy)
    };
    use AuthResult::{Fail, None as Nothing, PermError, TempError};
    use DmarcPolicy::{None as No, Quarantine, Reject};
    // §4.7: a test takes one step back, and `pct` says nothing any more.
    assert_eq!(found("From: a@testingexample.com\r\n").await, (Fail, Quarantine));
    // §4.10: two policies are none.
    assert_eq!(found("From: a@twiceexample.com\r\n").await, (Nothing, No));
    assert_eq!(found("From: a@deep.down.twiceexample.com\r\n").await, (Nothing, No));
    assert_eq!(found("From: a@nowhere.invalid\r\n").await, (Nothing, No));
    assert_eq!(found("From: a@down.example\r\n").await.0, TempError);
    // One field with authors of two domains is exempt; two fields are no message.
    let two = "From: a@relaxedexample.com, b@strictexample.com\r\n";
    assert_eq!(found(two).await, (Nothing, No));
    let twice = "From: a@relaxedexample.com\r\nFrom: b@silentexample.com\r\n";
    assert_eq!(found(twice).await, (PermError, Reject));
    assert_eq!(found("X: y\r\n").await, (PermError, Reject));
}
