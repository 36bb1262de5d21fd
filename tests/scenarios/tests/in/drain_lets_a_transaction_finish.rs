//! A relay told to end takes no new peers, and finishes what was begun.

use tokio::net::TcpStream;
use waypost_admin::api::Words;
use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, eventually};

#[tokio::test]
async fn the_message_under_way_is_kept_and_delivered() {
    let upstream = Upstream::new();
    let home = Home::new().trusting().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let address = relay.address(Door::Relay);
    let mut busy = relay.peer(Door::Relay).await;
    busy.hello().await;
    let mut idle = relay.peer(Door::Relay).await;
    idle.hello().await;
    busy.envelope("a@sender.example", &["b@dest.example"]).await;
    busy.expect("DATA", "354").await;
    busy.send("Subject: x\r\n\r\nfirst half\r\n").await;

    let _: Words = relay.client().post("/v1/drain", &()).await.unwrap();
    let controls = relay.controls().clone();
    let ending = tokio::spawn(relay.stop());
    idle.hear("421 4.3.2").await;
    assert!(idle.is_over().await);
    let mut refused = false;
    for _ in 0..200 {
        match TcpStream::connect(address).await {
            Err(_) => refused = true,
            Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
        if refused {
            break;
        }
    }
    assert!(refused, "new peers are still let in");
    assert!(!ending.is_finished(), "the transaction is not over");
    busy.send("second half\r\n.\r\n").await;
    busy.hear("250 2.0.0 OK queued as ").await;
    busy.hear("421 4.3.2").await;
    assert!(busy.is_over().await);
    ending.await.unwrap();
    drop(controls);
    if upstream.mails().is_empty() {
        // It came too late for this run; the next one delivers it.
        let relay = home.start().await;
        relay.empty().await;
        relay.stop().await;
    }
    eventually("it arrives", || upstream.mails().len() == 1).await;
    assert!(upstream.mails()[0].content.ends_with("first half\r\nsecond half\r\n"));
}
