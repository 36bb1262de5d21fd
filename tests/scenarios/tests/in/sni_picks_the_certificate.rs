//! Of several certificates the client's server name chooses.

use waypost_scenarios::{Door, Home, Peer};

#[tokio::test]
async fn by_exact_name_by_wildcard_and_else_the_first() {
    let home =
        Home::new().users().certificate(&["mail.second.example"]).certificate(&["*.third.example"]);
    let relay = home.start().await;
    let address = relay.address(Door::Submissions);
    let mut shown = Vec::new();
    // The handshake fails when the certificate does not carry the name.
    for name in ["relay.example", "mail.second.example", "smtp.third.example"] {
        let mut peer = Peer::to(address).await.encrypt_to(relay.roots(), name).await;
        peer.hear("220 relay.example ").await;
        shown.push(peer.certificate().unwrap().to_vec());
        let mut peer = relay.peer(Door::Submission).await;
        peer.hello().await;
        peer.expect("STARTTLS", "220 2.0.0").await;
        let peer = peer.encrypt_to(relay.roots(), name).await;
        assert_eq!(peer.certificate(), shown.last().map(Vec::as_slice), "{name} by STARTTLS");
    }
    assert!(shown[0] != shown[1] && shown[1] != shown[2] && shown[0] != shown[2]);
}
