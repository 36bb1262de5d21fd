//! Several recipients of one message, each with a fate of its own.

use waypost_harness::upstream::Upstream;

use crate::way::Way;

#[tokio::test]
async fn those_of_one_destination_share_a_transaction() {
    let upstream = Upstream::new();
    let way = Way::to(&upstream).await;
    let id = way.send_to(&["a@there.example", "b@there.example", "c@there.example"]).await;
    way.settled(&id).await;
    let mails = upstream.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].to, ["a@there.example", "b@there.example", "c@there.example"]);
    way.relay.stop().await;
}

#[tokio::test]
async fn one_is_delivered_one_bounces_one_waits() {
    let upstream = Upstream::new()
        .refusing("gone@there.example", "550 5.1.1 no such user")
        .refusing_once("busy@there.example", "450 4.2.1 mailbox busy");
    let way = Way::patiently_to(&upstream).await;
    let to = ["fine@there.example", "gone@there.example", "busy@there.example"];
    let id = way.send_to(&to).await;
    let why = way.deferred(&id).await;
    assert!(why.to_string().contains("450 4.2.1 mailbox busy"), "{why}");
    assert_eq!(upstream.mails()[0].to, ["fine@there.example"]);
    let notice = way.notices(1).await.remove(0).content;
    assert_eq!(notice.matches("Final-Recipient:").count(), 1, "{notice}");
    assert!(notice.contains("Final-Recipient: rfc822; gone@there.example"), "{notice}");

    way.retry(&id).await;
    way.settled(&id).await;
    let mails = upstream.mails();
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[1].to, ["busy@there.example"]);
    assert_eq!(way.alice.mails().len(), 1, "no second notice");
    way.relay.stop().await;
}

#[tokio::test]
async fn all_are_tried_again_until_it_works() {
    let upstream = Upstream::new().refusing_once("bob@there.example", "451 4.7.1 greylisted");
    let way = Way::to(&upstream).await;
    let id = way.send().await;
    way.settled(&id).await;
    assert_eq!(upstream.mails().len(), 1);
    assert_eq!(upstream.heard().matches("RCPT TO:").count(), 2);
    way.relay.stop().await;
}
