//! Connections that are used again, and those that cannot be.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use waypost_harness::upstream::{Act, Upstream};
use waypost_queue::Rate;
use waypost_smtp::Phase;

use crate::relay::{Plan, Post, Relay};

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
            route: waypost_mail::Route::new(
                crate::relay::by_host("192.0.2.50"),
                waypost_mail::TlsLevel::Never,
            ),
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
