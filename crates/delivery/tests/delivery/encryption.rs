//! TLS as each level of a route has it, and logging in.

use std::sync::Arc;

use waypost_delivery::ClientTls;
use waypost_harness::authority::Authority;
use waypost_harness::upstream::{Act, Mail, Upstream};
use waypost_mail::{NextHop, Route, TlsLevel, Why};
use waypost_smtp::Phase;
use waypost_smtp::client::Credentials;

use crate::relay::{Plan, Post, Relay, by_mx};

const NAME: &str = "mx1.there.example";

fn post(tls: TlsLevel) -> Post {
    Post { route: by_mx(tls), ..Post::default() }
}

/// A relay that trusts `authority`.
async fn relay(upstream: &Upstream, authority: &Authority) -> Relay {
    let tls = ClientTls::new(authority.roots().unwrap()).unwrap();
    let (plan, _) = Plan::with(upstream);
    let login = Credentials::new("relay", "secret").unwrap();
    let change = |config: &mut waypost_delivery::Config| {
        config.tls = tls;
        config.credentials.insert("account".to_owned(), login);
    };
    plan.config(change).run().await
}

async fn delivered(upstream: &Upstream, authority: &Authority, post: Post) -> Mail {
    let relay = relay(upstream, authority).await;
    let id = relay.post(post).await;
    relay.gone(id).await;
    upstream.mails().pop().expect("a mail")
}

async fn deferred(upstream: &Upstream, authority: &Authority, post: Post) -> Why {
    let relay = relay(upstream, authority).await;
    let id = relay.post(post).await;
    let why = relay.deferred(id).await;
    assert!(upstream.mails().is_empty());
    why
}

#[tokio::test(start_paused = true)]
async fn a_proven_name_satisfies_every_level() {
    let authority = Authority::new().unwrap();
    let levels = [
        (TlsLevel::Never, false),
        (TlsLevel::Opportunistic, true),
        (TlsLevel::Encrypt, true),
        (TlsLevel::Verify, true),
    ];
    for (level, encrypted) in levels {
        let upstream = Upstream::new().with_tls(authority.server(NAME).unwrap());
        assert_eq!(delivered(&upstream, &authority, post(level)).await.tls, encrypted, "{level:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn any_certificate_is_better_than_clear_text() {
    let (authority, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let certificates = [
        stranger.server(NAME).unwrap(),
        authority.server("other.example").unwrap(),
        Authority::unparsable().unwrap(),
    ];
    for (case, certificate) in certificates.into_iter().enumerate() {
        for level in [TlsLevel::Opportunistic, TlsLevel::Encrypt] {
            let upstream = Upstream::new().with_tls(certificate.clone());
            let mail = delivered(&upstream, &authority, post(level)).await;
            assert!(mail.tls, "case {case}, {level:?}");
            assert_eq!(upstream.connections(), 1);
        }
        let upstream = Upstream::new().with_tls(certificate);
        let why = deferred(&upstream, &authority, post(TlsLevel::Verify)).await;
        assert!(matches!(why, Why::TlsRequired { .. }), "case {case}: {why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_shown_where_the_route_says_so_and_nowhere_else() {
    let (authority, ours) = (Authority::new().unwrap(), Authority::new().unwrap());
    let directory = std::env::temp_dir().join(format!("waypost-client-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (chain, key) = (directory.join("chain.pem"), directory.join("key.pem"));
    let (certificate, secret) = ours.pair(&["relay.example"]).unwrap();
    std::fs::write(&chain, certificate).unwrap();
    std::fs::write(&key, secret).unwrap();
    let identity = Arc::new(waypost_delivery::certificate(&chain, &key).unwrap());
    std::fs::remove_dir_all(&directory).unwrap();

    let upstream = Upstream::new().with_tls(authority.server_for(NAME, &ours).unwrap());
    let tls = ClientTls::new(authority.roots().unwrap()).unwrap();
    let (plan, _) = Plan::with(&upstream);
    let relay = plan.config(|config| config.tls = tls).run().await;
    let named = |level| Route { certificate: Some("us".into()), ..by_mx(level) };
    let id = relay.post(Post { route: named(TlsLevel::Verify), ..Post::default() }).await;
    let why = relay.deferred(id).await;
    assert!(matches!(why, Why::AuthFailed { .. }), "it is not there: {why}");
    relay.delivery.set_certificates([("us".to_owned(), identity)].into());
    for level in [TlsLevel::Verify, TlsLevel::Encrypt] {
        let id = relay.post(Post { route: named(level), ..Post::default() }).await;
        relay.gone(id).await;
    }
    let taken = upstream.mails().len();
    assert!(taken >= 2, "{taken}");
    let id = relay.post(post(TlsLevel::Verify)).await;
    relay.deferred(id).await;
    assert!(upstream.mails().len() <= 3, "without one it is turned away");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_logged_in_serves_no_other_login() {
    let authority = Authority::new().unwrap();
    let server = authority.server(NAME).unwrap();
    let upstream = Upstream::new().with_tls(server).with_login("relay", "secret");
    let relay = relay(&upstream, &authority).await;
    let named = || Route { credentials: Some("account".into()), ..by_mx(TlsLevel::Verify) };
    for _ in 0..2 {
        let id = relay.post(Post { route: named(), ..Post::default() }).await;
        relay.gone(id).await;
    }
    assert_eq!(upstream.connections(), 1, "the same login shares it");
    let id = relay.post(post(TlsLevel::Verify)).await;
    relay.gone(id).await;
    assert_eq!((upstream.connections(), upstream.mails().len()), (2, 2), "nobody else does");
}

#[tokio::test(start_paused = true)]
async fn where_tls_is_optional_its_failure_leads_to_clear_text() {
    let authority = Authority::new().unwrap();
    let server = || Upstream::new().with_tls(authority.server(NAME).unwrap());
    let broken = [
        Upstream::new(),
        Upstream::new().pretending("STARTTLS"),
        server().on(Phase::StartTls, Act::Garble),
        server().on(Phase::StartTls, Act::Drop),
        server().on(Phase::StartTls, Act::Hang),
        server().on(Phase::StartTls, Act::Say("421 4.3.0 no".into())),
    ];
    for (case, upstream) in broken.iter().enumerate() {
        let mail = delivered(upstream, &authority, post(TlsLevel::Opportunistic)).await;
        assert!(!mail.tls, "case {case}");
    }
    for (case, upstream) in broken.iter().enumerate() {
        let fresh = Upstream::clone(upstream);
        let before = fresh.mails().len();
        let relay = relay(&fresh, &authority).await;
        let id = relay.post(post(TlsLevel::Encrypt)).await;
        relay.deferred(id).await;
        assert_eq!(fresh.mails().len(), before, "case {case}: nothing in clear text");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_failed_at_tls_is_remembered() {
    let authority = Authority::new().unwrap();
    let upstream = Upstream::new()
        .with_tls(authority.server(NAME).unwrap())
        .messages_per_connection(1)
        .on(Phase::StartTls, Act::Garble);
    let relay = relay(&upstream, &authority).await;
    for _ in 0..3 {
        let id = relay.send().await;
        relay.gone(id).await;
    }
    assert_eq!(upstream.connections(), 4, "one more than messages");
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_of_a_host_lowers_no_demand() {
    let authority = Authority::new().unwrap();
    let upstream =
        Upstream::new().with_tls(authority.server(NAME).unwrap()).on(Phase::StartTls, Act::Garble);
    let relay = relay(&upstream, &authority).await;
    let id = relay.send().await;
    relay.gone(id).await;
    assert!(!upstream.mails()[0].tls);
    for level in [TlsLevel::Encrypt, TlsLevel::Verify] {
        let id = relay.post(post(level)).await;
        let why = relay.deferred(id).await;
        assert!(!why.is_permanent(), "{why}");
    }
    assert_eq!(upstream.mails().len(), 1, "nothing more in clear text");
}

/// Somebody in between puts replies behind the 220, to be taken for those of the encrypted session.
#[tokio::test(start_paused = true)]
async fn injected_replies_end_the_connection() {
    let authority = Authority::new().unwrap();
    let injected = Act::Say("220 go ahead\r\n250-mx1\r\n250 AUTH PLAIN".into());
    let upstream =
        Upstream::new().with_tls(authority.server(NAME).unwrap()).on(Phase::StartTls, injected);
    for level in [TlsLevel::Opportunistic, TlsLevel::Verify] {
        let why = deferred(&upstream, &authority, post(level)).await;
        assert!(matches!(why, Why::ProtocolError { phase: Phase::StartTls, .. }), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn tls_from_the_first_byte() {
    let authority = Authority::new().unwrap();
    let hop = NextHop::Host { host: NAME.to_owned(), port: 465, implicit_tls: true };
    let route = Route::new(hop, TlsLevel::Verify);
    let upstream = Upstream::new().with_tls(authority.server(NAME).unwrap()).implicit_tls();
    let (plan, _) = Plan::new();
    let tls = ClientTls::new(authority.roots().unwrap()).unwrap();
    let plan = plan.up("192.0.2.1:465", &upstream).config(|config| config.tls = tls);
    let relay = plan.run().await;
    let id = relay.post(Post { route, ..Post::default() }).await;
    relay.gone(id).await;
    assert!(upstream.mails()[0].tls);
    assert!(!upstream.heard().contains("STARTTLS"));
}

#[tokio::test(start_paused = true)]
async fn logging_in_takes_tls_and_the_right_password() {
    let authority = Arc::new(Authority::new().unwrap());
    let server = || Upstream::new().with_tls(authority.server(NAME).unwrap());
    let named = |name: &str, level| Post {
        route: Route { credentials: Some(name.to_owned()), ..by_mx(level) },
        ..Post::default()
    };

    let upstream = server().with_login("relay", "secret");
    let mail = delivered(&upstream, &authority, named("account", TlsLevel::Opportunistic)).await;
    assert_eq!((mail.user.as_deref(), mail.tls), (Some("relay"), true));

    let wrong = server().with_login("relay", "other");
    let why = deferred(&wrong, &authority, named("account", TlsLevel::Verify)).await;
    assert!(matches!(&why, Why::AuthFailed { error, .. } if error.contains("535")), "{why}");

    let clear = Upstream::new().pretending("AUTH PLAIN");
    let why = deferred(&clear, &authority, named("account", TlsLevel::Opportunistic)).await;
    assert!(matches!(why, Why::TlsRequired { .. }), "{why}");
    let why = deferred(&clear, &authority, named("account", TlsLevel::Never)).await;
    assert!(matches!(why, Why::AuthFailed { .. }), "{why}");
    assert!(!clear.heard().contains("AUTH"), "the password stayed here");

    let why = deferred(&server(), &authority, named("nobody", TlsLevel::Verify)).await;
    assert!(matches!(why, Why::AuthFailed { .. }), "{why}");
}
