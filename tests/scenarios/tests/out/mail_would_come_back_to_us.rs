//! A way that leads to the relay's own listener is recognised: by address and port, and by the name of the
//! relay where its addresses are unknown to it.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use waypost_harness::upstream::Upstream;
use waypost_harness::zone::Zone;
use waypost_inbound::Place;
use waypost_scenarios::{Door, Home};

use crate::way::{ALICE, BOB, Way, patient};

/// `relay.example` is what the relay calls itself; its address is one that nobody has.
const ZONE: &str = "
$ORIGIN there.example.
address  MX 10 here
here     A 127.0.0.1
name     MX 10 relay.example.
name     MX 20 backup
better   MX 5  other
better   MX 10 relay.example.
better   MX 20 backup
lost     MX 5  nobody
lost     MX 10 relay.example.
lost     MX 20 backup
other    A 127.0.0.2
backup   A 127.0.0.3
nobody   A 127.0.0.4
relay.example. A 127.0.0.77
";

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

/// A relay that listens where mail exchangers do; other exchangers at 127.0.0.2 and 127.0.0.3.
async fn world() -> (Way, Zone, Upstream, Upstream) {
    let (zone, other, backup) = (Zone::serve(ZONE).await, Upstream::new(), Upstream::new());
    let (one, two, own) = free_port().await;
    other.attend(one);
    backup.attend(two);
    let home = patient(Home::new()).dns(zone.addr, own.port()).amended(move |settings| {
        settings.startup.doors[0].place = Place::Tcp(own);
    });
    (Way::through(home).await, zone, other, backup)
}

/// Listeners on a port that is free for the relay too.
async fn free_port() -> (TcpListener, TcpListener, SocketAddr) {
    for _ in 0..50 {
        let one = TcpListener::bind(("127.0.0.2", 0)).await.unwrap();
        let port = one.local_addr().unwrap().port();
        let two = TcpListener::bind(("127.0.0.3", port)).await;
        let own = TcpListener::bind(("127.0.0.1", port)).await;
        if let (Ok(two), Ok(own)) = (two, own) {
            return (one, two, own.local_addr().unwrap());
        }
    }
    panic!("no port is free on three addresses");
}

#[tokio::test]
async fn nor_does_what_exchangers_or_a_literal_lead_back_to_us() {
    let (way, _zone, other, backup) = world().await;
    for (number, domain) in
        ["address.there.example", "name.there.example", "[127.0.0.1]"].into_iter().enumerate()
    {
        let id = way.post(ALICE, &[&format!("bob@{domain}")], "Hello").await;
        way.settled(&id).await;
        let notice = way.notices(number + 1).await.pop().unwrap().content;
        assert!(notice.contains("Status: 5.4.6\r\n"), "{domain}: {notice}");
    }
    assert_eq!(
        (other.connections(), backup.connections()),
        (0, 0),
        "who is behind us gets nothing"
    );
    way.relay.stop().await;
}

#[tokio::test]
async fn only_those_before_us_get_mail() {
    let (way, _zone, other, backup) = world().await;
    let id = way.post(ALICE, &["bob@better.there.example"], "Hello").await;
    way.settled(&id).await;
    assert_eq!(other.mails().len(), 1);
    let id = way.post(ALICE, &["bob@lost.there.example"], "Hello").await;
    way.deferred(&id).await;
    assert_eq!(backup.connections(), 0, "it would send it to us");
    way.relay.stop().await;
}
