//! Policy drops what could not be delivered: nobody is told but the log, the metrics and events.

use std::sync::{Arc, Mutex};

use waypost_harness::upstream::{Act, Upstream};
use waypost_hooks::Remedy;
use waypost_scenarios::{Door, Home};
use waypost_smtp::Phase;

use crate::says::Says;

#[tokio::test]
async fn and_the_sender_hears_nothing() {
    let upstream = Upstream::new().on(Phase::Rcpt, Act::Say("550 5.1.1 nobody".to_owned()));
    let senders = Upstream::new();
    let asked = Arc::new(Mutex::new(0));
    let policy = Says::new().remedy(Remedy::Drop("a trap".to_owned())).of_a_message({
        let asked = asked.clone();
        move |_| {
            *asked.lock().unwrap() += 1;
            Default::default()
        }
    });
    let home = Home::new()
        .trusting()
        .hooks(policy.ready())
        .route("sender.example", senders.listen().await.unwrap())
        .route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.deliver("a@sender.example", &["b@dest.example"], "Subject: x\r\n\r\ny\r\n").await;
    relay.empty().await;
    assert_eq!(*asked.lock().unwrap(), 1, "there was no notice to be asked about");
    assert_eq!(senders.connections(), 0);
    let count =
        |outcome: &str| format!("waypost_delivery_recipients_total{{outcome=\"{outcome}\"}}");
    assert_eq!(relay.counter(&count("deleted")).await, 1);
    assert_eq!(relay.counter(&count("bounced")).await, 0);
    relay.stop().await;
}
