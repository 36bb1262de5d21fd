//! Exim uses us as its smart host: it logs in under TLS.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, PASSWORD, Peer, USER, eventually};

use crate::aiosmtpd::stuffed;
use crate::exim::{Exim, Next};

const LOGIN: &str = "hosts_require_tls = *\n\
     hosts_require_auth = *\n\
     tls_verify_certificates = /etc/authority\n\
     tls_verify_hosts = *\n\
     tls_verify_cert_hostnames = *\n";
/// The circumflex is a zero octet.
const AUTHENTICATORS: &str = "begin authenticators\n\
     plain:\n\
     driver = plaintext\n\
     public_name = PLAIN\n\
     client_send = ^anna^correct horse battery\n";

#[tokio::test]
async fn with_a_login_under_tls() {
    assert!(AUTHENTICATORS.contains(&format!("^{USER}^{PASSWORD}\n")));
    let upstream = Upstream::new();
    let home = Home::new().users().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let port = relay.address(Door::Submission).port();
    let next = Next { port, lines: LOGIN, authenticators: AUTHENTICATORS };
    let exim = Exim::start(home.authority(), &next).await;
    let mut peer = Peer::to(exim.address).await;
    peer.hear("220 ").await;
    peer.hello().await;
    let long = "x".repeat(900);
    let content = format!(
        "From: a@sender.example\r\nSubject: by Exim\r\nDate: Thu, 26 Nov 2026 05:00:00 +0000\r\n\
         Message-ID: <1@sender.example>\r\n\r\n.\r\n..dots\r\ncaf\u{e9}\r\n{long}\r\n\r\n\r\n"
    );
    for to in [&["b@other.example", "c@other.example"][..], &["d@third.example"]] {
        peer.expect("MAIL FROM:<a@sender.example> BODY=8BITMIME", "250").await;
        for to in to {
            peer.expect(&format!("RCPT TO:<{to}>"), "250").await;
        }
        assert!(peer.data(stuffed(content.as_bytes())).await.starts_with("250"));
    }
    eventually("both arrive", || upstream.mails().len() == 2).await;
    let mut mails = upstream.mails();
    mails.sort_by_key(|mail| std::cmp::Reverse(mail.to.len()));
    assert_eq!(mails[0].to, ["b@other.example", "c@other.example"]);
    assert_eq!(mails[1].to, ["d@third.example"]);
    for mail in mails {
        assert_eq!(mail.from, "a@sender.example");
        let unfolded = mail.content.replace("\r\n ", " ").replace("\r\n\t", " ");
        assert!(unfolded.contains("(Waypost) with ESMTPSA id "), "{unfolded}");
        assert!(unfolded.contains("by exim.example with esmtp (Exim"), "{unfolded}");
        assert!(mail.content.ends_with(&content), "{}", mail.content);
    }
    exim.logs(" A=plain ").await;
    exim.logs("C=\"250 2.0.0 OK queued as ").await;
    relay.stop().await;
}

/// A recipient that we refuse is Exim's to bounce, the others get the message.
#[tokio::test]
async fn some_recipients_are_refused() {
    let upstream = Upstream::new();
    let home = Home::new().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let port = relay.address(Door::Relay).port();
    let exim = Exim::start(home.authority(), &Next { port, lines: "", authenticators: "" }).await;
    let mut peer = Peer::to(exim.address).await;
    peer.hear("220 ").await;
    peer.hello().await;
    let to = ["b@inside.example", "b@outside.example", "c@inside.example"];
    for line in [
        "MAIL FROM:<a@inside.example>".to_owned(),
        format!("RCPT TO:<{}>", to[0]),
        format!("RCPT TO:<{}>", to[1]),
        format!("RCPT TO:<{}>", to[2]),
    ] {
        peer.expect(&line, "250").await;
    }
    assert!(peer.data("Subject: x\r\n\r\ny\r\n").await.starts_with("250"));
    exim.logs("550 5.7.1 Relaying denied").await;
    eventually("message and notice arrive", || upstream.mails().len() >= 2).await;
    let mails = upstream.mails();
    let notice = mails.iter().find(|mail| mail.from.is_empty()).unwrap();
    assert_eq!(notice.to, ["a@inside.example"]);
    assert!(notice.content.contains("b@outside.example"), "{}", notice.content);
    let mut taken: Vec<_> = mails
        .iter()
        .filter(|mail| mail.from == "a@inside.example")
        .flat_map(|mail| mail.to.clone())
        .collect();
    taken.sort();
    assert_eq!(taken, ["b@inside.example", "c@inside.example"]);
    relay.stop().await;
}
