//! The client and the sink, against each other.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{RootCertStore, ServerConfig};
use waypost::args::SendTls;
use waypost::sink::Sink;
use waypost::submit::{Client, Target, submit};
use waypost_delivery::ClientTls;
use waypost_smtp::client::Letter;
use waypost_smtp::{BodyType, Mailbox, Reply, ReversePath};

struct House {
    sink: Sink,
    client: Client,
}

/// A sink that refuses `nobody`, and a client that trusts it if `trusted`.
async fn house(tls: SendTls, trusted: bool) -> House {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    let judge = |recipient: &Mailbox| match recipient.local() {
        "nobody" => Reply::MAILBOX_UNAVAILABLE,
        _ => Reply::RECIPIENT_OK,
    };
    let sink = Sink::start(Arc::new(config), judge).await.unwrap();
    let mut roots = RootCertStore::empty();
    if trusted {
        roots.add(cert.der().clone()).unwrap();
    }
    let client = Client {
        target: Target { host: "127.0.0.1".into(), port: sink.address.port() },
        tls,
        implicit_tls: false,
        authorities: ClientTls::new(roots).unwrap(),
        credentials: None,
    };
    House { sink, client }
}

fn letter(recipients: &[&str], message: &[u8]) -> Letter {
    let sender = ReversePath::Mailbox(Mailbox::parse("a@example.org").unwrap());
    let recipients = recipients.iter().map(|text| Mailbox::parse(text).unwrap().into()).collect();
    let body = BodyType::EightBitMime;
    Letter { body, ..Letter::new(sender, recipients, message.len() as u64) }
}

#[tokio::test]
async fn each_recipient_has_its_answer_and_the_bytes_are_the_same() {
    let mut house = house(SendTls::Verify, true).await;
    let mut message = b"Subject: x\r\n\r\n.dots\r\n..\r\ngr\xc3\xbcn\r\n".to_vec();
    message.extend("0123456789abcdef\r\n".repeat(40_000).bytes());
    let letter = letter(&["b@example.net", "nobody@example.net"], &message);
    let report = submit(&house.client, letter, &message).await.unwrap();
    let codes = report.recipients.iter().map(|(_, r)| r.as_ref().unwrap().reply.code.get());
    assert_eq!(codes.collect::<Vec<_>>(), [250, 550]);
    assert_eq!((report.refused(), report.trouble), (1, None));
    assert_eq!(report.tls.map(|(version, _)| version), Some("1.3"));
    let arrival = house.sink.arrivals.recv().await.unwrap();
    assert_eq!(arrival.recipients, [Mailbox::parse("b@example.net").unwrap()]);
    assert_eq!((arrival.message == message, arrival.tls), (true, Some("1.3")));
}

#[tokio::test]
async fn a_stranger_s_certificate_is_refused_where_it_is_verified() {
    let house = house(SendTls::Verify, false).await;
    let error = submit(&house.client, letter(&["b@example.net"], b"\r\n"), b"\r\n").await;
    let error = format!("{:#}", error.unwrap_err());
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn other_levels_of_tls_are_kept_to() {
    for (tls, expected) in [(SendTls::Encrypt, Some("1.3")), (SendTls::Never, None)] {
        let mut house = house(tls, false).await;
        let report = submit(&house.client, letter(&["b@example.net"], b"\r\n"), b"\r\n").await;
        assert_eq!(report.unwrap().tls.map(|(version, _)| version), expected);
        assert_eq!(house.sink.arrivals.recv().await.unwrap().tls, expected);
    }
}
