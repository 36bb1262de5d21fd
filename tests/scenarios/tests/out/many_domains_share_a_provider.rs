//! Domains with the same mail exchangers are one site: limits count for all of them together, and so do
//! connections.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::sleep;
use waypost_harness::upstream::{Act, Upstream};
use waypost_harness::zone::Zone;
use waypost_queue::Status;
use waypost_scenarios::{Home, eventually};
use waypost_smtp::Phase;

use crate::way::{ALICE, Way, patient};

const DOMAINS: usize = 60;

const PACK: &str = "
version = \"1\"
source = \"this story\"
[[provider]]
name = \"big\"
mx = [\"*.example\"]
connections = 1
messages-per-connection = 20
recipients-per-transaction = 2
chunking = false
";

/// Many domains behind one exchanger, and one behind another.
async fn zone() -> Zone {
    let mut text =
        "$ORIGIN example.\nmx A 127.0.0.2\nalone MX 10 mx.alone\nmx.alone A 127.0.0.3\n".to_owned();
    for n in 0..DOMAINS {
        let _ = writeln!(text, "d{n} MX 10 mx");
    }
    Zone::serve(&text).await
}

/// A relay that asks the zone; all of it leads to this upstream.
async fn world(upstream: &Upstream, change: impl FnOnce(Home) -> Home) -> (Way, Zone) {
    let zone = zone().await;
    let (one, two) = pair().await;
    let port = one.local_addr().unwrap().port();
    upstream.attend(one);
    upstream.attend(two);
    let home = change(patient(Home::new()).dns(zone.addr, port));
    (Way::through(home).await, zone)
}

async fn pair() -> (TcpListener, TcpListener) {
    for _ in 0..50 {
        let one = TcpListener::bind(("127.0.0.2", 0)).await.unwrap();
        let port = one.local_addr().unwrap().port();
        if let Ok(two) = TcpListener::bind(("127.0.0.3", port)).await {
            return (one, two);
        }
    }
    panic!("no port is free on both addresses");
}

async fn send_to_all(way: &Way) {
    for n in 0..DOMAINS {
        way.post(ALICE, &[&format!("bob@d{n}.example")], &format!("number {n}")).await;
    }
}

async fn status(way: &Way) -> Status {
    way.relay.overview().await.queue
}

#[tokio::test]
async fn one_limit_counts_for_all_of_them() {
    let upstream = Upstream::new().on(Phase::Mail, Act::Hang);
    let (way, _zone) = world(&upstream, |home| {
        home.set("queue", "per-destination", "3").set("delivery", "reply-timeout", "\"5s\"")
    })
    .await;
    send_to_all(&way).await;
    eventually("three at once", || upstream.connections() == 3).await;
    eventually("nobody else has anything in hand", || {
        way.relay.queued().iter().filter(|message| message.in_flight > 0).count() == 3
    })
    .await;
    way.post(ALICE, &["bob@alone.example"], "alone").await;
    eventually("others are not held up", || upstream.connections() == 4).await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(upstream.connections(), 4);
    let status = status(&way).await;
    let of =
        |site: &str| status.destinations.iter().filter(|d| d.site.as_deref() == Some(site)).count();
    assert_eq!((of("mx.example"), of("mx.alone.example")), (DOMAINS, 1), "{status:#?}");
    assert!(way.relay.counter("waypost_queue_crowded_total").await > 0);
    drop(way.relay);
}

#[tokio::test]
async fn connections_are_used_for_all_of_them() {
    let upstream = Upstream::new();
    let (way, _zone) = world(&upstream, |home| home.set("queue", "per-destination", "2")).await;
    send_to_all(&way).await;
    way.relay.empty().await;
    assert_eq!(upstream.mails().len(), DOMAINS);
    assert!(upstream.connections() <= 2, "{} connections", upstream.connections());
    way.relay.stop().await;
}

#[tokio::test]
async fn a_provider_of_the_configuration_has_limits_of_its_own() {
    let upstream = Upstream::new();
    let (way, _zone) = world(&upstream, |home| {
        let pack = home.path("providers.toml");
        std::fs::write(&pack, PACK).unwrap();
        home.set("delivery", "providers", &format!("{pack:?}"))
    })
    .await;
    send_to_all(&way).await;
    way.relay.empty().await;
    assert_eq!((upstream.mails().len(), upstream.connections()), (DOMAINS, DOMAINS / 20));
    let three = ["a@d1.example", "b@d1.example", "c@d1.example"];
    way.post(ALICE, &three, "three").await;
    way.relay.empty().await;
    let mails = upstream.mails();
    let sizes: Vec<usize> = mails[DOMAINS..].iter().map(|mail| mail.to.len()).collect();
    assert_eq!(sizes, [2, 1], "two transactions");
    assert!(!upstream.heard().contains("BDAT"), "by DATA, though CHUNKING is offered");
    way.relay.stop().await;
}

#[tokio::test]
async fn who_wants_no_more_gets_less_at_once() {
    let busy = Act::Say("421 4.3.2 not now".to_owned());
    let upstream = Upstream::new().on(Phase::Mail, busy);
    let (way, _zone) = world(&upstream, |home| home).await;
    for n in 0..10 {
        way.post(ALICE, &[&format!("bob@d{n}.example")], &format!("number {n}")).await;
    }
    eventually("the site rests", || {
        way.relay.queue().status().destinations.iter().any(|d| d.resting_until.is_some())
    })
    .await;
    let status = status(&way).await;
    assert!(
        status.destinations.iter().filter(|d| d.site.is_some()).all(|d| d.slots == 1),
        "{status:#?}"
    );
    assert!(way.relay.counter("waypost_queue_narrowed_total").await >= 1);
    assert!(upstream.connections() <= 12, "{} connections", upstream.connections());
    drop(way.relay);
}
