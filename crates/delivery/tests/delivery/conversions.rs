//! Messages that a next hop cannot take as they are: another host gets them, or a copy goes.

use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::{Convert, Route, SignRequest, Terms, TlsLevel};
use waypost_smtp::Phase;
use waypost_smtp::server::Offers;

use crate::relay::{MX, Plan, Post, by_mx};

const SECOND: &str = "192.0.2.2:25";
const EIGHT_BIT: &str = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Transfer-Encoding: 8bit\r\n\r\ngr\u{fc}n\r\n";

fn eight_bit() -> Post {
    Post { content: EIGHT_BIT.to_owned(), eight_bit: true, ..Post::default() }
}

fn converting(convert: Convert) -> Route {
    Route { convert, ..by_mx(TlsLevel::Opportunistic) }
}

fn two() -> Plan {
    let records = [(10, "mx1.there.example"), (20, "mx2.there.example")];
    Plan::new().0.mx("there.example", &records).host("mx2.there.example", &["192.0.2.2"])
}

/// Delivers `post`; the status that its sender was told, if any.
async fn status(upstream: &Upstream, post: Post) -> Option<String> {
    let (plan, home) = Plan::with(upstream);
    let relay = plan.run().await;
    let id = relay.post(post).await;
    relay.gone(id).await;
    let quiet = || {
        let status = relay.queue.status();
        status.waiting + status.leased + status.held == 0
    };
    relay.until("an empty queue", quiet).await;
    let notice = home.mails().pop()?.content;
    let line = notice.lines().find_map(|line| line.strip_prefix("Status: "))?;
    Some(line.to_owned())
}

#[tokio::test(start_paused = true)]
async fn who_can_take_it_as_it_is_comes_first() {
    let (first, second) = (Upstream::new().without("8BITMIME"), Upstream::new());
    let relay = two().up(MX, &first).up(SECOND, &second).run().await;
    let id = relay.post(eight_bit()).await;
    relay.gone(id).await;
    assert!(first.mails().is_empty() && !first.heard().contains("MAIL"));
    assert_eq!(second.mails()[0].content, EIGHT_BIT);
    assert!(second.heard().contains(" BODY=8BITMIME"), "{}", second.heard());
}

#[tokio::test(start_paused = true)]
async fn a_copy_goes_where_nobody_can() {
    let first = Upstream::new().without("8BITMIME");
    // The second is away: a copy now is better than the message later.
    let relay = two().up(MX, &first).run().await;
    let id = relay.post(eight_bit()).await;
    relay.gone(id).await;
    let mail = first.mails().pop().unwrap();
    let wanted = EIGHT_BIT
        .replace("Content-Transfer-Encoding: 8bit\r\n", "")
        .replace("\r\n\r\n", "\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
        .replace('\u{fc}', "=C3=BC");
    assert_eq!(mail.content, wanted);
    let heard = first.heard();
    assert!(heard.contains(&format!(" SIZE={}\r\n", wanted.len())), "{heard}");
    assert!(!heard.contains("BODY="), "{heard}");
    assert_eq!(first.connections(), 1, "on the connection that was there");
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_too_large_is_not_sent() {
    let content = EIGHT_BIT.replace("gr\u{fc}n", &"\u{fc}\u{e4}\u{f6}".repeat(100));
    let size = content.len() as u64;
    let upstream = Upstream::new().without("8BITMIME").max_size(size + 50);
    let post = Post { content, ..eight_bit() };
    assert_eq!(status(&upstream, post).await.as_deref(), Some("5.3.4"));
    assert!(upstream.mails().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_route_may_forbid_it() {
    let upstream = Upstream::new().without("8BITMIME");
    let post = Post { route: converting(Convert::Never), ..eight_bit() };
    assert_eq!(status(&upstream, post).await.as_deref(), Some("5.6.3"));
    assert!(!upstream.heard().contains("MAIL"), "{}", upstream.heard());
}

#[tokio::test(start_paused = true)]
async fn signatures_of_others_are_broken_only_where_the_route_says_so() {
    let content = format!("DKIM-Signature: v=1; d=x.example; s=y; b=z\r\n{EIGHT_BIT}");
    for (convert, wanted) in [(Convert::Unsigned, Some("5.6.3")), (Convert::Always, None)] {
        let upstream = Upstream::new().without("8BITMIME");
        let route = converting(convert);
        let post = Post { content: content.clone(), route, ..eight_bit() };
        assert_eq!(status(&upstream, post).await.as_deref(), wanted);
        assert_eq!(upstream.mails().len(), usize::from(wanted.is_none()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_cannot_be_signed_again_waits() {
    let upstream = Upstream::new().without("8BITMIME");
    let (plan, home) = Plan::with(&upstream);
    let relay = plan.run().await;
    let request = SignRequest {
        domain: "home.example".to_owned(),
        selector: "s1".to_owned(),
        key: "gone".to_owned(),
        headers: Vec::new(),
        oversign: Vec::new(),
        expire_after: None,
    };
    let id = relay.post(Post { sign: vec![request], ..eight_bit() }).await;
    relay.until("a connection is ready", || upstream.heard().contains("EHLO")).await;
    relay.until("it waits", || relay.queue.status().leased == 0).await;
    let (tries, _, why) = relay.waiting(id).unwrap();
    assert_eq!((tries, why), (0, None), "nothing was tried");
    assert!(!upstream.heard().contains("MAIL") && home.mails().is_empty());
}

#[tokio::test(start_paused = true)]
async fn addresses_that_are_not_ascii_bounce_and_the_others_get_their_mail() {
    let upstream = Upstream::new().without("SMTPUTF8");
    let recipients = vec!["b\u{e4}r@there.example", "bob@there.example", "x@b\u{fc}cher.example"];
    let post = Post { recipients, ..Post::default() };
    assert_eq!(status(&upstream, Post { smtputf8: true, ..post }).await.as_deref(), Some("5.6.7"));
    let mail = upstream.mails().pop().unwrap();
    assert_eq!(mail.to, ["bob@there.example", "x@xn--bcher-kva.example"]);
    assert!(!upstream.heard().contains("SMTPUTF8"), "{}", upstream.heard());
}

#[tokio::test(start_paused = true)]
async fn a_header_becomes_ascii_where_nothing_in_it_is_lost() {
    let content = "From: J\u{fc}rgen <j@home.example>\r\nSubject: gr\u{fc}n\r\n\r\nx\r\n";
    for (content, wanted) in
        [(content.to_owned(), None), (content.replace("<j@", "<j\u{fc}@"), Some("5.6.9"))]
    {
        let upstream = Upstream::new().without("SMTPUTF8");
        let post = Post { content, eight_bit: true, smtputf8: true, ..Post::default() };
        assert_eq!(status(&upstream, post).await.as_deref(), wanted);
        let mails = upstream.mails();
        assert_eq!(mails.is_empty(), wanted.is_some());
        if let Some(mail) = mails.first() {
            assert!(mail.content.is_ascii(), "{}", mail.content);
            assert!(mail.content.contains("Subject: =?utf-8?q?gr=C3=BCn?=\r\n"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn binary_mail_becomes_what_the_host_takes() {
    let content = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: application/x\r\n\
        Content-Transfer-Encoding: binary\r\n\r\n\0bare\rends\n";
    let binary = || Post {
        content: content.to_owned(),
        terms: Terms { binary: true, ..Terms::default() },
        ..Post::default()
    };
    // CHUNKING alone is not enough, nor is BINARYMIME.
    for upstream in [Upstream::new(), Upstream::new().without("8BITMIME")] {
        assert_eq!(status(&upstream, binary()).await, None);
        let content = &upstream.mails()[0].content;
        assert!(content.ends_with("base64\r\n\r\nAGJhcmUNZW5kcwo=\r\n"), "{content}");
        let heard = upstream.heard();
        assert!(!heard.contains("BODY="), "{heard}");
    }
    let able = Upstream::new().offering(Offers { binary_mime: true, ..Offers::default() });
    assert_eq!(status(&able, binary()).await, None);
    assert_eq!(able.mails()[0].content, content);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_fails_with_the_copy_is_tried_again() {
    let upstream =
        Upstream::new().without("8BITMIME").once(Phase::Data, Act::Say("451 4.3.0 not now".into()));
    assert_eq!(status(&upstream, eight_bit()).await, None);
    assert_eq!(upstream.mails().len(), 1);
}
