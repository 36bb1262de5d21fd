//! A message is damaged on the disk while it waits: it is held and shown, and the others flow.

use std::fs;

use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::MessageId;
use waypost_queue::RecipientStanding;
use waypost_scenarios::{Door, Home, eventually};
use waypost_smtp::Phase;

#[tokio::test]
async fn it_is_held_and_the_others_flow() {
    let upstream = Upstream::new().on(Phase::Mail, Act::Say("450 4.2.1 busy".to_owned()));
    let home = Home::new()
        .trusting()
        .route("*", upstream.listen().await.unwrap())
        .set("queue", "first-retry", "\"1h\"")
        .set("queue", "max-retry", "\"1h\"");
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let mut ids = Vec::new();
    for text in ["first", "second", "third"] {
        let content = format!("Subject: {text}\r\n\r\nThe {text} text\r\n");
        ids.push(peer.deliver("a@sender.example", &["b@dest.example"], &content).await);
    }
    eventually("all tried once", || {
        relay.queued().iter().filter(|m| m.in_flight == 0 && m.tries == 1).count() == 3
    })
    .await;

    let segment = home.spool().join("log/0000000001.log");
    let mut log = fs::read(&segment).unwrap();
    let at = log.windows(15).position(|octets| octets == b"The second text").unwrap();
    log[at] ^= 0x20;
    fs::write(&segment, log).unwrap();

    upstream.relent();
    for id in &ids {
        let _ = relay.queue().retry(id.parse::<MessageId>().unwrap()).await;
    }
    eventually("only one is left", || relay.queued().len() == 1).await;
    let selector = format!("state:{}", RecipientStanding::Held.name()).parse().unwrap();
    eventually("it is held", || {
        let page = relay.queue().list(&selector, None, 10).unwrap();
        page.messages.iter().map(|m| m.id.to_string()).eq([ids[1].clone()])
    })
    .await;
    let entry = relay.queue().show(ids[1].parse().unwrap()).unwrap();
    let shown = format!("{:?}", entry.recipients);
    assert!(shown.contains("the checksum of its content is wrong"), "{shown}");
    let mut came: Vec<_> = upstream.mails().iter().map(|mail| mail.content.clone()).collect();
    came.sort();
    assert_eq!(came.len(), 2, "{came:?}");
    assert!(came.iter().all(|content| !content.contains("second")), "{came:?}");
    relay.stop().await;
}
