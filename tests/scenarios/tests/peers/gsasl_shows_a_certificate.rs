//! GNU SASL logs in by the certificate of its channel (EXTERNAL).

use std::fs;

use waypost_scenarios::{Door, Home, Running};

use crate::program::{Ended, run};

async fn gsasl(relay: &Running, home: &Home, certificate: &str, more: &[&str]) -> Ended {
    let connect = format!("--connect={}", relay.address(Door::Submission));
    let file = |key: &str, end: &str| {
        format!("--x509-{key}-file={}", home.path(&format!("{certificate}.{end}")).display())
    };
    let (own, key) = (file("cert", "crt"), file("key", "key"));
    let authority = format!("--x509-ca-file={}", home.authority_file().display());
    let usual = ["--smtp", "--verbose", "--mechanism=EXTERNAL", &connect, &authority, &own, &key];
    run("gsasl", "gsasl", &[&usual, more].concat(), "").await
}

#[tokio::test]
async fn and_is_whom_the_certificate_names() {
    let home = Home::new().users();
    let authority = home.authority_file().display().to_string();
    let home = home
        .doors_say(&format!("client-certificates = {{ mode = \"ask\", ca-file = {authority:?} }}"))
        .set(
            "auth",
            "certificate",
            "[{ certificate = \"printer.example.org\", user = \"printer\" }]",
        );
    for name in ["printer.example.org", "stranger.example.org"] {
        let (chain, key) = home.authority().pair(&[name]).unwrap();
        fs::write(home.path(&format!("{name}.crt")), chain).unwrap();
        fs::write(home.path(&format!("{name}.key")), key).unwrap();
    }
    let relay = home.start().await;
    for more in [&["--authorization-id="][..], &["--authorization-id=printer"]] {
        let ended = gsasl(&relay, &home, "printer.example.org", more).await;
        assert!(ended.success && ended.said.contains("235 2.7.0 "), "{more:?}: {}", ended.said);
    }
    let boss = ["--authorization-id=boss"];
    let ended = gsasl(&relay, &home, "printer.example.org", &boss).await;
    assert!(!ended.success && ended.said.contains("535 5.7.8 "), "{}", ended.said);
    // Nobody's certificate: the mechanism is not there at all.
    let ended = gsasl(&relay, &home, "stranger.example.org", &["--authorization-id="]).await;
    assert!(!ended.success && !ended.said.contains("235 2.7.0"), "{}", ended.said);
    assert!(
        !ended.said.contains("EXTERNAL SCRAM") && !ended.said.contains(" EXTERNAL "),
        "{}",
        ended.said
    );
}
