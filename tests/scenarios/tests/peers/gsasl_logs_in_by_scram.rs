//! GNU SASL, which shares no code with us, logs in by each mechanism.

use waypost_scenarios::{Door, Home, PASSWORD, Running, USER};

use crate::program::{Ended, run};

async fn gsasl(relay: &Running, home: &Home, mechanism: &str, password: &str) -> Ended {
    let connect = format!("--connect={}", relay.address(Door::Submission));
    let mechanism = format!("--mechanism={mechanism}");
    let (user, password) =
        (format!("--authentication-id={USER}"), format!("--password={password}"));
    let authority = format!("--x509-ca-file={}", home.authority_file().display());
    // With channel bindings at hand this gsasl (2.2) gives up before it has said a word of SCRAM.
    let arguments =
        ["--smtp", "--no-cb", "--verbose", &connect, &mechanism, &user, &password, &authority];
    run("gsasl", "gsasl", &arguments, "").await
}

#[tokio::test]
async fn the_right_password_is_let_in_and_no_other() {
    let home = Home::new().users();
    let relay = home.start().await;
    for mechanism in ["SCRAM-SHA-256", "PLAIN", "LOGIN"] {
        let ended = gsasl(&relay, &home, mechanism, PASSWORD).await;
        assert!(ended.success && ended.said.contains("235 2.7.0 "), "{mechanism}: {}", ended.said);
        let ended = gsasl(&relay, &home, mechanism, "wrong").await;
        assert!(!ended.success && ended.said.contains("535 5.7.8 "), "{mechanism}: {}", ended.said);
    }
}
