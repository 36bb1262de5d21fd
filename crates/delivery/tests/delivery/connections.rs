//! Connections that are used again, and those that cannot be.

use std::time::Duration;

use tokio::time::sleep;
use waypost_harness::upstream::{Act, Upstream};
use waypost_smtp::Phase;

use crate::relay::{Plan, Relay};

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
    let relay = plan.config(|config| config.connections.messages = 2).run().await;
    for _ in 0..5 {
        send_one(&relay).await;
    }
    assert_eq!((upstream.connections(), upstream.mails().len()), (3, 5));
    assert_eq!(upstream.heard().matches("QUIT").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_bounded() {
    let upstream = Upstream::new();
    let (plan, home) = Plan::with(&upstream);
    let relay = plan.config(|config| config.connections.idle_connections = 1).run().await;
    send_one(&relay).await;
    let id = relay
        .post(crate::relay::Post {
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
