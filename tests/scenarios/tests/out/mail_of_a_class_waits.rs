//! Mail of a class that is held back waits, and other mail goes on.

use std::time::Duration;

use waypost_harness::upstream::Upstream;
use waypost_queue::Field;
use waypost_scenarios::eventually;

use crate::way::{BOB, Way, home_to};

const CLASS: &str =
    r#"[{ name = "news", match = "sender:*@news.example", rate = "1/1h", lifetime = "1h" }]"#;

#[tokio::test]
async fn a_rate_holds_back_its_class_alone() {
    let upstream = Upstream::new();
    let home = home_to(upstream.listen().await.unwrap()).set("queue", "class", CLASS);
    let way = Way::through(home).await;
    for number in 0..3 {
        way.post("editor@news.example", &[BOB], &format!("news {number}")).await;
    }
    let other = way.send().await;
    way.settled(&other).await;
    eventually("one of the news", || upstream.mails().len() == 2).await;
    let waiting = way.relay.queued();
    assert_eq!(waiting.iter().map(|m| (m.tries, m.waiting)).collect::<Vec<_>>(), [(0, 1); 2]);
    let hour = Duration::from_secs(3600);
    assert!(waiting.iter().all(|m| m.expires.since(m.received) == hour), "{waiting:#?}");
    let news = "class:news attempts:0".parse().unwrap();
    let groups = way.relay.queue().summary(&news, Field::Class, 10);
    assert_eq!((groups.len(), &*groups[0].name, groups[0].messages), (1, "news", 2));
}
