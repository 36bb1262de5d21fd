//! Clients with certificates, versions and tickets: OpenSSL (also within swaks) and GnuTLS think of
//! our TLS what we do.

use std::fs;
use std::path::PathBuf;

use waypost_harness::authority::Authority;
use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, Running};

use crate::program::{Ended, run};

/// A client's certificate and key, signed by this authority.
fn identity(home: &Home, authority: &Authority, name: &str) -> [String; 2] {
    let (chain, key) = authority.pair(&[name]).unwrap();
    let write = |end: &str, text: String| {
        let path: PathBuf = home.path(&format!("{name}.{end}"));
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    [write("crt", chain), write("key", key)]
}

fn asking(home: Home, mode: &str) -> Home {
    let file = home.authority_file().display().to_string();
    let lines = format!("client-certificates = {{ mode = {mode:?}, ca-file = {file:?} }}");
    home.doors_say(&lines)
}

/// OpenSSL where TLS comes first; it says QUIT.
async fn openssl(relay: &Running, more: &[&str]) -> Ended {
    let address = relay.address(Door::Submissions).to_string();
    let usual = ["s_client", "-connect", &address, "-nocommands", "-ign_eof", "-crlf"];
    run("openssl", "openssl", &[&usual[..], more].concat(), "QUIT\n").await
}

#[tokio::test]
async fn who_proves_a_name_may_relay() {
    let upstream = Upstream::new();
    let home = asking(Home::new().users(), "ask")
        .set("relay", "certificates", "[\"app.example\"]")
        .route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let address = relay.address(Door::Relay);
    let (server, port) = (address.ip().to_string(), address.port().to_string());
    let stranger = Authority::new().unwrap();
    for (authority, name, relays) in [
        (home.authority(), "app.example", true),
        (home.authority(), "other.example", false),
        (&stranger, "app.example", false),
    ] {
        let [chain, key] = identity(&home, authority, name);
        let arguments = [
            "--server",
            &server,
            "--port",
            &port,
            "--tls",
            "--tls-cert",
            &chain,
            "--tls-key",
            &key,
            "--from",
            "a@sender.example",
            "--to",
            "b@dest.example",
        ];
        let ended = run("swaks", "swaks", &arguments, "").await;
        let reply = if relays { "250 2.0.0 OK queued as " } else { "550 5.7.1 Relaying denied" };
        assert!(ended.said.contains(reply), "{name}: {}", ended.said);
        assert_eq!(ended.success, relays, "{}", ended.said);
    }
    relay.empty().await;
    assert_eq!(upstream.mails().len(), 1);
}

#[tokio::test]
async fn who_must_prove_a_name_fails_without() {
    let home = asking(Home::new().users(), "require");
    // What the tools are given to say they say at once.
    let home = home.set("strictness", "out-of-turn", "\"take\"");
    let relay = home.start().await;
    let [chain, key] = identity(&home, home.authority(), "app.example");
    for version in ["-tls1_2", "-tls1_3"] {
        let ended = openssl(&relay, &[version, "-cert", &chain, "-key", &key]).await;
        assert!(ended.success && ended.said.contains("221 2.0.0"), "{version}: {}", ended.said);
        assert!(ended.said.contains("Acceptable client certificate CA names"), "{}", ended.said);
        let ended = openssl(&relay, &[version]).await;
        assert!(!ended.said.contains("220 relay.example"), "{version}: {}", ended.said);
        assert!(ended.said.contains("alert"), "{version}: {}", ended.said);
    }
}

#[tokio::test]
async fn sessions_are_resumed_until_the_rule_about_clients_changes() {
    let home = Home::new().users();
    let relay = home.start().await;
    for version in ["-tls1_2", "-tls1_3"] {
        let file = home.path(&format!("session{version}")).display().to_string();
        let first = openssl(&relay, &[version, "-sess_out", &file]).await;
        assert!(first.success && first.said.contains("New, TLSv1."), "{}", first.said);
        let again = openssl(&relay, &[version, "-sess_in", &file]).await;
        assert!(again.success && again.said.contains("Reused, TLSv1."), "{}", again.said);
    }
    let home = asking(home, "ask");
    home.reload().await.unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let file = home.path(&format!("session{version}")).display().to_string();
        let changed = openssl(&relay, &[version, "-sess_in", &file]).await;
        assert!(changed.success && changed.said.contains("New, TLSv1."), "{}", changed.said);
    }
}

#[tokio::test]
async fn what_is_too_old_is_not_spoken() {
    let home = Home::new()
        .users()
        // What the tools are given to say they say at once.
        .set("strictness", "out-of-turn", "\"take\"")
        .doors_say("tls = { oldest = \"1.3\", ciphers = [\"TLS_CHACHA20_POLY1305_SHA256\"] }");
    let relay = home.start().await;
    let ended = openssl(&relay, &["-tls1_2"]).await;
    assert!(!ended.success && ended.said.contains("alert protocol version"), "{}", ended.said);
    let ended = openssl(&relay, &[]).await;
    let cipher = "New, TLSv1.3, Cipher is TLS_CHACHA20_POLY1305_SHA256";
    assert!(ended.success && ended.said.contains(cipher), "{}", ended.said);

    let port = relay.address(Door::Submissions).port().to_string();
    let authority = home.authority_file().display().to_string();
    let gnutls = async |versions: &str| {
        let priority = format!("NORMAL:-VERS-ALL:{versions}");
        let name = ["--sni-hostname", "relay.example", "--verify-hostname", "relay.example"];
        let more = ["--port", &port, "--x509cafile", &authority, "--priority", &priority];
        let arguments = [&name[..], &more, &["--crlf", "127.0.0.1"]].concat();
        run("gnutls-bin", "gnutls-cli", &arguments, "QUIT\n").await
    };
    let ended = gnutls("+VERS-TLS1.2").await;
    assert!(!ended.success && !ended.said.contains("220 relay.example"), "{}", ended.said);
    let ended = gnutls("+VERS-TLS1.3").await;
    assert!(ended.success && ended.said.contains("220 relay.example"), "{}", ended.said);
    assert!(ended.said.contains("CHACHA20-POLY1305"), "{}", ended.said);
}
