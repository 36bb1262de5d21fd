//! Each mechanism lets the right password in and no other.

use waypost::args::SendTls;
use waypost::submit::{Client, Target, submit};
use waypost_delivery::ClientTls;
use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, PASSWORD, Peer, Running, USER, b64, unb64};
use waypost_smtp::client::{Credentials, Letter};
use waypost_smtp::{Mailbox, ReversePath};

async fn peer(relay: &Running) -> Peer {
    let mut peer = relay.peer(Door::Submissions).await;
    let offers = peer.hello().await;
    assert!(
        offers.iter().any(|offer| offer == "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"),
        "{offers:?}"
    );
    peer
}

#[tokio::test]
async fn plain_at_once_and_when_asked() {
    let relay = Home::new().users().start().await;
    let right = b64(format!("\0{USER}\0{PASSWORD}"));
    let mut early = peer(&relay).await;
    early.expect("AUTH PLAIN AGFubmEAd3Jvbmc=", "535 5.7.8").await;
    let stranger = b64(format!("\0nobody\0{PASSWORD}"));
    early.expect(&format!("AUTH PLAIN {stranger}"), "535 5.7.8").await;
    let other = b64(format!("boss\0{USER}\0{PASSWORD}"));
    early.expect(&format!("AUTH PLAIN {other}"), "535 5.7.8").await;
    early.expect("MAIL FROM:<a@sender.example>", "530 5.7.0").await;
    early.expect(&format!("AUTH PLAIN {right}"), "235 2.7.0").await;
    early.expect(&format!("AUTH PLAIN {right}"), "503 5.5.1").await;
    let mut late = peer(&relay).await;
    late.expect("AUTH PLAIN", "334 ").await;
    late.expect(&right, "235 2.7.0").await;
}

#[tokio::test]
async fn login_question_by_question() {
    let relay = Home::new().users().start().await;
    let mut peer = peer(&relay).await;
    for (password, reply) in [("wrong", "535 5.7.8"), (PASSWORD, "235 2.7.0")] {
        let asked = peer.expect("AUTH LOGIN", "334 ").await;
        assert_eq!(unb64(&asked[4..]), "Username:");
        let asked = peer.expect(&b64(USER), "334 ").await;
        assert_eq!(unb64(&asked[4..]), "Password:");
        peer.expect(&b64(password), reply).await;
    }
    peer.envelope("a@sender.example", &["b@dest.example"]).await;
}

/// Our own client prefers SCRAM; gsasl, which is not ours, is heard in `peers`.
#[tokio::test]
async fn scram_without_showing_the_password() {
    let upstream = Upstream::new();
    let home = Home::new().users().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let address = relay.address(Door::Submission);
    let mut client = Client {
        target: Target { host: address.ip().to_string(), port: address.port() },
        tls: SendTls::Encrypt,
        implicit_tls: false,
        authorities: ClientTls::new(home.roots()).unwrap(),
        credentials: Some(Credentials::new(USER, PASSWORD).unwrap()),
    };
    let sender = ReversePath::Mailbox("a@sender.example".parse().unwrap());
    let to: Mailbox = "b@dest.example".parse().unwrap();
    let letter = Letter::new(sender, vec![to.into()], 16);
    let report = submit(&client, letter.clone(), b"Subject: x\r\n\r\ny\r\n").await.unwrap();
    assert_eq!((report.mechanism.as_deref(), report.refused()), (Some("SCRAM-SHA-256"), 0));
    relay.empty().await;
    assert_eq!(upstream.mails().len(), 1);
    let wrong = Credentials::new(USER, "wrong").unwrap();
    client.credentials = Some(wrong);
    let refused = submit(&client, letter, b"Subject: x\r\n\r\ny\r\n").await.unwrap_err();
    assert!(format!("{refused:#}").contains("535 5.7.8"), "{refused:#}");
    assert_eq!(upstream.mails().len(), 1);
}

/// Who asks for users by SCRAM learns nothing: a stranger's salt is as stable as a user's.
#[tokio::test]
async fn unknown_users_have_a_salt_too() {
    let relay = Home::new().users().start().await;
    let mut salts = Vec::new();
    for _ in 0..2 {
        let mut peer = peer(&relay).await;
        for name in ["nobody", USER] {
            let first = b64(format!("n,,n={name},r=rOprNGfwEbeRWgbNEkqO"));
            let asked = peer.expect(&format!("AUTH SCRAM-SHA-256 {first}"), "334 ").await;
            let asked = unb64(&asked[4..]);
            let parts: Vec<&str> = asked.split(',').collect();
            assert!(parts[0].starts_with("r=rOprNGfwEbeRWgbNEkqO"), "{asked}");
            salts.push((parts[1].to_owned(), parts[2].to_owned()));
            peer.expect("*", "501 5.7.0").await;
        }
    }
    assert_eq!((&salts[0], &salts[1]), (&salts[2], &salts[3]));
    assert_eq!(salts[0].1, salts[1].1, "the iteration count tells users from strangers");
    assert_eq!(salts[0].0.len(), salts[1].0.len(), "so does the length of the salt");
}
