//! What each TLS level makes of each state of an upstream's TLS.

use waypost_harness::authority::Authority;
use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::Why;
use waypost_scenarios::Home;
use waypost_smtp::Phase;

use crate::way::{ALICE, Way, patient};

/// What is expected of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comes {
    Clear,
    Encrypted,
    Not,
}
use Comes::{Clear, Encrypted, Not};

const LEVELS: [&str; 4] = ["never", "opportunistic", "encrypt", "verify"];

/// The upstreams, and how their mail comes at each level.
fn upstreams(ours: &Authority) -> Vec<(&'static str, Upstream, [Comes; 4])> {
    let stranger = Authority::new().unwrap();
    let good = || Upstream::new().with_tls(ours.server("127.0.0.1").unwrap());
    let tls = |config| Upstream::new().with_tls(config);
    // The connection is closed after either.
    let refusal = Act::Say("454 4.7.0 not now".to_owned());
    let farewell = Act::Say("421 4.7.0 not now".to_owned());
    vec![
        ("missing", Upstream::new(), [Clear, Clear, Not, Not]),
        ("pretended", Upstream::new().pretending("STARTTLS"), [Clear, Clear, Not, Not]),
        ("refused", good().on(Phase::StartTls, refusal), [Clear, Clear, Not, Not]),
        ("dismissed", good().on(Phase::StartTls, farewell), [Clear, Clear, Not, Not]),
        ("broken", good().on(Phase::StartTls, Act::Garble), [Clear, Clear, Not, Not]),
        ("closed", good().on(Phase::StartTls, Act::Drop), [Clear, Clear, Not, Not]),
        ("good", good(), [Clear, Encrypted, Encrypted, Encrypted]),
        ("other-name", tls(ours.server("127.0.0.9").unwrap()), [Clear, Encrypted, Encrypted, Not]),
        (
            "untrusted",
            tls(stranger.server("127.0.0.1").unwrap()),
            [Clear, Encrypted, Encrypted, Not],
        ),
    ]
}

#[tokio::test]
async fn each_level_keeps_its_word() {
    let mut home = patient(Home::new());
    let trusted = home.authority_file();
    home = home.set("tls", "ca-file", &format!("{trusted:?}"));
    let mut cases = Vec::new();
    for (state, _, expected) in upstreams(home.authority()) {
        for (place, level) in LEVELS.into_iter().enumerate() {
            // An upstream for each case: what one level learns about a host must not help another.
            let (_, upstream, _) =
                upstreams(home.authority()).into_iter().find(|(name, ..)| *name == state).unwrap();
            let port = upstream.listen().await.unwrap().port();
            let domain = format!("{level}.{state}.example");
            let via =
                format!("via = [{{ host = \"127.0.0.1\", port = {port} }}]\ntls = \"{level}\"");
            home = home.route_as(&domain, &via);
            cases.push((domain, upstream, expected[place]));
        }
    }
    let way = Way::through(home).await;
    for (domain, upstream, expected) in cases {
        let id = way.post(ALICE, &[&format!("bob@{domain}")], "Hello").await;
        if expected == Not {
            let why = way.deferred(&id).await;
            let at_tls = match &why {
                Why::TlsRequired { .. } => true,
                Why::ConnectionLost { phase, .. } | Why::Refused { phase, .. } => {
                    *phase == Phase::StartTls
                }
                _ => false,
            };
            assert!(at_tls, "{domain}: {why}");
            assert!(!upstream.heard().contains("MAIL FROM"), "{domain}: nothing was said");
            continue;
        }
        way.settled(&id).await;
        let mails = upstream.mails();
        assert_eq!(mails.len(), 1, "{domain}");
        assert_eq!(mails[0].tls, expected == Encrypted, "{domain}");
    }
    assert!(way.alice.mails().is_empty(), "what may get better is not bounced");
    way.relay.stop().await;
}
