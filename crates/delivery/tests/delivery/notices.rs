//! What senders are told, and when.

use std::time::Duration;

use waypost_harness::upstream::{Act, Upstream};
use waypost_smtp::Phase;

use crate::relay::{Plan, Post};

#[tokio::test(start_paused = true)]
async fn a_message_that_waited_too_long_bounces_with_its_last_failure() {
    let upstream = Upstream::new().on(Phase::Mail, Act::Say("451 4.3.0 never ready".into()));
    let (plan, home) = Plan::with(&upstream);
    let relay = plan.run().await;
    let lifetime = Duration::from_secs(20 * 60);
    let id = relay.post(Post { lifetime, ..Post::default() }).await;
    let accepted = relay.clock.now();
    relay.gone(id).await;
    let waited = relay.clock.now().since(accepted);
    assert!(waited >= lifetime && waited < lifetime + Duration::from_secs(10), "{waited:?}");
    relay.until("the notice", || home.mails().len() == 1).await;
    let content = &home.mails()[0].content;
    assert!(content.contains("Status: 5.4.7\r\n"), "{content}");
    assert!(content.contains("Diagnostic-Code: smtp; 451 4.3.0 never ready\r\n"));
    assert!(content.contains("Remote-MTA: dns; mx1.there.example\r\n"));
}

#[tokio::test(start_paused = true)]
async fn one_notice_tells_of_all_that_failed_together() {
    let upstream = Upstream::new().on(Phase::Rcpt, Act::Say("550 5.1.1 no such user".into()));
    let (plan, home) = Plan::with(&upstream);
    let relay = plan.run().await;
    let recipients = vec!["bob@there.example", "eve@there.example"];
    let id = relay.post(Post { recipients, ..Post::default() }).await;
    relay.gone(id).await;
    relay.until("the notice", || !home.mails().is_empty()).await;
    let mails = home.mails();
    assert_eq!(mails.len(), 1);
    let content = &mails[0].content;
    for part in [
        "From: Mail Delivery System <MAILER-DAEMON@relay.example>\r\n",
        "To: <alice@home.example>\r\n",
        "Auto-Submitted: auto-replied\r\n",
        "report-type=delivery-status",
        "Reporting-MTA: dns; relay.example\r\n",
        "Final-Recipient: rfc822; bob@there.example\r\n",
        "Final-Recipient: rfc822; eve@there.example\r\n",
        "Content-Type: text/rfc822-headers\r\n",
        "Subject: hello\r\n",
    ] {
        assert!(content.contains(part), "{part} is not in:\n{content}");
    }
    assert!(!content.contains(".dot"), "the body is not returned");
}

#[tokio::test(start_paused = true)]
async fn a_notice_that_cannot_be_delivered_causes_no_other() {
    let upstream = Upstream::new().on(Phase::Rcpt, Act::Say("550 5.1.1 no such user".into()));
    let (plan, home) = Plan::with(&upstream);
    let home = home.on(Phase::Mail, Act::Say("550 5.7.1 no bounces, please".into()));
    let relay = plan.run().await;
    let id = relay.send().await;
    relay.gone(id).await;
    relay
        .until("an empty queue", || {
            let status = relay.queue.status();
            status.waiting + status.leased + status.held == 0
        })
        .await;
    assert!(home.heard().contains("MAIL FROM:<>"));
    assert!(home.mails().is_empty());
}

#[tokio::test(start_paused = true)]
async fn operators_can_bounce_what_waits() {
    let upstream = Upstream::new().on(Phase::Mail, Act::Say("451 4.3.0 never ready".into()));
    let (plan, home) = Plan::with(&upstream);
    let relay = plan.run().await;
    let id = relay.send().await;
    relay.deferred(id).await;
    let bounced = relay.delivery.bounce(id, "the account is closed").await.unwrap();
    assert_eq!((bounced.changed, bounced.in_flight), (1, 0));
    relay.gone(id).await;
    relay.until("the notice", || home.mails().len() == 1).await;
    assert!(home.mails()[0].content.contains("the account is closed"));
    assert!(relay.delivery.bounce(id, "again").await.is_err());
}
