//! Several hosts, and what DNS says about them.

use std::time::Duration;

use waypost_dns::{DnsError, MxAnswer};
use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::{Route, TlsLevel, Why};
use waypost_smtp::Phase;

use crate::relay::{MX, Plan, Post, by_host};

const SECOND: &str = "192.0.2.2:25";

/// `there.example` with two exchangers, the first one preferred.
fn two() -> (Plan, Upstream) {
    let (plan, home) = Plan::new();
    let records = [(10, "mx1.there.example"), (20, "mx2.there.example")];
    (plan.mx("there.example", &records).host("mx2.there.example", &["192.0.2.2"]), home)
}

#[tokio::test(start_paused = true)]
async fn the_next_exchanger_takes_over() {
    let say = |text: &str| Act::Say(text.to_owned());
    let first = [
        Upstream::new().on(Phase::Greeting, say("421 4.3.2 busy")),
        Upstream::new().on(Phase::Greeting, say("554 5.3.2 no mail here")),
        Upstream::new().on(Phase::Ehlo, Act::Drop),
        Upstream::new().on(Phase::Mail, say("421 4.7.0 closing")),
        Upstream::new().on(Phase::Rcpt, say("421 4.7.0 closing")),
        Upstream::new().on(Phase::Data, Act::Drop),
        Upstream::new().on(Phase::Body, Act::Drop),
    ];
    for (case, first) in first.iter().enumerate() {
        let second = Upstream::new();
        let relay = two().0.up(MX, first).up(SECOND, &second).run().await;
        let content = format!("A: b\r\n\r\n{}", "text\r\n".repeat(50_000));
        let id = relay.post(Post { content, ..Post::default() }).await;
        relay.gone(id).await;
        assert_eq!(relay.network.dialed(), [MX, SECOND], "case {case}");
        assert_eq!(second.mails().len(), 1, "case {case}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_exchanger_that_takes_the_message_as_it_is_takes_over() {
    let first = Upstream::new().without("8BITMIME");
    let second = Upstream::new();
    let relay = two().0.up(MX, &first).up(SECOND, &second).run().await;
    let id = relay.post(Post { eight_bit: true, ..Post::default() }).await;
    relay.gone(id).await;
    assert_eq!((first.mails().len(), second.mails().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_first_exchanger_is_final_for_the_attempt() {
    let first = Upstream::new().once(Phase::Mail, Act::Say("450 4.7.1 greylisted".into()));
    let relay = two().0.up(MX, &first).up(SECOND, &Upstream::new()).run().await;
    let id = relay.send().await;
    relay.deferred(id).await;
    assert_eq!(relay.network.dialed(), [MX]);
}

#[tokio::test(start_paused = true)]
async fn only_recipients_without_an_answer_go_to_the_next() {
    let first =
        Upstream::new().refusing("eve@there.example", "550 5.1.1 no").on(Phase::Data, Act::Drop);
    let second = Upstream::new();
    let (plan, home) = two();
    let relay = plan.up(MX, &first).up(SECOND, &second).run().await;
    let recipients = vec!["eve@there.example", "bob@there.example"];
    let id = relay.post(Post { recipients, ..Post::default() }).await;
    relay.gone(id).await;
    assert_eq!(second.mails()[0].to, ["bob@there.example"]);
    relay.until("the notice", || home.mails().len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn all_hops_of_a_route_are_tried_and_no_more_hosts_than_allowed() {
    let last = Upstream::new();
    let hops = ["192.0.2.11", "192.0.2.12", "192.0.2.13"].map(by_host).to_vec();
    let route = Route { hops, ..Route::new(by_host("x"), TlsLevel::Never) };
    let post = || Post { route: route.clone(), ..Post::default() };

    let relay = Plan::new().0.up("192.0.2.13:25", &last).run().await;
    let id = relay.post(post()).await;
    relay.gone(id).await;
    assert_eq!(last.mails().len(), 1);

    let plan = Plan::new().0.up("192.0.2.13:25", &last);
    let relay = plan.config(|config| config.hosts_per_attempt = 2).run().await;
    let id = relay.post(post()).await;
    let why = relay.deferred(id).await;
    assert!(matches!(&why, Why::Unreachable { hop, .. } if hop == "[192.0.2.12]:25"), "{why}");
    assert_eq!(relay.network.dialed().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_bounces_only_when_every_way_is_closed() {
    let closed = Upstream::new().on(Phase::Greeting, Act::Say("554 5.3.2 no mail here".into()));
    let relay = two().0.up(SECOND, &closed).run().await;
    let id = relay.send().await;
    let why = relay.deferred(id).await;
    assert!(matches!(why, Why::Unreachable { .. }), "{why}");

    let (plan, home) = two();
    let relay = plan.up(MX, &closed).up(SECOND, &closed).run().await;
    let id = relay.send().await;
    relay.gone(id).await;
    relay.until("the notice", || home.mails().len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn domains_that_take_no_mail_bounce_at_once() {
    let cases = [(MxAnswer::Null, "5.1.10"), (MxAnswer::NoSuchDomain, "5.1.2")];
    for (answer, status) in cases {
        let (plan, home) = Plan::new();
        let relay = plan.mx_answer("there.example", Ok(answer)).run().await;
        let id = relay.send().await;
        relay.gone(id).await;
        relay.until("the notice", || home.mails().len() == 1).await;
        assert!(home.mails()[0].content.contains(&format!("Status: {status}\r\n")));
        assert!(!relay.network.dialed().contains(&MX.to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn an_exchanger_that_is_ourselves_is_a_loop() {
    let (plan, home) = Plan::new();
    let relay = plan.host("mx1.there.example", &["192.0.2.99"]).run().await;
    let id = relay.send().await;
    relay.gone(id).await;
    relay.until("the notice", || home.mails().len() == 1).await;
    assert!(home.mails()[0].content.contains("Status: 5.4.6\r\n"));
}

#[tokio::test(start_paused = true)]
async fn dns_that_fails_lets_mail_wait() {
    let error = DnsError::BadName("x".to_owned());
    let relay = Plan::new().0.mx_answer("there.example", Err(error)).run().await;
    let id = relay.send().await;
    let why = relay.deferred(id).await;
    assert!(matches!(why, Why::DnsFailed(_)), "{why}");

    let relay = Plan::new().0.host("mx1.there.example", &[]).run().await;
    let id = relay.send().await;
    let why = relay.deferred(id).await;
    assert!(matches!(why, Why::NoAddress(_)), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_failed_lately_comes_last_until_one_attempt_looks_again() {
    let (first, second) = ("192.0.2.11:25", "192.0.2.12:25");
    let hops = ["192.0.2.11", "192.0.2.12"].map(by_host).to_vec();
    let route = Route { hops, ..Route::new(by_host("x"), TlsLevel::Never) };
    let plan = Plan::new().0.up(second, &Upstream::new());
    // Every message has a connection of its own.
    let relay = plan.config(|config| config.connections.idle_connections = 0).run().await;
    let send = async || {
        let id = relay.post(Post { route: route.clone(), ..Post::default() }).await;
        relay.gone(id).await;
    };
    for _ in 0..3 {
        send().await;
    }
    assert_eq!(relay.network.dialed(), [first, second, second, second]);
    tokio::time::sleep(Duration::from_secs(40)).await;
    for _ in 0..3 {
        send().await;
    }
    let since = relay.network.dialed().split_off(4);
    assert_eq!(since, [first, second, second, second], "one looked again");
}
