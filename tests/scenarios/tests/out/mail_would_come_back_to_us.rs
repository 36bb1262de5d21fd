//! A route that leads to the relay's own listener is recognised by address and port.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::Door;

use crate::way::{BOB, Way};

#[tokio::test]
async fn it_bounces_and_does_not_go_round() {
    let upstream = Upstream::new();
    let mut way = Way::to(&upstream).await;
    // The same address with another port is somebody else.
    let id = way.send().await;
    way.settled(&id).await;
    assert_eq!(upstream.mails().len(), 1);

    let own = way.relay.address(Door::Relay);
    way.home = way.home.route_first("there.example", own);
    way.home.reload().await.unwrap();
    let id = way.send().await;
    way.settled(&id).await;
    assert_eq!(upstream.mails().len(), 1);
    let notice = way.notices(1).await.remove(0).content;
    assert!(notice.contains("Status: 5.4.6\r\n"), "{notice}");
    assert!(notice.contains(&format!("Final-Recipient: rfc822; {BOB}")), "{notice}");
    way.relay.stop().await;
}
