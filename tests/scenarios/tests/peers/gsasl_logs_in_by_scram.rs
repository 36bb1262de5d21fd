//! GNU SASL, which shares no code with us, logs in by each mechanism.

use waypost_scenarios::{Door, Home, PASSWORD, Running, USER};

use crate::program::{Ended, run};

async fn gsasl(relay: &Running, home: &Home, mechanism: &str, password: &str) -> Ended {
    let connect = format!("--connect={}", relay.address(Door::Submission));
    let mechanism = format!("--mechanism={mechanism}");
    let (user, password) =
        (format!("--authentication-id={USER}"), format!("--password={password}"));
    let authority = format!("--x509-ca-file={}", home.authority_file().display());
    let usual = ["--smtp", "--verbose", &connect, &mechanism, &user, &password, &authority];
    // Without this gsasl (2.2) would insist on binding by a mechanism that cannot.
    let unbound = (!mechanism.ends_with("-PLUS")).then_some("--no-cb");
    let arguments: Vec<&str> = usual.into_iter().chain(unbound).collect();
    run("gsasl", "gsasl", &arguments, "").await
}

#[tokio::test]
async fn the_right_password_is_let_in_and_no_other() {
    let home = Home::new().users_of_old_clients();
    let relay = home.start().await;
    for mechanism in
        ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "PLAIN", "LOGIN"]
    {
        let ended = gsasl(&relay, &home, mechanism, PASSWORD).await;
        assert!(ended.success && ended.said.contains("235 2.7.0 "), "{mechanism}: {}", ended.said);
        let ended = gsasl(&relay, &home, mechanism, "wrong").await;
        assert!(!ended.success && ended.said.contains("535 5.7.8 "), "{mechanism}: {}", ended.said);
    }
}
