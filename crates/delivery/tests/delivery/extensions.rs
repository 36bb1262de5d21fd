//! What a submitter asked for, kept on the way out: passed on, obeyed, or told.

use std::time::Duration;

use waypost_delivery::ClientTls;
use waypost_harness::authority::Authority;
use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::{Convert, Deadline, Route, Terms, Timestamp, TlsLevel, Why};
use waypost_smtp::server::Offers;
use waypost_smtp::{ByMode, Notify, Phase, Priority, Return};

use crate::relay::{MX, Plan, Post, Relay, by_host, by_mx};

const NAME: &str = "mx1.there.example";
const HOUR: Duration = Duration::from_secs(3600);
const SUCCESS: Notify = Notify::Of { success: true, failure: true, delay: true };

fn dsn() -> Upstream {
    Upstream::new().offering(Offers { dsn: true, ..Offers::default() })
}

fn down() -> Upstream {
    Upstream::new().on(Phase::Mail, Act::Say("451 4.3.0 not now".into()))
}

/// Delivers `post` to its end; what was told to alice.
async fn told(plan: Plan, home: &Upstream, post: Post) -> Vec<String> {
    let relay = plan.run().await;
    let id = relay.post(post).await;
    relay.gone(id).await;
    empty(&relay).await;
    home.mails().into_iter().map(|mail| mail.content).collect()
}

async fn empty(relay: &Relay) {
    let status = || relay.queue.status();
    relay.until("an empty queue", || status().waiting + status().leased + status().held == 0).await;
}

fn strict(authority: &Authority, upstream: &Upstream) -> (Plan, Upstream) {
    let tls = ClientTls::new(authority.roots().unwrap()).unwrap();
    let (plan, home) = Plan::with(upstream);
    (plan.config(|config| config.tls = tls), home)
}

fn require_tls() -> Post {
    let terms = Terms { require_tls: true, ret: Some(Return::Full), ..Terms::default() };
    Post { terms, ..Post::default() }
}

#[tokio::test(start_paused = true)]
async fn a_hop_that_knows_dsn_is_told_what_is_wanted_and_tells_the_sender_itself() {
    let upstream = dsn();
    let (plan, home) = Plan::with(&upstream);
    let terms = Terms { ret: Some(Return::Headers), envid: Some("a+b".into()), ..Terms::default() };
    let post = Post { terms, notify: SUCCESS, ..Post::default() };
    assert!(told(plan, &home, post).await.is_empty());
    let heard = upstream.heard();
    assert!(heard.contains(" RET=HDRS ENVID=a+2Bb\r\n"), "{heard}");
    assert!(heard.contains("RCPT TO:<bob@there.example> NOTIFY=SUCCESS,FAILURE,DELAY\r\n"));
}

#[tokio::test(start_paused = true)]
async fn success_is_told_as_relayed_where_the_hop_tells_nothing() {
    let upstream = Upstream::new();
    let (plan, home) = Plan::with(&upstream);
    let terms = Terms { envid: Some("QQ1".into()), ..Terms::default() };
    let notices = told(plan, &home, Post { terms, notify: SUCCESS, ..Post::default() }).await;
    let [notice] = &notices[..] else { panic!("{notices:?}") };
    for part in [
        "Subject: Your message was passed on\r\n",
        "Original-Envelope-Id: QQ1\r\n",
        "Action: relayed\r\nStatus: 2.1.9\r\n",
        "Remote-MTA: dns; mx1.there.example\r\n",
    ] {
        assert!(notice.contains(part), "{part}: {notice}");
    }
    let (plan, home) = Plan::with(&Upstream::new());
    assert!(told(plan, &home, Post::default()).await.is_empty(), "nobody asked");
}

#[tokio::test(start_paused = true)]
async fn failures_are_told_only_to_who_wants_to_know() {
    let refusing = || Upstream::new().on(Phase::Rcpt, Act::Say("550 5.1.1 no such user".into()));
    for (notify, count) in [
        (Notify::Never, 0),
        (Notify::Of { success: true, failure: false, delay: true }, 0),
        (Notify::Of { success: false, failure: true, delay: false }, 1),
        (Notify::Unsaid, 1),
    ] {
        let (plan, home) = Plan::with(&refusing());
        let notices = told(plan, &home, Post { notify, ..Post::default() }).await;
        assert_eq!(notices.len(), count, "{notify:?}");
    }
    let (plan, home) = Plan::with(&refusing());
    let terms = Terms { ret: Some(Return::Full), ..Terms::default() };
    let notices = told(plan, &home, Post { terms, ..Post::default() }).await;
    assert!(notices[0].contains("Content-Type: message/rfc822\r\n"), "{}", notices[0]);
    assert!(notices[0].contains("\r\n\r\nHi.\r\n.dot\r\n"), "all of it came back");
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_told_once_at_its_time_even_while_the_destination_rests() {
    // Nobody answers: the destination rests.
    let (plan, home) = Plan::new();
    let relay = plan.run().await;
    let began = relay.clock.now();
    let id = relay.send().await;
    relay.until("the notice", || !home.mails().is_empty()).await;
    let waited = relay.clock.now().since(began);
    assert!(waited >= 4 * HOUR && waited < 4 * HOUR + Duration::from_secs(60), "{waited:?}");
    let notice = &home.mails()[0].content;
    for part in [
        "Subject: Your message is delayed\r\n",
        "Action: delayed\r\nStatus: 4.4.1\r\n",
        "Will-Retry-Until: ",
    ] {
        assert!(notice.contains(part), "{part}: {notice}");
    }
    assert_eq!(relay.queue.show(id).unwrap().recipients[0].told, 1);
    let later = relay.clock.now().after(15 * HOUR);
    relay.until("more attempts", || relay.clock.now() >= later).await;
    assert_eq!(home.mails().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_late_while_the_destination_is_left_alone_is_told_of_and_not_tried() {
    let upstream = down();
    let (plan, home) = Plan::with(&upstream);
    let relay = plan.run().await;
    let id = relay.send().await;
    relay.deferred(id).await;
    relay.queue.pause("there.example", 6 * HOUR, "policy asked for it".into());
    let attempts = || upstream.heard().matches("MAIL FROM").count();
    let before = attempts();
    relay.until("the notice", || !home.mails().is_empty()).await;
    assert!(home.mails()[0].content.contains("Action: delayed\r\n"));
    assert_eq!(attempts(), before);
}

#[tokio::test(start_paused = true)]
async fn who_wants_no_notice_of_delay_and_the_null_sender_get_none() {
    for (sender, notify) in [("", SUCCESS), ("alice@home.example", Notify::Never)] {
        let (plan, home) = Plan::with(&down());
        let relay = plan.run().await;
        relay.post(Post { sender, notify, ..Post::default() }).await;
        let later = relay.clock.now().after(6 * HOUR);
        relay.until("hours", || relay.clock.now() >= later).await;
        assert!(home.mails().is_empty(), "{sender:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_is_held_until_its_time() {
    let upstream = Upstream::new();
    let (plan, _) = Plan::with(&upstream);
    let relay = plan.run().await;
    let until = relay.clock.now().after(9 * HOUR);
    let terms = Terms { hold_until: Some(until), ..Terms::default() };
    let id = relay.post(Post { terms, ..Post::default() }).await;
    relay.gone(id).await;
    let late = relay.clock.now().since(until);
    assert!(relay.clock.now() >= until && late < Duration::from_secs(5), "{late:?}");
}

fn by(relay: &Relay, seconds: u64, mode: ByMode) -> Terms {
    let at: Timestamp = relay.clock.now().after(Duration::from_secs(seconds));
    let deliver_by = Some(Deadline { at, mode, trace: false });
    Terms { deliver_by, ..Terms::default() }
}

#[tokio::test(start_paused = true)]
async fn mail_that_is_late_comes_back_or_its_sender_is_told() {
    let upstream = down().offering(Offers { deliver_by: Some(0), ..Offers::default() });
    for (mode, action) in [(ByMode::Return, "failed"), (ByMode::Notify, "delayed")] {
        let (plan, home) = Plan::with(&upstream);
        let relay = plan.run().await;
        let began = relay.clock.now();
        let terms = by(&relay, 1000, mode);
        relay.post(Post { terms, ..Post::default() }).await;
        relay.until("the notice", || !home.mails().is_empty()).await;
        let waited = relay.clock.now().since(began).as_secs();
        assert!((1000..1010).contains(&waited), "{mode:?}: {waited}");
        let notice = &home.mails()[0].content;
        assert!(notice.contains(&format!("Action: {action}\r\n")), "{notice}");
        assert_eq!(relay.queue.status().waiting > 0, mode == ByMode::Notify);
    }
    let heard = upstream.heard();
    assert!(heard.contains(" BY=1000;R\r\n") && heard.contains(" BY=1000;N\r\n"), "{heard}");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_not_left_to_who_cannot_keep_it() {
    let upstream = Upstream::new();
    let (plan, home) = Plan::with(&upstream);
    let relay = plan.run().await;
    let terms = by(&relay, 1000, ByMode::Return);
    relay.post(Post { terms, ..Post::default() }).await;
    relay.until("the notice", || !home.mails().is_empty()).await;
    assert!(home.mails()[0].content.contains("Status: 5.3.3\r\n"));
    assert!(upstream.mails().is_empty());
    let terms = by(&relay, 1000, ByMode::Notify);
    relay.post(Post { terms, ..Post::default() }).await;
    relay.until("the other notice", || home.mails().len() == 2).await;
    assert!(home.mails()[1].content.contains("Action: relayed\r\n"));
    assert_eq!(upstream.mails().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn priority_is_passed_on() {
    let upstream = Upstream::new().offering(Offers { mt_priority: true, ..Offers::default() });
    let (plan, home) = Plan::with(&upstream);
    let terms = Terms { priority: Priority::new(-3).unwrap(), ..Terms::default() };
    told(plan, &home, Post { terms, ..Post::default() }).await;
    assert!(upstream.heard().contains(" MT-PRIORITY=-3\r\n"));
}

#[tokio::test(start_paused = true)]
async fn priority_goes_by_a_field_past_who_does_not_know_it() {
    for (priority, configured, wanted) in [(4, true, 1), (-3, true, 1), (0, true, 0), (4, false, 0)]
    {
        let upstream = Upstream::new();
        let (plan, home) = Plan::with(&upstream);
        let plan = plan.config(move |config| config.priority_field = configured);
        let terms = Terms { priority: Priority::new(priority).unwrap(), ..Terms::default() };
        told(plan, &home, Post { terms, ..Post::default() }).await;
        let content = &upstream.mails()[0].content;
        let field = format!("MT-Priority: {priority}\r\n");
        assert_eq!(content.matches("MT-Priority").count(), wanted, "{content}");
        assert_eq!(content.starts_with(&field), wanted == 1, "{content}");
    }
    let upstream = Upstream::new().offering(Offers { mt_priority: true, ..Offers::default() });
    let (plan, home) = Plan::with(&upstream);
    told(plan, &home, Post::default()).await;
    assert!(upstream.heard().contains(" MT-PRIORITY=0\r\n"), "{}", upstream.heard());
}

#[tokio::test(start_paused = true)]
async fn notices_return_messages_up_to_a_size() {
    let refusing = || Upstream::new().on(Phase::Rcpt, Act::Say("550 5.1.1 no such user".into()));
    let content = format!("Subject: x\r\n\r\n{}", "caf\u{e9}\r\n".repeat(100));
    for (most, whole) in
        [(content.len() as u64, true), (content.len() as u64 - 1, false), (0, false)]
    {
        let (plan, home) = Plan::with(&refusing());
        let plan = plan.config(move |config| config.max_returned = most);
        let terms = Terms { ret: Some(Return::Full), ..Terms::default() };
        let notices =
            told(plan, &home, Post { content: content.clone(), terms, ..Post::default() }).await;
        let [notice] = &notices[..] else { panic!("{notices:?}") };
        let kind = if whole { "message/global" } else { "text/rfc822-headers" };
        assert!(notice.contains(&format!("Content-Type: {kind}\r\n")), "{most}: {notice}");
        assert!(notice.is_ascii(), "it passes where 8BITMIME is not offered");
        assert_eq!(notice.contains("but only its header"), !whole, "{notice}");
    }
}

#[tokio::test(start_paused = true)]
async fn mail_that_requires_tls_goes_to_who_promises_it() {
    let authority = Authority::new().unwrap();
    let offers = Offers { require_tls: true, ..Offers::default() };
    let upstream = Upstream::new().with_tls(authority.server(NAME).unwrap()).offering(offers);
    let (plan, home) = strict(&authority, &upstream);
    assert!(told(plan.secure("there.example"), &home, require_tls()).await.is_empty());
    assert!(upstream.mails()[0].tls);
    assert!(upstream.heard().contains(" REQUIRETLS\r\n"), "{}", upstream.heard());
    // By a name that the configuration has, DNS does not matter.
    let (plan, home) = strict(&authority, &upstream);
    let route = Route::new(by_host(NAME), TlsLevel::Never);
    assert!(told(plan, &home, Post { route, ..require_tls() }).await.is_empty());
    assert_eq!(upstream.mails().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn mail_that_requires_tls_bounces_where_nobody_promises_it() {
    let (authority, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let offers = || Offers { require_tls: true, ..Offers::default() };
    let good = || Upstream::new().with_tls(authority.server(NAME).unwrap()).offering(offers());
    let silent = Upstream::new().with_tls(authority.server(NAME).unwrap());
    let unproven = Upstream::new().with_tls(stranger.server(NAME).unwrap()).offering(offers());
    for (case, upstream, secure) in [
        ("it does not offer REQUIRETLS", silent, "there.example"),
        ("its certificate is a stranger's", unproven, "there.example"),
        ("it offers no STARTTLS", Upstream::new().offering(offers()), "there.example"),
        ("its name comes from plain DNS", good(), "else.example"),
    ] {
        let (plan, home) = strict(&authority, &upstream);
        // The notice requires TLS too.
        let inbox = Upstream::new()
            .with_tls(authority.server("mx.home.example").unwrap())
            .offering(offers());
        let plan = plan.up("192.0.2.50:25", &inbox).secure(secure).secure("home.example");
        assert!(told(plan, &home, require_tls()).await.is_empty());
        assert!(upstream.mails().is_empty(), "{case}");
        let notices = inbox.mails();
        assert_eq!(notices.len(), 1, "{case}");
        assert!(notices[0].content.contains("Status: 5.7.30\r\n"), "{case}");
        assert!(notices[0].content.contains("text/rfc822-headers"), "{case}: RET=FULL is void");
        assert!(inbox.heard().contains("MAIL FROM:<> "), "{case}");
        assert!(inbox.heard().contains(" REQUIRETLS\r\n"), "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_notice_that_requires_tls_is_rather_lost_than_read() {
    let (plan, home) = Plan::with(&Upstream::new());
    assert!(told(plan, &home, require_tls()).await.is_empty());
    assert_eq!(home.connections(), 0, "its name comes from plain DNS");
}

/// Anybody can write `TLS-Required: No`: it speaks to the recipient's side, and not to the operator.
#[tokio::test(start_paused = true)]
async fn mail_that_waives_tls_arrives_in_clear_text_unless_the_route_says_otherwise() {
    let terms = Terms { tls_optional: true, ..Terms::default() };
    let upstream = Upstream::new();
    let (plan, home) = Plan::with(&upstream);
    let plan = plan.policy("there.example", "enforce", NAME);
    told(plan, &home, Post { terms: terms.clone(), ..Post::default() }).await;
    assert!(!upstream.mails()[0].tls);
    for level in [TlsLevel::Encrypt, TlsLevel::Verify] {
        let relay = Plan::with(&upstream).0.run().await;
        let post = Post { terms: terms.clone(), route: by_mx(level), ..Post::default() };
        let id = relay.post(post).await;
        let why = relay.deferred(id).await;
        assert!(matches!(why, Why::TlsRequired { .. }), "{why}");
    }
    assert_eq!(upstream.mails().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn limits_of_the_next_hop_are_kept() {
    let upstream = Upstream::new().pretending("LIMITS RCPTMAX=2 MAILMAX=2");
    let (plan, home) = Plan::with(&upstream);
    let recipients = vec![
        "a@there.example",
        "b@there.example",
        "c@there.example",
        "d@there.example",
        "e@there.example",
    ];
    let route = by_mx(TlsLevel::Opportunistic);
    told(plan, &home, Post { recipients, route, ..Post::default() }).await;
    let counts: Vec<usize> = upstream.mails().iter().map(|mail| mail.to.len()).collect();
    assert_eq!((counts, upstream.connections()), (vec![2, 2, 1], 2));

    let upstream = Upstream::new().pretending("LIMITS RCPTDOMAINMAX=1");
    let (plan, home) = Plan::new();
    let plan = plan.up(MX, &upstream);
    let recipients = vec!["a@one.example", "b@one.example", "c@two.example"];
    let route = Route::new(by_host(NAME), TlsLevel::Opportunistic);
    told(plan, &home, Post { recipients, route, ..Post::default() }).await;
    let counts: Vec<usize> = upstream.mails().iter().map(|mail| mail.to.len()).collect();
    assert_eq!((counts, upstream.connections()), (vec![2, 1], 1));
}

#[tokio::test(start_paused = true)]
async fn binary_mail_goes_as_it_is_or_not_at_all_where_it_is_not_converted() {
    let content = "Subject: x\r\n\r\n.\r\n\n\0bare\rends";
    let binary = || Post {
        content: content.to_owned(),
        terms: Terms { binary: true, ..Terms::default() },
        ..Post::default()
    };
    let upstream = Upstream::new().offering(Offers { binary_mime: true, ..Offers::default() });
    let (plan, home) = Plan::with(&upstream);
    assert!(told(plan, &home, binary()).await.is_empty());
    assert_eq!(upstream.mails()[0].content, content);
    let heard = upstream.heard();
    assert!(heard.contains(" BODY=BINARYMIME") && heard.contains("BDAT "), "{heard}");
    assert!(!heard.contains("DATA\r\n"), "{heard}");

    let upstream = Upstream::new();
    let (plan, home) = Plan::with(&upstream);
    let route = Route { convert: Convert::Never, ..by_mx(TlsLevel::Opportunistic) };
    let notices = told(plan, &home, Post { route, ..binary() }).await;
    assert!(upstream.mails().is_empty());
    assert!(notices[0].contains("Status: 5.6.3\r\n"), "{}", notices[0]);
}

#[tokio::test(start_paused = true)]
async fn a_large_binary_message_is_one_chunk() {
    let content = format!("Subject: x\r\n\r\n{}", "0123456789\n".repeat(40_000));
    let upstream = Upstream::new().offering(Offers { binary_mime: true, ..Offers::default() });
    let (plan, home) = Plan::with(&upstream);
    let terms = Terms { binary: true, ..Terms::default() };
    told(plan, &home, Post { content: content.clone(), terms, ..Post::default() }).await;
    assert_eq!(upstream.mails()[0].content, content);
    assert!(upstream.heard().contains(&format!("BDAT {} LAST\r\n", content.len())));
}
