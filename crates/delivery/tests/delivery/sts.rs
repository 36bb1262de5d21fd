//! Policies of recipients' domains: which hosts get mail, and what they must prove.

use waypost_delivery::{ClientTls, ProtectionLabels};
use waypost_dns::Tlsa;
use waypost_harness::authority::{Authority, Certified};
use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::{Protection, Terms, TlsLevel, Why};
use waypost_smtp::Phase;
use waypost_smtp::server::Offers;

use crate::relay::{Plan, Post, Relay, by_mx};

const NAME: &str = "mx1.there.example";

struct World {
    authority: Authority,
    good: Certified,
}

impl World {
    fn new() -> World {
        let authority = Authority::new().unwrap();
        let good = authority.certified(&[NAME]).unwrap();
        World { authority, good }
    }

    /// A relay that trusts the authority; the one exchanger of `there.example` is `upstream`.
    fn plan(&self, upstream: &Upstream) -> Plan {
        let tls = ClientTls::new(self.authority.roots().unwrap()).unwrap();
        Plan::with(upstream).0.config(|config| config.tls = tls)
    }

    async fn with(&self, upstream: &Upstream, mode: &str, mx: &str) -> Relay {
        self.plan(upstream).policy("there.example", mode, mx).run().await
    }
}

fn up(certified: &Certified) -> Upstream {
    Upstream::new().with_tls(certified.server.clone())
}

fn protections(relay: &Relay, protection: Protection) -> u64 {
    let labels = ProtectionLabels { protection: protection.label() };
    relay.delivery.metrics().protections.get_or_create(&labels).get()
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_named_and_proves_its_name_gets_mail() {
    let world = World::new();
    for mx in [NAME, "*.there.example"] {
        let upstream = up(&world.good);
        let relay = world.with(&upstream, "enforce", mx).await;
        let id = relay.send().await;
        relay.gone(id).await;
        assert_eq!((upstream.mails().len(), protections(&relay, Protection::MtaSts)), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn who_cannot_prove_it_gets_none_and_the_cause_is_told() {
    let world = World::new();
    let stranger = Authority::new().unwrap().certified(&[NAME]).unwrap();
    let refusal = Act::Say("454 4.7.0 not now".to_owned());
    for (case, upstream, cause) in [
        ("stripped", Upstream::new(), "does not offer STARTTLS"),
        ("refused", up(&world.good).on(Phase::StartTls, refusal), "refused STARTTLS"),
        ("untrusted", up(&stranger), "invalid peer certificate"),
        ("expired", up(&world.authority.expired(&[NAME]).unwrap()), "expired"),
        (
            "other name",
            up(&world.authority.certified(&["x.example"]).unwrap()),
            "not valid for name",
        ),
    ] {
        let relay = world.with(&upstream, "enforce", NAME).await;
        let id = relay.send().await;
        let why = relay.deferred(id).await;
        assert!(matches!(&why, Why::TlsRequired { .. }), "{case}: {why}");
        let text = why.to_string();
        assert!(text.contains(cause) && text.contains("MTA-STS"), "{case}: {text}");
        assert!(!upstream.heard().contains("MAIL FROM"), "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_not_named_is_passed_over() {
    let world = World::new();
    let (first, second) =
        (up(&world.good), up(&world.authority.certified(&["b.ok.example"]).unwrap()));
    let plan = world
        .plan(&first)
        .mx("there.example", &[(10, NAME), (20, "b.ok.example")])
        .host("b.ok.example", &["192.0.2.2"])
        .up("192.0.2.2:25", &second)
        .policy("there.example", "enforce", "*.ok.example");
    let relay = plan.run().await;
    let id = relay.send().await;
    relay.gone(id).await;
    assert_eq!((first.connections(), second.mails().len()), (0, 1));

    let upstream = up(&world.good);
    let relay = world.with(&upstream, "enforce", "*.ok.example").await;
    let id = relay.send().await;
    let why = relay.deferred(id).await;
    assert!(
        matches!(&why, Why::TlsRequired { error, .. } if error.contains("*.ok.example")),
        "{why}"
    );
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn testing_and_none_stop_nothing() {
    let world = World::new();
    for mode in ["testing", "none"] {
        for upstream in [Upstream::new(), up(&world.good)] {
            let relay = world.with(&upstream, mode, "other.example").await;
            let id = relay.send().await;
            relay.gone(id).await;
            assert_eq!(upstream.mails().len(), 1, "{mode}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_route_and_the_message_may_say_otherwise() {
    let world = World::new();
    let terms = Terms { tls_optional: true, ..Terms::default() };
    let mut without = by_mx(TlsLevel::Opportunistic);
    without.heed.mta_sts = Some(false);
    for post in [
        Post { terms, ..Post::default() },
        Post { route: without, ..Post::default() },
        Post { route: by_mx(TlsLevel::Never), ..Post::default() },
    ] {
        let upstream = Upstream::new();
        let relay = world.with(&upstream, "enforce", NAME).await;
        let id = relay.post(post).await;
        relay.gone(id).await;
        assert_eq!(upstream.mails().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn dnssec_comes_before_the_policy_where_the_exchangers_are_proven() {
    let world = World::new();
    let odd = Authority::new().unwrap().certified(&["x.example"]).unwrap();
    let key = Tlsa { usage: 3, selector: 1, matching: 0, data: odd.key.clone() };
    for (secure, mx, taken) in
        [(true, "other.example", true), (false, NAME, true), (false, "other.example", false)]
    {
        let upstream = up(&odd);
        let plan = world.plan(&upstream).policy("there.example", "enforce", mx);
        let plan = plan.tlsa(NAME, Ok(vec![key.clone()]));
        let plan = if secure { plan.secure("there.example") } else { plan };
        let relay = plan.run().await;
        let id = relay.send().await;
        if taken {
            relay.gone(id).await;
            assert_eq!(protections(&relay, Protection::Dane), 1);
        } else {
            relay.deferred(id).await;
            assert_eq!(upstream.connections(), 0, "a key of an exchanger that nobody vouches for");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_vouches_for_exchangers_of_mail_that_requires_tls() {
    let world = World::new();
    let offers = Offers { require_tls: true, ..Offers::default() };
    let terms = Terms { require_tls: true, ..Terms::default() };
    let upstream = up(&world.good).offering(offers);
    let relay = world.with(&upstream, "enforce", NAME).await;
    let id = relay.post(Post { terms, ..Post::default() }).await;
    relay.gone(id).await;
    assert!(upstream.heard().contains(" REQUIRETLS\r\n"), "{}", upstream.heard());
}
