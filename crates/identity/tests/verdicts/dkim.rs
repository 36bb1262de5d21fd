//! DKIM (RFC 6376): dkimpy signs, we verify; every result, and every form.

use serde_json::{Value, json};
use waypost_harness::zone::Fault;
use waypost_identity::keygen::{Algorithm, GeneratedKey, dns_record, generate};
use waypost_identity::verify::{AuthResult, DkimFinding, Limits};
use waypost_mail::{Clock, SystemClock, Timestamp};

use crate::world::World;

const MESSAGE: &str = "Received: by a\r\nFrom: \"A\" <a@signer.example>\r\nTo: b@dest.example\r\n\
    Subject:  two  words\r\n folded\r\nDate: Mon, 23 Nov 2026 18:41:00 +0000\r\n\r\n\
    Some  text. \r\n\r\n \r\n\t\r\n";

pub(crate) struct Keys {
    pub(crate) key: GeneratedKey,
}

impl Keys {
    pub(crate) fn new() -> Keys {
        Keys { key: generate(Algorithm::Rsa2048).unwrap() }
    }

    pub(crate) fn pem(&self) -> &str {
        self.key.private_pem()
    }

    /// The record of selector `s` at `domain`, as zone text.
    pub(crate) fn at(&self, domain: &str) -> String {
        let record = dns_record("s", domain, self.key.public()).unwrap();
        format!("$ORIGIN {domain}.\n{}", record.zone_text)
    }
}

async fn world(keys: &Keys) -> World {
    let other = Keys::new();
    let zone = [
        keys.at("signer.example"),
        other.at("other.example"),
        "$ORIGIN revoked.example.\ns._domainkey TXT \"v=DKIM1; p=\"\n\
         $ORIGIN odd.example.\ns._domainkey TXT \"v=DKIM1; p=AAAA\"\n"
            .to_owned(),
    ];
    World::new(&zone.concat()).await
}

async fn found(world: &World, message: &[u8]) -> Vec<DkimFinding> {
    let from = Some(("192.0.2.1", "h.example"));
    world.finds(message, from, "a@signer.example").await.dkim.unwrap()
}

async fn results(world: &World, message: &[u8]) -> Vec<AuthResult> {
    found(world, message).await.iter().map(|finding| finding.result).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_good_signature_passes() {
    let keys = Keys::new();
    let world = world(&keys).await;
    for canonicalize in ["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"] {
        let options = json!({"canonicalize": canonicalize});
        let bodies = ["", "\r\n", "a\r\n", "a  b\r\n \r\n\t\r\n\r\n", " \r\n", "no end"];
        for body in bodies {
            let header = MESSAGE.split_once("\r\n\r\n").unwrap().0;
            let message = format!("{header}\r\n\r\n{body}");
            let signed =
                world.signed(message.as_bytes(), "signer.example", keys.pem(), options.clone());
            let signed = signed.await;
            let finding = found(&world, &signed).await.remove(0);
            assert_eq!(finding.result, AuthResult::Pass, "{canonicalize} {body:?}: {finding:?}");
            assert_eq!(
                (finding.domain.as_str(), finding.selector.as_str()),
                ("signer.example", "s")
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_says_why() {
    let keys = Keys::new();
    let world = world(&keys).await;
    let sign = async |domain: &str, options: Value| {
        let signed = world.signed(MESSAGE.as_bytes(), domain, keys.pem(), options).await;
        String::from_utf8(signed).unwrap()
    };
    let good = sign("signer.example", json!({})).await;
    world.zone.fault("s._domainkey.down.example", "TXT", Fault::ServFail);
    let listed = json!({"include_headers": "to:subject:from"});
    let without_author = sign("signer.example", listed).await.replace(" :\r\n from; bh", "; bh");
    for (what, message, expected) in [
        ("unsigned", MESSAGE.to_owned(), vec![]),
        ("good", good.clone(), vec![AuthResult::Pass]),
        ("another body", good.replace("text", "test"), vec![AuthResult::Fail]),
        ("another author", good.replace("From: \"A\"", "From: \"B\""), vec![AuthResult::Fail]),
        ("another key", sign("other.example", json!({})).await, vec![AuthResult::Fail]),
        ("no key", sign("nowhere.example", json!({})).await, vec![AuthResult::PermError]),
        ("revoked", sign("revoked.example", json!({})).await, vec![AuthResult::PermError]),
        ("damaged key", sign("odd.example", json!({})).await, vec![AuthResult::Fail]),
        ("no answer", sign("down.example", json!({})).await, vec![AuthResult::TempError]),
        (
            "a part of the body",
            sign("signer.example", json!({"length": "1"})).await,
            vec![AuthResult::Policy],
        ),
        ("no author", without_author, vec![AuthResult::PermError]),
        (
            "other identity",
            sign("signer.example", json!({"identity": "a@signer.example"}))
                .await
                .replace("i=a@signer.example", "i=a@elsewhere.example"),
            vec![AuthResult::PermError],
        ),
        (
            "malformed",
            format!("DKIM-Signature: v=1; a=rsa-sha256; nonsense\r\n{good}"),
            vec![AuthResult::Pass, AuthResult::Neutral],
        ),
        (
            "of another version",
            format!("DKIM-Signature: v=2; a=rsa-sha256\r\n{MESSAGE}"),
            vec![AuthResult::Neutral],
        ),
        ("SHA-1", good.replace("a=rsa-sha256", "a=rsa-sha1"), vec![AuthResult::PermError]),
        (
            "two",
            format!("{}{good}", good.split_once("\r\nReceived").unwrap().0.to_owned() + "\r\n"),
            vec![AuthResult::Pass; 2],
        ),
    ] {
        let found = found(&world, message.as_bytes()).await;
        let results: Vec<AuthResult> = found.iter().map(|finding| finding.result).collect();
        assert_eq!(results, expected, "{what}: {found:?}\n{message}");
    }
}

/// By our clock, whatever the machine's says.
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_expires() {
    let keys = Keys::new();
    let world = world(&keys).await;
    let signed = world.signed(MESSAGE.as_bytes(), "signer.example", keys.pem(), json!({})).await;
    let signed = String::from_utf8(signed).unwrap();
    assert!(!signed.contains("x="), "{signed}");
    let ring = waypost_identity::Keyring::from_iter([(
        "k".to_owned(),
        waypost_identity::SigningKey::from_pem(keys.pem().as_bytes()).unwrap(),
    )]);
    let request = waypost_mail::SignRequest {
        domain: "signer.example".to_owned(),
        selector: "s".to_owned(),
        key: "k".to_owned(),
        headers: Vec::new(),
        oversign: Vec::new(),
        expire_after: Some(std::time::Duration::from_secs(60)),
    };
    let (header, body) = MESSAGE.split_once("\r\n\r\n").unwrap();
    let header = waypost_mail::HeaderBlock::parse(bytes::Bytes::from(format!("{header}\r\n")));
    let hash = waypost_identity::BodyHash::of([Ok(body)]).unwrap();
    let now = SystemClock.now();
    let fields = ring.sign(&[request], &header, &hash, now).unwrap().concat();
    let message = [fields.as_slice(), MESSAGE.as_bytes()].concat();
    for (later, expected) in [(0, AuthResult::Pass), (61_000, AuthResult::Fail)] {
        let at = Timestamp(now.0 + later);
        let found = world.finds_at(&message, None, "a@signer.example", at, Limits::default());
        assert_eq!(found.await.dkim_result(), Some(expected), "{later}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_signatures_are_looked_at() {
    let keys = Keys::new();
    let world = world(&keys).await;
    let one = world.signed(MESSAGE.as_bytes(), "signer.example", keys.pem(), json!({})).await;
    let field = String::from_utf8(one[..one.len() - MESSAGE.len()].to_vec()).unwrap();
    let message = format!("{}{MESSAGE}", field.repeat(30));
    assert_eq!(results(&world, message.as_bytes()).await, [AuthResult::Pass; 8]);
    assert!(world.zone.asked("s._domainkey.signer.example", "TXT") <= 8);
}
