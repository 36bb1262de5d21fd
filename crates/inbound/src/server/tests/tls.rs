//! Certificates and handshakes.

use waypost_smtp::server::OutOfTurn;

use super::setup::{House, pair};
use crate::ListenerKind::{Relay, Submission, Submissions};
use crate::metrics::HandshakeLabels;

#[tokio::test]
async fn the_name_asked_for_chooses_the_certificate() {
    let house = House::open(|_| {}).await;
    for (root, name) in [(0, "mx.example.org"), (1, "mail.other.example")] {
        // Only one certificate is trusted, so the handshake shows which was presented.
        let roots = &house.roots[root..=root];
        let mut peer = house.connect(Submissions).await.encrypt(roots, name).await;
        assert!(peer.reply().await.starts_with("220"));
    }
}

#[tokio::test]
async fn clear_text_behind_starttls_is_not_obeyed() {
    // Where it does not end the session.
    let house = House::open(|s| s.strict.out_of_turn = OutOfTurn::Take).await;
    let mut peer = house.knock(Submission).await;
    peer.expect("EHLO peer.example", "250-").await;
    peer.send(b"STARTTLS\r\nEHLO injected.example\r\nNOOP\r\n").await;
    assert!(peer.reply().await.starts_with("220"));
    let mut peer = peer.encrypt(&house.roots, "mx.example.org").await;
    peer.expect("MAIL FROM:<a@b.example>", "503").await;
}

#[tokio::test]
async fn a_failed_handshake_ends_the_session_and_is_counted() {
    let house = House::open(|_| {}).await;
    let mut peer = house.connect(Submissions).await;
    peer.send(b"EHLO no-tls.example\r\n").await;
    while !peer.is_over().await {}
    let failed = HandshakeLabels { version: String::new(), result: "failed" };
    let metrics = house.server.metrics();
    // The count is made before the connection ends.
    assert_eq!(metrics.handshakes.get_or_create_owned(&failed).get(), 1);
    house.encrypted(Submissions).await;
    let done = HandshakeLabels { version: "1.3".into(), result: "done" };
    assert_eq!(metrics.handshakes.get_or_create_owned(&done).get(), 1);
}

#[tokio::test]
async fn a_reload_brings_new_certificates() {
    let house = House::open(|_| {}).await;
    let dir = tempfile::tempdir().unwrap();
    let fresh = pair(dir.path(), &["mx.example.org"]);
    let mut settings = house.server.current.read().unwrap().settings.clone();
    settings.tls = Some(crate::tls::Certificates::load(std::slice::from_ref(&fresh)).unwrap());
    house.server.reload(settings).unwrap();
    use rustls::pki_types::pem::PemObject;
    let root = rustls::pki_types::CertificateDer::from_pem_file(&fresh.certificate).unwrap();
    let mut peer = house.connect(Submissions).await.encrypt(&[root], "mx.example.org").await;
    assert!(peer.reply().await.starts_with("220"));
}

#[tokio::test]
async fn without_certificate_a_relay_offers_neither_tls_nor_auth() {
    let house = super::setup::rooms(Default::default(), std::sync::Arc::new(waypost_hooks::Pass));
    let config = crate::ListenerConfig { name: "in".into(), kind: Relay };
    let socket = crate::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let settings = crate::Settings::new("mx.example.org");
    let secret = crate::Secret::new([0; 32]);
    let rooms = house.await;
    let bad = crate::ListenerConfig { name: "sub".into(), kind: Submission };
    let other = crate::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let refused = crate::Server::new(
        vec![(bad, crate::Bound::Tcp(other))],
        settings.clone(),
        rooms.clone(),
        secret.clone(),
        1,
    );
    assert!(refused.unwrap_err().to_string().contains("listener 'sub'"));
    let server =
        crate::Server::new(vec![(config, crate::Bound::Tcp(socket))], settings, rooms, secret, 1)
            .unwrap();
    let address = server.addresses()[0].1.tcp().unwrap();
    let running = tokio::spawn(server.run(std::future::pending(), std::time::Duration::ZERO));
    let mut peer = super::setup::Peer::to(address).await;
    peer.reply().await;
    let offered = peer.say("EHLO peer.example").await;
    assert!(!offered.contains("STARTTLS") && !offered.contains("AUTH"), "{offered}");
    running.abort();
}
