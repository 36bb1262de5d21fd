//! What a next hop says to a message, and what becomes of its recipients.

use std::sync::Arc;

use waypost_delivery::TcpDialer;
use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::{Convert, NextHop, Outcome, Route, TlsLevel, Why};
use waypost_smtp::Phase;

use crate::relay::{MESSAGE, MX, Plan, Post, by_mx};

fn say(text: &str) -> Act {
    Act::Say(text.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_message_arrives_as_it_is() {
    let upstream = Upstream::new();
    let relay = Plan::with(&upstream).0.run().await;
    let id = relay.send().await;
    relay.gone(id).await;

    let mails = upstream.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].from, "alice@home.example");
    assert_eq!(mails[0].to, ["bob@there.example"]);
    assert_eq!(mails[0].content, MESSAGE);
    let heard = upstream.heard();
    assert!(heard.starts_with("EHLO relay.example\r\nMAIL FROM:<alice@home.example> SIZE="));
}

#[tokio::test(start_paused = true)]
async fn a_large_message_arrives_whole() {
    let upstream = Upstream::new();
    let relay = Plan::with(&upstream).0.run().await;
    let lines: String = (0..40_000).map(|n| format!(".line {n}\r\n")).collect();
    let content = format!("Subject: large\r\n\r\n{lines}");
    let id = relay.post(Post { content: content.clone(), ..Post::default() }).await;
    relay.gone(id).await;
    assert!(upstream.mails()[0].content == content, "not a byte is different");
}

#[tokio::test(start_paused = true)]
async fn without_pipelining_each_command_waits() {
    let upstream = Upstream::new().without("PIPELINING").without("SIZE");
    let relay = Plan::with(&upstream).0.run().await;
    let recipients = vec!["bob@there.example", "eve@there.example"];
    let id = relay.post(Post { recipients, ..Post::default() }).await;
    relay.gone(id).await;
    assert_eq!(upstream.mails()[0].to.len(), 2);
    assert!(!upstream.heard().contains("SIZE="));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_now_is_tried_again() {
    for phase in [Phase::Mail, Phase::Rcpt, Phase::Data, Phase::Eod] {
        let upstream = Upstream::new().once(phase, say("450 4.2.0 not now"));
        let relay = Plan::with(&upstream).0.run().await;
        let id = relay.send().await;
        match relay.deferred(id).await {
            Why::Refused { hop, phase: at, reply } => {
                assert_eq!(hop, "mx1.there.example[192.0.2.1]:25");
                assert_eq!((at, reply.to_string().as_str()), (phase, "450 4.2.0 not now"));
            }
            other => panic!("at {phase}: {other}"),
        }
        let (_, due, _) = relay.waiting(id).unwrap();
        let wait = due.since(relay.clock.now()).as_secs();
        assert!((265..=331).contains(&wait), "first retry after {wait} s");
        relay.gone(id).await;
        assert_eq!(upstream.mails().len(), 1, "at {phase}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_good_bounces() {
    for phase in [Phase::Mail, Phase::Rcpt, Phase::Data, Phase::Eod] {
        let upstream = Upstream::new().on(phase, say("550 5.7.1 never"));
        let (plan, home) = Plan::with(&upstream);
        let relay = plan.run().await;
        let id = relay.send().await;
        relay.gone(id).await;
        relay.until("the notice", || !home.mails().is_empty()).await;
        assert!(upstream.mails().is_empty());
        let notice = &home.mails()[0];
        assert_eq!((notice.from.as_str(), notice.to[0].as_str()), ("", "alice@home.example"));
        assert!(notice.content.contains("Diagnostic-Code: smtp; 550 5.7.1 never\r\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn each_recipient_has_its_own_fate() {
    let upstream = Upstream::new()
        .refusing("eve@there.example", "550 5.1.1 no such user")
        .once(Phase::Rcpt, say("452 4.2.2 mailbox full"));
    let (plan, home) = Plan::with(&upstream);
    let relay = plan.run().await;
    let recipients = vec!["full@there.example", "eve@there.example", "bob@there.example"];
    let id = relay.post(Post { recipients, ..Post::default() }).await;
    let why = relay.deferred(id).await;
    assert!(matches!(why, Why::Refused { .. }));
    assert!(matches!(relay.done(id, 1), Some(Outcome::Bounced(_))));
    assert!(matches!(relay.done(id, 2), Some(Outcome::Delivered { .. })));

    relay.gone(id).await;
    let mails = upstream.mails();
    assert_eq!(mails.len(), 2);
    assert_eq!(
        (&mails[0].to[0], &mails[1].to[0]),
        (&"bob@there.example".into(), &"full@there.example".into())
    );
    let notices = home.mails();
    assert_eq!(notices.len(), 1);
    assert!(notices[0].content.contains("Final-Recipient: rfc822; eve@there.example\r\n"));
    assert!(!notices[0].content.contains("bob@there.example"));
}

#[tokio::test(start_paused = true)]
async fn what_the_next_hop_cannot_take_bounces_unsent() {
    let never = || Route { convert: Convert::Never, ..by_mx(TlsLevel::Opportunistic) };
    let eight_bit = || Post { eight_bit: true, route: never(), ..Post::default() };
    let utf8 = || Post { smtputf8: true, route: never(), ..Post::default() };
    let address = || Post { recipients: vec!["bärbel@there.example"], ..Post::default() };
    let cases = [
        (Upstream::new().without("8BITMIME"), eight_bit(), "5.6.3"),
        (Upstream::new().without("SMTPUTF8"), utf8(), "5.6.7"),
        (Upstream::new().without("SMTPUTF8"), address(), "5.6.7"),
        (Upstream::new().max_size(10), Post::default(), "5.3.4"),
    ];
    for (upstream, post, status) in cases {
        let (plan, home) = Plan::with(&upstream);
        let relay = plan.run().await;
        let id = relay.post(post).await;
        relay.gone(id).await;
        relay.until("the notice", || !home.mails().is_empty()).await;
        assert!(!upstream.heard().contains("MAIL"), "{status}");
        let content = &home.mails()[0].content;
        assert!(content.contains(&format!("Status: {status}\r\n")), "{content}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_next_hop_can_take_is_declared() {
    let upstream = Upstream::new();
    let relay = Plan::with(&upstream).0.run().await;
    let content = MESSAGE.replace("hello", "grüße");
    let post = Post { content, eight_bit: true, smtputf8: true, ..Post::default() };
    let id = relay.post(post).await;
    relay.gone(id).await;
    assert!(upstream.heard().contains(" BODY=8BITMIME SMTPUTF8\r\n"));
    assert!(upstream.mails()[0].content.contains("grüße"));
}

#[tokio::test(start_paused = true)]
async fn draining_ends_what_is_under_way_and_says_goodbye() {
    let upstream = Upstream::new();
    let relay = Plan::with(&upstream).0.run().await;
    let id = relay.send().await;
    relay.gone(id).await;
    assert_eq!(relay.network.dialed(), [MX]);
    relay.drain().await;
    assert!(upstream.heard().ends_with("QUIT\r\n"));
}

/// The one test with sockets, and so in real time.
#[tokio::test]
async fn over_tcp_it_is_the_same() {
    let upstream = Upstream::new();
    let address = upstream.listen().await.unwrap();
    let (plan, _) = Plan::new();
    let host =
        NextHop::Host { host: "127.0.0.1".into(), port: address.port(), implicit_tls: false };
    let relay = plan.dialer(Arc::new(TcpDialer)).run().await;
    for _ in 0..3 {
        let route = Route::new(host.clone(), TlsLevel::Opportunistic);
        let id = relay.post(Post { route, ..Post::default() }).await;
        relay.gone(id).await;
    }
    assert_eq!((upstream.connections(), upstream.mails().len()), (1, 3));
    relay.drain().await;
}
