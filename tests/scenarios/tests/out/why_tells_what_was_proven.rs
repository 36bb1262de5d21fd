//! `waypost why` tells what the TLS of each host had to prove and what it proved: by DANE, by MTA-STS, and
//! where its handshake failed.

use waypost_admin::Story;
use waypost_harness::authority::Authority;
use waypost_harness::knot::Knot;
use waypost_harness::upstream::{Act, Upstream};
use waypost_history::{Attempt, Lookup, Step};
use waypost_mail::Protection;
use waypost_scenarios::Home;
use waypost_smtp::Phase;

use crate::dnssec_names_the_certificate::{Hosts, anchored, hex, up};
use crate::domain_asks_for_tls::{PATH, World, policy, world};
use crate::way::{ALICE, Way, patient};
use crate::why_tells_the_story::{attempts, dialogue, once_told, visits};

/// The story with an attempt in it, and the first attempt.
async fn first(way: &Way, id: &str) -> (Story, Attempt) {
    once_told(way, id, |story| attempts(story).first().map(|attempt| (*attempt).clone())).await
}

fn lookup(attempt: &Attempt) -> &Lookup {
    let lookup = attempt.steps.iter().find_map(|step| match step {
        Step::Lookup(lookup) => Some(&**lookup),
        Step::Visit(_) | Step::Held(_) => None,
    });
    lookup.unwrap()
}

#[tokio::test]
async fn by_keys_that_dnssec_names() {
    let mut hosts = Hosts::new(3).await;
    let port = hosts.port;
    let certified = Authority::new().unwrap().certified(&["elsewhere.example"]).unwrap();
    let refusal = Act::Say("454 4.7.0 not now".to_owned());
    let (good, wrong) = (up(&certified), up(&certified));
    let refusing = up(&certified).on(Phase::StartTls, refusal);
    let [a, b, c] = [&good, &wrong, &refusing].map(|upstream| hosts.put(upstream));
    let (key, other) = (hex(&certified.key), "22".repeat(32));
    let knot = Knot::serve(&format!(
        "$ORIGIN signed.\n\
         ee MX 10 mx.ee\nmx.ee A {a}\n_{port}._tcp.mx.ee TLSA 3 1 0 {key}\n\
         wrong MX 10 mx.wrong\nmx.wrong A {b}\n_{port}._tcp.mx.wrong TLSA 3 1 1 {other}\n\
         refusing MX 10 mx.refusing\nmx.refusing A {c}\n_{port}._tcp.mx.refusing TLSA 3 1 0 {key}\n"
    ));
    let home = anchored(patient(Home::new()).dns(knot.addr, port), knot.trust_anchor());
    let way = Way::through(home).await;
    let send = async |domain: &str| way.post(ALICE, &[&format!("bob@{domain}")], "Hello").await;

    let id = send("ee.signed").await;
    way.settled(&id).await;
    let (story, attempt) = first(&way, &id).await;
    assert_eq!(lookup(&attempt).names, "names proven by DNSSEC", "{story}");
    let visit = visits(&attempt)[0];
    assert_eq!(visit.demand, "TLS, with a certificate that its TLSA records name (DANE)");
    assert_eq!(visit.security.map(|security| security.protection), Some(Protection::Dane));
    let proven = "its key is named by TLSA records that DNSSEC proves (DANE), TLS 1.";
    assert!(visit.tls.starts_with(proven), "{story}");
    assert!(story.to_string().contains(&format!("TLS: {proven}")), "{story}");

    for (domain, verdict) in [
        ("wrong.signed", "none of the TLSA records at mx.wrong.signed names the certificate"),
        ("refusing.signed", "refused STARTTLS"),
    ] {
        let id = send(domain).await;
        way.deferred(&id).await;
        let (story, attempt) = first(&way, &id).await;
        let visit = visits(&attempt)[0];
        assert_eq!(visit.security, None, "{story}");
        assert!(visit.tls.contains(verdict), "{story}");
        assert!(visit.demand.ends_with("(DANE)"), "{story}");
        let fared = &attempt.results[0];
        assert_eq!((&*fared.outcome, fared.class.as_deref()), ("deferred", Some("tls-required")));
        assert!(fared.words.contains(verdict) && fared.words.contains("DANE"), "{story}");
        assert!(fared.next > Some(attempt.began), "{story}");
        assert!(!dialogue(visit).iter().any(|line| line.contains("MAIL FROM")), "{story}");
    }
    way.relay.stop().await;
}

#[tokio::test]
async fn by_the_policy_of_the_domain() {
    let proven = "its name is vouched for by an authority and named by the domain's policy (MTA-STS), TLS 1.";
    for (certificate, named, verdict) in [
        ("mx.there.example", "mx.there.example", proven),
        ("other.example", "mx.there.example", "not valid for name"),
        ("mx.there.example", "other.example", "it did not come to that"),
    ] {
        let World { web, zone: _dns, upstream, home, .. } = world(Some(certificate)).await;
        web.put(PATH, 200, "text/plain", &policy("enforce", named));
        let way = Way::through(home).await;
        let id = way.send().await;
        let delivered = verdict == proven;
        if delivered {
            way.settled(&id).await;
        } else {
            way.deferred(&id).await;
        }
        let (story, attempt) = first(&way, &id).await;
        let lookup = lookup(&attempt);
        assert_eq!(lookup.policy.as_deref(), Some(&*format!("enforced, for {named}")), "{story}");
        let visit = visits(&attempt)[0];
        assert!(visit.tls.contains(verdict), "{story}");
        assert_eq!(attempt.results[0].outcome == "delivered", delivered, "{story}");
        if !delivered {
            assert!(visit.error.as_ref().unwrap().contains("MTA-STS"), "{story}");
        }
        if named == "mx.there.example" {
            assert!(visit.demand.ends_with("(MTA-STS)"), "{story}");
        }
        assert!(story.to_string().contains(&format!("MTA-STS: enforced, for {named}")), "{story}");
        assert_eq!(upstream.mails().len(), usize::from(delivered));
        way.relay.stop().await;
    }
}

#[tokio::test]
async fn that_a_handshake_failed_and_what_was_done_then() {
    let authority = Authority::new().unwrap();
    let broken = || {
        Upstream::new()
            .with_tls(authority.server("127.0.0.1").unwrap())
            .messages_per_connection(1)
            .on(Phase::StartTls, Act::Garble)
    };
    let (lax, strict) = (broken(), broken());
    let way_to = async |upstream: &Upstream, tls: &str| {
        let port = upstream.listen().await.unwrap().port();
        format!("via = [{{ host = \"127.0.0.1\", port = {port} }}]\ntls = \"{tls}\"")
    };
    let home = patient(Home::new())
        .route_as("lax.example", &way_to(&lax, "opportunistic").await)
        .route_as("strict.example", &way_to(&strict, "encrypt").await);
    let way = Way::through(home).await;

    let id = way.post(ALICE, &["bob@lax.example"], "Hello").await;
    way.settled(&id).await;
    let (story, attempt) = first(&way, &id).await;
    let visit = visits(&attempt)[0];
    assert!(visit.tls.starts_with("clear text; TLS handshake: "), "{story}");
    assert!(visit.tls.ends_with("; a second connection in clear text"), "{story}");
    let said = dialogue(visit);
    let at = |wanted: &str| said.iter().position(|line| line.starts_with(wanted)).unwrap();
    assert!(at("> STARTTLS") < at("* TLS handshake: "), "{said:#?}");
    assert!(at("* a second connection in clear text") < at("> MAIL FROM"), "{said:#?}");

    let id = way.post(ALICE, &["bob@lax.example"], "Again").await;
    way.settled(&id).await;
    let (story, attempt) = first(&way, &id).await;
    let visit = visits(&attempt)[0];
    assert_eq!(visit.tls, "clear text; STARTTLS is not tried, it failed there lately", "{story}");

    let id = way.post(ALICE, &["bob@strict.example"], "Hello").await;
    way.deferred(&id).await;
    let (story, attempt) = first(&way, &id).await;
    let visit = visits(&attempt)[0];
    assert!(visit.tls.starts_with("TLS handshake: "), "{story}");
    assert_eq!((visit.security, &*visit.demand), (None, "TLS, whatever the certificate"));
    assert!(visit.error.as_ref().unwrap().contains("TLS handshake: "), "{story}");
    way.relay.stop().await;
}
