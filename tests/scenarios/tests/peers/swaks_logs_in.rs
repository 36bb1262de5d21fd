//! swaks logs in by each mechanism it knows, with STARTTLS and with TLS from the first byte.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, PASSWORD, USER};

use crate::program::{Ended, run};

async fn swaks(address: std::net::SocketAddr, more: &[&str]) -> Ended {
    let (server, port) = (address.ip().to_string(), address.port().to_string());
    let usual = ["--server", &server, "--port", &port, "--ehlo", "peer.example"];
    let mail = ["--from", "a@sender.example", "--to", "b@dest.example", "--body", "said by swaks"];
    run("swaks", "swaks", &[&usual, &mail, more].concat(), "").await
}

#[tokio::test]
async fn by_plain_and_login_at_both_doors() {
    let upstream = Upstream::new();
    let home = Home::new().users().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    for mechanism in ["PLAIN", "LOGIN"] {
        for (door, tls) in [(Door::Submission, "--tls"), (Door::Submissions, "--tls-on-connect")] {
            let login = ["--auth", mechanism, "--auth-user", USER, "--auth-password", PASSWORD];
            let ended = swaks(relay.address(door), &[&[tls], &login[..]].concat()).await;
            assert!(ended.success, "{mechanism} at {door:?}: {}", ended.said);
            assert!(ended.said.contains("<~  250 2.0.0 OK queued as "), "{}", ended.said);
        }
    }
    relay.empty().await;
    let mails = upstream.mails();
    assert_eq!(mails.len(), 4);
    for mail in mails {
        assert!(
            mail.content.replace("\r\n ", " ").contains(" with ESMTPSA id "),
            "{}",
            mail.content
        );
        assert!(mail.content.contains("\r\n\r\nsaid by swaks\r\n"), "{}", mail.content);
    }
}

/// swaks ends with a code for each way to be refused: 28 without authentication, 24 for all
/// recipients, 23 for the sender.
#[tokio::test]
async fn and_is_refused_where_it_should_be() {
    let relay = Home::new().users().start().await;
    let wrong = ["--auth", "PLAIN", "--auth-user", USER, "--auth-password", "wrong"];
    let ended = swaks(relay.address(Door::Submission), &[&["--tls"], &wrong[..]].concat()).await;
    assert!(!ended.success && ended.said.contains("<~* 535 5.7.8 "), "{}", ended.said);
    let ended = swaks(relay.address(Door::Submission), &["--tls"]).await;
    assert!(!ended.success && ended.said.contains("<~* 530 5.7.0 "), "{}", ended.said);
    let ended = swaks(relay.address(Door::Submission), &[]).await;
    assert!(
        !ended.success && ended.said.contains("<** 530 5.7.0 Must issue STARTTLS"),
        "{}",
        ended.said
    );
    let ended = swaks(relay.address(Door::Relay), &[]).await;
    assert!(
        !ended.success && ended.said.contains("<** 550 5.7.1 Relaying denied"),
        "{}",
        ended.said
    );
    assert!(relay.queued().is_empty());
}

#[tokio::test]
async fn a_group_of_commands_in_one_write() {
    let upstream = Upstream::new();
    let home = Home::new().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let to = ["--to", "b@inside.example,b@outside.example,c@inside.example", "--pipeline"];
    let ended = swaks(relay.address(Door::Relay), &to).await;
    assert!(ended.said.contains("<** 550 5.7.1 Relaying denied"), "{}", ended.said);
    assert!(ended.said.contains("<-  250 2.0.0 OK queued as "), "{}", ended.said);
    relay.empty().await;
    assert_eq!(upstream.mails().pop().unwrap().to, ["b@inside.example", "c@inside.example"]);
}
