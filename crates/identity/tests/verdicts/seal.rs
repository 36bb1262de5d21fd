//! What we seal (RFC 8617), dkimpy and mail-auth follow: first, second, and on top of a broken chain.

use serde_json::json;
use waypost_identity::verify::{AuthResult, Findings};
use waypost_identity::{BodyHash, Keyring, SealRequest, SigningKey, results};
use waypost_mail::header::header_len;
use waypost_mail::{Clock, HeaderBlock, SystemClock};

use crate::dkim::Keys;
use crate::world::{World, encoded};

const MESSAGE: &str = "From: A <a@a.example>\r\nTo: b@dest.example\r\nSubject:  s\r\n  t\r\n\
    Date: Mon, 23 Nov 2026 18:41:00 +0000\r\nMessage-ID: <1@a>\r\n\
    DKIM-Signature: v=1; a=rsa-sha256; d=a.example; s=s; h=from; bh=AAAA; b=AAAA\r\n\r\n\
    The  text.\r\n \r\n\t\r\n";

/// As intake does it: verified as it came, told on top, sealed as it leaves.
async fn sealed(world: &World, keys: &Keys, domain: &str, message: &[u8]) -> (Findings, Vec<u8>) {
    let from = Some(("192.0.2.1", "h.example"));
    let found = world.finds(message, from, "a@a.example").await;
    let message = [results::field(domain, &found).as_slice(), message].concat();
    let (header, body) = message.split_at(header_len(&message).unwrap());
    let header = HeaderBlock::parse(bytes::Bytes::copy_from_slice(header));
    let hash = BodyHash::of([Ok(&body[2..])]).unwrap();
    let key = SigningKey::from_pem(keys.pem().as_bytes()).unwrap();
    let ring = Keyring::from_iter([("k".to_owned(), key)]);
    let request =
        SealRequest { key: "k".to_owned(), domain: domain.to_owned(), selector: "s".to_owned() };
    let now = SystemClock.now();
    let set = ring.seal(&request, domain, &found, &header, &hash, now).unwrap();
    (found, [set.unwrap_or_default(), message].concat())
}

async fn chain(world: &World, message: &[u8]) -> (AuthResult, String) {
    let from = Some(("192.0.2.1", "h.example"));
    let ours = world.finds(message, from, "a@a.example").await.arc.unwrap().result;
    let case = json!({"do": "chain", "message": encoded(message)});
    let said = world.opinions(vec![case]).await.remove(0);
    (ours, said.as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn our_chains_are_followed_by_dkimpy() {
    let (one, two) = (Keys::new(), Keys::new());
    let world = World::new(&[one.at("one.example"), two.at("two.example")].concat()).await;
    let (_, once) = sealed(&world, &one, "one.example", MESSAGE.as_bytes()).await;
    assert_eq!(chain(&world, &once).await, (AuthResult::Pass, "pass".to_owned()));
    let text = String::from_utf8(once.clone()).unwrap();
    assert!(text.starts_with("ARC-Seal: i=1; a=rsa-sha256; "), "{text}");
    assert!(
        text.contains("cv=none;") && text.contains("ARC-Authentication-Results: i=1; one.example;")
    );
    let (found, twice) = sealed(&world, &two, "two.example", &once).await;
    assert_eq!(found.arc.unwrap().result, AuthResult::Pass);
    assert_eq!(chain(&world, &twice).await, (AuthResult::Pass, "pass".to_owned()));
    let edited = String::from_utf8(twice).unwrap().replace("The  text", "Another");
    assert_eq!(chain(&world, edited.as_bytes()).await, (AuthResult::Fail, "fail".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_chain_is_sealed_as_broken_and_then_no_more() {
    let (one, two) = (Keys::new(), Keys::new());
    let world = World::new(&[one.at("one.example"), two.at("two.example")].concat()).await;
    let (_, once) = sealed(&world, &one, "one.example", MESSAGE.as_bytes()).await;
    let broken = String::from_utf8(once).unwrap().replace("The  text", "Another");
    let (found, twice) = sealed(&world, &two, "two.example", broken.as_bytes()).await;
    assert_eq!(found.arc.unwrap().result, AuthResult::Fail);
    let text = String::from_utf8(twice.clone()).unwrap();
    assert!(text.starts_with("ARC-Seal: i=2;") && text.contains("cv=fail;"), "{text}");
    assert_eq!(chain(&world, &twice).await.0, AuthResult::Fail);
    let (found, thrice) = sealed(&world, &one, "one.example", &twice).await;
    assert!(found.arc.unwrap().given_up);
    assert!(!String::from_utf8(thrice).unwrap().contains("i=3;"));
}
