//! MX records of a real DNS server: failover, null MX, none, not there, not answered.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use waypost_harness::upstream::{Act, Upstream};
use waypost_harness::zone::{Fault, Zone};
use waypost_mail::Why;
use waypost_scenarios::Home;
use waypost_smtp::Phase;

use crate::way::{ALICE, Way, patient};

const ZONE: &str = "
$ORIGIN there.example.
@        MX 10 mx1
@        MX 20 mx2
down     MX 10 nobody
down     MX 20 mx2
null     MX 0  .
implicit A 127.0.0.2
lost     MX 10 nowhere
servfail MX 10 mx1
six      MX 10 both
both     AAAA ::1
         A 127.0.0.2
many     MX 10 worn
many     MX 20 both4
worn     A 127.0.0.4
         A 127.0.0.5
both4    AAAA ::1
         A 127.0.0.3
mx1      A 127.0.0.2
mx2      A 127.0.0.3
nobody   A 127.0.0.4
";

/// A relay that asks the zone, and upstreams at 127.0.0.2 and 127.0.0.3 on one port.
struct World {
    way: Way,
    zone: Zone,
    first: Upstream,
    second: Upstream,
}

async fn world(first: Upstream) -> World {
    let zone = Zone::serve(ZONE).await;
    let (one, two) = pair().await;
    let port = one.local_addr().unwrap().port();
    let second = Upstream::new();
    first.attend(one);
    second.attend(two);
    let way = Way::through(patient(Home::new()).dns(zone.addr, port)).await;
    World { way, zone, first, second }
}

/// Listeners on the same port of two addresses.
async fn pair() -> (TcpListener, TcpListener) {
    for _ in 0..50 {
        let one = TcpListener::bind(("127.0.0.2", 0)).await.unwrap();
        let port = one.local_addr().unwrap().port();
        if let Ok(two) = TcpListener::bind(SocketAddr::from(([127, 0, 0, 3], port))).await {
            return (one, two);
        }
    }
    panic!("no port is free on both addresses");
}

impl World {
    async fn send(&self, domain: &str) -> String {
        self.way.post(ALICE, &[&format!("bob@{domain}")], "Hello").await
    }

    fn taken(&self) -> (usize, usize) {
        (self.first.mails().len(), self.second.mails().len())
    }
}

#[tokio::test]
async fn the_most_preferred_host_gets_it() {
    let world = world(Upstream::new()).await;
    let id = world.send("there.example").await;
    world.way.settled(&id).await;
    let id = world.send("implicit.there.example").await;
    world.way.settled(&id).await;
    assert_eq!(world.taken(), (2, 0), "the domain's own address counts where there is no MX");
}

#[tokio::test]
async fn the_next_host_gets_what_the_first_does_not_take() {
    let say = |words: &str| Act::Say(words.to_owned());
    let first = Upstream::new()
        .once(Phase::Greeting, say("421 4.3.2 not now"))
        .once(Phase::Greeting, say("554 5.3.2 no mail here"))
        .once(Phase::Mail, say("421 4.3.2 not now"))
        .once(Phase::Data, Act::Drop);
    let world = world(first).await;
    let domains = ["down.there.example"].into_iter().chain(["there.example"; 4]);
    for (number, domain) in domains.enumerate() {
        let id = world.send(domain).await;
        world.way.settled(&id).await;
        assert_eq!(world.taken(), (0, number + 1), "{domain}");
    }
    let id = world.send("there.example").await;
    world.way.settled(&id).await;
    assert_eq!(world.taken(), (1, 5), "the first takes mail again");
    assert!(world.way.alice.mails().is_empty());
}

#[tokio::test]
async fn the_other_family_takes_what_one_does_not() {
    let world = world(Upstream::new()).await;
    let id = world.send("six.there.example").await;
    world.way.settled(&id).await;
    assert_eq!(world.taken(), (1, 0), "nobody listens at ::1, and one attempt is enough");
    let failed = world.way.relay.counter("waypost_delivery_connections_failed_total").await;
    assert_eq!(failed, 1);
}

#[tokio::test]
async fn family_is_a_preference_with_the_other_to_fall_back_on() {
    for (family, failed) in [("both", 1), ("ipv4-first", 0)] {
        let zone = Zone::serve(ZONE).await;
        let (one, _two) = pair().await;
        let port = one.local_addr().unwrap().port();
        let upstream = Upstream::new();
        upstream.attend(one);
        let home = patient(Home::new()).dns(zone.addr, port);
        let way = Way::through(home.set("dns", "family", &format!("{family:?}"))).await;
        let id = way.post(ALICE, &["bob@six.there.example"], "Hello").await;
        way.settled(&id).await;
        assert_eq!(upstream.mails().len(), 1, "{family}");
        let counted = way.relay.counter("waypost_delivery_connections_failed_total").await;
        assert_eq!(counted, failed, "{family}");
    }
}

#[tokio::test]
async fn all_addresses_of_all_exchangers_are_tried_in_one_attempt() {
    let world = world(Upstream::new()).await;
    let id = world.send("many.there.example").await;
    world.way.settled(&id).await;
    assert_eq!(world.taken(), (0, 1), "the last address of the last exchanger");
    let failed = world.way.relay.counter("waypost_delivery_connections_failed_total").await;
    assert_eq!(failed, 3, "two of the first exchanger, and the other family of the second");
}

#[tokio::test]
async fn an_attempt_tries_no_more_hosts_than_configured() {
    let zone = Zone::serve(ZONE).await;
    let (one, two) = pair().await;
    let port = one.local_addr().unwrap().port();
    let second = Upstream::new();
    drop(one);
    second.attend(two);
    let home = patient(Home::new()).dns(zone.addr, port).set("delivery", "hosts-per-attempt", "1");
    let way = Way::through(home).await;
    let id = way.post(ALICE, &["bob@there.example"], "Hello").await;
    let why = way.deferred(&id).await;
    assert!(matches!(why, Why::Unreachable { .. }), "{why}");
    assert_eq!(second.connections(), 0);
}

#[tokio::test]
async fn an_answer_of_the_first_host_is_not_taken_elsewhere() {
    let world =
        world(Upstream::new().refusing("bob@there.example", "550 5.1.1 no such user")).await;
    let id = world.send("there.example").await;
    world.way.settled(&id).await;
    world.way.notices(1).await;
    assert_eq!((world.taken(), world.second.connections()), ((0, 0), 0));
}

#[tokio::test]
async fn domains_that_take_no_mail_bounce_at_once() {
    let world = world(Upstream::new()).await;
    let cases = [
        ("null.there.example", "5.1.10"),
        ("missing.there.example", "5.1.2"),
        ("nowhere.example", "5.1.2"),
    ];
    for (number, (domain, status)) in cases.into_iter().enumerate() {
        let id = world.send(domain).await;
        world.way.settled(&id).await;
        let notice = world.way.notices(number + 1).await.pop().unwrap().content;
        assert!(notice.contains(&format!("Status: {status}\r\n")), "{domain}: {notice}");
    }
    assert_eq!(world.taken(), (0, 0));
}

#[tokio::test]
async fn what_is_not_answered_waits() {
    let world = world(Upstream::new()).await;
    world.zone.fault("servfail.there.example", "ANY", Fault::ServFail);
    let id = world.send("servfail.there.example").await;
    let why = world.way.deferred(&id).await;
    assert!(matches!(why, Why::DnsFailed(_)), "{why}");
    assert!(world.way.alice.mails().is_empty());
    world.zone.heal();
    world.way.retry(&id).await;
    world.way.settled(&id).await;
    assert_eq!(world.taken(), (1, 0));
}
