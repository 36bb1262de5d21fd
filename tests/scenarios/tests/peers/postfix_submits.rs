//! Postfix uses us as its relay host, with TLS.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, Peer, eventually};

use crate::postfix::Postfix;
use crate::program::run;

fn relayhost(home: &Home, port: u16) -> String {
    format!(
        "relayhost = [127.0.0.1]:{port}\n\
         smtp_tls_security_level = encrypt\n\
         smtp_tls_loglevel = 1\n\
         smtp_tls_CAfile = {}\n\
         smtpd_relay_restrictions = permit_mynetworks, reject\n",
        home.authority_file().display()
    )
}

#[tokio::test]
async fn what_is_left_by_sendmail() {
    let upstream = Upstream::new();
    let home = Home::new().users().trusting().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let port = relay.address(Door::Relay).port();
    let postfix = Postfix::start(tempfile::tempdir().unwrap(), &relayhost(&home, port)).await;
    let etc = postfix.path("etc").display().to_string();
    let arguments =
        ["-C", &etc, "-i", "-f", "a@sender.example", "b@dest.example", "c@dest.example"];
    let content = "From: a@sender.example\nSubject: by sendmail\n\n.\ncaf\u{e9}\nend\n";
    let ended = run("postfix", "/usr/sbin/sendmail", &arguments, content).await;
    assert!(ended.success, "{}", ended.said);
    eventually("it arrives", || !upstream.mails().is_empty()).await;
    let mail = upstream.mails().pop().unwrap();
    assert_eq!(mail.from, "a@sender.example");
    assert_eq!(mail.to, ["b@dest.example", "c@dest.example"]);
    let unfolded = mail.content.replace("\r\n ", " ").replace("\r\n\t", " ");
    assert!(
        unfolded.contains("Received: from postfix.example ([127.0.0.1]) (using TLSv1.3"),
        "{unfolded}"
    );
    assert!(unfolded.contains("(Waypost) with ESMTPS id "), "{unfolded}");
    assert!(unfolded.contains("\r\nSubject: by sendmail\r\n"), "{unfolded}");
    assert!(mail.content.ends_with("\r\n\r\n.\r\ncaf\u{e9}\r\nend\r\n"), "{}", mail.content);
    postfix.logs("status=sent (250 2.0.0 OK queued as ").await;
}

/// A recipient that we refuse is Postfix's to bounce; the others get the message.
#[tokio::test]
async fn some_recipients_are_refused() {
    let upstream = Upstream::new();
    let home = Home::new().users().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let port = relay.address(Door::Relay).port();
    let postfix = Postfix::start(tempfile::tempdir().unwrap(), &relayhost(&home, port)).await;
    let mut peer = Peer::to(postfix.address).await;
    peer.hear("220 ").await;
    peer.hello().await;
    let to = ["b@inside.example", "b@outside.example", "c@inside.example"];
    peer.envelope("a@inside.example", &to).await;
    assert!(peer.data("Subject: x\r\n\r\ny\r\n").await.starts_with("250"));
    postfix.logs("said: 550 5.7.1 Relaying denied").await;
    eventually("both arrive", || upstream.mails().len() == 2).await;
    let mails = upstream.mails();
    let message = mails.iter().find(|mail| mail.from == "a@inside.example").unwrap();
    assert_eq!(message.to, ["b@inside.example", "c@inside.example"]);
    // Postfix's notice comes through us too.
    let notice = mails.iter().find(|mail| mail.from.is_empty()).unwrap();
    assert_eq!(notice.to, ["a@inside.example"]);
    assert!(
        notice.content.contains("Final-Recipient: rfc822; b@outside.example"),
        "{}",
        notice.content
    );
}
