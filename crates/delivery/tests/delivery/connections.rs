//! Connections that are used again, and those that cannot be.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use waypost_delivery::{Allowance, Provider, Providers};
use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::{Route, TlsLevel};
use waypost_queue::{Rate, SiteLimits};
use waypost_smtp::Phase;

use crate::relay::{Plan, Post, Relay, by_mx};

async fn send_one(relay: &Relay) {
    let id = relay.send().await;
    relay.gone(id).await;
}

#[tokio::test(start_paused = true)]
async fn messages_in_a_row_share_a_connection() {
    let upstream = Upstream::new();
    let relay = Plan::with(&upstream).0.run().await;
    for _ in 0..5 {
        send_one(&relay).await;
    }
    assert_eq!((upstream.connections(), upstream.mails().len()), (1, 5));
    assert_eq!(upstream.heard().matches("EHLO").count(), 1);
    assert!(!upstream.heard().contains("RSET"), "nothing is left open to be reset");
    assert_eq!(relay.delivery.metrics().connections_reused.get(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_with_quit() {
    let upstream = Upstream::new();
    let relay = Plan::with(&upstream).0.run().await;
    send_one(&relay).await;
    sleep(Duration::from_secs(4)).await;
    assert!(!upstream.heard().contains("QUIT"));
    sleep(Duration::from_secs(2)).await;
    assert!(upstream.heard().ends_with("QUIT\r\n"));
    send_one(&relay).await;
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_not_used_for_ever() {
    let upstream = Upstream::new();
    let (plan, _) = Plan::with(&upstream);
    let relay = plan.config(|config| config.allowance.messages_per_connection = 2).run().await;
    for _ in 0..5 {
        send_one(&relay).await;
    }
    assert_eq!((upstream.connections(), upstream.mails().len()), (3, 5));
    assert_eq!(upstream.heard().matches("QUIT").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn connections_are_not_made_more_often_than_allowed() {
    let upstream = Upstream::new();
    let (plan, _) = Plan::with(&upstream);
    let rate = Rate { count: 2, per: Duration::from_secs(20) };
    let plan = plan.config(|config| {
        config.allowance.messages_per_connection = 1;
        config.allowance.connection_rate = Some(rate);
    });
    let relay = plan.run().await;
    let began = Instant::now();
    let mut moments = Vec::new();
    for _ in 0..5 {
        send_one(&relay).await;
        moments.push(began.elapsed().as_secs());
    }
    assert_eq!((upstream.connections(), moments), (5, vec![0, 0, 10, 20, 30]));
}

#[tokio::test(start_paused = true)]
async fn a_message_for_many_takes_several_transactions() {
    let upstream = Upstream::new();
    let (plan, _) = Plan::with(&upstream);
    let relay = plan.config(|config| config.allowance.recipients_per_transaction = 2).run().await;
    let recipients = vec!["a@there.example", "b@there.example", "c@there.example"];
    let id = relay.post(Post { recipients, ..Post::default() }).await;
    relay.gone(id).await;
    let sizes: Vec<usize> = upstream.mails().iter().map(|mail| mail.to.len()).collect();
    assert_eq!((upstream.connections(), sizes), (1, vec![2, 1]));
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_bounded() {
    let upstream = Upstream::new();
    let (plan, home) = Plan::with(&upstream);
    let relay = plan.config(|config| config.connections.idle_connections = 1).run().await;
    send_one(&relay).await;
    let id = relay
        .post(Post {
            route: Route::new(crate::relay::by_host("192.0.2.50"), TlsLevel::Never),
            ..Default::default()
        })
        .await;
    relay.gone(id).await;
    sleep(Duration::from_millis(100)).await;
    assert!(upstream.heard().ends_with("QUIT\r\n"), "the older one made room");
    assert!(!home.heard().contains("QUIT"));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_went_stale_is_no_failure() {
    let upstream = Upstream::new().messages_per_connection(1);
    let relay = Plan::with(&upstream).0.run().await;
    for _ in 0..3 {
        send_one(&relay).await;
    }
    assert_eq!((upstream.connections(), upstream.mails().len()), (3, 3));
}

/// It looks alive until MAIL is said.
#[tokio::test(start_paused = true)]
async fn a_reused_connection_that_dies_at_mail_is_no_failure() {
    for act in [Act::Drop, Act::Hang, Act::Say("421 4.4.2 idle too long".into())] {
        let upstream = Upstream::new();
        let relay = Plan::with(&upstream).0.run().await;
        send_one(&relay).await;
        let _shared = upstream.clone().once(Phase::Mail, act);
        let id = relay.send().await;
        relay.gone(id).await;
        assert_eq!((upstream.connections(), upstream.mails().len()), (2, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_left_open_is_reset_before_the_next() {
    let refusal = Act::Say("550 5.1.1 no".into());
    let upstream = Upstream::new().without("PIPELINING").once(Phase::Rcpt, refusal);
    let relay = Plan::with(&upstream).0.run().await;
    send_one(&relay).await;
    send_one(&relay).await;
    assert_eq!((upstream.connections(), upstream.mails().len()), (1, 1));
    assert_eq!(upstream.heard().matches("RSET").count(), 1);
}

/// A provider behind the exchangers of `there.example`.
fn provider(connections: usize, rate: Option<Rate>) -> Providers {
    Providers::new(vec![Provider {
        name: "big".to_owned(),
        mx: vec!["*.there.example".parse().unwrap()],
        domains: Vec::new(),
        limits: SiteLimits { at_once: connections, first: connections, rate },
        allowance: Allowance::default(),
    }])
}

fn in_lane(name: &str) -> Post {
    let route = Route { lane: Some(name.to_owned()), ..by_mx(TlsLevel::Opportunistic) };
    Post { route, ..Post::default() }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_to_a_provider_makes_room_for_another() {
    let upstream = Upstream::new();
    let (plan, _) = Plan::with(&upstream);
    let relay = plan.config(|config| config.providers = provider(1, None)).run().await;
    send_one(&relay).await;
    // Of this one something else is demanded, so that the idle one will not do.
    let id = relay.post(Post { route: by_mx(TlsLevel::Never), ..Post::default() }).await;
    relay.gone(id).await;
    let heard = upstream.heard();
    assert_eq!((upstream.connections(), upstream.mails().len()), (2, 2));
    let (quit, hello) = (heard.find("QUIT").unwrap(), heard.rfind("EHLO").unwrap());
    assert!(quit < hello, "{heard}");
    assert_eq!(heard.matches("QUIT").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_connections_of_a_provider_are_those_of_all_lanes() {
    let upstream = Upstream::new().once(Phase::Mail, Act::Hang);
    let (plan, _) = Plan::with(&upstream);
    let relay = plan.config(|config| config.providers = provider(1, None)).run().await;
    let first = relay.post(in_lane("one")).await;
    relay.until("it hangs", || upstream.heard().contains("MAIL")).await;
    let second = relay.post(in_lane("two")).await;
    relay.until("the second attempt", || relay.queue.status().leased == 2).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!((upstream.connections(), relay.queue.status().leased), (1, 2), "it waits");
    relay.until("its patience ends", || relay.queue.status().leased == 1).await;
    assert_eq!(relay.waiting(second).map(|(tries, ..)| tries), Some(0), "it was not tried");
    for id in [first, second] {
        relay.gone(id).await;
    }
    assert_eq!(upstream.mails().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_connection_gets_the_place_of_one_that_ends() {
    // The first attempt takes its time.
    let upstream = Upstream::new().once(Phase::Mail, Act::Hang);
    let (plan, _) = Plan::with(&upstream);
    let plan = plan.config(|config| {
        config.providers = provider(1, None);
        config.timeouts.mail = Duration::from_secs(20);
    });
    let relay = plan.run().await;
    relay.post(in_lane("one")).await;
    relay.until("it hangs", || upstream.heard().contains("MAIL")).await;
    let began = Instant::now();
    let second = relay.post(in_lane("two")).await;
    relay.gone(second).await;
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_rate_of_a_provider_is_that_of_all_lanes() {
    let upstream = Upstream::new();
    let (plan, _) = Plan::with(&upstream);
    let rate = Rate { count: 1, per: Duration::from_secs(100) };
    let relay = plan.config(|config| config.providers = provider(5, Some(rate))).run().await;
    let began = Instant::now();
    let mut moments = Vec::new();
    for post in [in_lane("one"), in_lane("two"), Post::default(), in_lane("one")] {
        let id = relay.post(post).await;
        relay.gone(id).await;
        moments.push(began.elapsed().as_secs());
    }
    assert_eq!((moments, upstream.mails().len()), (vec![0, 100, 200, 300], 4));
}
