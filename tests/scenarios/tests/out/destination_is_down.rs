//! A destination that cannot be reached rests, and mail for others flows.

use waypost_harness::upstream::Upstream;
use waypost_mail::Why;

use crate::way::{ALICE, Way, home_to, nobody, patient};

#[tokio::test]
async fn mail_for_others_flows() {
    let upstream = Upstream::new();
    let down = nobody();
    let home = patient(home_to(upstream.listen().await.unwrap()));
    let home = home.route_first("down.example", down);
    let way = Way::through(home).await;
    let first = way.post(ALICE, &["bob@down.example"], "first").await;
    let why = way.deferred(&first).await;
    assert!(matches!(why, Why::Unreachable { .. }), "{why}");
    for number in 0..5 {
        way.post(ALICE, &["bob@down.example"], &format!("later {number}")).await;
    }
    let other = way.send().await;
    way.settled(&other).await;
    assert_eq!(upstream.mails().len(), 1);
    let waiting = way.relay.queued();
    assert_eq!(waiting.len(), 6);
    let tried: u32 = waiting.iter().map(|message| message.tries).sum();
    assert_eq!(tried, 1, "one connection told enough: {waiting:#?}");
    let status = way.relay.overview().await.queue;
    let resting: Vec<_> =
        status.destinations.iter().filter(|d| d.resting_until.is_some()).collect();
    assert_eq!(resting.len(), 1, "{status:#?}");
    assert!(resting[0].name.contains(&down.to_string()), "{status:#?}");

    // It is there again; an operator has one message tried, and the others follow.
    let healed = tokio::net::TcpListener::bind(down).await.unwrap();
    let again = Upstream::new();
    again.attend(healed);
    way.retry(&first).await;
    way.relay.empty().await;
    assert_eq!(again.mails().len(), 6);
    way.relay.stop().await;
}
