//! Mail that requires TLS waits while it is not known who vouches for the next hop, and bounces only where
//! it is known that nobody does (RFC 8689 §4.2.1).

use waypost_delivery::ClientTls;
use waypost_dns::Tlsa;
use waypost_harness::authority::Authority;
use waypost_harness::upstream::Upstream;
use waypost_mail::{Terms, Why};
use waypost_smtp::server::Offers;

use crate::relay::{Plan, Post};

const NAME: &str = "mx1.there.example";

/// The one exchanger, with a certificate of this authority, promises to require TLS.
fn up(authority: &Authority) -> Upstream {
    let offers = Offers { require_tls: true, ..Offers::default() };
    Upstream::new().with_tls(authority.server(NAME).unwrap()).offering(offers)
}

/// Delivers by it and trusts this authority.
fn trusting(authority: &Authority, upstream: &Upstream) -> (Plan, Upstream) {
    let tls = ClientTls::new(authority.roots().unwrap()).unwrap();
    let (plan, home) = Plan::with(upstream);
    (plan.config(|config| config.tls = tls), home)
}

fn strict() -> Post {
    Post { terms: Terms { require_tls: true, ..Terms::default() }, ..Post::default() }
}

#[tokio::test(start_paused = true)]
async fn it_waits_while_dnssec_does_not_work_and_holds_up_nobody() {
    let authority = Authority::new().unwrap();
    let upstream = up(&authority);
    let (plan, home) = trusting(&authority, &upstream);
    let names = plan.names.clone();
    names.set_blind(true);
    let relay = plan.secure("there.example").run().await;
    let id = relay.post(strict()).await;
    let why = relay.deferred(id).await;
    assert!(matches!(&why, Why::DnsFailed(text) if text.contains("DNSSEC")), "{why}");
    assert_eq!(upstream.connections(), 0);
    let other = relay.send().await;
    let began = relay.clock.now();
    relay.gone(other).await;
    assert!(
        relay.clock.now().since(began).as_secs() < 2,
        "the destination rests for no other mail"
    );
    names.set_blind(false);
    relay.gone(id).await;
    assert_eq!(upstream.mails().len(), 2);
    assert!(upstream.heard().contains(" REQUIRETLS\r\n"), "{}", upstream.heard());
    assert!(home.mails().is_empty(), "nobody was told of a failure");
}

#[tokio::test(start_paused = true)]
async fn dnssec_vouches_for_it_where_the_configuration_does_without_dane() {
    let authority = Authority::new().unwrap();
    let upstream = up(&authority);
    let (plan, home) = trusting(&authority, &upstream);
    let plan = plan.config(|config| config.dane = false).secure("there.example");
    let relay = plan.run().await;
    let id = relay.post(strict()).await;
    relay.gone(id).await;
    assert_eq!((upstream.mails().len(), home.mails().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_policy_vouches_for_it_while_dnssec_does_not_work() {
    let authority = Authority::new().unwrap();
    let upstream = up(&authority);
    let (plan, _) = trusting(&authority, &upstream);
    plan.names.set_blind(true);
    let relay = plan.policy("there.example", "enforce", NAME).run().await;
    let id = relay.post(strict()).await;
    relay.gone(id).await;
    assert_eq!(upstream.mails().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_dane_to_vouch_for_a_key_that_no_authority_does() {
    let (authority, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let certified = stranger.certified(&[NAME]).unwrap();
    let offers = Offers { require_tls: true, ..Offers::default() };
    let upstream = Upstream::new().with_tls(certified.server.clone()).offering(offers);
    let record = Tlsa { usage: 3, selector: 1, matching: 0, data: certified.key.clone() };
    let (plan, home) = trusting(&authority, &upstream);
    let names = plan.names.clone();
    names.set_blind(true);
    let plan = plan.policy("there.example", "enforce", NAME);
    let relay = plan.secure("there.example").tlsa(NAME, Ok(vec![record])).run().await;
    let id = relay.post(strict()).await;
    let why = relay.deferred(id).await;
    assert!(matches!(&why, Why::TlsRequired { error, .. } if error.contains("DNSSEC")), "{why}");
    assert!(upstream.mails().is_empty() && home.mails().is_empty());
    names.set_blind(false);
    relay.gone(id).await;
    assert_eq!(upstream.mails().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn it_waits_while_it_is_not_known_whether_there_is_a_policy() {
    let authority = Authority::new().unwrap();
    let upstream = up(&authority);
    let (plan, home) = trusting(&authority, &upstream);
    let names = plan.names.clone();
    names.set_mute(true);
    let relay = plan.policy("there.example", "enforce", NAME).run().await;
    let id = relay.post(strict()).await;
    let why = relay.deferred(id).await;
    assert!(matches!(&why, Why::DnsFailed(text) if text.contains("MTA-STS")), "{why}");
    names.set_mute(false);
    relay.gone(id).await;
    assert_eq!((upstream.mails().len(), home.mails().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_a_policy_that_is_announced_and_cannot_be_fetched() {
    let authority = Authority::new().unwrap();
    let upstream = up(&authority);
    let (plan, home) = trusting(&authority, &upstream);
    let relay = plan.announced("there.example").run().await;
    let id = relay.post(strict()).await;
    let why = relay.deferred(id).await;
    assert!(matches!(&why, Why::DnsFailed(text) if text.contains("cannot be fetched")), "{why}");
    assert!(upstream.mails().is_empty() && home.mails().is_empty());
}
