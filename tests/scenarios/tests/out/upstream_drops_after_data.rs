//! The upstream has the message and does not say so: it is sent again, or what its class says is done.

use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::Why;
use waypost_smtp::Phase;

use crate::way::{Way, home_to};

#[tokio::test]
async fn the_message_is_sent_again() {
    let upstream = Upstream::new().once(Phase::Eod, Act::Drop);
    let way = Way::patiently_to(&upstream).await;
    let id = way.send().await;
    let why = way.deferred(&id).await;
    assert!(matches!(why, Why::ConnectionLost { phase: Phase::Eod, .. }), "{why}");
    assert_eq!(upstream.mails().len(), 1, "the upstream did take it");
    way.retry(&id).await;
    way.settled(&id).await;
    assert_eq!(upstream.mails().len(), 2);
    assert!(way.alice.mails().is_empty(), "nobody is told: it did arrive");
    way.relay.stop().await;
}

#[tokio::test]
async fn or_the_sender_is_told_that_it_may_have_arrived() {
    let upstream = Upstream::new().once(Phase::Eod, Act::Drop);
    let home = home_to(upstream.listen().await.unwrap()).set("queue", "unknown", "\"bounce\"");
    let way = Way::through(home).await;
    let id = way.send().await;
    way.settled(&id).await;
    let notice = way.notices(1).await.remove(0).content;
    let words = notice.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("Action: failed Status: 5.4.2"), "{notice}");
    assert!(words.contains("it may have arrived all the same"), "{notice}");
    way.relay.empty().await;
    assert_eq!(upstream.mails().len(), 1, "once");
    way.relay.stop().await;
}

#[tokio::test]
async fn or_it_counts_as_delivered_where_the_class_of_its_destination_says_so() {
    let upstream = Upstream::new().once(Phase::Eod, Act::Drop);
    let at = upstream.listen().await.unwrap();
    let class = format!(
        "[{{ name = \"twice-is-worse\", match = \"destination:{at}\", unknown = \"deliver\" }}]"
    );
    let way = Way::through(home_to(at).set("queue", "class", &class)).await;
    let id = way.send().await;
    way.settled(&id).await;
    way.relay.empty().await;
    assert_eq!((upstream.mails().len(), way.alice.mails().len()), (1, 0));
    way.relay.stop().await;
}
