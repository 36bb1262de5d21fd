//! Exim is the next hop: STARTTLS, PIPELINING, 8BITMIME, SMTPUTF8, DSN.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, Running, eventually};

use crate::aiosmtpd::{below_received, stuffed};
use crate::exim::{Exim, Next};
use crate::jail::below_their_received;

/// Exim, a relay that sends it mail of dest.example under TLS with a certificate that is verified, and where all
/// other mail goes.
async fn relayed_to_exim() -> (Exim, Running, Upstream) {
    let senders = Upstream::new();
    let back = senders.listen().await.unwrap();
    let home = Home::new().trusting();
    let next = Next { port: back.port(), lines: "", authenticators: "" };
    let exim = Exim::start(home.authority(), &next).await;
    let port = exim.address.port();
    let route = format!("via = [{{ host = \"127.0.0.1\", port = {port} }}]\ntls = \"verify\"\n");
    let authority = home.authority_file().display().to_string();
    let home = home
        .set("tls", "ca-file", &format!("{authority:?}"))
        .route_as("dest.example", &route)
        .route("*", back);
    (exim, home.start().await, senders)
}

/// Messages, and what makes them worth sending.
fn contents() -> Vec<Vec<u8>> {
    let eight: Vec<u8> = (128..=255).collect();
    let large = format!("{}\r\n", "y".repeat(76)).repeat(40_000);
    vec![
        b"Subject: dots\r\n\r\n.\r\n..\r\n...three\r\n.end\r\n".to_vec(),
        [b"Subject: eight bits\r\n\r\n", &eight[..], b"\r\n"].concat(),
        format!("Subject: a long line\r\n\r\n{}\r\n", "x".repeat(998)).into_bytes(),
        b"Subject: empty lines at the end\r\n\r\nx\r\n\r\n\r\n".to_vec(),
        format!("Subject: large\r\n\r\n.{large}").into_bytes(),
    ]
}

#[tokio::test]
async fn every_octet_in_a_pipeline_under_tls() {
    let (exim, relay, _senders) = relayed_to_exim().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    for content in contents() {
        peer.expect("MAIL FROM:<a@sender.example> BODY=8BITMIME", "250").await;
        peer.expect("RCPT TO:<b@dest.example>", "250").await;
        let reply = peer.data(stuffed(&content)).await;
        assert!(reply.starts_with("250 2.0.0 OK queued as "), "{reply}");
    }
    relay.empty().await;
    let mut got = Vec::new();
    for mail in exim.jail.mails("b", contents().len()).await {
        got.push(below_received(below_their_received(&mail, "exim.example")).to_vec());
    }
    for content in contents() {
        let begin = content[..40.min(content.len())].escape_ascii();
        assert!(got.contains(&content), "{begin} did not come as it was: {}", exim.log());
    }
    let log = exim.log();
    let arrivals: Vec<&str> = log.lines().filter(|line| line.contains(" <= a@sender")).collect();
    assert_eq!(arrivals.len(), contents().len(), "{log}");
    for arrival in arrivals {
        assert!(arrival.contains(" P=esmtps ") && arrival.contains(" X=TLS1."), "{arrival}");
        let pipelined = arrival.contains(" L ") || arrival.contains(" L. ");
        assert!(pipelined, "{arrival}");
        // By BDAT, since it offers CHUNKING.
        assert!(arrival.contains(" K "), "{arrival}");
    }
    relay.stop().await;
}

#[tokio::test]
async fn whom_it_refuses_we_tell_the_sender() {
    let (exim, relay, senders) = relayed_to_exim().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let to = ["b@dest.example", "nobody@dest.example", "c@dest.example"];
    let content = "Subject: to three\r\n\r\nx\r\n";
    peer.deliver("a@sender.example", &to, content).await;
    relay.empty().await;
    for user in ["b", "c"] {
        let mail = exim.jail.mails(user, 1).await.remove(0);
        let got = below_received(below_their_received(&mail, "exim.example"));
        assert_eq!(got, content.as_bytes());
    }
    let notice = senders.mails().remove(0);
    assert_eq!((notice.from.as_str(), notice.to), ("", vec!["a@sender.example".to_owned()]));
    let text = notice.content.replace("\r\n ", " ");
    assert!(text.contains("Final-Recipient: rfc822; nobody@dest.example\r\n"), "{text}");
    assert!(text.contains("\r\nAction: failed\r\nStatus: 5.1.1\r\n"), "{text}");
    assert!(text.contains("Diagnostic-Code: smtp; 550 5.1.1 nobody of that name"), "{text}");
    assert_eq!(text.matches("Final-Recipient:").count(), 1, "{text}");
    relay.stop().await;
}

#[tokio::test]
async fn later_when_it_says_not_now() {
    let (exim, relay, senders) = relayed_to_exim().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let content = "Subject: sooner or later\r\n\r\nx\r\n";
    peer.deliver("a@sender.example", &["b@dest.example", "later@dest.example"], content).await;
    exim.jail.mails("b", 1).await;
    exim.logs("temporarily rejected RCPT <later@dest.example>").await;
    assert_eq!(relay.queued().len(), 1);
    exim.relent();
    relay.empty().await;
    let mail = exim.jail.mails("later", 1).await.remove(0);
    assert_eq!(below_received(below_their_received(&mail, "exim.example")), content.as_bytes());
    exim.jail.mails("b", 1).await;
    assert!(senders.mails().is_empty(), "nobody is told: {:?}", senders.mails());
    relay.stop().await;
}

#[tokio::test]
async fn and_tells_what_became_of_it() {
    let (exim, relay, senders) = relayed_to_exim().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.expect("MAIL FROM:<a@sender.example> RET=HDRS ENVID=QQ314+2B", "250").await;
    let rcpt = "RCPT TO:<b@dest.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob+2Bx@first.example";
    peer.expect(rcpt, "250").await;
    peer.data("Subject: told\r\n\r\nThe text.\r\n").await;
    relay.empty().await;
    eventually("Exim's notice", || !senders.mails().is_empty()).await;
    let mails = senders.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    let text = mails[0].content.replace("\r\n ", " ");
    for part in [
        "Reporting-MTA: dns; exim.example\r\n",
        // It gives the parameters back as they came, in xtext.
        "Original-Envelope-ID: QQ314+2B\r\n",
        "Original-Recipient: rfc822;Bob+2Bx@first.example\r\n",
        "Action: delivered\r\nFinal-Recipient: rfc822;b@dest.example\r\nStatus: 2.0.0\r\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("Subject: told") && !text.contains("The text."), "{text}");
    exim.jail.mails("b", 1).await;
    relay.stop().await;
}

#[tokio::test]
async fn to_a_name_in_another_alphabet() {
    let (exim, relay, senders) = relayed_to_exim().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.expect("MAIL FROM:<\u{e4}nn@sender.example> SMTPUTF8 BODY=8BITMIME", "250").await;
    peer.expect("RCPT TO:<j\u{f6}rg@dest.example>", "250").await;
    let content = "Subject: Gr\u{fc}\u{df}e\r\n\r\ncaf\u{e9}\r\n";
    assert!(peer.data(content).await.starts_with("250"));
    relay.empty().await;
    let mail = exim.jail.mails("joerg", 1).await.remove(0);
    assert_eq!(below_received(below_their_received(&mail, "exim.example")), content.as_bytes());
    exim.logs(" P=utf8esmtps ").await;
    assert!(senders.mails().is_empty(), "{:?}", senders.mails());
    relay.stop().await;
}
