//! Each kind of listener takes mail in its own way, and it arrives.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home};

#[tokio::test]
async fn from_a_listed_network_in_clear_text() {
    let upstream = Upstream::new();
    let home = Home::new().trusting().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let content = "Subject: hi\r\n\r\nHello\r\n";
    let id = peer.deliver("a@sender.example", &["b@dest.example"], content).await;
    relay.empty().await;
    let mails = upstream.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(
        (mails[0].from.as_str(), mails[0].to.clone()),
        ("a@sender.example", vec!["b@dest.example".to_owned()])
    );
    let (received, rest) = mails[0].content.split_at(mails[0].content.find("Subject").unwrap());
    assert!(received.starts_with("Received: from peer.example"), "{received}");
    assert!(received.contains(&id), "{received}");
    assert_eq!(rest, content);
    relay.stop().await;
}
