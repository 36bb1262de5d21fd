//! REQUIRETLS on its way (RFC 8689): from one Waypost by another to a host that promises the same, and back
//! to its sender from where nobody does.

use std::fs;
use std::net::SocketAddr;

use waypost_harness::authority::Authority;
use waypost_harness::upstream::{Mail, Upstream};
use waypost_scenarios::{Door, Home, Running, eventually};
use waypost_smtp::server::Offers;

use crate::way::ALICE;

const HERE: &str = "127.0.0.1";

/// A host with a certificate of this authority that promises to require TLS.
fn promising(authority: &Authority) -> Upstream {
    let offers = Offers { require_tls: true, ..Offers::default() };
    Upstream::new().with_tls(authority.server(HERE).unwrap()).offering(offers)
}

/// A relay for everybody here, with a certificate, that trusts its own authority and that of another.
fn relay(home: Home, other: &str) -> Home {
    let file = home.path("trusted.pem");
    fs::write(&file, home.authority().pem() + other).unwrap();
    home.trusting().certificate(&[HERE, "relay.example"]).set(
        "tls",
        "ca-file",
        &format!("{file:?}"),
    )
}

/// A message that requires TLS is handed in, with this field in its header.
async fn submit(relay: &Running, to: &str, field: &str) {
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let mut peer = peer.starttls(relay.roots()).await;
    peer.expect(&format!("MAIL FROM:<{ALICE}> REQUIRETLS"), "250").await;
    peer.expect(&format!("RCPT TO:<{to}>"), "250").await;
    let content = format!("From: <{ALICE}>\r\nSubject: secret\r\n{field}\r\nThe text.\r\n");
    assert!(peer.data(content).await.starts_with("250"));
}

async fn notice(inbox: &Upstream) -> Mail {
    eventually("alice is told", || !inbox.mails().is_empty()).await;
    inbox.mails().remove(0)
}

#[tokio::test]
async fn from_hop_to_hop_and_no_further_than_it_is_promised() {
    let (first, second) = (Home::new(), Home::new());
    let last = promising(second.authority());
    let (silent, inbox) = (
        Upstream::new().with_tls(second.authority().server(HERE).unwrap()),
        promising(first.authority()),
    );
    let to_inbox = inbox.listen().await.unwrap();

    let next = relay(second, &first.authority().pem())
        .route("there.example", last.listen().await.unwrap())
        .route("silent.example", silent.listen().await.unwrap())
        .route("home.example", to_inbox);
    let next_relay = next.start().await;
    let to_next: SocketAddr = next_relay.address(Door::Relay);

    let first = relay(first, &next.authority().pem());
    let relay = first.route("home.example", to_inbox).route("*", to_next).start().await;

    submit(&relay, "bob@there.example", "").await;
    eventually("bob has it", || !last.mails().is_empty()).await;
    assert!(last.mails()[0].tls);
    let said = format!("MAIL FROM:<{ALICE}> ");
    let heard = last.heard();
    let line = heard.lines().find(|line| line.starts_with(&said)).unwrap();
    assert!(line.contains(" REQUIRETLS"), "{heard}");
    assert!(inbox.mails().is_empty());

    // The second relay has promised, and keeps it: the third host gets nothing, and alice hears of it. What
    // the header says does not count beside what the envelope does (RFC 8689 §4.1).
    submit(&relay, "bob@silent.example", "TLS-Required: No\r\n").await;
    let told = notice(&inbox).await;
    assert_eq!((told.from.as_str(), told.to[0].as_str(), told.tls), ("", ALICE, true));
    assert!(told.content.contains("\r\nAction: failed\r\nStatus: 5.7.30\r\n"), "{}", told.content);
    assert!(inbox.heard().contains("MAIL FROM:<> "), "{}", inbox.heard());
    assert!(inbox.heard().contains(" REQUIRETLS"), "the notice is as secret: {}", inbox.heard());
    assert!(!silent.heard().contains("MAIL FROM"), "{}", silent.heard());
    relay.empty().await;
    next_relay.empty().await;
    relay.stop().await;
    next_relay.stop().await;
}
