//! Logins by each mechanism.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::setup::{House, Peer, b64, unb64};
use crate::ListenerKind::{Relay, Submission, Submissions};
use crate::Users;
use crate::users::Verifiers;

#[tokio::test]
async fn submission_wants_tls_then_a_login_then_mail() {
    let house = House::open(|_| {}).await;
    let mut peer = house.knock(Submission).await;
    let offered = peer.say("EHLO peer.example").await;
    assert!(offered.contains("STARTTLS") && !offered.contains("AUTH"), "{offered}");
    peer.expect("MAIL FROM:<a@b.example>", "530 5.7.0 Must issue STARTTLS").await;
    peer.expect(&format!("AUTH PLAIN {}", b64("\0alice\0wonder")), "530").await;
    peer.expect("STARTTLS", "220").await;
    let mut peer = peer.encrypt(&house.roots, "mx.example.org").await;
    peer.expect("MAIL FROM:<a@b.example>", "503").await;
    let offered = peer.say("EHLO peer.example").await;
    assert!(offered.contains("AUTH SCRAM-SHA-256 PLAIN LOGIN"), "{offered}");
    assert!(!offered.contains("STARTTLS"), "{offered}");
    peer.expect("MAIL FROM:<a@b.example>", "530 5.7.0 Authentication required").await;
    peer.expect(&format!("AUTH PLAIN {}", b64("\0alice\0wonder")), "235 2.7.0").await;
    assert!(peer.deliver("x@anywhere.example").await.starts_with("250 2.0.0"));
    let (entry, text) = house.message();
    assert_eq!(entry.facts.identity.as_deref(), Some("alice"));
    assert_eq!(entry.facts.tls.as_ref().unwrap().version, "1.3");
    assert_eq!(entry.facts.tls.as_ref().unwrap().sni.as_deref(), Some("mx.example.org"));
    assert!(text.contains("with ESMTPSA id"), "{text}");
    assert!(text.contains("Message-ID: <") && text.contains("Date: "), "{text}");
}

#[tokio::test]
async fn submissions_are_encrypted_from_the_first_octet() {
    let house = House::open(|_| {}).await;
    let mut peer = house.encrypted(Submissions).await;
    peer.expect("MAIL FROM:<a@b.example>", "530 5.7.0 Authentication required").await;
    peer.expect(&format!("AUTH PLAIN {}", b64("\0carol\0both")), "235").await;
    assert!(peer.deliver("x@anywhere.example").await.starts_with("250 2.0.0"));
}

#[tokio::test]
async fn plain_and_login_in_all_their_forms() {
    let house = House::open(|_| {}).await;
    for dialogue in [
        &[(format!("AUTH PLAIN {}", b64("alice\0alice\0wonder")), "235")][..],
        &[("AUTH PLAIN".into(), "334 "), (b64("\0bob\0pencil"), "235")],
        &[
            ("AUTH LOGIN".into(), "334 VXNlcm5hbWU6"),
            (b64("alice"), "334 UGFzc3dvcmQ6"),
            (b64("wonder"), "235"),
        ],
        &[(format!("AUTH LOGIN {}", b64("carol")), "334"), (b64("both"), "235")],
        &[("AUTH LOGIN".into(), "334"), ("*".into(), "501 5.7.0")],
        &[(format!("AUTH PLAIN {}", b64("\0alice")), "501 5.5.4")],
        &[(format!("AUTH PLAIN {}", b64("\0a\0b\0c")), "501 5.5.4")],
        &[(format!("AUTH PLAIN {}", b64("bob\0alice\0wonder")), "535 5.7.8")],
        &[("AUTH CRAM-MD5".into(), "504")],
    ] {
        let mut peer = house.encrypted(Submission).await;
        for (line, expected) in dialogue {
            peer.expect(line, expected).await;
        }
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_look_the_same() {
    let house = House::open(|_| {}).await;
    let mut seen = std::collections::BTreeSet::new();
    for (name, password) in [("alice", "wrong"), ("bob", "wrong"), ("mallory", "wonder")] {
        let mut peer = house.encrypted(Submission).await;
        let plain = format!("AUTH PLAIN {}", b64(format!("\0{name}\0{password}")));
        seen.insert(peer.say(&plain).await);
        peer.expect(&format!("AUTH LOGIN {}", b64(name)), "334").await;
        seen.insert(peer.say(&b64(password)).await);
        seen.insert(scram(&mut peer, name, password).await);
    }
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        ["535 5.7.8 Authentication credentials invalid"]
    );
}

#[tokio::test]
async fn scram_proves_both_sides() {
    let house = House::open(|_| {}).await;
    for (name, password) in [("bob", "pencil"), ("carol", "both")] {
        let mut peer = house.encrypted(Submission).await;
        assert!(scram(&mut peer, name, password).await.starts_with("235"));
        assert!(peer.deliver("x@anywhere.example").await.starts_with("250"));
    }
}

#[tokio::test]
async fn an_unknown_name_has_one_salt_forever() {
    let house = House::open(|_| {}).await;
    let mut salts = std::collections::BTreeSet::new();
    for name in ["mallory", "mallory", "alice", "alice"] {
        let mut peer = house.encrypted(Submission).await;
        let first = format!("AUTH SCRAM-SHA-256 {}", b64(format!("n,,n={name},r=x")));
        let reply = unb64(&peer.say(&first).await[4..]);
        salts.insert(reply.split(",s=").nth(1).unwrap().to_owned());
    }
    assert_eq!(salts.len(), 2, "{salts:?}");
}

#[tokio::test]
async fn mechanisms_follow_the_users() {
    let offered = async |users: Users| {
        let house = House::open(|settings| settings.users = users).await;
        house.encrypted(Relay).await.say("EHLO again.example").await
    };
    let bob = super::setup::users().get("bob").unwrap().clone();
    let only_bob = Users::new([("bob".to_owned(), Verifiers::clone(&bob))]);
    let reply = offered(only_bob).await;
    assert!(reply.contains("AUTH SCRAM-SHA-256") && !reply.contains("PLAIN"), "{reply}");
}

#[tokio::test]
async fn a_reload_takes_a_user_away_from_new_sessions() {
    let house = House::open(|_| {}).await;
    let mut old = house.encrypted(Submission).await;
    let plain = format!("AUTH PLAIN {}", b64("\0alice\0wonder"));
    let current = house.server.current.read().unwrap().clone();
    let mut settings = current.settings.clone();
    let bob = settings.users.get("bob").unwrap().clone();
    settings.users = Users::new([("bob".to_owned(), Verifiers::clone(&bob))]);
    house.server.reload(settings.clone()).unwrap();
    old.expect(&plain, "235").await;
    house.encrypted(Submission).await.expect(&plain, "504").await;
    settings.users = Users::new([]);
    house.server.reload(settings.clone()).unwrap();
    house.encrypted(Submission).await.expect(&plain, "504").await;
    settings.tls = None;
    assert!(house.server.reload(settings).is_err());
}

/// The client's side of RFC 5802; gives the last reply.
async fn scram(peer: &mut Peer, name: &str, password: &str) -> String {
    let bare = format!("n={name},r=fyko+d2lbbFgONRv9qkxdawL");
    let reply = peer.say(&format!("AUTH SCRAM-SHA-256 {}", b64(format!("n,,{bare}")))).await;
    let first = unb64(reply.strip_prefix("334 ").unwrap());
    let mut parts = first.split(',');
    let nonce = parts.next().unwrap().strip_prefix("r=").unwrap();
    let salt = unb64_bytes(parts.next().unwrap().strip_prefix("s=").unwrap());
    let iterations = parts.next().unwrap().strip_prefix("i=").unwrap().parse().unwrap();
    let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), &salt, iterations);
    let client_key = hmac(&salted, "Client Key");
    let without_proof = format!("c=biws,r={nonce}");
    let auth_message = format!("{bare},{first},{without_proof}");
    let signature = hmac(&Sha256::digest(client_key), &auth_message);
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(k, s)| k ^ s).collect();
    let reply = peer.say(&b64(format!("{without_proof},p={}", b64(proof)))).await;
    let Some(last) = reply.strip_prefix("334 ") else { return reply };
    let server = hmac(&hmac(&salted, "Server Key"), &auth_message);
    assert_eq!(unb64(last), format!("v={}", b64(server)));
    peer.say("").await
}

fn hmac(key: &[u8], text: &str) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

fn unb64_bytes(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}
