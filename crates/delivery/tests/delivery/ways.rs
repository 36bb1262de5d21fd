//! Other ways: policy reroutes, drops, limits, signs, changes the sender, and picks where mail comes
//! from.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use waypost_delivery::SourceAddress;
use waypost_harness::rules::{Rules, fault};
use waypost_harness::upstream::{Act, Upstream};
use waypost_hooks::{
    Attempt, AttemptAnswer, EventKind, Hop, LaneAdvice, MAX_REROUTES, Preparation, Remedy,
    RouteDecision, RouteGroup, SenderChange, Way,
};
use waypost_identity::keygen::{Algorithm, generate};
use waypost_identity::{Keyring, SigningKey};
use waypost_intake::{NamedHop, RouteRule, Routing, Via};
use waypost_mail::{RecipientState, Route, SignRequest, Timestamp, TlsLevel, Why};
use waypost_smtp::Phase;

use crate::relay::{MESSAGE, Plan, Post, Relay, by_host, by_mx};

const ELSEWHERE: &str = "192.0.2.7:25";
const REFUSED: &str = "451 4.7.1 not from you";

fn host(address: &str) -> Hop {
    Hop::Host { host: address.to_owned(), port: 25, implicit_tls: false }
}

fn elsewhere() -> Way {
    Way { hops: vec![host("192.0.2.7")], ..Way::default() }
}

/// The same remedy for whoever was not delivered.
fn all(attempt: &Attempt<'_>, remedy: &Remedy) -> AttemptAnswer {
    let ids = attempt.results.iter().map(|result| result.recipient.recipient.id);
    let remedies = ids.map(|id| (id, remedy.clone())).collect();
    AttemptAnswer { remedies, ..AttemptAnswer::default() }
}

fn remedy(remedy: Remedy) -> Rules {
    Rules::new().attempt(move |attempt| Ok(all(attempt, &remedy)))
}

async fn held(relay: &Relay, id: waypost_mail::MessageId) -> String {
    relay.until("a hold", || relay.queue.status().held == 1).await;
    match relay.queue.show(id).unwrap().recipients[0].state.clone() {
        RecipientState::Held { reason, .. } => reason,
        other => unreachable!("not held: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_rerouted_goes_the_other_way_at_once() {
    let upstream = Upstream::new()
        .refusing("eve@there.example", REFUSED)
        .refusing("bob@there.example", "550 5.7.1 never");
    let other = Upstream::new();
    let (plan, home) = Plan::with(&upstream);
    let rules = Arc::new(remedy(Remedy::Reroute(elsewhere())));
    let relay = plan.up(ELSEWHERE, &other).hooks(rules.clone()).run().await;
    let recipients = vec!["ann@there.example", "eve@there.example", "bob@there.example"];
    let id = relay.post(Post { recipients, ..Post::default() }).await;
    let began = relay.clock.now();
    relay.gone(id).await;
    assert!(relay.clock.now().since(began) < Duration::from_secs(1));
    assert_eq!(upstream.mails()[0].to, ["ann@there.example"]);
    assert_eq!(other.mails()[0].to, ["eve@there.example", "bob@there.example"]);
    assert!(home.mails().is_empty(), "nobody bounced");
    let told = || rules.events().iter().filter(|kind| **kind == EventKind::Deferred).count();
    relay.until("two events", || told() == 2 && rules.events().len() == 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_delivery_there_says_nothing_about_the_first_way() {
    let other = Upstream::new();
    let rules = Rules::new().attempt(|attempt| match attempt.entry.sender.to_string() {
        sender if sender.contains("eve") => Ok(all(attempt, &Remedy::Reroute(elsewhere()))),
        _ => Ok(AttemptAnswer::default()),
    });
    let relay = Plan::new().0.up(ELSEWHERE, &other).hooks(Arc::new(rules)).run().await;
    let stays = relay.send().await;
    relay.deferred(stays).await;
    let rest = || {
        let destinations = relay.queue.status().destinations;
        destinations.into_iter().find(|d| d.name == "there.example").and_then(|d| d.resting_until)
    };
    let first = rest().unwrap();
    let goes = relay.post(Post { sender: "eve@home.example", ..Post::default() }).await;
    relay.gone(goes).await;
    assert_eq!(other.mails().len(), 1);
    assert!(rest().is_some_and(|second| second > first), "it rests once more");
}

#[tokio::test(start_paused = true)]
async fn a_way_that_the_configuration_does_not_know_leaves_the_plan() {
    let upstream = Upstream::new().once(Phase::Rcpt, Act::Say(REFUSED.into()));
    let (plan, _) = Plan::with(&upstream);
    let unknown = Way { hops: vec![Hop::Named("gone".into())], ..Way::default() };
    let relay = plan.hooks(Arc::new(remedy(Remedy::Reroute(unknown)))).run().await;
    let id = relay.send().await;
    assert!(matches!(relay.deferred(id).await, Why::Refused { .. }));
    assert_eq!(relay.queue.show(id).unwrap().reroutes, 0);
    relay.gone(id).await;
    assert_eq!(upstream.mails().len(), 1, "the planned retry came");
}

#[tokio::test(start_paused = true)]
async fn reroutes_have_an_end() {
    let upstream = Upstream::new().on(Phase::Rcpt, Act::Say(REFUSED.into()));
    let (plan, home) = Plan::with(&upstream);
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    let rules = Rules::new().attempt(move |attempt| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        let lane = Some(format!("lane{n}"));
        Ok(all(attempt, &Remedy::Reroute(Way { lane, ..Way::default() })))
    });
    let relay = plan.hooks(Arc::new(rules)).run().await;
    let id = relay.send().await;
    assert!(held(&relay, id).await.contains("rerouted the message 5 times"));
    assert_eq!(tries.load(Ordering::SeqCst), MAX_REROUTES + 1);
    let entry = relay.queue.show(id).unwrap();
    assert_eq!((entry.reroutes as usize, entry.routes.len()), (MAX_REROUTES, MAX_REROUTES + 1));
    // Who releases it lets it go once more, the way it has.
    relay.queue.release(id).await.unwrap();
    relay.until("another hold", || tries.load(Ordering::SeqCst) == MAX_REROUTES + 2).await;
    held(&relay, id).await;
    assert!(upstream.mails().is_empty() && home.mails().is_empty());
}

#[tokio::test(start_paused = true)]
async fn recipients_that_go_apart_share_the_reroutes_of_their_message() {
    let upstream = Upstream::new().on(Phase::Rcpt, Act::Say(REFUSED.into()));
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    let rules = Rules::new().attempt(move |attempt| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        let apart = |id| Way { lane: Some(format!("lane{n} of {id}")), ..Way::default() };
        let ids = attempt.results.iter().map(|result| result.recipient.recipient.id);
        let remedies = ids.map(|id| (id, Remedy::Reroute(apart(id)))).collect();
        Ok(AttemptAnswer { remedies, ..AttemptAnswer::default() })
    });
    let relay = Plan::with(&upstream).0.hooks(Arc::new(rules)).run().await;
    let recipients = vec!["ann@there.example", "bob@there.example"];
    let id = relay.post(Post { recipients, ..Post::default() }).await;
    relay.until("both are held", || relay.queue.status().held == 2).await;
    // Together once, then each for itself, and each once more in vain.
    assert_eq!(tries.load(Ordering::SeqCst), MAX_REROUTES + 2);
    assert_eq!(relay.queue.show(id).unwrap().reroutes as usize, MAX_REROUTES);
}

#[tokio::test(start_paused = true)]
async fn a_reroute_may_name_a_moment() {
    let upstream = Upstream::new().once(Phase::Rcpt, Act::Say(REFUSED.into()));
    let later = Timestamp(1_800_057_600_000).after(Duration::from_secs(500));
    let way = Way { not_before: Some(later), ..elsewhere() };
    let (plan, _) = Plan::with(&upstream);
    let other = Upstream::new();
    let plan = plan.up(ELSEWHERE, &other).hooks(Arc::new(remedy(Remedy::Reroute(way))));
    let relay = plan.run().await;
    let id = relay.send().await;
    relay.gone(id).await;
    assert!(relay.clock.now() >= later && other.mails().len() == 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_dropped_is_gone_without_a_notice() {
    let upstream = Upstream::new().refusing("bob@there.example", "550 5.1.1 nobody");
    let (plan, home) = Plan::with(&upstream);
    let rules = Arc::new(remedy(Remedy::Drop("a trap".into())));
    let relay = plan.hooks(rules.clone()).run().await;
    let id = relay.send().await;
    relay.gone(id).await;
    let second =
        relay.post(Post { recipients: vec!["ann@there.example"], ..Post::default() }).await;
    relay.gone(second).await;
    relay.until("the events", || rules.events().len() == 2).await;
    assert_eq!(rules.events(), [EventKind::Dropped, EventKind::Delivered]);
    assert!(home.mails().is_empty());
    let dropped = waypost_delivery::RecipientLabels { outcome: "deleted" };
    assert_eq!(relay.delivery.metrics().recipients.get_or_create(&dropped).get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_destination_gets_few_at_once_for_a_while() {
    let upstream =
        Upstream::new().once(Phase::Mail, Act::Say(REFUSED.into())).on(Phase::Mail, Act::Hang);
    let asked = AtomicUsize::new(0);
    let rules = Rules::new().attempt(move |_| {
        let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
        let advice = LaneAdvice {
            destination: "there.example".to_owned(),
            pause: None,
            max_concurrent: Some(1),
            valid: Duration::from_secs(25),
        };
        Ok(AttemptAnswer {
            advice: first.then_some(advice).into_iter().collect(),
            ..Default::default()
        })
    });
    let (plan, _) = Plan::with(&upstream);
    let relay = plan.hooks(Arc::new(rules)).run().await;
    let first = relay.send().await;
    relay.deferred(first).await;
    for _ in 0..6 {
        relay.send().await;
    }
    let place = || relay.queue.status().destinations.into_iter().next().unwrap();
    relay.until("one at once", || place().in_flight == 1).await;
    assert_eq!(place().most, Some(1));
    let ends = place().limited_until.unwrap();
    while relay.clock.now() < ends {
        assert!(place().in_flight <= 1);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    relay.until("as many as it opens with", || place().in_flight == 5).await;
    assert_eq!((place().most, place().limited_until), (None, None));
    upstream.relent();
    relay.until("all of them", || upstream.mails().len() == 7).await;
}

fn named() -> Routing {
    let hosts = vec![by_host("192.0.2.7")].into();
    let hop = NamedHop { hosts, tls: TlsLevel::Opportunistic, credentials: None };
    let mut routing = Routing::default();
    routing.named.insert("partner".into(), hop);
    routing
}

/// A way for all recipients.
fn group(way: Way) -> Vec<RouteGroup> {
    let decision = RouteDecision::Route(way);
    vec![RouteGroup { recipients: vec![0], decision, reasons: Vec::new() }]
}

#[tokio::test(start_paused = true)]
async fn who_had_no_way_gets_it_under_its_own_name() {
    let other = Upstream::new();
    let (plan, _) = Plan::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let rules = Rules::new().route(move |view| {
        assert!(view.expires.is_some());
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => Err(fault()),
            1 => Ok(group(Way { hops: vec![Hop::Named("unknown".into())], ..Way::default() })),
            _ => Ok(group(Way { hops: vec![Hop::Named("partner".into())], ..Way::default() })),
        }
    });
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let destinations = seen.clone();
    let rules = rules.prepare(move |copy, text| {
        assert_eq!(text.header.first("Subject").as_deref(), Some("hello"));
        destinations.lock().unwrap().push(copy.destination.to_owned());
        Ok(Preparation::default())
    });
    let plan = plan.up(ELSEWHERE, &other).routing(named()).hooks(Arc::new(rules));
    let relay = plan.run().await;
    let began = relay.clock.now();
    let id = relay.post(Post { route: waypost_intake::undecided(), ..Post::default() }).await;
    relay.gone(id).await;
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    assert_eq!(relay.clock.now().since(began).as_secs(), 120, "after a minute, and another");
    assert_eq!(*seen.lock().unwrap(), ["192.0.2.7:25"]);
    assert_eq!(other.mails()[0].content, MESSAGE);
}

#[tokio::test(start_paused = true)]
async fn a_copy_has_a_sender_of_its_own_and_the_bounce_does_not() {
    let upstream = Upstream::new().refusing("bob@there.example", "550 5.1.1 nobody");
    let (plan, home) = Plan::with(&upstream);
    let rules = Rules::new().prepare(|copy, _| {
        let id = copy.recipients[0].recipient.id;
        let path = format!("bounce+{id}@relay.example").try_into().unwrap();
        let header = |name: &str| (name.to_owned(), "x".to_owned());
        let add_headers = vec![header("X-First"), header("X-Last")];
        Ok(Preparation { sender: SenderChange::To(path), add_headers, ..Preparation::default() })
    });
    let relay = plan.hooks(Arc::new(rules)).run().await;
    let recipients = vec!["ann@there.example", "bob@there.example"];
    let id = relay.post(Post { recipients, ..Post::default() }).await;
    relay.gone(id).await;
    assert!(upstream.heard().contains("MAIL FROM:<bounce+0@relay.example>"));
    assert_eq!(upstream.mails()[0].content, format!("X-Last: x\r\nX-First: x\r\n{MESSAGE}"));
    relay.until("the notice", || home.mails().len() == 1).await;
    assert_eq!(home.mails()[0].to, ["alice@home.example"]);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_sender_asks_for_what_it_needs() {
    let upstream = Upstream::new();
    let (plan, _) = Plan::with(&upstream);
    let rules = Rules::new().prepare(|_, _| {
        let path = "bürger@relay.example".to_owned().try_into().unwrap();
        Ok(Preparation { sender: SenderChange::To(path), ..Preparation::default() })
    });
    let relay = plan.hooks(Arc::new(rules)).run().await;
    let id = relay.send().await;
    relay.gone(id).await;
    let heard = upstream.heard();
    let mail = heard.lines().find(|line| line.starts_with("MAIL FROM")).unwrap();
    assert!(mail.contains("SMTPUTF8"), "{mail}");
}

fn request(key: &str) -> SignRequest {
    SignRequest {
        domain: "relay.example".into(),
        selector: "s".into(),
        key: key.into(),
        headers: vec![],
        oversign: vec![],
        expire_after: None,
    }
}

#[tokio::test]
async fn a_copy_is_signed_above_its_fields_or_not_sent() {
    let key = generate(Algorithm::Ed25519).unwrap();
    let key = SigningKey::from_pem(key.private_pem().as_bytes()).unwrap();
    let keys: Keyring = [("here".to_owned(), key)].into_iter().collect();
    let sign = |key: &'static str| {
        Rules::new().prepare(move |_, _| {
            let add_headers = vec![("X-Copy".to_owned(), "1".to_owned())];
            Ok(Preparation { add_headers, sign: vec![request(key)], ..Preparation::default() })
        })
    };
    let content = MESSAGE.to_owned();
    let upstream = Upstream::new();
    let (plan, _) = Plan::with(&upstream);
    let relay = plan.keys(keys.clone()).hooks(Arc::new(sign("here"))).run().await;
    let id = relay.post(Post { content: content.clone(), ..Post::default() }).await;
    relay.gone(id).await;
    let got = upstream.mails()[0].content.clone();
    let rest = format!("\r\nX-Copy: 1\r\n{content}");
    assert!(got.starts_with("DKIM-Signature: ") && got.ends_with(&rest), "{got}");

    let upstream = Upstream::new();
    let (plan, home) = Plan::with(&upstream);
    let relay = plan.keys(keys).hooks(Arc::new(sign("elsewhere"))).run().await;
    let id = relay.post(Post { content, ..Post::default() }).await;
    relay.until("a look at it", || upstream.connections() == 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(relay.waiting(id).map(|(tries, _, why)| (tries, why)), Some((0, None)));
    assert!(upstream.mails().is_empty() && home.mails().is_empty());
}

fn from_pool(pool: &str) -> Route {
    Route { source: Some(pool.to_owned()), ..by_mx(TlsLevel::Opportunistic) }
}

#[tokio::test(start_paused = true)]
async fn mail_comes_from_the_address_its_sender_has_in_the_pool() {
    let upstream = Upstream::new();
    let (plan, _) = Plan::with(&upstream);
    let addresses: Vec<IpAddr> =
        ["198.51.100.1", "198.51.100.2", "2001:db8::9"].map(|ip| ip.parse().unwrap()).into();
    let pool = addresses.iter().enumerate().map(|(n, address)| SourceAddress {
        ehlo: Some(waypost_smtp::Domain::parse(&format!("out{n}.example")).unwrap()),
        ..SourceAddress::new(*address)
    });
    let pool: Vec<_> = pool.collect();
    let plan = plan.config(|config| drop(config.sources.insert("bulk".into(), pool)));
    let relay = plan.run().await;
    let send = async |sender| {
        let id = relay.post(Post { sender, route: from_pool("bulk"), ..Post::default() }).await;
        relay.gone(id).await;
    };
    let senders =
        ["a@home.example", "b@home.example", "c@home.example", "d@home.example", "e@home.example"];
    for sender in senders {
        send(sender).await;
    }
    let once: Vec<_> = relay.network.sources();
    assert!(once.iter().all(|from| from.is_some_and(|from| addresses[..2].contains(&from))));
    assert_eq!(once.len(), 2, "connections are shared by those of one address");
    let heard = upstream.heard();
    assert!(heard.contains("EHLO out0.example") && heard.contains("EHLO out1.example"));
    assert!(!heard.contains("EHLO relay.example"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    send(senders[0]).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    send(senders[0]).await;
    let again = relay.network.sources();
    assert_eq!((again.len(), again[2]), (4, again[3]), "the same one each time");
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_not_there_defers_without_blame() {
    let upstream = Upstream::new();
    let (plan, _) = Plan::with(&upstream);
    let relay = plan.run().await;
    let id = relay.post(Post { route: from_pool("typo"), ..Post::default() }).await;
    let why = relay.deferred(id).await;
    assert!(why.to_string().contains("no source pool named \"typo\""), "{why}");
    assert!(relay.network.dialed().is_empty());
    // Other mail for the destination does not suffer.
    let began = relay.clock.now();
    let other = relay.send().await;
    relay.gone(other).await;
    assert!(relay.clock.now().since(began) < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_host_of_another_family_is_passed_over() {
    let upstream = Upstream::new();
    let (plan, _) = Plan::new();
    let plan = plan.host("mx1.there.example", &["2001:db8::1", "192.0.2.1"]);
    let source = SourceAddress::new("198.51.100.1".parse().unwrap());
    let plan = plan
        .up("192.0.2.1:25", &upstream)
        .config(|config| drop(config.sources.insert("v4".into(), vec![source])));
    let relay = plan.run().await;
    let id = relay.post(Post { route: from_pool("v4"), ..Post::default() }).await;
    relay.gone(id).await;
    assert_eq!(relay.network.dialed(), ["192.0.2.1:25"]);
    assert!(upstream.heard().contains("EHLO relay.example"), "no name of its own");
}

/// An upstream that takes nothing from one address of ours; here it is the first one that connects.
#[tokio::test(start_paused = true)]
async fn an_address_that_is_refused_rests_there_and_another_takes_over() {
    let no = Act::Say("554 5.7.1 not from there".into());
    let upstream = Upstream::new().once(Phase::Greeting, no);
    let addresses = ["198.51.100.1", "198.51.100.2"].map(|ip| ip.parse::<IpAddr>().unwrap());
    let pool: Vec<_> = addresses.map(SourceAddress::new).into();
    let (plan, _) = Plan::with(&upstream);
    let plan = plan.config(|config| {
        config.sources.insert("bulk".into(), pool);
        config.connections.idle_connections = 0;
    });
    let relay = plan.run().await;
    for _ in 0..2 {
        let id = relay.post(Post { route: from_pool("bulk"), ..Post::default() }).await;
        relay.gone(id).await;
    }
    let from: Vec<IpAddr> = relay.network.sources().into_iter().flatten().collect();
    assert_eq!((from.len(), from[1]), (3, from[2]));
    assert_ne!(from[0], from[1], "the other one, in the same attempt and from then on");
    tokio::time::sleep(Duration::from_secs(1000)).await;
    let id = relay.post(Post { route: from_pool("bulk"), ..Post::default() }).await;
    relay.gone(id).await;
    assert_eq!(relay.network.sources()[3], Some(from[0]), "it is used again after its rest");
}

/// Mail whose first way is down, not chosen by anybody.
fn stranded(fixed: bool) -> Post {
    let route = Route::new(by_host("192.0.2.7"), TlsLevel::Never);
    Post { route, fixed, ..Post::default() }
}

#[tokio::test(start_paused = true)]
async fn what_failed_goes_the_way_that_is_configured_now() {
    let upstream = Upstream::new();
    let relay = Plan::with(&upstream).0.run().await;
    let id = relay.post(stranded(false)).await;
    relay.deferred(id).await;
    relay.gone(id).await;
    assert_eq!(relay.network.dialed(), [ELSEWHERE, crate::relay::MX]);
    assert_eq!(upstream.mails().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_way_that_somebody_chose_stays() {
    let (upstream, other) = (Upstream::new(), Upstream::new());
    let relay = Plan::with(&upstream).0.run().await;
    let id = relay.post(stranded(true)).await;
    relay.deferred(id).await;
    relay.network.open(ELSEWHERE, &other);
    relay.gone(id).await;
    assert_eq!((upstream.mails().len(), other.mails().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_failed_bounces_when_the_configuration_refuses_it_now() {
    let no = waypost_smtp::Reply::fixed(550, (5, 1, 2), "We have left that place");
    let via = Via::Fail(waypost_smtp::PermanentReply::new(no).unwrap());
    let domains = vec!["there.example".parse().unwrap()];
    let (tls, heed) = (TlsLevel::Never, waypost_mail::Heed::default());
    let rule = RouteRule {
        domains,
        via,
        source: None,
        tls,
        credentials: None,
        heed,
        certificate: None,
        convert: waypost_mail::Convert::default(),
        cut_through: false,
    };
    let (plan, home) = Plan::new();
    let routing = Routing { rules: vec![rule], ..Routing::default() };
    let relay = plan.routing(routing).run().await;
    let id = relay.post(stranded(false)).await;
    relay.gone(id).await;
    relay.until("the notice", || home.mails().len() == 1).await;
    let notice = home.mails()[0].content.clone();
    assert!(notice.contains("Status: 5.1.2\r\n") && notice.contains("left that place"), "{notice}");
    assert_eq!(relay.network.dialed()[0], ELSEWHERE);
}

#[tokio::test(start_paused = true)]
async fn what_is_discarded_is_gone_and_nobody_is_told() {
    let rules = Arc::new(Rules::new());
    let (plan, home) = Plan::new();
    let relay = plan.hooks(rules.clone()).run().await;
    let route = Route::new(waypost_mail::NextHop::Discard, TlsLevel::Opportunistic);
    let id = relay.post(Post { route, ..Post::default() }).await;
    relay.gone(id).await;
    relay.until("the event", || rules.events() == [EventKind::Dropped]).await;
    assert!(relay.network.dialed().is_empty() && home.mails().is_empty());
}
