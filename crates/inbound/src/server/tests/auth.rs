//! Logins by each mechanism.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use pbkdf2::pbkdf2_hmac_array;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use waypost_hooks::Verdict;

use super::policy::Script;
use super::setup::{House, Peer, b64, unb64};
use crate::ListenerKind::{Relay, Submission, Submissions};
use crate::scram::ScramHash;
use crate::tls::TlsPolicy;
use crate::token::{Algorithm, KeySet, TokenIssuer, TokenRules};
use crate::users::Account;
use crate::{DoorRules, TokenSettings, Users};

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
    assert!(offered.contains("AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"), "{offered}");
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
        seen.insert(Scram::default().log_in(&mut peer, name, password).await);
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
        assert!(Scram::default().log_in(&mut peer, name, password).await.starts_with("235"));
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
    let only_bob = Users::new([("bob".to_owned(), Account::clone(&bob))]);
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
    settings.users = Users::new([("bob".to_owned(), Account::clone(&bob))]);
    house.server.reload(settings.clone()).unwrap();
    old.expect(&plain, "235").await;
    house.encrypted(Submission).await.expect(&plain, "504").await;
    settings.users = Users::new([]);
    house.server.reload(settings.clone()).unwrap();
    house.encrypted(Submission).await.expect(&plain, "504").await;
    settings.tls = None;
    assert!(house.server.reload(settings).is_err());
}

#[tokio::test]
async fn scram_is_bound_to_the_channel() {
    let house = House::open(|settings| settings.auth.scram_sha_1 = true).await;
    for hash in [ScramHash::Sha256, ScramHash::Sha1] {
        let plus = Scram { hash, plus: true, flag: "p=tls-exporter", ..Scram::default() };
        for (scram, expected) in [
            (plus, "235"),
            (Scram { stranger: true, ..plus }, "535 5.7.8 Authentication credentials invalid"),
            (Scram { flag: "n", ..plus }, "501"),
            (Scram { flag: "p=tls-unique", ..plus }, "501"),
            (Scram { plus: false, flag: "n", ..plus }, "235"),
            (Scram { plus: false, flag: "p=tls-exporter", ..plus }, "501"),
            // RFC 5802 §6: it can bind and was told that we cannot.
            (Scram { plus: false, flag: "y", ..plus }, "535 5.7.8 Channel binding is offered"),
        ] {
            let mut peer = house.encrypted(Submissions).await;
            let reply = scram.log_in(&mut peer, "carol", "both").await;
            assert!(reply.starts_with(expected), "{scram:?} got {reply}");
        }
    }
}

#[tokio::test]
async fn tls_1_2_is_bound_to_only_with_extended_master_secret() {
    let offered = async |safe: bool| {
        let house = House::open(|settings| {
            let tls = TlsPolicy { extended_master_secret: safe, ..TlsPolicy::default() };
            settings
                .doors
                .insert(Submissions.to_string(), DoorRules { tls, ..DoorRules::default() });
        });
        let house = house.await;
        let peer = house.connect(Submissions).await;
        let versions = [&rustls::version::TLS12];
        let mut peer = peer.encrypt_by(&versions, &house.roots, "mx.example.org").await;
        peer.reply().await;
        let offered = peer.say("EHLO peer.example").await;
        let flag = if safe { "p=tls-exporter" } else { "y" };
        let scram = Scram { plus: safe, flag, ..Scram::default() };
        assert!(scram.log_in(&mut peer, "bob", "pencil").await.starts_with("235"));
        offered
    };
    assert!(offered(false).await.contains("AUTH SCRAM-SHA-256 PLAIN LOGIN"));
    assert!(offered(true).await.contains("AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"));
}

#[tokio::test]
async fn sha_1_is_for_those_who_hold_it_where_it_is_allowed() {
    let sha_1 = Scram { hash: ScramHash::Sha1, ..Scram::default() };
    let house = House::open(|_| {}).await;
    let mut peer = house.encrypted(Submission).await;
    assert!(!peer.say("EHLO peer.example").await.contains("SHA-1"));
    peer.expect(&format!("AUTH SCRAM-SHA-1 {}", b64("n,,n=carol,r=x")), "504").await;
    let house = House::open(|settings| settings.auth.scram_sha_1 = true).await;
    for (name, password, expected) in
        [("carol", "both", "235"), ("bob", "pencil", "535"), ("mallory", "x", "535")]
    {
        let mut peer = house.encrypted(Submission).await;
        let reply = sha_1.log_in(&mut peer, name, password).await;
        assert!(reply.starts_with(expected), "{name}: {reply}");
    }
}

/// A token and the user it names, signed by a key of this test's own.
fn token(user: &str, ends: u64) -> (TokenSettings, String) {
    let signer = Ed25519KeyPair::generate().unwrap();
    let b64 = |octets: &[u8]| URL_SAFE_NO_PAD.encode(octets);
    let x = b64(signer.public_key().as_ref());
    let keys = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}]}}"#);
    let claims = format!(r#"{{"iss":"me","aud":"you","sub":"{user}","exp":{ends}}}"#);
    let signed = format!("{}.{}", b64(br#"{"alg":"EdDSA"}"#), b64(claims.as_bytes()));
    let token = format!("{signed}.{}", b64(signer.sign(signed.as_bytes()).as_ref()));
    let issuer = TokenIssuer::Keys {
        keys: KeySet::parse(keys.as_bytes()).unwrap(),
        algorithms: vec![Algorithm::EdDsa],
    };
    let rules = TokenRules {
        issuer: Some("me".into()),
        audience: vec!["you".into()],
        scope: Vec::new(),
        user_claim: "sub".into(),
        clock_skew: Duration::from_secs(60),
    };
    (TokenSettings { issuer, rules, timeout: Duration::from_secs(5) }, token)
}

#[tokio::test]
async fn a_signed_token_logs_its_user_in_without_a_users_file() {
    let (settings, good) = token("alice@example.org", 4_000_000_000);
    let (_, foreign) = token("alice@example.org", 4_000_000_000);
    let house = House::open(|all| {
        all.users = Users::new([]);
        all.auth.tokens = Some(settings);
        all.auth.senders.free = false;
    });
    let house = house.await;
    let say = |user: &str, token: &str| {
        format!("AUTH OAUTHBEARER {}", b64(format!("n,a={user},\x01auth=Bearer {token}\x01\x01")))
    };
    let mut peer = house.encrypted(Submission).await;
    assert!(peer.say("EHLO peer.example").await.contains("AUTH OAUTHBEARER XOAUTH2"));
    for refused in [say("", &foreign), say("bob@example.org", &good), say("", "x.y.z")] {
        let challenge = peer.expect(&refused, "334 ").await;
        assert_eq!(unb64(&challenge[4..]), r#"{"status":"invalid_token"}"#);
        peer.expect("AQ==", "535 5.7.8").await;
    }
    peer.expect(&format!("AUTH OAUTHBEARER {}", b64("n,,\x01\x01")), "501").await;
    peer.expect(&say("alice@example.org", &good), "235").await;
    peer.expect("MAIL FROM:<bob@example.org>", "550 5.7.1").await;
    peer.expect("MAIL FROM:<alice@example.org>", "250").await;
    let older = b64(format!("user=alice@example.org\x01auth=Bearer {good}\x01\x01"));
    house.encrypted(Submission).await.expect(&format!("AUTH XOAUTH2 {older}"), "235").await;
}

#[tokio::test]
async fn a_token_that_has_ended_is_refused_and_is_no_guess() {
    let (settings, ended) = token("alice@example.org", 1_000_000_000);
    let house = House::open(|all| {
        all.auth.tokens = Some(settings);
        all.auth.failures.ban_after = 1;
    });
    let house = house.await;
    let mut peer = house.encrypted_from(2).await;
    let message = b64(format!("n,,\x01auth=Bearer {ended}\x01\x01"));
    peer.expect(&format!("AUTH OAUTHBEARER {message}"), "334 ").await;
    peer.expect("AQ==", "535 5.7.8").await;
    let forged = b64("n,,\x01auth=Bearer a.b.c\x01\x01");
    peer.expect(&format!("AUTH OAUTHBEARER {forged}"), "421 4.7.0").await;
}

#[tokio::test]
async fn where_nobody_vouches_now_the_client_is_put_off() {
    let (mut settings, good) = token("alice@example.org", 4_000_000_000);
    settings.issuer = TokenIssuer::PublishedKeys {
        url: "https://id.example/keys".into(),
        algorithms: vec![Algorithm::EdDsa],
        refresh: Duration::from_secs(60),
    };
    let house = House::open(|all| all.auth.tokens = Some(settings)).await;
    let mut peer = house.encrypted(Submission).await;
    let message = b64(format!("n,,\x01auth=Bearer {good}\x01\x01"));
    peer.expect(&format!("AUTH OAUTHBEARER {message}"), "454 4.7.0").await;
}

#[tokio::test]
async fn policy_alone_can_be_asked_about_passwords() {
    let policy = Script { connect: Some(Verdict::Proceed) };
    let house = House::with(Arc::new(policy), Duration::from_secs(5), |settings| {
        settings.users = Users::new([]);
        settings.auth.policy = true;
        settings.limits.max_delay = Duration::ZERO;
    });
    let house = house.await;
    let mut peer = house.encrypted(Submission).await;
    assert!(peer.say("EHLO peer.example").await.contains("AUTH PLAIN LOGIN"));
    peer.expect(&format!("AUTH PLAIN {}", b64("\0mallory\0x")), "535").await;
    peer.expect(&format!("AUTH PLAIN {}", b64("\0oracle\0x")), "235").await;
}

/// The client's side of RFC 5802.
#[derive(Debug, Clone, Copy)]
struct Scram {
    hash: ScramHash,
    plus: bool,
    /// `gs2-cbind-flag`.
    flag: &'static str,
    /// It is at the end of another channel.
    stranger: bool,
}

impl Default for Scram {
    fn default() -> Scram {
        Scram { hash: ScramHash::Sha256, plus: false, flag: "n", stranger: false }
    }
}

impl Scram {
    /// Gives the last reply.
    async fn log_in(&self, peer: &mut Peer, name: &str, password: &str) -> String {
        let bare = format!("n={name},r=fyko+d2lbbFgONRv9qkxdawL");
        let header = format!("{},,", self.flag);
        let mechanism = if self.plus { self.hash.mechanism_plus() } else { self.hash.mechanism() };
        let reply = peer.say(&format!("AUTH {mechanism} {}", b64(format!("{header}{bare}")))).await;
        let Some(first) = reply.strip_prefix("334 ").map(unb64) else { return reply };
        let mut parts = first.split(',');
        let nonce = parts.next().unwrap().strip_prefix("r=").unwrap();
        let salt = unb64_bytes(parts.next().unwrap().strip_prefix("s=").unwrap());
        let iterations = parts.next().unwrap().strip_prefix("i=").unwrap().parse().unwrap();
        let salted = self.salted(password.as_bytes(), &salt, iterations);
        let client_key = self.hmac(&salted, "Client Key");
        let mut binding = header.into_bytes();
        if self.plus {
            binding.extend(if self.stranger { [9; 32] } else { peer.exporter.unwrap() });
        }
        let without_proof = format!("c={},r={nonce}", b64(binding));
        let auth_message = format!("{bare},{first},{without_proof}");
        let signature = self.hmac(&self.digest(&client_key), &auth_message);
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(k, s)| k ^ s).collect();
        let reply = peer.say(&b64(format!("{without_proof},p={}", b64(proof)))).await;
        let Some(last) = reply.strip_prefix("334 ") else { return reply };
        let server = self.hmac(&self.hmac(&salted, "Server Key"), &auth_message);
        assert_eq!(unb64(last), format!("v={}", b64(server)));
        peer.say("").await
    }

    fn salted(&self, password: &[u8], salt: &[u8], rounds: u32) -> Vec<u8> {
        match self.hash {
            ScramHash::Sha1 => pbkdf2_hmac_array::<Sha1, 20>(password, salt, rounds).to_vec(),
            ScramHash::Sha256 => pbkdf2_hmac_array::<Sha256, 32>(password, salt, rounds).to_vec(),
        }
    }

    fn digest(&self, octets: &[u8]) -> Vec<u8> {
        match self.hash {
            ScramHash::Sha1 => Sha1::digest(octets).to_vec(),
            ScramHash::Sha256 => Sha256::digest(octets).to_vec(),
        }
    }

    fn hmac(&self, key: &[u8], text: &str) -> Vec<u8> {
        fn over<M: Mac + KeyInit>(key: &[u8], text: &str) -> Vec<u8> {
            let mut mac = <M as KeyInit>::new_from_slice(key).unwrap();
            mac.update(text.as_bytes());
            mac.finalize().into_bytes().to_vec()
        }
        match self.hash {
            ScramHash::Sha1 => over::<Hmac<Sha1>>(key, text),
            ScramHash::Sha256 => over::<Hmac<Sha256>>(key, text),
        }
    }
}

fn unb64_bytes(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}
