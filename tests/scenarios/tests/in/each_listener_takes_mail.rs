//! Each kind of listener takes mail in its own way, and it arrives.

use waypost_harness::upstream::{Mail, Upstream};
use waypost_scenarios::{Door, Home, Peer, Running, USER};

const CONTENT: &str = "Date: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-ID: <1@sender.example>\r\n\
                       Subject: hi\r\n\r\nHello\r\n";

/// What arrived is what was sent below one Received field, which says how it came.
async fn arrives(relay: &Running, upstream: &Upstream, mut peer: Peer, with: &str) -> Mail {
    let id = peer.deliver("a@sender.example", &["b@dest.example"], CONTENT).await;
    peer.expect("QUIT", "221 2.0.0").await;
    assert!(peer.is_over().await);
    relay.empty().await;
    let mail = upstream.mails().pop().unwrap();
    assert_eq!(
        (mail.from.as_str(), mail.to.as_slice()),
        ("a@sender.example", &["b@dest.example".to_owned()][..])
    );
    let received = mail.content.strip_suffix(CONTENT).unwrap();
    let unfolded = received.replace("\r\n", "").replace('\t', " ");
    assert!(unfolded.starts_with("Received: from peer.example ([127.0.0.1]) "), "{received}");
    let words = format!("by relay.example (Waypost) with {with} id {id} for <b@dest.example>; ");
    assert!(unfolded.contains(&words), "{received}");
    assert!(!received.contains(USER), "the user's name is told to strangers: {received}");
    mail
}

#[tokio::test]
async fn from_a_listed_network_in_clear_text() {
    let upstream = Upstream::new();
    let home = Home::new().trusting().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    let offers = peer.hello().await;
    let extensions =
        ["PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES"];
    for extension in extensions {
        assert!(offers.iter().any(|offer| offer == extension), "{extension} is not in {offers:?}");
    }
    assert!(
        !offers.iter().any(|offer| offer == "STARTTLS" || offer.starts_with("AUTH")),
        "{offers:?}"
    );
    arrives(&relay, &upstream, peer, "ESMTP").await;
}

#[tokio::test]
async fn from_a_server_with_starttls() {
    let upstream = Upstream::new();
    let home = Home::new().users().trusting().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    assert!(peer.hello().await.iter().any(|offer| offer == "STARTTLS"));
    let peer = peer.starttls(relay.roots()).await;
    arrives(&relay, &upstream, peer, "ESMTPS").await;
}

#[tokio::test]
async fn from_a_user_with_starttls_and_then_a_login() {
    let upstream = Upstream::new();
    let home = Home::new().users().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Submission).await;
    let offers = peer.hello().await;
    assert!(!offers.iter().any(|offer| offer.starts_with("AUTH")), "{offers:?}");
    peer.expect("MAIL FROM:<a@sender.example>", "530 5.7.0 Must issue STARTTLS first").await;
    peer.expect("AUTH PLAIN AGEAYg==", "530 5.7.0 Must issue STARTTLS first").await;
    let mut peer = peer.starttls(relay.roots()).await;
    peer.expect("MAIL FROM:<a@sender.example>", "530 5.7.0 Authentication required").await;
    peer.expect("RCPT TO:<b@inside.example>", "503 5.5.1").await;
    peer.login().await;
    arrives(&relay, &upstream, peer, "ESMTPSA").await;
}

#[tokio::test]
async fn from_a_user_with_tls_from_the_first_byte() {
    let upstream = Upstream::new();
    let home = Home::new().users().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Submissions).await;
    let offers = peer.hello().await;
    assert!(!offers.iter().any(|offer| offer == "STARTTLS"), "{offers:?}");
    peer.expect("MAIL FROM:<a@sender.example>", "530 5.7.0 Authentication required").await;
    peer.login().await;
    arrives(&relay, &upstream, peer, "ESMTPSA").await;
}
