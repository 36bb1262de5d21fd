//! Recipients whose domain is an address in brackets (RFC 5321 §4.1.3): nobody is asked, and the address is
//! connected to.

use tokio::net::TcpListener;
use waypost_harness::upstream::Upstream;
use waypost_mail::Why;
use waypost_scenarios::Home;

use crate::way::{ALICE, Way, patient};

/// A relay whose DNS does not answer, and upstreams at the same port of 127.0.0.2 and ::1.
async fn world() -> (Way, Upstream, Upstream) {
    let (four, six) = (Upstream::new(), Upstream::new());
    let (one, two) = pair().await;
    let port = one.local_addr().unwrap().port();
    four.attend(one);
    six.attend(two);
    let nobody = "127.0.0.1:9".parse().unwrap();
    (Way::through(patient(Home::new()).dns(nobody, port)).await, four, six)
}

async fn pair() -> (TcpListener, TcpListener) {
    for _ in 0..50 {
        let one = TcpListener::bind(("127.0.0.2", 0)).await.unwrap();
        let port = one.local_addr().unwrap().port();
        if let Ok(two) = TcpListener::bind(("::1", port)).await {
            return (one, two);
        }
    }
    panic!("no port is free on both addresses");
}

#[tokio::test]
async fn of_either_family() {
    let (way, four, six) = world().await;
    let id = way.post(ALICE, &["bob@[127.0.0.2]", "eve@[IPv6:::1]"], "Hello").await;
    way.settled(&id).await;
    let to = |upstream: &Upstream| upstream.mails().remove(0).to;
    assert_eq!(
        (to(&four), to(&six)),
        (vec!["bob@[127.0.0.2]".into()], vec!["eve@[IPv6:::1]".into()])
    );
    way.relay.stop().await;
}

#[tokio::test]
async fn where_nobody_listens_it_waits() {
    let (way, four, _six) = world().await;
    let id = way.post(ALICE, &["bob@[127.0.0.4]"], "Hello").await;
    let why = way.deferred(&id).await;
    let Why::Unreachable { hop, .. } = &why else { panic!("{why}") };
    assert!(hop.starts_with("[127.0.0.4]:"), "{hop}");
    assert_eq!(four.connections(), 0);
    way.relay.stop().await;
}
