//! curl submits over TLS from the first byte, and believes the certificate.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, PASSWORD, USER};

use crate::program::run;

#[tokio::test]
async fn with_a_login() {
    let upstream = Upstream::new();
    let home = Home::new().users().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let port = relay.address(Door::Submissions).port();
    let url = format!("smtps://relay.example:{port}/peer.example");
    let resolve = format!("relay.example:{port}:127.0.0.1");
    let authority = home.authority_file().display().to_string();
    let login = format!("{USER}:{PASSWORD}");
    let arguments = [
        "--silent",
        "--show-error",
        "--verbose",
        "--max-time",
        "30",
        "--url",
        &url,
        "--resolve",
        &resolve,
        "--cacert",
        &authority,
        "--user",
        &login,
        "--mail-from",
        "a@sender.example",
        "--mail-rcpt",
        "b@dest.example",
        "--upload-file",
        "-",
    ];
    let content = "Subject: by curl\r\n\r\n.\r\n..two\r\nend\r\n";
    let ended = run("curl", "curl", &arguments, content).await;
    assert!(ended.success, "{}", ended.said);
    assert!(ended.said.contains("< 250 2.0.0 OK queued as "), "{}", ended.said);
    relay.empty().await;
    let mail = upstream.mails().pop().unwrap();
    assert_eq!(
        (mail.from.as_str(), mail.to),
        ("a@sender.example", vec!["b@dest.example".to_owned()])
    );
    assert!(mail.content.ends_with(content), "{}", mail.content);

    let wrong = format!("{USER}:wrong");
    let arguments =
        arguments.map(|argument| if argument == login { wrong.as_str() } else { argument });
    let ended = run("curl", "curl", &arguments, content).await;
    assert!(!ended.success && ended.said.contains("< 535 5.7.8 "), "{}", ended.said);
}
