//! Submission adds what is missing and removes what nobody else may see (RFC 6409 §8); a relay
//! listener leaves all as it is.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home};

const CONTENT: &str = "Return-Path: <old@sender.example>\r\nTo: b@dest.example\r\n\
                       Bcc: secret@dest.example,\r\n other@dest.example\r\nSubject: hi\r\n\r\nBcc: body\r\n";

#[tokio::test]
async fn on_submission() {
    let upstream = Upstream::new();
    let home = Home::new().users().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Submissions).await;
    peer.hello().await;
    peer.login().await;
    peer.deliver("a@sender.example", &["b@dest.example", "secret@dest.example"], CONTENT).await;
    relay.empty().await;
    let mail = upstream.mails().pop().unwrap();
    assert_eq!(mail.to, ["b@dest.example", "secret@dest.example"]);
    let (header, body) = mail.content.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "Bcc: body\r\n");
    for gone in ["Bcc", "secret@", "other@", "Return-Path", "old@"] {
        assert!(!header.contains(gone), "{gone} in {header}");
    }
    let field = |name: &str| {
        let mut found = header.lines().filter_map(|line| line.strip_prefix(name));
        let value = found.next().unwrap_or_else(|| panic!("no {name} in {header}")).to_owned();
        assert_eq!(found.next(), None, "two fields {name}");
        value
    };
    assert!(field("Date: ").ends_with(" +0000"), "{header}");
    let id = field("Message-ID: ");
    assert!(id.starts_with('<') && id.ends_with("@relay.example>"), "{id}");
    assert!(header.ends_with("To: b@dest.example\r\nSubject: hi"), "{header}");
}

#[tokio::test]
async fn not_on_a_relay_listener() {
    let upstream = Upstream::new();
    let home = Home::new().trusting().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.deliver("a@sender.example", &["b@dest.example"], CONTENT).await;
    relay.empty().await;
    let mail = upstream.mails().pop().unwrap();
    let received = mail.content.strip_suffix(CONTENT).unwrap();
    assert!(!received.contains("Date:") && !received.contains("Message-ID:"), "{received}");
}
