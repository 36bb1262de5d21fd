//! A next hop takes 7 bits only: what it gets was converted, and dkimpy finds the signatures on it good
//! that policy wanted on the message. Signatures of others are not broken unasked.

use waypost_harness::upstream::Upstream;
use waypost_hooks::{MessageEdit, Preparation};
use waypost_scenarios::{Door, Home};

use crate::aiosmtpd::{Aiosmtpd, kept};
use crate::policy_wants_signatures::{Key, dkimpy, sign};
use crate::says::Says;

const MESSAGE: &str = "From: J\u{fc}rgen <a@sender.example>\r\nTo: b@dest.example\r\n\
    Subject: gr\u{fc}n\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n--b\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
    Gr\u{fc}\u{df}e  \r\n--b--\r\n";

fn count(message: &[u8], name: &str) -> usize {
    String::from_utf8_lossy(message).matches(&format!("{name}: ")).count()
}

#[tokio::test]
async fn with_the_signatures_that_the_message_had() {
    let directory = tempfile::tempdir().unwrap();
    let (aiosmtpd, key) = (Aiosmtpd::of_seven_bits(directory.path()), Key::new());
    let policy = Says::new()
        .edits(vec![
            MessageEdit::Sign(sign("sender.example", "main")),
            MessageEdit::Sign(sign("also.example", "main")),
        ])
        .of_a_copy(|_| {
            let add_headers = vec![("X-For".to_owned(), "B\u{e4}r".to_owned())];
            let sign = vec![sign("third.example", "main")];
            Ok(Preparation { add_headers, sign, ..Preparation::default() })
        });
    let home = key.given_to(Home::new().trusting().hooks(policy.ready()));
    let relay = home.route("*", aiosmtpd.address).start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let large = MESSAGE
        .replace("--b--", &format!("{}--b--", "und immer wieder gr\u{fc}n\r\n".repeat(40_000)));
    for (number, content) in [(1, MESSAGE), (2, large.as_str())] {
        peer.deliver("a@sender.example", &["b@dest.example"], content).await;
        let got = kept(directory.path(), number).await;
        assert!(got.is_ascii());
        assert_eq!(count(&got, "DKIM-Signature"), 3);
        assert_eq!(dkimpy(key.record(), got.clone()).await, "pass pass pass");
        let text = String::from_utf8(got).unwrap();
        assert!(text.contains("quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe =20\r\n"), "{text:.3000}");
        assert!(text.contains("\r\nX-For: =?utf-8?q?B=C3=A4r?=\r\n"), "{text:.3000}");
    }
    relay.empty().await;
    relay.stop().await;
}

/// Where the body may have 8 bits only the header is written anew; the signatures cover it.
#[tokio::test]
async fn with_a_header_of_ascii() {
    let (upstream, key) = (Upstream::new().without("SMTPUTF8"), Key::new());
    let policy = Says::new().edits(vec![MessageEdit::Sign(sign("sender.example", "main"))]);
    let home = key.given_to(Home::new().trusting().hooks(policy.ready()));
    let relay = home.route("*", upstream.listen().await.unwrap()).start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.expect("MAIL FROM:<a@sender.example> SMTPUTF8 BODY=8BITMIME", "250").await;
    peer.expect("RCPT TO:<b@dest.example>", "250").await;
    assert!(peer.data(MESSAGE).await.starts_with("250"));
    relay.empty().await;
    let got = upstream.mails().pop().unwrap().content;
    assert!(got.ends_with("8bit\r\n\r\nGr\u{fc}\u{df}e  \r\n--b--\r\n"), "{got}");
    assert!(upstream.heard().contains(" BODY=8BITMIME"), "{}", upstream.heard());
    assert_eq!(dkimpy(key.record(), got.into_bytes()).await, "pass");
    relay.stop().await;
}

#[tokio::test]
async fn but_not_over_the_signature_of_somebody_else() {
    let (upstream, senders) = (Upstream::new().without("8BITMIME"), Upstream::new());
    let key = Key::new();
    let policy = Says::new().edits(vec![MessageEdit::Sign(sign("sender.example", "main"))]);
    let home = key.given_to(Home::new().trusting().hooks(policy.ready()));
    let at = upstream.listen().await.unwrap();
    let route = format!("via = [{{ host = \"{}\", port = {} }}]\n", at.ip(), at.port());
    let relay = home
        .route_as("dest.example", &route)
        .route_as("broken.example", &format!("{route}convert = \"always\"\n"))
        .route("*", senders.listen().await.unwrap())
        .start()
        .await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let content = format!("DKIM-Signature: v=1; d=author.example; s=x; b=y\r\n{MESSAGE}");
    peer.deliver("a@sender.example", &["b@dest.example"], &content).await;
    relay.empty().await;
    let notice = senders.mails().pop().unwrap().content;
    assert!(notice.contains("\r\nStatus: 5.6.3\r\n"), "{notice}");
    let words = notice.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("DKIM-Signature of author.example"), "{notice}");
    assert!(upstream.mails().is_empty());

    peer.deliver("a@sender.example", &["b@broken.example"], &content).await;
    relay.empty().await;
    let got = upstream.mails().pop().unwrap().content;
    assert_eq!(count(got.as_bytes(), "DKIM-Signature"), 2);
    assert_eq!(dkimpy(key.record(), got.into_bytes()).await, "pass fail");
    relay.stop().await;
}
