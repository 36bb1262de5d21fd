//! Logins send as what is theirs, by the users file and by the configuration.

use waypost_inbound::UsersFile;
use waypost_scenarios::{Door, Home, PASSWORD, Peer, Running, USER, b64};

async fn logged_in(relay: &Running, name: &str) -> Peer {
    let mut peer = relay.peer(Door::Submissions).await;
    peer.hello().await;
    peer.expect(&format!("AUTH PLAIN {}", b64(format!("\0{name}\0{PASSWORD}"))), "235").await;
    peer
}

async fn may(peer: &mut Peer, sender: &str, expected: &str) {
    peer.expect(&format!("MAIL FROM:<{sender}>"), expected).await;
    peer.expect("RSET", "250").await;
}

#[tokio::test]
async fn and_as_what_it_was_given() {
    let home = Home::new()
        .users()
        .user("otto@sender.example", PASSWORD)
        .set("auth", "senders", "\"own\"")
        .set("auth", "from-field", "true")
        .set("auth", "sender", "[{ users = [\"otto@*\"], may-send-as = [\"<>\"] }]");
    let mut file = UsersFile::load(&home.users_file()).unwrap();
    file.set_send_as(USER, vec!["*@sender.example".parse().unwrap()]).unwrap();
    let relay = home.start().await;
    let mut anna = logged_in(&relay, USER).await;
    may(&mut anna, "x@sender.example", "250").await;
    may(&mut anna, "x@other.example", "550 5.7.1").await;
    may(&mut anna, "", "550 5.7.1").await;
    let mut otto = logged_in(&relay, "otto@sender.example").await;
    may(&mut otto, "otto@sender.example", "250").await;
    may(&mut otto, "x@sender.example", "550 5.7.1").await;
    may(&mut otto, "", "250").await;
    let denied = "waypost_inbound_sender_denied_total{listener=\"submissions\"}";
    assert_eq!(relay.counter(denied).await, 3);
    otto.expect("MAIL FROM:<otto@sender.example>", "250").await;
    otto.expect("RCPT TO:<b@dest.example>", "250").await;
    otto.expect("DATA", "354").await;
    otto.expect("From: boss@sender.example\r\n\r\nHello\r\n.", "550 5.7.1 The From field").await;
    assert!(relay.queued().is_empty());
}
