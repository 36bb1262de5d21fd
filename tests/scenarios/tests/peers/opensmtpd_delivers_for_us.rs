//! OpenSMTPD is the next hop: it has 8BITMIME and DSN, no pipelining, and a STARTTLS that may be broken.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, Running, eventually};

use crate::aiosmtpd::stuffed;
use crate::jail::below_their_received;
use crate::opensmtpd::OpenSmtpd;

/// OpenSMTPD, a relay that sends it mail of dest.example, and where all other mail goes.
async fn relayed_to_opensmtpd(lines: &str) -> (OpenSmtpd, Running, Upstream) {
    let senders = Upstream::new();
    let back = senders.listen().await.unwrap();
    let home = Home::new().trusting();
    let next = format!("smtp+notls://{back}");
    let opensmtpd = OpenSmtpd::start(home.authority(), &next).await;
    let port = opensmtpd.address.port();
    let route = format!("via = [{{ host = \"127.0.0.1\", port = {port} }}]\n{lines}");
    let home = home.route_as("dest.example", &route).route("*", back);
    (opensmtpd, home.start().await, senders)
}

/// What it stored of a message, from our field on, as it was sent: its mailboxes have lines of Unix.
fn sent(mail: &[u8]) -> Vec<u8> {
    let ours = below_their_received(mail, "opensmtpd.example");
    let below = below_their_received(ours, "relay.example");
    let lines = below.split_inclusive(|octet| *octet == b'\n');
    lines.flat_map(|line| [line.strip_suffix(b"\n").unwrap(), b"\r\n"].concat()).collect()
}

/// A message with these lines, and the fields that it would add.
fn message(subject: &str, body: &[u8]) -> Vec<u8> {
    let header = format!(
        "Subject: {subject}\r\nDate: Thu, 26 Nov 2026 05:00:00 +0000\r\nMessage-ID: <1@sender.example>\r\n\r\n"
    );
    [header.as_bytes(), body].concat()
}

#[tokio::test]
async fn every_octet_to_some_and_not_to_one() {
    let (opensmtpd, relay, senders) = relayed_to_opensmtpd("tls = \"never\"\n").await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let eight: Vec<u8> = (160..=255).collect();
    let large = format!("{}\r\n", "y".repeat(76)).repeat(40_000);
    let contents = [
        message("dots", b".\r\n..\r\n...three\r\n.end\r\n\r\n"),
        message("eight bits", &[&eight[..], b"\r\n"].concat()),
        message("large", format!(".{large}").as_bytes()),
    ];
    for content in &contents {
        peer.expect("MAIL FROM:<a@sender.example> BODY=8BITMIME", "250").await;
        for to in ["b@dest.example", "nobody@dest.example", "c@dest.example"] {
            peer.expect(&format!("RCPT TO:<{to}>"), "250").await;
        }
        let reply = peer.data(stuffed(content)).await;
        assert!(reply.starts_with("250 2.0.0 OK queued as "), "{reply}");
    }
    relay.empty().await;
    for user in ["b", "c"] {
        let got = opensmtpd.jail.mails(user, contents.len()).await;
        let got: Vec<_> = got.iter().map(|mail| sent(mail)).collect();
        for content in &contents {
            let begin = content[..20].escape_ascii();
            assert!(got.contains(content), "{begin} did not come to {user} as it was");
        }
    }
    assert_eq!(senders.mails().len(), contents.len());
    for notice in senders.mails() {
        let text = notice.content.replace("\r\n ", " ");
        assert_eq!(notice.to, ["a@sender.example"]);
        assert!(text.contains("Final-Recipient: rfc822; nobody@dest.example\r\n"), "{text}");
        assert!(text.contains("Diagnostic-Code: smtp; 550 Invalid recipient"), "{text}");
        assert_eq!(text.matches("Final-Recipient:").count(), 1, "{text}");
    }
    relay.stop().await;
}

#[tokio::test]
async fn later_when_it_says_not_now() {
    let (opensmtpd, relay, senders) = relayed_to_opensmtpd("tls = \"never\"\n").await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let content = message("sooner or later", b"x\r\n");
    peer.envelope("a@sender.example", &["b@dest.example", "later@dest.example"]).await;
    assert!(peer.data(&content).await.starts_with("250"));
    opensmtpd.jail.mails("b", 1).await;
    opensmtpd.logs("451 4.2.1 not now").await;
    assert_eq!(relay.queued().len(), 1);
    opensmtpd.relent();
    relay.empty().await;
    let mail = opensmtpd.jail.mails("later", 1).await.remove(0);
    assert_eq!(sent(&mail), content);
    opensmtpd.jail.mails("b", 1).await;
    assert!(senders.mails().is_empty(), "nobody is told: {:?}", senders.mails());
    relay.stop().await;
}

#[tokio::test]
async fn and_tells_what_became_of_it() {
    let (opensmtpd, relay, senders) = relayed_to_opensmtpd("tls = \"never\"\n").await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.expect("MAIL FROM:<a@sender.example> RET=HDRS ENVID=QQ314", "250").await;
    peer.expect("RCPT TO:<b@dest.example> NOTIFY=SUCCESS ORCPT=rfc822;Bob@first.example", "250")
        .await;
    peer.data("Subject: told\r\n\r\nThe text.\r\n").await;
    relay.empty().await;
    opensmtpd.jail.mails("b", 1).await;
    eventually("OpenSMTPD's notice", || !senders.mails().is_empty()).await;
    let mails = senders.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert_eq!(mails[0].to, ["a@sender.example"]);
    let text = mails[0].content.replace("\r\n ", " ");
    assert!(text.contains("Reporting-MTA: dns; opensmtpd.example\r\n"), "{text}");
    assert!(text.contains("Action: delivered\r\nStatus: 2"), "{text}");
    assert!(text.contains("Subject: told") && !text.contains("The text."), "{text}");
    relay.stop().await;
}

/// What is offered is tried; where that fails, the mail comes all the same, and says how.
#[tokio::test]
async fn with_tls_unless_its_tls_is_broken() {
    let (opensmtpd, relay, senders) = relayed_to_opensmtpd("").await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let content = message("encrypted if possible", b"x\r\n");
    peer.envelope("a@sender.example", &["b@dest.example"]).await;
    assert!(peer.data(&content).await.starts_with("250"));
    relay.empty().await;
    let mail = opensmtpd.jail.mails("b", 1).await.remove(0);
    assert_eq!(sent(&mail), content);
    let text = String::from_utf8(mail).unwrap();
    let broken = opensmtpd.cannot_shake_hands();
    let with = if broken { " with ESMTP id " } else { " with ESMTPS id " };
    assert!(text.contains(with), "{text}\n{}", opensmtpd.log());
    assert!(senders.mails().is_empty(), "{:?}", senders.mails());
    relay.stop().await;
}
