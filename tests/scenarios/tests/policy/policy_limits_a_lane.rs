//! Policy asks for fewer attempts at once in a lane, and the schedule goes easy on it until the time is
//! over. Operators see it.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use waypost_harness::upstream::{Act, Upstream};
use waypost_hooks::{AttemptAnswer, LaneAdvice, Way};
use waypost_queue::DestinationStatus;
use waypost_scenarios::{Door, Home, Running, eventually};
use waypost_smtp::Phase;

use crate::says::{Says, all_go, by_name, with_hop};

const LANE: &str = "slow";

fn advice(valid: Duration) -> LaneAdvice {
    LaneAdvice { destination: LANE.to_owned(), pause: None, max_concurrent: Some(2), valid }
}

fn lane(relay: &Running) -> DestinationStatus {
    let status = relay.queue().status();
    status.destinations.into_iter().find(|d| d.name == LANE).expect("the lane is known")
}

#[tokio::test]
async fn and_it_ends_by_itself() {
    let valid = Duration::from_secs(5);
    let policy = Says::new()
        .of_a_route(|view| Ok(all_go(view, Way { lane: Some(LANE.into()), ..by_name("host") })))
        .of_an_attempt(move |attempt| {
            let first = attempt.entry.sender.to_string().starts_with("first");
            let advice = if first { vec![advice(valid)] } else { Vec::new() };
            Ok(AttemptAnswer { advice, ..AttemptAnswer::default() })
        });
    let upstream = Upstream::new();
    let home = Home::new().trusting().hooks(policy.ready());
    let home = with_hop(home, "host", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let message = "Subject: x\r\n\r\ny\r\n";
    peer.deliver("first@sender.example", &["b@dest.example"], message).await;
    eventually("it is delivered", || upstream.mails().len() == 1).await;
    relay.empty().await;
    let begun = Instant::now();
    eventually("the lane is empty", || lane(&relay).in_flight == 0).await;
    // And the advice stands.
    assert_eq!(lane(&relay).most, Some(2));
    let upstream = upstream.on(Phase::Mail, Act::Hang);
    for _ in 0..5 {
        peer.deliver("a@sender.example", &["b@dest.example"], message).await;
    }
    eventually("as many as may are under way", || lane(&relay).in_flight == 2).await;
    let overview = relay.overview().await;
    let shown = overview.queue.destinations.iter().find(|d| d.name == LANE).unwrap();
    assert_eq!(shown.most, Some(2));
    assert!(shown.limited_until.is_some());
    while begun.elapsed() < valid - Duration::from_secs(2) {
        assert_eq!(lane(&relay).in_flight, 2);
        sleep(Duration::from_millis(20)).await;
    }
    // None of the two has ended: time alone frees the others.
    eventually("all are under way", || lane(&relay).in_flight == 5).await;
    assert!(begun.elapsed() > valid - Duration::from_secs(2));
    assert_eq!((lane(&relay).most, lane(&relay).limited_until), (None, None));
    assert_eq!(upstream.mails().len(), 1);
}
