//! TLSA records decide which certificates are good, and connections are shared only under one demand.

use waypost_delivery::ClientTls;
use waypost_dns::{DnsError, Tlsa};
use waypost_harness::authority::{Authority, Certified};
use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::{NextHop, Protection, Route, Security, Terms, TlsLevel, Why};
use waypost_smtp::Phase;

use crate::relay::{Plan, Post, Relay, by_mx};

const NAME: &str = "mx1.there.example";

fn tlsa(usage: u8, selector: u8, data: &[u8]) -> Tlsa {
    Tlsa { usage, selector, matching: 0, data: data.to_vec() }
}

/// A relay that trusts nobody, and the one exchanger with these TLSA records.
async fn relay(upstream: &Upstream, records: Vec<Tlsa>, secure: bool) -> Relay {
    let (plan, _) = Plan::with(upstream);
    let plan = plan.tlsa(NAME, Ok(records));
    let plan = if secure { plan.secure("there.example") } else { plan };
    plan.run().await
}

async fn deferred(upstream: &Upstream, records: Vec<Tlsa>, secure: bool) -> Why {
    let relay = relay(upstream, records, secure).await;
    let id = relay.send().await;
    let why = relay.deferred(id).await;
    assert!(upstream.mails().is_empty());
    assert!(!upstream.heard().contains("MAIL FROM"), "nothing was said");
    why
}

fn protections(relay: &Relay, protection: Protection) -> u64 {
    let labels = waypost_delivery::ProtectionLabels { protection: protection.label() };
    relay.delivery.metrics().protections.get_or_create(&labels).get()
}

async fn delivered(upstream: &Upstream, records: Vec<Tlsa>, secure: bool) -> Protection {
    let relay = relay(upstream, records, secure).await;
    let id = relay.send().await;
    relay.gone(id).await;
    assert!(upstream.mails()[0].tls);
    [Protection::Dane, Protection::Verified, Protection::Encrypted]
        .into_iter()
        .find(|protection| protections(&relay, *protection) == 1)
        .expect("one connection")
}

fn up(certified: &Certified) -> Upstream {
    Upstream::new().with_tls(certified.server.clone())
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_named_will_do_whatever_else_the_certificate_says() {
    let stranger = Authority::new().unwrap();
    for certified in [
        stranger.certified(&[NAME]).unwrap(),
        stranger.certified(&["other.example"]).unwrap(),
        stranger.expired(&[NAME]).unwrap(),
    ] {
        for record in [tlsa(3, 1, &certified.key), tlsa(3, 0, &certified.own)] {
            let others = vec![tlsa(3, 1, b"another"), record];
            assert_eq!(delivered(&up(&certified), others, false).await, Protection::Dane);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_is_named_vouches_for_names_and_dates() {
    let authority = Authority::new().unwrap();
    let good = authority.certified(&[NAME]).unwrap();
    let by_domain = authority.certified(&["there.example"]).unwrap();
    let records = || [tlsa(2, 0, &good.authority), tlsa(2, 1, &good.authority_key)];
    for record in records() {
        let records = vec![record];
        assert_eq!(delivered(&up(&good), records.clone(), true).await, Protection::Dane);
        // RFC 7672 §3.2.2: the domain's own name, where its MX records are proven.
        assert_eq!(delivered(&up(&by_domain), records.clone(), true).await, Protection::Dane);
        let why = deferred(&up(&by_domain), records.clone(), false).await;
        assert!(matches!(&why, Why::TlsRequired { .. }), "{why}");
        let late = authority.expired(&[NAME]).unwrap();
        let why = deferred(&up(&late), records, true).await;
        assert!(why.to_string().contains("expired"), "{why}");
    }
    let why = deferred(&up(&good), vec![tlsa(2, 1, &good.key)], true).await;
    assert!(why.to_string().contains("none of the TLSA records"), "no authority: {why}");
}

#[tokio::test(start_paused = true)]
async fn without_the_key_nothing_is_sent() {
    let certified = Authority::new().unwrap().certified(&[NAME]).unwrap();
    let records = || vec![tlsa(3, 1, b"another key")];
    let say = |words: &str| Act::Say(words.to_owned());
    let cases = [
        up(&certified),
        Upstream::new(),
        up(&certified).on(Phase::StartTls, say("454 4.7.0 not now")),
        up(&certified).without("STARTTLS"),
    ];
    for upstream in cases {
        let why = deferred(&upstream, records(), true).await;
        assert!(matches!(&why, Why::TlsRequired { .. }), "{why}");
        assert!(why.to_string().contains("DANE"), "{why}");
    }
    let garbled = up(&certified).on(Phase::StartTls, Act::Garble);
    let why = deferred(&garbled, records(), true).await;
    assert!(matches!(&why, Why::TlsRequired { .. } | Why::ConnectionLost { .. }), "{why}");
}

#[tokio::test(start_paused = true)]
async fn records_that_cannot_be_used_demand_tls_alone() {
    let certified = Authority::new().unwrap().certified(&["other.example"]).unwrap();
    let unusable = || vec![tlsa(1, 1, &certified.key), tlsa(3, 7, b"x")];
    assert_eq!(delivered(&up(&certified), unusable(), true).await, Protection::Encrypted);
    let why = deferred(&Upstream::new(), unusable(), true).await;
    assert!(matches!(why, Why::TlsRequired { .. }), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_nothing_is_known_of_is_passed_over() {
    let certified = Authority::new().unwrap().certified(&[NAME]).unwrap();
    let (first, second) = (up(&certified), Upstream::new());
    let (plan, _) = Plan::with(&first);
    let bogus = DnsError::Bogus { kind: "tlsa", name: "_25._tcp.mx1.there.example".into() };
    let plan = plan.tlsa(NAME, Err(bogus.clone()));
    let relay = plan.run().await;
    let id = relay.send().await;
    let why = relay.deferred(id).await;
    assert!(matches!(&why, Why::DnsFailed(text) if text.contains("DANE")), "{why}");
    assert_eq!(first.connections(), 0);

    let (plan, _) = Plan::with(&first);
    let plan = plan
        .tlsa(NAME, Err(bogus))
        .mx("there.example", &[(10, NAME), (20, "mx2.there.example")])
        .host("mx2.there.example", &["192.0.2.2"])
        .up("192.0.2.2:25", &second);
    let relay = plan.run().await;
    let id = relay.send().await;
    relay.gone(id).await;
    assert_eq!((first.connections(), second.mails().len()), (0, 1), "the next host is tried");
}

#[tokio::test(start_paused = true)]
async fn the_route_and_the_message_may_say_otherwise() {
    let certified = Authority::new().unwrap().certified(&[NAME]).unwrap();
    let wrong = || vec![tlsa(3, 1, b"another key")];
    // TLS-Required: No (RFC 8689 §4.3), a route without DANE, and one without TLS.
    let terms = Terms { tls_optional: true, ..Terms::default() };
    let mut without = by_mx(TlsLevel::Encrypt);
    without.heed.dane = Some(false);
    for post in [
        Post { terms, ..Post::default() },
        Post { route: without, ..Post::default() },
        Post { route: by_mx(TlsLevel::Never), ..Post::default() },
    ] {
        let upstream = up(&certified);
        let relay = relay(&upstream, wrong(), true).await;
        let id = relay.post(post).await;
        relay.gone(id).await;
        assert_eq!(upstream.mails().len(), 1);
    }
    // A host that the configuration names only where the route says so.
    for (dane, taken) in [(None, true), (Some(true), false)] {
        let upstream = up(&certified);
        let relay = relay(&upstream, wrong(), true).await;
        let mut route = Route::new(
            NextHop::Host { host: NAME.into(), port: 25, implicit_tls: false },
            TlsLevel::Opportunistic,
        );
        route.heed.dane = dane;
        let id = relay.post(Post { route, ..Post::default() }).await;
        if taken {
            relay.gone(id).await;
        } else {
            relay.deferred(id).await;
        }
        assert_eq!(upstream.mails().len(), usize::from(taken), "{dane:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn dane_proves_as_much_as_a_route_with_verify_asks_for() {
    let certified = Authority::new().unwrap().certified(&["other.example"]).unwrap();
    let upstream = up(&certified);
    let relay = relay(&upstream, vec![tlsa(3, 1, &certified.key)], true).await;
    let id = relay.post(Post { route: by_mx(TlsLevel::Verify), ..Post::default() }).await;
    relay.gone(id).await;
    assert_eq!(protections(&relay, Protection::Dane), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_serves_only_what_demanded_the_same_of_it() {
    let authority = Authority::new().unwrap();
    let certified = authority.certified(&[NAME]).unwrap();
    let upstream = up(&certified);
    let (plan, _) = Plan::with(&upstream);
    let tls = ClientTls::new(authority.roots().unwrap()).unwrap();
    let names = plan.names.clone();
    let relay = plan.config(|config| config.tls = tls).run().await;
    let send = async |level| {
        let id = relay.post(Post { route: by_mx(level), ..Post::default() }).await;
        relay.gone(id).await;
        upstream.connections()
    };
    assert_eq!(send(TlsLevel::Opportunistic).await, 1);
    assert_eq!(send(TlsLevel::Encrypt).await, 2, "an opportunistic one proves nothing");
    assert_eq!(send(TlsLevel::Verify).await, 3, "an encrypted one proves no name");
    names.set_tlsa(NAME, Ok(vec![tlsa(3, 1, &certified.key)]));
    assert_eq!(send(TlsLevel::Opportunistic).await, 4, "no connection has proven this key");
    assert_eq!(send(TlsLevel::Encrypt).await, 4, "now one has");
    names.set_tlsa(NAME, Ok(vec![tlsa(3, 0, &certified.own)]));
    assert_eq!(send(TlsLevel::Encrypt).await, 5, "other records, another proof");
    names.set_tlsa(NAME, Ok(vec![]));
    for level in [TlsLevel::Opportunistic, TlsLevel::Encrypt, TlsLevel::Verify] {
        assert_eq!(send(level).await, 5, "the first three are still good for what they were");
    }
    assert_eq!(upstream.mails().len(), 9);
}

#[tokio::test(start_paused = true)]
async fn the_outcome_says_how_it_was_protected() {
    let certified = Authority::new().unwrap().certified(&[NAME]).unwrap();
    let upstream = up(&certified).refusing("late@there.example", "450 4.2.1 later");
    let relay = relay(&upstream, vec![tlsa(3, 1, &certified.key)], true).await;
    let recipients = vec!["bob@there.example", "late@there.example"];
    let id = relay.post(Post { recipients, ..Post::default() }).await;
    relay.until("bob's outcome", || relay.done(id, 0).is_some()).await;
    let waypost_mail::Outcome::Delivered { security, .. } = relay.done(id, 0).unwrap() else {
        panic!("it is delivered")
    };
    let version = Some(waypost_mail::TlsVersion::V1_3);
    assert_eq!(security, Security { protection: Protection::Dane, version });
}
