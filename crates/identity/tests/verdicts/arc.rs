//! ARC (RFC 8617): dkimpy seals, once and twice, and we verify.

use serde_json::json;
use waypost_harness::zone::Fault;
use waypost_identity::verify::{ArcFinding, AuthResult};

use crate::dkim::Keys;
use crate::world::{World, encoded};

const MESSAGE: &str = "Authentication-Results: one.example; spf=pass smtp.mailfrom=a.example\r\n\
    From: A <a@a.example>\r\nTo: b@dest.example\r\nSubject: s\r\n\
    Date: Mon, 23 Nov 2026 18:41:00 +0000\r\nMessage-ID: <1@a>\r\n\r\nThe  text.\r\n \r\n";

/// dkimpy believes what the field says of the chain so far.
async fn sealed(world: &World, message: &[u8], domain: &str, keys: &Keys) -> Vec<u8> {
    let so_far = if message.starts_with(b"ARC-") { "pass" } else { "none" };
    let results = format!("Authentication-Results: {domain}; arc={so_far}\r\n");
    let message = [results.as_bytes(), message].concat();
    let case = json!({
        "do": "seal", "message": encoded(&message), "selector": "s", "domain": domain,
        "key": keys.pem(), "id": domain,
    });
    world.rewritten(case).await
}

async fn found(world: &World, message: &[u8]) -> ArcFinding {
    let from = Some(("192.0.2.1", "h.example"));
    world.finds(message, from, "a@a.example").await.arc.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_of_dkimpy_are_followed() {
    let (one, two) = (Keys::new(), Keys::new());
    let world = World::new(&[one.at("one.example"), two.at("two.example")].concat()).await;
    assert_eq!(found(&world, MESSAGE.as_bytes()).await.result, AuthResult::None);
    let once = sealed(&world, MESSAGE.as_bytes(), "one.example", &one).await;
    let twice = sealed(&world, &once, "two.example", &two).await;
    for (message, sets) in [(&once, 1), (&twice, 2)] {
        let finding = found(&world, message).await;
        let text = String::from_utf8_lossy(message);
        assert_eq!((finding.result, finding.sets), (AuthResult::Pass, sets), "{finding:?} {text}");
        assert!(!finding.given_up);
    }
    world.zone.fault("s._domainkey.one.example", "TXT", Fault::ServFail);
    assert_eq!(found(&world, &twice).await.result, AuthResult::TempError);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_chain_fails() {
    let (one, two) = (Keys::new(), Keys::new());
    let world = World::new(&[one.at("one.example"), two.at("two.example")].concat()).await;
    let once = sealed(&world, MESSAGE.as_bytes(), "one.example", &one).await;
    let twice = String::from_utf8(sealed(&world, &once, "two.example", &two).await).unwrap();
    let edits: &[(&str, &str, &str)] = &[
        ("body", "The  text.", "Other text."),
        ("author", "From: A", "From: B"),
        ("results of the first", "i=1; one.example", "i=1; won.example"),
        ("a seal gone", "ARC-Seal: i=1;", "X-Was: i=1;"),
        ("another number", "ARC-Seal: i=2;", "ARC-Seal: i=3;"),
        ("a number that is none", "ARC-Seal: i=2;", "ARC-Seal: i=0;"),
        ("SHA-1", "a=rsa-sha256", "a=rsa-sha1"),
    ];
    let mut chains = Vec::new();
    for (what, from, to) in edits {
        assert!(twice.contains(from), "{what}: {twice}");
        let edited = twice.replace(from, to);
        let finding = found(&world, edited.as_bytes()).await;
        assert_eq!(finding.result, AuthResult::Fail, "{what}: {finding:?}");
        chains.push(json!({"do": "chain", "message": encoded(edited.as_bytes())}));
    }
    for ((what, ..), said) in edits.iter().zip(world.opinions(chains).await) {
        assert_eq!(said, "fail", "dkimpy: {what}");
    }
    let given_up = twice.replacen("cv=pass", "cv=fail", 1);
    let finding = found(&world, given_up.as_bytes()).await;
    assert_eq!((finding.result, finding.given_up), (AuthResult::Fail, true));
}
