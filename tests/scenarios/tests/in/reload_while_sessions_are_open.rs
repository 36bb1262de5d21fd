//! A reload changes users and relay rules for those who come; those who are there keep theirs.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, b64};

#[tokio::test]
async fn relay_rules_and_routes() {
    let (before, after) = (Upstream::new(), Upstream::new());
    let home = Home::new().trusting().route("*", before.listen().await.unwrap());
    let relay = home.start().await;
    let mut old = relay.peer(Door::Relay).await;
    old.hello().await;
    old.envelope("a@sender.example", &["b@dest.example"]).await;

    let home = home
        .set("relay", "networks", "[]")
        .without_routes()
        .route("*", after.listen().await.unwrap());
    assert!(home.reload().await.unwrap().starts_with("reloaded"));
    old.expect("RCPT TO:<c@dest.example>", "250 2.1.5").await;
    assert!(old.data("Subject: x\r\n\r\ny\r\n").await.starts_with("250"));
    let mut new = relay.peer(Door::Relay).await;
    new.hello().await;
    new.expect("MAIL FROM:<a@sender.example>", "250").await;
    new.expect("RCPT TO:<b@dest.example>", "550 5.7.1").await;
    new.expect("RCPT TO:<b@inside.example>", "250 2.1.5").await;
    assert!(new.data("Subject: x\r\n\r\ny\r\n").await.starts_with("250"));
    relay.empty().await;
    // Routes are chosen when a message is accepted, and both were after the reload.
    assert_eq!((before.mails().len(), after.mails().len()), (0, 2));
}

#[tokio::test]
async fn users() {
    let home = Home::new().users().user("ben", "first word");
    let relay = home.start().await;
    let mut open = relay.peer(Door::Submissions).await;
    open.hello().await;
    let mut users = waypost_inbound::UsersFile::load(&home.users_file()).unwrap();
    users.set_password("ben", "second word").unwrap();
    users.add("carl", "third word").unwrap();
    home.reload().await.unwrap();
    let plain = |user: &str, word: &str| format!("AUTH PLAIN {}", b64(format!("\0{user}\0{word}")));
    let mut new = relay.peer(Door::Submissions).await;
    new.hello().await;
    new.expect(&plain("ben", "first word"), "535 5.7.8").await;
    new.expect(&plain("ben", "second word"), "235 2.7.0").await;
    let mut other = relay.peer(Door::Submissions).await;
    other.hello().await;
    other.expect(&plain("carl", "third word"), "235 2.7.0").await;
    open.expect(&plain("ben", "first word"), "235 2.7.0").await;
}

#[tokio::test]
async fn a_mistake_changes_nothing() {
    let home = Home::new().trusting();
    let relay = home.start().await;
    let home = home.set("relay", "networks", "[\"127.0.0.0/99\"]").set("limits", "size", "\"1\"");
    let refused = home.reload().await.unwrap_err();
    assert!(refused.contains("127.0.0.0/99") && refused.contains("size"), "{refused}");
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.envelope("a@sender.example", &["b@dest.example"]).await;
}
