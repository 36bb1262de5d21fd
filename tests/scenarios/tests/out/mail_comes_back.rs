//! Copies leave from senders of their own, and what comes back to these is put to use: a bounce, a
//! complaint, an answer by a program; and nothing that a stranger makes up.

use std::net::SocketAddr;

use waypost_admin::api::{ListSuppressions, SuppressionPage};
use waypost_harness::upstream::{Mail, Upstream};
use waypost_mail::Suppression;
use waypost_scenarios::{Door, Home, Running, eventually};

const ALICE: &str = "alice@home.example";
const BOB: &str = "bob@inside.example";
const CAROL: &str = "carol@inside.example";

struct Story {
    relay: Running,
    /// Where bob and carol are.
    inside: Upstream,
    /// Where alice is.
    outside: Upstream,
}

impl Story {
    async fn new(change: impl FnOnce(Home) -> Home) -> Story {
        let (inside, outside) = (Upstream::new(), Upstream::new());
        let at = async |upstream: &Upstream| -> SocketAddr { upstream.listen().await.unwrap() };
        let home = Home::new()
            .route("inside.example", at(&inside).await)
            .route("*", at(&outside).await)
            .set("bounces", "domain", "\"bounces.example\"")
            .set("queue", "verp", "true")
            .set("suppression", "feed", "[\"bad-address\", \"complaint\"]");
        let relay = change(home).start().await;
        Story { relay, inside, outside }
    }

    /// Alice, a stranger to the relay, writes to bob and carol; their copies.
    async fn sent(&self) -> (Mail, Mail) {
        self.deliver(
            ALICE,
            &[BOB, CAROL],
            "From: alice@home.example\r\nSubject: news\r\n\r\nHello.\r\n",
        )
        .await;
        eventually("both copies", || self.inside.mails().len() == 2).await;
        let mails = self.inside.mails();
        let copy = |to: &str| mails.iter().find(|mail| mail.to == [to]).unwrap().clone();
        (copy(BOB), copy(CAROL))
    }

    async fn deliver(&self, from: &str, to: &[&str], content: &str) -> String {
        let mut peer = self.relay.peer(Door::Relay).await;
        peer.hello().await;
        peer.deliver(from, to, content).await
    }

    async fn rcpt(&self, from: &str, to: &str) -> String {
        let mut peer = self.relay.peer(Door::Relay).await;
        peer.hello().await;
        peer.say(&format!("MAIL FROM:<{from}>")).await;
        peer.say(&format!("RCPT TO:<{to}>")).await
    }

    async fn listed(&self) -> Vec<Suppression> {
        let request = ListSuppressions::default();
        let page: SuppressionPage =
            self.relay.client().post("/v1/suppressions/list", &request).await.unwrap();
        page.entries
    }
}

/// A report about a copy.
fn report(copy: &Mail, action: &str, diagnostic: &str) -> String {
    let header = copy.content.split("\r\n\r\n").next().unwrap();
    let to = &copy.to[0];
    format!(
        "From: MAILER-DAEMON@store.example\r\nSubject: Undelivered Mail\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; store.example\r\n\r\n\
         Final-Recipient: rfc822; {to}\r\nAction: {action}\r\nStatus: 5.1.1\r\n\
         Diagnostic-Code: smtp; {diagnostic}\r\n\r\n\
         --b\r\nContent-Type: text/rfc822-headers\r\n\r\n{header}\r\n\r\n--b--\r\n"
    )
}

#[tokio::test]
async fn a_bounce_lists_its_recipient_and_goes_on_to_the_sender() {
    let story = Story::new(|home| home).await;
    let (bob, carol) = story.sent().await;
    assert!(bob.from.ends_with("-bob=inside.example@bounces.example"), "{}", bob.from);
    assert_ne!(bob.from, carol.from);
    assert!(bob.content.contains(" alice@home.example\r\n"), "{}", bob.content);

    story.deliver("", &[&bob.from], &report(&bob, "delayed", "450 4.2.0 later")).await;
    assert!(story.listed().await.is_empty(), "it may still arrive");
    story.deliver("", &[&bob.from], &report(&bob, "failed", "550 5.1.1 no such user")).await;
    let [entry] = &story.listed().await[..] else { panic!() };
    assert_eq!(
        (entry.target.to_string(), entry.owner.to_string()),
        (BOB.into(), "@home.example".into())
    );
    eventually("alice is told", || story.outside.mails().len() == 2).await;
    let told = story.outside.mails().pop().unwrap();
    assert_eq!((told.from.as_str(), told.to.as_slice()), ("", &[ALICE.to_owned()][..]));
    assert!(told.content.contains("Action: failed"));
    assert!(story.rcpt(ALICE, BOB).await.starts_with("550 5.1.1"));
    assert!(story.rcpt(ALICE, CAROL).await.starts_with("250"));
    let counted = "waypost_returned_messages_total{kind=\"failed\",result=\"suppressed\"}";
    assert_eq!(story.relay.counter(counted).await, 1);
    story.relay.stop().await;
}

#[tokio::test]
async fn what_a_stranger_makes_up_comes_to_nobody() {
    let story = Story::new(|home| home).await;
    let (bob, carol) = story.sent().await;
    let forged = bob.from.replace("-bob=", "-eve=");
    for address in [forged.as_str(), "fake@bounces.example", "b@bounces.example"] {
        let refused = story.rcpt("", address).await;
        assert!(refused.starts_with("550 5.1.1 No such address"), "{address}: {refused}");
    }
    assert!(story.rcpt("", "postmaster@bounces.example").await.starts_with("250"));
    // Carol can bounce her own copy, and speak for nobody else.
    let lie = report(&carol, "failed", "550 5.1.1 gone").replace(&carol.to[0], BOB);
    let lie = lie.replace(" alice@home.example\r\n", " victim@far.example\r\n");
    story.deliver("", &[&carol.from], &lie).await;
    story.relay.empty().await;
    assert!(story.listed().await.iter().all(|entry| entry.target.to_string() != BOB));
    assert!(story.outside.mails().is_empty(), "nothing goes on to a sender nobody vouches for");
    assert_eq!(story.relay.counter("waypost_returned_strangers_total").await, 3);
    story.relay.stop().await;
}

#[tokio::test]
async fn a_complaint_lists_who_complained() {
    let story = Story::new(|home| home.set("bounces", "feedback", "[\"loop\"]")).await;
    let (bob, _) = story.sent().await;
    let complaint = format!(
        "From: fbl@provider.example\r\nSubject: FW: news\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nAn abuse report.\r\n\
         --b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nVersion: 1\r\n\
         User-Agent: x\r\n\r\n\
         --b\r\nContent-Type: message/rfc822\r\n\r\nReturn-Path: <{}>\r\n{}\r\n--b--\r\n",
        bob.from, bob.content
    );
    story.deliver("fbl@provider.example", &["loop@bounces.example"], &complaint).await;
    let [entry] = &story.listed().await[..] else { panic!() };
    assert_eq!((entry.target.to_string(), entry.ground.word()), (BOB.into(), "complaint"));
    assert!(entry.expires.is_none(), "for good");
    assert!(story.rcpt(ALICE, BOB).await.starts_with("550 5.7.1"));
    story.relay.empty().await;
    assert!(story.outside.mails().is_empty(), "the sender is not told who complained");
    story.relay.stop().await;
}

#[tokio::test]
async fn an_answer_by_a_program_lists_nobody_and_goes_on_where_that_is_wanted() {
    for forward in [true, false] {
        let set = |home: Home| home.set("bounces", "forward", &forward.to_string());
        let story = Story::new(set).await;
        let (bob, _) = story.sent().await;
        let sender = bob.content.lines().find(|l| l.starts_with("X-Waypost-Sender:")).unwrap();
        let vacation = format!(
            "From: bob@inside.example\r\nSubject: Out of office\r\nAuto-Submitted: auto-replied\r\n\
             \r\nI am away.\r\n> {sender}\r\n"
        );
        story.deliver("", &[&bob.from], &vacation).await;
        story.relay.empty().await;
        assert_eq!(story.outside.mails().len(), usize::from(forward));
        assert!(story.listed().await.is_empty());
        story.relay.stop().await;
    }
}

/// A bounce of an older server, which says it in words.
#[tokio::test]
async fn words_are_understood_too() {
    let story = Story::new(|home| home).await;
    let (bob, _) = story.sent().await;
    let words = format!(
        "From: MAILER-DAEMON@old.example\r\nSubject: failure notice\r\n\r\n\
         Hi. This is the qmail-send program at old.example.\r\n\r\n<{BOB}>:\r\n\
         Remote host said: 550 5.1.1 No such user\r\n\r\n\
         --- Below this line is a copy of the message.\r\n\r\n{}",
        bob.content
    );
    story.deliver("", &[&bob.from], &words).await;
    let [entry] = &story.listed().await[..] else { panic!() };
    assert_eq!(entry.target.to_string(), BOB);
    eventually("alice is told", || story.outside.mails().len() == 1).await;
    story.relay.stop().await;
}
