//! Certificates of clients, tickets, versions, and certificates of ours that change.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair as RcgenKey,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::setup::{House, pair};
use crate::ListenerKind::{Relay, Submissions};
use crate::metrics::CertificateLabel;
use crate::tls::{Certificates, ClientRule, TlsPolicy, TlsVersion, Vouchers};
use crate::{DoorRules, Settings};

type Issuer = CertifiedIssuer<'static, RcgenKey>;
type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "authority of clients");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, RcgenKey::generate().unwrap()).unwrap()
}

fn identity(authority: &Issuer, name: &str) -> Identity {
    let key = RcgenKey::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

fn trusts(authority: &Issuer) -> Vouchers {
    Vouchers { authorities: vec![authority.der().clone()], ..Vouchers::default() }
}

/// All listeners get this policy.
fn policy(settings: &mut Settings, policy: TlsPolicy) {
    for kind in super::setup::KINDS {
        settings
            .doors
            .insert(kind.to_string(), DoorRules { tls: policy.clone(), ..DoorRules::default() });
    }
}

fn clients(settings: &mut Settings, clients: ClientRule) {
    policy(settings, TlsPolicy { clients, ..TlsPolicy::default() });
}

/// A client's settings; used twice, the second session resumes the first when that is allowed.
fn client(
    house: &House,
    own: Option<&Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut store = RootCertStore::empty();
    house.roots.iter().for_each(|root| store.add(root.clone()).unwrap());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(store);
    Arc::new(match own {
        Some((certificate, key)) => {
            builder.with_client_auth_cert(vec![certificate.clone()], key.clone_key()).unwrap()
        }
        None => builder.with_no_client_auth(),
    })
}

/// Connects where TLS comes first and reads the greeting.
async fn enter(house: &House, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(house.address(Submissions)).await?;
    let name = ServerName::try_from("mx.example.org").unwrap();
    let connector = tokio_rustls::TlsConnector::from(config.clone());
    let mut stream = connector.connect(name, socket).await?;
    let greeting = read(&mut stream).await?;
    assert!(greeting.starts_with("220 "), "{greeting}");
    Ok(stream)
}

async fn read(stream: &mut TlsStream<TcpStream>) -> std::io::Result<String> {
    let mut text = [0; 1024];
    match stream.read(&mut text).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        count => Ok(String::from_utf8_lossy(&text[..count]).into_owned()),
    }
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

fn kind(stream: &TlsStream<TcpStream>) -> HandshakeKind {
    stream.get_ref().1.handshake_kind().unwrap()
}

#[tokio::test]
async fn who_is_asked_may_show_nothing_or_anything_and_relays_only_when_vouched_for() {
    let (ours, theirs) = (authority(), authority());
    let house = House::open(|s| {
        clients(s, ClientRule::Ask(trusts(&ours)));
        s.relay.certificates = vec!["app.example".parse().unwrap()];
        s.users = crate::Users::new([]);
    })
    .await;
    for (own, relays) in [
        (Some(identity(&ours, "app.example")), true),
        (Some(identity(&ours, "other.example")), false),
        (Some(identity(&theirs, "app.example")), false),
        (None, false),
    ] {
        for versions in [&BOTH[..1], &BOTH[1..]] {
            let mut peer = house.knock(Relay).await;
            peer.expect("EHLO peer.example", "250-").await;
            peer.expect("STARTTLS", "220 ").await;
            let config = client(&house, own.as_ref(), versions);
            let mut peer = peer.encrypt_with(config, "mx.example.org").await;
            peer.expect("EHLO peer.example", "250-").await;
            peer.expect("MAIL FROM:<a@b.example>", "250").await;
            let reply = if relays { "250 2.1.5" } else { "550 5.7.1" };
            peer.expect("RCPT TO:<x@anywhere.example>", reply).await;
        }
    }
}

#[tokio::test]
async fn who_must_show_one_does_not_get_in_without() {
    let (ours, theirs) = (authority(), authority());
    let house = House::open(|s| clients(s, ClientRule::Require(trusts(&ours)))).await;
    for versions in [&BOTH[..1], &BOTH[1..]] {
        let good = identity(&ours, "app.example");
        assert!(enter(&house, &client(&house, Some(&good), versions)).await.is_ok());
        let bad = identity(&theirs, "app.example");
        assert!(enter(&house, &client(&house, Some(&bad), versions)).await.is_err());
        assert!(enter(&house, &client(&house, None, versions)).await.is_err());
    }
    // Nor does clear text lead around it.
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO peer.example", "250-").await;
    peer.expect("MAIL FROM:<a@b.example>", "530 5.7.0 Must issue STARTTLS").await;
}

#[tokio::test]
async fn a_listed_certificate_is_taken_and_its_neighbour_is_not() {
    let ours = authority();
    let (listed, other) = (identity(&ours, "a.example"), identity(&ours, "b.example"));
    let print = waypost_mail::Fingerprint(<sha2::Sha256 as sha2::Digest>::digest(&listed.0).into());
    for authorities in [vec![], vec![ours.der().clone()]] {
        let vouchers = Vouchers { authorities, fingerprints: vec![print], ..Vouchers::default() };
        let house = House::open(|s| clients(s, ClientRule::Require(vouchers))).await;
        assert!(enter(&house, &client(&house, Some(&listed), BOTH)).await.is_ok());
        assert!(enter(&house, &client(&house, Some(&other), BOTH)).await.is_err());
    }
}

#[tokio::test]
async fn a_session_is_resumed_over_a_reload_but_not_past_another_rule_about_clients() {
    let ours = authority();
    for versions in [&BOTH[..1], &BOTH[1..]] {
        let house = House::open(|_| {}).await;
        let config = client(&house, None, versions);
        assert_eq!(kind(&enter(&house, &config).await.unwrap()), HandshakeKind::Full);
        let mut settings = house.server.current.read().unwrap().settings.clone();
        house.server.reload(settings.clone()).unwrap();
        assert_eq!(kind(&enter(&house, &config).await.unwrap()), HandshakeKind::Resumed);

        clients(&mut settings, ClientRule::Require(trusts(&ours)));
        house.server.reload(settings.clone()).unwrap();
        assert!(enter(&house, &config).await.is_err(), "a ticket led around the rule");

        // One who proved itself is known again, until its authority is no more.
        let good = client(&house, Some(&identity(&ours, "app.example")), versions);
        assert_eq!(kind(&enter(&house, &good).await.unwrap()), HandshakeKind::Full);
        assert_eq!(kind(&enter(&house, &good).await.unwrap()), HandshakeKind::Resumed);
        clients(&mut settings, ClientRule::Require(trusts(&authority())));
        house.server.reload(settings).unwrap();
        assert!(enter(&house, &good).await.is_err(), "a ticket outlived its authority");
    }
}

#[tokio::test]
async fn a_ticket_of_one_listener_is_not_taken_at_another() {
    let ours = authority();
    let house = House::open(|s| {
        let clients = ClientRule::Ask(trusts(&ours));
        let tls = TlsPolicy { clients, ..TlsPolicy::default() };
        s.doors.insert("submissions".into(), DoorRules { tls, ..DoorRules::default() });
    })
    .await;
    let config = client(&house, None, BOTH);
    for _ in 0..2 {
        let mut peer = house.knock(Relay).await;
        peer.expect("EHLO peer.example", "250-").await;
        peer.expect("STARTTLS", "220 ").await;
        let mut peer = peer.encrypt_with(config.clone(), "mx.example.org").await;
        peer.expect("EHLO peer.example", "250-").await;
    }
    assert_eq!(kind(&enter(&house, &config).await.unwrap()), HandshakeKind::Full);
}

#[tokio::test]
async fn old_versions_and_other_ciphers_are_not_spoken() {
    let house = House::open(|s| {
        policy(s, TlsPolicy { oldest: TlsVersion::V1_3, ..TlsPolicy::default() });
    })
    .await;
    assert!(enter(&house, &client(&house, None, &BOTH[1..])).await.is_err());
    assert!(enter(&house, &client(&house, None, &BOTH[..1])).await.is_ok());

    let only = "TLS_CHACHA20_POLY1305_SHA256";
    let house = House::open(|s| {
        policy(s, TlsPolicy { ciphers: vec![only.into()], ..TlsPolicy::default() });
    })
    .await;
    let stream = enter(&house, &client(&house, None, BOTH)).await.unwrap();
    let suite = stream.get_ref().1.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite.as_str(), Some("TLS13_CHACHA20_POLY1305_SHA256"));
    assert!(enter(&house, &client(&house, None, &BOTH[1..])).await.is_err());
}

#[test]
fn a_policy_that_cannot_be_had_is_a_mistake() {
    let ciphers = |names: &[&str], oldest| TlsPolicy {
        ciphers: names.iter().map(|&name| name.to_owned()).collect(),
        oldest,
        ..TlsPolicy::default()
    };
    let unknown = ciphers(&["TLS_RSA_WITH_AES_128_CBC_SHA"], TlsVersion::V1_2);
    assert!(unknown.mistake().unwrap().contains("is no cipher suite"));
    let old = ciphers(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"], TlsVersion::V1_3);
    assert!(old.mistake().unwrap().contains("none of the cipher suites"));
    for name in crate::tls::CIPHER_SUITES {
        assert_eq!(ciphers(&[name], TlsVersion::V1_2).mistake(), None, "{name}");
    }
    let nobody = ClientRule::Ask(Vouchers::default());
    assert!(TlsPolicy { clients: nobody, ..TlsPolicy::default() }.mistake().is_some());
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_shown_and_no_session_ends() {
    let dir = tempfile::tempdir().unwrap();
    let ours = pair(dir.path(), &["mx.example.org"]);
    let mut house = House::open(|s| {
        s.tls = Some(Certificates::load(std::slice::from_ref(&ours)).unwrap());
        s.look_at_files = Duration::from_millis(10);
    })
    .await;
    let read_root = |file: &Path| CertificateDer::from_pem_file(file).unwrap();
    house.roots = vec![read_root(&ours.certificate)];
    let mut old = enter(&house, &client(&house, None, BOTH)).await.unwrap();

    let fresh = pair(dir.path(), &["mx.example.org"]);
    fs::rename(&fresh.certificate, &ours.certificate).unwrap();
    counted(&house, "kept").await;
    assert!(enter(&house, &client(&house, None, BOTH)).await.is_ok(), "half a pair was taken");
    fs::rename(&fresh.key, &ours.key).unwrap();
    counted(&house, "renewed").await;
    assert!(enter(&house, &client(&house, None, BOTH)).await.is_err());
    house.roots = vec![read_root(&ours.certificate)];
    assert!(enter(&house, &client(&house, None, BOTH)).await.is_ok());

    old.write_all(b"EHLO still.example\r\n").await.unwrap();
    assert!(read(&mut old).await.unwrap().starts_with("250-"));
}

/// Waits until one such change was counted.
async fn counted(house: &House, result: &'static str) {
    let label = CertificateLabel { result };
    let counter = house.server.metrics().certificates.get_or_create_owned(&label);
    while counter.get() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(counter.get(), 1);
}
