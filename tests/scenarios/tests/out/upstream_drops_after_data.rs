//! The upstream has the message and does not say so: it is sent again.

use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::Why;
use waypost_smtp::Phase;

use crate::way::Way;

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
