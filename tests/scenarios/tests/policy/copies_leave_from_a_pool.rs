//! A route names a pool of our own addresses: the next hop sees one of them, and the name that belongs
//! to it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use waypost_delivery::SourceAddress;
use waypost_harness::upstream::Upstream;
use waypost_hooks::Way;
use waypost_scenarios::{Door, Home, eventually};

use crate::says::{Says, all_go, by_name, with_hop};

/// An upstream that notes where connections come from.
async fn noting(upstream: &Upstream) -> (SocketAddr, Arc<Mutex<Vec<IpAddr>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let (upstream, noted) = (upstream.clone(), seen.clone());
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            noted.lock().unwrap().push(peer.ip());
            tokio::spawn(upstream.clone().serve(stream));
        }
    });
    (address, seen)
}

fn with_pools(home: Home) -> Home {
    home.amended(|settings| {
        let source = |address: &str, ehlo: Option<&str>| SourceAddress {
            ehlo: ehlo.map(|name| name.parse().unwrap()),
            ..SourceAddress::new(address.parse().unwrap())
        };
        let sources = &mut settings.startup.delivery.sources;
        sources.insert("bulk".into(), vec![source("127.0.0.2", Some("bulk.relay.example"))]);
        sources.insert("plain".into(), vec![source("127.0.0.3", None)]);
        sources.insert("six".into(), vec![source("::1", None)]);
    })
}

/// The pool is named by the sender's local part; anybody else goes as usual.
fn by_sender() -> Says {
    Says::new().of_a_route(|view| {
        let sender = view.sender.mailbox().map(|mailbox| mailbox.local().to_owned());
        let source = sender.filter(|name| name != "usual");
        Ok(all_go(view, Way { source, ..by_name("host") }))
    })
}

#[tokio::test]
async fn and_say_who_they_are_there() {
    let upstream = Upstream::new();
    let (address, seen) = noting(&upstream).await;
    let home = with_pools(Home::new().trusting().hooks(by_sender().ready()));
    let relay = with_hop(home, "host", address).start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    // A connection that waits is used again by mail of its own pool alone.
    for sender in ["bulk", "usual", "plain", "bulk", "usual"] {
        let sender = format!("{sender}@sender.example");
        peer.deliver(&sender, &["b@dest.example"], "Subject: x\r\n\r\ny\r\n").await;
        relay.empty().await;
    }
    let addresses = ["127.0.0.2", "127.0.0.1", "127.0.0.3"].map(|ip| ip.parse::<IpAddr>().unwrap());
    assert_eq!(*seen.lock().unwrap(), addresses);
    let heard = upstream.heard();
    let hellos: Vec<_> = heard.lines().filter(|line| line.starts_with("EHLO")).collect();
    assert_eq!(hellos, ["EHLO bulk.relay.example", "EHLO relay.example", "EHLO relay.example"]);
    assert_eq!(upstream.mails().len(), 5);
    relay.stop().await;
}

/// A pool that is not there, and one that has no address of the right family: mail waits, and the
/// reason says what to mend. It is never sent from another address.
#[tokio::test]
async fn or_wait_for_one() {
    let upstream = Upstream::new();
    let (address, seen) = noting(&upstream).await;
    let home = with_pools(Home::new().trusting().hooks(by_sender().ready()));
    let relay = with_hop(home, "host", address).start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    for (pool, reason) in [("none", "no source pool named \"none\""), ("six", "family")] {
        let sender = format!("{pool}@sender.example");
        peer.deliver(&sender, &["b@dest.example"], "Subject: x\r\n\r\ny\r\n").await;
        let why =
            || relay.queued().iter().any(|m| m.why.as_ref().is_some_and(|w| w.contains(reason)));
        eventually("it says why it waits", why).await;
    }
    assert!(seen.lock().unwrap().is_empty());
    assert_eq!(relay.queued().len(), 2);
    // It is our mistake, and the next hop is not left alone for it.
    assert!(relay.queue().status().destinations.iter().all(|d| d.resting_until.is_none()));
    peer.deliver("usual@sender.example", &["b@dest.example"], "Subject: x\r\n\r\ny\r\n").await;
    eventually("other mail goes there", || upstream.mails().len() == 1).await;
    relay.stop().await;
}

/// A route that is for cut-through names the pool: its submitter hears what was said to that address, and
/// waits for no other one.
#[tokio::test]
async fn also_while_the_submitter_waits() {
    let upstream = Upstream::new();
    let (address, seen) = noting(&upstream).await;
    let pools = r#"{ bulk = { addresses = [{ address = "127.0.0.2", ehlo = "bulk.relay.example" }] }, six = { addresses = ["::1"] } }"#;
    let route = |pool: &str| {
        let (ip, port) = (address.ip(), address.port());
        format!(
            "via = [{{ host = \"{ip}\", port = {port} }}]\ncut-through = true\nsource = \"{pool}\"\n"
        )
    };
    let relay = Home::new()
        .trusting()
        .set("policy", "sources", pools)
        .route_as("six.example", &route("six"))
        .route_as("*", &route("bulk"))
        .start()
        .await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let mut answer = async |to: &str| {
        peer.envelope("a@sender.example", &[to]).await;
        peer.data("Subject: x\r\n\r\ny\r\n").await
    };
    let reply = answer("b@dest.example").await;
    assert!(reply.contains(" delivered to "), "{reply}");
    let reply = answer("b@six.example").await;
    assert!(reply.starts_with("250 2.0.0 OK queued as "), "{reply}");
    assert_eq!(*seen.lock().unwrap(), ["127.0.0.2".parse::<IpAddr>().unwrap()]);
    assert!(upstream.heard().contains("EHLO bulk.relay.example\r\n"), "{}", upstream.heard());
    assert!(relay.queued()[0].why.as_ref().is_some_and(|why| why.contains("family")));
    relay.stop().await;
}
