//! `waypost probe tls` looks at a relay: at one that is as it should be, and at others.

use std::process::Command;

use serde_json::Value;
use waypost::args::ProbeTlsArgs;
use waypost::probe::{Report, probe};
use waypost_scenarios::{Door, Home, Running};

fn args(home: &Home, relay: &Running, door: Door) -> ProbeTlsArgs {
    ProbeTlsArgs {
        server: relay.address(door).to_string(),
        name: Some("relay.example".to_owned()),
        implicit_tls: door == Door::Submissions,
        starttls: false,
        ca_file: Some(home.authority_file()),
        timeout: 20,
        json: false,
    }
}

async fn asked(home: &Home, relay: &Running, door: Door) -> Report {
    probe(&args(home, relay, door)).await.unwrap()
}

#[tokio::test]
async fn by_starttls_and_from_the_first_byte() {
    let home = Home::new().users();
    let relay = home.start().await;
    for door in Door::ALL {
        let report = asked(&home, &relay, door).await;
        assert!(report.verified && report.trouble.is_none(), "{report:?}");
        assert!(report.banner.as_deref().unwrap().contains("relay.example"), "{report:?}");
        assert_eq!(report.starttls, door != Door::Submissions);
        assert_eq!(report.extensions_before.is_empty(), door == Door::Submissions);
        assert!(!report.extensions_before.iter().any(|word| word.starts_with("AUTH")));
        assert!(report.extensions_after.iter().any(|word| word.starts_with("AUTH ")));
        let tls = report.tls.unwrap();
        assert_eq!((tls.version.as_str(), tls.client_certificate), ("1.3", None));
        assert!(tls.cipher.starts_with("TLS_") && tls.key_exchange.is_some());
        assert_eq!(report.versions.len(), 2);
        for version in report.versions {
            assert!(version.spoken, "{version:?}");
            let found = (version.resumed, version.exporter);
            assert_eq!(found, (Some(true), Some(true)), "{version:?}");
        }
        let [own] = &report.chain[..] else { panic!("{:?}", report.chain) };
        assert_eq!(own.names, ["relay.example", "127.0.0.1"]);
        assert_eq!((own.key.as_str(), &own.fault), ("EC 256", &None));
        assert!(own.issuer.contains("authority of the tests"), "{own:?}");
        assert!(own.not_before < own.not_after && own.fingerprint.starts_with("sha256:"));
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_certificate() {
    let home = Home::new().users();
    let relay = home.start().await;
    let other =
        ProbeTlsArgs { name: Some("other.example".to_owned()), ..args(&home, &relay, Door::Relay) };
    let report = probe(&other).await.unwrap();
    assert!(!report.verified && report.why_not.unwrap().contains("it is for other names"));
    let alone = ProbeTlsArgs { ca_file: None, ..args(&home, &relay, Door::Relay) };
    let report = probe(&alone).await.unwrap();
    assert!(!report.verified && report.why_not.unwrap().contains("no authority"));
    // A certificate that proves an address is good for who asks for the address.
    let address =
        ProbeTlsArgs { name: Some("127.0.0.1".to_owned()), ..args(&home, &relay, Door::Relay) };
    assert!(probe(&address).await.unwrap().verified);
}

#[tokio::test]
async fn versions_and_certificates_of_clients() {
    let file = |home: &Home| home.authority_file().display().to_string();
    let say = |home: Home, mode: &str| {
        let file = file(&home);
        home.doors_say(&format!(
            "tls = {{ oldest = \"1.3\" }}\nclient-certificates = {{ mode = {mode:?}, ca-file = {file:?} }}"
        ))
    };
    let home = say(Home::new().users(), "ask");
    let relay = home.start().await;
    let report = asked(&home, &relay, Door::Relay).await;
    assert!(report.verified, "{report:?}");
    let names = report.tls.unwrap().client_certificate.unwrap();
    assert!(names.len() == 1 && names[0].contains("authority of the tests"), "{names:?}");
    let [new, old] = &report.versions[..] else { panic!("{:?}", report.versions) };
    assert!(new.spoken && !old.spoken, "{:?}", report.versions);
    assert!(old.why_not.as_ref().unwrap().contains("ProtocolVersion"), "{old:?}");

    let home = say(home, "require");
    home.reload().await.unwrap();
    let report = asked(&home, &relay, Door::Relay).await;
    assert!(report.verified && report.extensions_after.is_empty());
    assert!(report.trouble.unwrap().contains("CertificateRequired"), "{:?}", report.tls);
}

#[tokio::test]
async fn exit_codes_and_json_for_scripts() {
    let home = Home::new().users();
    let relay = home.start().await;
    let bare = Home::new();
    let bare_relay = bare.start().await;
    let file = home.authority_file().display().to_string();
    let good = relay.address(Door::Relay).to_string();
    let no_tls = bare_relay.address(Door::Relay).to_string();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = free.local_addr().unwrap().to_string();
    drop(free);
    let run = async |server: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waypost-in-a-story"));
        command.args(["probe", "tls", server, "--name", "relay.example"]).args(more);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), said, String::from_utf8(output.stderr).unwrap())
    };
    let (code, said, _) = run(&good, &["--ca-file", &file, "--json"]).await;
    assert_eq!(code, 0, "{said}");
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["verified"], true);
    assert_eq!(report["versions"][1]["version"], "1.2");
    let (code, said, _) = run(&good, &["--ca-file", &file]).await;
    assert_eq!(code, 0, "{said}");
    for part in
        ["before TLS", "STARTTLS", "the certificate proves relay.example", "sessions are resumed"]
    {
        assert!(said.contains(part), "no «{part}» in\n{said}");
    }
    let (code, said, error) = run(&good, &[]).await;
    assert_eq!(code, 4, "{said}");
    assert!(error.contains("the certificate does not prove the name"), "{error}");
    let (code, said, error) = run(&no_tls, &["--ca-file", &file]).await;
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("STARTTLS is not offered") && error.contains("no TLS"), "{said}{error}");
    let (code, _, error) = run(&nobody, &[]).await;
    assert_eq!(code, 1, "{error}");
}
