//! What replies mean, and what follows.

use std::sync::Arc;
use std::time::Duration;

use waypost_delivery::SourceAddress;
use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::rulebook::{Provider, Rule, When};
use waypost_mail::{Category, Disposition, Outcome, Route, Rulebook, Scope, TlsLevel};
use waypost_smtp::Phase;

use crate::relay::{MX, Plan, Post, by_host, by_mx};

fn say(text: &str) -> Act {
    Act::Say(text.to_owned())
}

/// One provider, whose hosts end in `there.example`, and these rules.
fn book(rules: Vec<Rule>) -> Arc<Rulebook> {
    let provider = Provider { name: "big".to_owned(), hosts: vec![".there.example".to_owned()] };
    Arc::new(Rulebook::new(vec![provider], rules))
}

fn rule(text: &str, category: Category, wait: Option<Duration>) -> Rule {
    Rule {
        name: category.word().to_owned(),
        when: When { texts: vec![text.parse().unwrap()], ..When::default() },
        disposition: None,
        scope: None,
        category,
        wait,
        after: Vec::new(),
        samples: Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn who_sends_too_much_rests_for_all_domains_of_a_provider() {
    let upstream = Upstream::new().once(Phase::Mail, say("450 4.0.0 slow down"));
    let (plan, _) = Plan::with(&upstream);
    let slow = rule("slow down", Category::RateLimited, Some(Duration::from_secs(1800)));
    let relay = plan
        .mx("other.example", &[(10, "mx1.there.example")])
        .config(|config| config.rulebook = book(vec![slow]))
        .run()
        .await;
    let first = relay.send().await;
    relay.until("the complaint", || relay.waiting(first).is_some_and(|w| w.2.is_some())).await;
    let (tries, due, why) = relay.waiting(first).unwrap();
    assert_eq!(tries, 0, "it does not count");
    assert_eq!(due.since(relay.clock.now()).as_secs().div_ceil(60), 30);
    let means = why.unwrap().diagnosis().to_string();
    assert_eq!(means, "rate-limit/source/rate-limited");

    let mut route = by_mx(TlsLevel::Opportunistic);
    route.hops = vec![waypost_mail::NextHop::Mx("other.example".parse().unwrap())];
    let recipients = vec!["carol@other.example"];
    let second = relay.post(Post { recipients, route, ..Post::default() }).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(upstream.connections(), 1, "nobody was bothered");
    assert_eq!(relay.waiting(second).unwrap().0, 0);
    relay.gone(first).await;
    relay.gone(second).await;
    assert_eq!(upstream.mails().len(), 2);
}

/// A lane has mail for many: who complains is one of them.
#[tokio::test(start_paused = true)]
async fn in_a_lane_only_who_complains_is_left_alone() {
    let (upstream, other) = (Upstream::new(), Upstream::new());
    let upstream = upstream.once(Phase::Mail, say("421 4.7.28 too much"));
    let plan = Plan::with(&upstream)
        .0
        .mx("other.example", &[(10, "mx.other.example")])
        .host("mx.other.example", &["192.0.2.9"])
        .up("192.0.2.9:25", &other);
    let relay = plan.run().await;
    let lane = Route { lane: Some("bulk".to_owned()), ..by_mx(TlsLevel::Opportunistic) };
    let first = relay.post(Post { route: lane.clone(), ..Post::default() }).await;
    relay.until("the complaint", || relay.waiting(first).is_some_and(|w| w.2.is_some())).await;
    let hops = vec![waypost_mail::NextHop::Mx("other.example".parse().unwrap())];
    let recipients = vec!["carol@other.example"];
    let second =
        relay.post(Post { recipients, route: Route { hops, ..lane }, ..Post::default() }).await;
    relay.gone(second).await;
    assert!(relay.waiting(first).is_some(), "before the rest is over");
    relay.gone(first).await;
    assert_eq!((upstream.mails().len(), other.mails().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn of_several_smart_hosts_only_the_one_that_complains_is_left_alone() {
    let (full, free) = (Upstream::new(), Upstream::new());
    let full = full.once(Phase::Mail, say("450 4.7.28 too much"));
    let plan = Plan::new().0.up("192.0.2.7:25", &full).up("192.0.2.8:25", &free);
    let relay = plan.run().await;
    let hops = ["192.0.2.7", "192.0.2.8"].map(by_host).to_vec();
    let route = Route { hops, ..by_mx(TlsLevel::Opportunistic) };
    let first = relay.post(Post { route: route.clone(), ..Post::default() }).await;
    relay.until("the complaint", || relay.waiting(first).is_some_and(|w| w.2.is_some())).await;
    let second = relay.post(Post { route, ..Post::default() }).await;
    relay.gone(second).await;
    assert!(relay.waiting(first).is_some(), "before the rest is over");
    assert_eq!((full.connections(), free.mails().len()), (1, 1));
    relay.gone(first).await;
}

fn from_pool() -> Route {
    Route { source: Some("bulk".to_owned()), ..by_mx(TlsLevel::Opportunistic) }
}

fn with_pool(upstream: &Upstream) -> (Plan, Upstream) {
    let addresses = ["198.51.100.1", "198.51.100.2"].map(|ip| ip.parse().unwrap());
    let pool = addresses.map(SourceAddress::new).to_vec();
    let (plan, home) = Plan::with(upstream);
    (plan.config(|config| drop(config.sources.insert("bulk".into(), pool))), home)
}

#[tokio::test(start_paused = true)]
async fn an_address_of_ours_that_is_refused_rests_and_another_takes_over() {
    for phase in [Phase::Mail, Phase::Rcpt] {
        for reply in ["550 5.7.25 no reverse name", "450 4.7.25 no reverse name"] {
            let upstream = Upstream::new().once(phase, say(reply));
            let (plan, home) = with_pool(&upstream);
            let relay = plan.run().await;
            let began = relay.clock.now();
            let id = relay.post(Post { route: from_pool(), ..Post::default() }).await;
            relay.gone(id).await;
            assert!(relay.clock.now().since(began) < Duration::from_secs(60), "at once");
            let from: Vec<_> = relay.network.sources().into_iter().flatten().collect();
            assert_eq!(from.len(), 2, "{phase} {reply}");
            assert_ne!(from[0], from[1]);
            assert_eq!((upstream.mails().len(), home.mails().len()), (1, 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_of_them_are_refused_it_bounces() {
    let upstream = Upstream::new().on(Phase::Rcpt, say("550 5.7.25 no reverse name"));
    let (plan, home) = with_pool(&upstream);
    let relay = plan.run().await;
    let id = relay.post(Post { route: from_pool(), ..Post::default() }).await;
    relay.gone(id).await;
    relay.until("the notice", || !home.mails().is_empty()).await;
    assert!(home.mails()[0].content.contains("Status: 5.7.25\r\n"));
    assert_eq!(upstream.connections(), 2, "once from each");
}

/// Of two recipients one is refused and goes another way; that the other one is in doubt is no
/// matter of his.
#[tokio::test(start_paused = true)]
async fn who_was_refused_is_in_no_doubt() {
    let upstream = Upstream::new()
        .refusing_once("bob@there.example", "550 5.7.25 no reverse name")
        .once(Phase::Eod, Act::Drop);
    let (plan, _) = with_pool(&upstream);
    let relay = plan.run().await;
    let recipients = vec!["bob@there.example", "carol@there.example"];
    let id = relay.post(Post { recipients, route: from_pool(), ..Post::default() }).await;
    relay.deferred(id).await;
    assert!(matches!(relay.done(id, 0), Some(Outcome::Delivered { .. })), "bob has it");
    let mails = upstream.mails();
    assert_eq!((mails[0].to.len(), mails[1].to.len()), (1, 1));
    assert_eq!(mails[1].to, ["bob@there.example"]);
    relay.gone(id).await;
}

#[tokio::test(start_paused = true)]
async fn without_rules_the_registered_numbers_say_as_much() {
    let upstream = Upstream::new().once(Phase::Mail, say("421 4.7.28 unsolicited"));
    let relay = Plan::with(&upstream).0.run().await;
    let id = relay.send().await;
    relay.until("the complaint", || relay.waiting(id).is_some_and(|w| w.2.is_some())).await;
    let status = relay.queue.status();
    assert!(status.destinations.iter().any(|d| d.resting_until.is_some()), "{status:?}");
    relay.gone(id).await;
    assert_eq!(upstream.mails().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn five_hundreds_that_mean_later_wait_and_four_hundreds_that_mean_never_bounce() {
    let mut never = rule("never", Category::Denied, None);
    never.disposition = Some(Disposition::Permanent);
    let rules = || book(vec![rule("grey", Category::Greylisted, None), never.clone()]);
    let upstream = Upstream::new().once(Phase::Rcpt, say("550 5.7.1 greylisted"));
    let relay = Plan::with(&upstream).0.config(|c| c.rulebook = rules()).run().await;
    let id = relay.send().await;
    assert!(relay.deferred(id).await.to_string().contains("550 5.7.1 greylisted"));
    relay.gone(id).await;
    assert_eq!(upstream.mails().len(), 1);

    let upstream = Upstream::new().on(Phase::Rcpt, say("450 4.7.1 never"));
    let (plan, home) = Plan::with(&upstream);
    let relay = plan.config(|c| c.rulebook = rules()).run().await;
    let id = relay.send().await;
    relay.gone(id).await;
    relay.until("the notice", || !home.mails().is_empty()).await;
    let notice = &home.mails()[0].content;
    assert!(notice.contains("Status: 5.7.1\r\n"), "{notice}");
    assert!(notice.contains("Diagnostic-Code: smtp; 450 4.7.1 never\r\n"), "{notice}");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_busy_is_tried_again_soon() {
    let upstream = Upstream::new().once(Phase::Mail, say("421 4.3.2 busy"));
    let relay = Plan::with(&upstream).0.run().await;
    let id = relay.send().await;
    relay.deferred(id).await;
    let (_, due, _) = relay.waiting(id).unwrap();
    let wait = due.since(relay.clock.now()).as_secs();
    assert!((1..=120).contains(&wait), "again after {wait} s");
    relay.gone(id).await;
}

#[tokio::test(start_paused = true)]
async fn a_login_that_the_next_hop_wants_is_for_the_operator() {
    let upstream = Upstream::new().once(Phase::Mail, say("530 5.7.0 Authentication required"));
    let (plan, home) = Plan::with(&upstream);
    let relay = plan.run().await;
    let hops = vec![by_host("192.0.2.1")];
    let route = Route { hops, ..by_mx(TlsLevel::Opportunistic) };
    let id = relay.post(Post { route, ..Post::default() }).await;
    relay.deferred(id).await;
    let (_, _, why) = relay.waiting(id).unwrap();
    assert_eq!(why.unwrap().diagnosis().disposition, Disposition::LocalFault);
    relay.gone(id).await;
    assert_eq!((upstream.mails().len(), home.mails().len()), (1, 0));
}

/// No operator can get an account with every domain.
#[tokio::test(start_paused = true)]
async fn a_login_that_the_exchanger_of_a_domain_wants_from_everybody_is_a_refusal() {
    let upstream = Upstream::new().on(Phase::Mail, say("530 5.7.0 Authentication required"));
    let (plan, home) = Plan::with(&upstream);
    let relay = plan.run().await;
    let id = relay.send().await;
    relay.gone(id).await;
    relay.until("the notice", || !home.mails().is_empty()).await;
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn recipients_for_whom_there_is_no_room_go_at_once_in_another_transaction() {
    for reply in ["452 4.5.3 too many", "552 too many", "452 enough"] {
        let upstream = Upstream::new().refusing_once("carol@there.example", reply);
        let relay = Plan::with(&upstream).0.run().await;
        let recipients = vec!["bob@there.example", "carol@there.example", "dave@there.example"];
        let began = relay.clock.now();
        let id = relay.post(Post { recipients, ..Post::default() }).await;
        relay.gone(id).await;
        assert!(relay.clock.now().since(began) < Duration::from_secs(60), "at once");
        let mails = upstream.mails();
        assert_eq!(mails[0].to, ["bob@there.example", "dave@there.example"], "{reply}");
        assert_eq!(mails[1].to, ["carol@there.example"], "{reply}");
        assert_eq!(upstream.connections(), 1);
    }
}

/// Nobody was taken, so it is no question of room.
#[tokio::test(start_paused = true)]
async fn alone_there_is_no_crowd() {
    let upstream = Upstream::new().once(Phase::Rcpt, say("452 4.5.3 too many"));
    let relay = Plan::with(&upstream).0.run().await;
    let id = relay.send().await;
    relay.deferred(id).await;
    relay.gone(id).await;
    assert_eq!(upstream.mails().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_about_one_mailbox_slows_nobody_else() {
    let mut slow = rule("too quickly", Category::RateLimited, Some(Duration::from_secs(900)));
    (slow.disposition, slow.scope) = (Some(Disposition::Transient), Some(Scope::Mailbox));
    let upstream = Upstream::new().refusing_once("bob@there.example", "450 4.2.1 too quickly");
    let (plan, _) = Plan::with(&upstream);
    let relay = plan.config(|config| config.rulebook = book(vec![slow])).run().await;
    let recipients = vec!["bob@there.example", "carol@there.example"];
    let id = relay.post(Post { recipients, ..Post::default() }).await;
    relay.deferred(id).await;
    assert!(matches!(relay.done(id, 1), Some(Outcome::Delivered { .. })));
    let (tries, due, _) = relay.waiting(id).unwrap();
    assert_eq!(tries, 1);
    assert!(due.since(relay.clock.now()).as_secs() > 880, "the rule's wait");
    relay.gone(id).await;
    assert_eq!(relay.network.dialed(), [MX; 2]);
}
