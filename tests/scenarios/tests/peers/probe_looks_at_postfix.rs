//! `waypost probe tls` looks at a server that is not ours.

use std::fs;

use waypost::args::ProbeTlsArgs;
use waypost::probe::probe;
use waypost_scenarios::Home;

use crate::postfix::Postfix;

#[tokio::test]
async fn and_tells_what_it_offers() {
    let home = Home::new();
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = home.authority().pair(&["postfix.example"]).unwrap();
    fs::write(directory.path().join("chain"), chain).unwrap();
    fs::write(directory.path().join("key"), key).unwrap();
    let place = directory.path().display();
    let lines = format!(
        "smtpd_tls_security_level = may\n\
         smtpd_tls_ask_ccert = yes\n\
         smtpd_tls_cert_file = {place}/chain\n\
         smtpd_tls_key_file = {place}/key\n"
    );
    let postfix = Postfix::start(directory, &lines).await;
    let args = ProbeTlsArgs {
        server: postfix.address.to_string(),
        name: Some("postfix.example".to_owned()),
        implicit_tls: false,
        starttls: false,
        ca_file: Some(home.authority_file()),
        timeout: 30,
        json: false,
    };
    let report = probe(&args).await.unwrap();
    assert!(report.verified, "{report:?}");
    assert!(report.banner.as_deref().unwrap().contains("postfix.example ESMTP"), "{report:?}");
    assert!(report.extensions_before.iter().any(|word| word == "STARTTLS"), "{report:?}");
    assert!(!report.extensions_after.iter().any(|word| word == "STARTTLS"), "{report:?}");
    assert!(report.tls.unwrap().client_certificate.is_some());
    for version in report.versions {
        assert!(version.spoken && version.exporter == Some(true), "{version:?}");
    }
    let strange = ProbeTlsArgs { name: Some("other.example".to_owned()), ..args };
    let report = probe(&strange).await.unwrap();
    assert!(report.why_not.unwrap().contains("it is for other names"));
}
