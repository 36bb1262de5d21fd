//! Smart hosts by weight and priority: each gets its part, and the others what one cannot take.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::Home;

use crate::way::{Way, nobody, patient};

fn hop(port: u16, rest: &str) -> String {
    format!("{{ host = \"127.0.0.1\", port = {port}, {rest} }}")
}

async fn through(hops: &[String]) -> Way {
    let lines = format!("via = [{}]", hops.join(", "));
    Way::through(patient(Home::new()).route_as("*", &lines)).await
}

#[tokio::test]
async fn each_gets_its_part_and_the_last_resort_nothing() {
    let ends = [Upstream::new(), Upstream::new(), Upstream::new()];
    let mut hops = Vec::new();
    for (end, rest) in ends.iter().zip(["weight = 3", "weight = 1", "priority = 9"]) {
        hops.push(hop(end.listen().await.unwrap().port(), rest));
    }
    let way = through(&hops).await;
    for _ in 0..60 {
        way.send().await;
    }
    way.relay.empty().await;
    let [heavy, light, last] = ends.map(|end| end.mails().len());
    assert_eq!((heavy + light, last), (60, 0));
    assert!(heavy > light && light > 0, "{heavy} and {light}");
    way.relay.stop().await;
}

#[tokio::test]
async fn one_that_is_down_is_left_to_one_attempt_and_its_mail_goes_to_the_others() {
    let there = Upstream::new();
    let port = there.listen().await.unwrap().port();
    let hops = [hop(nobody().port(), "weight = 1"), hop(port, "weight = 1")];
    let way = through(&hops).await;
    for _ in 0..20 {
        let id = way.send().await;
        way.settled(&id).await;
    }
    assert_eq!(there.mails().len(), 20);
    let metrics = way.relay.client().text("/metrics").await.unwrap();
    let failed =
        metrics.lines().find(|line| line.starts_with("waypost_delivery_connections_failed"));
    let failed: u32 = failed.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap();
    assert!((1..5).contains(&failed), "{failed} attempts asked the one that is down");
    way.relay.stop().await;
}
