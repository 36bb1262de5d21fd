//! OpenSMTPD uses us as its smart host: it logs in under TLS.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, Peer, eventually};

use crate::aiosmtpd::stuffed;
use crate::opensmtpd::OpenSmtpd;

#[tokio::test]
async fn with_a_login_under_tls() {
    let upstream = Upstream::new();
    let home = Home::new().users().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let port = relay.address(Door::Submission).port();
    let next = format!("smtp+tls://us@127.0.0.1:{port}");
    let opensmtpd = OpenSmtpd::start(home.authority(), &next).await;
    let mut peer = Peer::to(opensmtpd.address).await;
    peer.hear("220 ").await;
    peer.hello().await;
    let content = "From: a@sender.example\r\nSubject: by OpenSMTPD\r\n\
        Date: Thu, 26 Nov 2026 05:00:00 +0000\r\nMessage-ID: <1@sender.example>\r\n\r\n\
        .\r\n..dots\r\ncaf\u{e9}\r\n\r\n\r\n";
    peer.expect("MAIL FROM:<a@sender.example> BODY=8BITMIME", "250").await;
    for to in ["b@other.example", "c@other.example"] {
        peer.expect(&format!("RCPT TO:<{to}>"), "250").await;
    }
    assert!(peer.data(stuffed(content.as_bytes())).await.starts_with("250"));
    let recipients =
        || upstream.mails().iter().flat_map(|mail| mail.to.clone()).collect::<Vec<_>>();
    eventually("both get it", || recipients().len() == 2).await;
    let mut got = recipients();
    got.sort();
    assert_eq!(got, ["b@other.example", "c@other.example"]);
    for mail in upstream.mails() {
        assert_eq!(mail.from, "a@sender.example");
        let unfolded = mail.content.replace("\r\n ", " ").replace("\r\n\t", " ");
        assert!(unfolded.contains("(Waypost) with ESMTPSA id "), "{unfolded}");
        assert!(unfolded.contains("by opensmtpd.example (OpenSMTPD) with ESMTP id "), "{unfolded}");
        assert!(mail.content.ends_with(content), "{}", mail.content);
    }
    opensmtpd.logs("result=\"Ok\"").await;
    relay.stop().await;
}

/// A recipient that we refuse is OpenSMTPD's to bounce, the others get the message.
#[tokio::test]
async fn some_recipients_are_refused() {
    let upstream = Upstream::new();
    let home = Home::new().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let port = relay.address(Door::Relay).port();
    let next = format!("smtp+notls://127.0.0.1:{port}");
    let opensmtpd = OpenSmtpd::start(home.authority(), &next).await;
    let mut peer = Peer::to(opensmtpd.address).await;
    peer.hear("220 ").await;
    peer.hello().await;
    peer.expect("MAIL FROM:<a@inside.example>", "250").await;
    for to in ["b@inside.example", "b@outside.example", "c@inside.example"] {
        peer.expect(&format!("RCPT TO:<{to}>"), "250").await;
    }
    assert!(peer.data("Subject: x\r\n\r\ny\r\n").await.starts_with("250"));
    let recipients = |sender: bool| {
        let mails = upstream.mails().into_iter().filter(|mail| mail.from.is_empty() != sender);
        mails.flat_map(|mail| mail.to).collect::<Vec<_>>()
    };
    eventually("both get it", || recipients(true).len() == 2).await;
    eventually("the sender is told", || recipients(false) == ["a@inside.example"]).await;
    let mut taken = recipients(true);
    taken.sort();
    assert_eq!(taken, ["b@inside.example", "c@inside.example"]);
    let notice = upstream.mails().into_iter().find(|mail| mail.from.is_empty()).unwrap();
    assert!(notice.content.contains("b@outside.example"), "{}", notice.content);
    opensmtpd.logs("550 5.7.1 Relaying denied").await;
    relay.stop().await;
}
