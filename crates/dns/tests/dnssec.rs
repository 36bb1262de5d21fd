//! With a trust anchor every answer is validated.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tempfile::NamedTempFile;
use waypost_dns::{Config, DnsError, Hickory, MxAnswer, Resolver, SetupError};
use waypost_harness::zone::Zone;

const MAIL: &str = include_str!("zones/mail.zone");

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn resolver(zone: &Zone, anchor: &Path) -> Result<Hickory, SetupError> {
    Hickory::new(Config {
        servers: vec![zone.addr],
        trust_anchor: Some(anchor.to_owned()),
        timeout: Duration::from_secs(5),
        ..Config::default()
    })
}

#[tokio::test]
async fn signed_answers_are_answers() {
    let zone = Zone::serve_signed(MAIL).await;
    let anchor = file(&zone.trust_anchor());
    let resolver = resolver(&zone, anchor.path()).unwrap();
    let several = resolver.mx("several.example").await;
    assert!(matches!(&several, Ok(MxAnswer::Exchangers(all)) if all.len() == 3), "{several:?}");
    assert_eq!(resolver.mx("null.example").await, Ok(MxAnswer::Null));
    assert_eq!(resolver.mx("implicit.example").await, Ok(MxAnswer::Implicit));
    assert_eq!(resolver.mx("nobody.example").await, Ok(MxAnswer::NoSuchDomain));
    assert_eq!(resolver.addresses("mx1.several.example").await.unwrap().len(), 1);
    assert_eq!(resolver.addresses("www.mxalias.example").await.unwrap().len(), 1);
}

#[tokio::test]
async fn signatures_of_a_stranger_are_bogus() {
    let zone = Zone::serve_signed(MAIL).await;
    let other = Zone::serve_signed(MAIL).await;
    let anchor = file(&other.trust_anchor());
    let resolver = resolver(&zone, anchor.path()).unwrap();
    for domain in ["several.example", "implicit.example", "nobody.example"] {
        let answer = resolver.mx(domain).await;
        assert!(matches!(answer, Err(DnsError::Bogus { .. })), "{domain}: {answer:?}");
    }
    let addresses = resolver.addresses("mx1.several.example").await;
    assert!(matches!(addresses, Err(DnsError::Bogus { .. })), "{addresses:?}");
}

#[tokio::test]
async fn stripped_signatures_are_bogus() {
    let zone = Zone::serve(MAIL).await;
    let signed = Zone::serve_signed(MAIL).await;
    let anchor = file(&signed.trust_anchor());
    let answer = resolver(&zone, anchor.path()).unwrap().mx("several.example").await;
    assert!(matches!(answer, Err(DnsError::Bogus { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_zone_that_is_provably_unsigned_is_believed() {
    let zone = Zone::serve_signed(
        "$ORIGIN .\n\
         plain. NS ns.plain.\n\
         $ORIGIN plain.\n\
         ; unsigned\n\
         @ MX 10 mx\n\
         mx A 192.0.2.1\n",
    )
    .await;
    let anchor = file(&zone.trust_anchor());
    let resolver = resolver(&zone, anchor.path()).unwrap();
    let answer = resolver.mx("plain").await;
    assert!(matches!(answer, Ok(MxAnswer::Exchangers(_))), "{answer:?}");
    assert_eq!(resolver.addresses("mx.plain").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_zone_that_no_key_covers_is_bogus() {
    let zone = Zone::serve_signed(MAIL).await;
    let keys = zone.trust_anchor();
    let reverse: String = keys.lines().filter(|key| key.contains("arpa")).collect();
    let anchor = file(&format!("{reverse}\n"));
    let answer = resolver(&zone, anchor.path()).unwrap().mx("several.example").await;
    assert!(matches!(answer, Err(DnsError::Bogus { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_file_without_keys_is_refused() {
    let zone = Zone::serve(MAIL).await;
    for text in ["", "; nothing\n", "example. IN DS 1 8 2 00\n", "rubbish"] {
        let refused = resolver(&zone, file(text).path());
        assert!(matches!(refused, Err(SetupError::TrustAnchor { .. })), "{text:?}");
    }
    let missing = resolver(&zone, Path::new("/nonexistent/anchor")).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/anchor"), "{missing}");
}
