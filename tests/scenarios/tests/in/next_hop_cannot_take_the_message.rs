//! What was advertised is obeyed: a message that the next hop cannot take as it is is converted, or comes
//! back, and is never sent wrong.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, Peer, Running};

/// An upstream for `dest.example` that lacks an extension, and one for the notices.
async fn world(lacks: &'static str) -> (Upstream, Upstream, Running) {
    routed(lacks, "").await
}

/// The same with a line more in the route.
async fn routed(lacks: &'static str, line: &str) -> (Upstream, Upstream, Running) {
    let (lacking, senders) = (Upstream::new().without(lacks), Upstream::new());
    let at = lacking.listen().await.unwrap();
    let route = format!("via = [{{ host = \"{}\", port = {} }}]\n{line}\n", at.ip(), at.port());
    let home = Home::new()
        .trusting()
        .route_as("dest.example", &route)
        .route("*", senders.listen().await.unwrap());
    let relay = home.start().await;
    (lacking, senders, relay)
}

async fn peer(relay: &Running) -> Peer {
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer
}

/// One notice about one recipient, with this status.
fn notice(senders: &Upstream, to: &str, status: &str) -> String {
    let mails = senders.mails();
    assert_eq!(mails.len(), 1, "one notice");
    assert_eq!((mails[0].from.as_str(), mails[0].to.as_slice()), ("", &[to.to_owned()][..]));
    let content = mails[0].content.clone();
    assert!(content.contains("\r\nAction: failed\r\n"), "{content}");
    assert!(content.contains(&format!("\r\nStatus: {status}\r\n")), "{content}");
    content
}

#[tokio::test]
async fn eight_bits_to_a_server_of_seven() {
    let (lacking, senders, relay) = world("8BITMIME").await;
    let mut peer = peer(&relay).await;
    peer.expect("MAIL FROM:<a@sender.example> BODY=8BITMIME", "250 2.1.0").await;
    peer.expect("RCPT TO:<b@dest.example>", "250 2.1.5").await;
    assert!(peer.data("Subject: x\r\n\r\ngr\u{fc}n\r\n").await.starts_with("250"));
    relay.empty().await;
    let mail = lacking.mails().pop().unwrap();
    assert!(mail.content.is_ascii(), "{}", mail.content);
    assert!(
        mail.content.ends_with(
            "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BCn\r\n"
        ),
        "{}",
        mail.content
    );
    let heard = lacking.heard();
    assert!(heard.contains(&format!(" SIZE={}\r\n", mail.content.len())), "{heard}");
    assert!(!heard.contains("BODY=") && senders.mails().is_empty(), "{heard}");
    let counted = "waypost_delivery_conversions_total{target=\"7bit\",result=\"made\"}";
    assert_eq!(relay.counter(counted).await, 1);
}

#[tokio::test]
async fn eight_bits_where_the_route_forbids_to_change_them() {
    let (lacking, senders, relay) = routed("8BITMIME", "convert = \"never\"").await;
    let mut peer = peer(&relay).await;
    peer.deliver("a@sender.example", &["b@dest.example"], "Subject: x\r\n\r\ngr\u{fc}n\r\n").await;
    relay.empty().await;
    let content = notice(&senders, "a@sender.example", "5.6.3");
    assert!(content.contains("Final-Recipient: rfc822; b@dest.example"), "{content}");
    assert_eq!(lacking.mails(), []);
    assert!(!lacking.heard().contains("DATA"), "{}", lacking.heard());
}

/// What an author signed by S/MIME or PGP is not changed by any setting.
#[tokio::test]
async fn eight_bits_that_their_author_signed() {
    let (lacking, senders, relay) = routed("8BITMIME", "convert = \"always\"").await;
    let mut peer = peer(&relay).await;
    let signed = "MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\
        Content-Type: text/plain; charset=utf-8\r\n\r\ngr\u{fc}n\r\n--s\r\n\
        Content-Type: application/pgp-signature\r\n\r\nx\r\n--s--\r\n";
    peer.deliver("a@sender.example", &["b@dest.example"], signed).await;
    relay.empty().await;
    let content = notice(&senders, "a@sender.example", "5.6.3");
    let words = content.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("signed by its author"), "{content}");
    assert_eq!(lacking.mails(), []);
}

/// What counts is what the message is, not what its sender said about it.
#[tokio::test]
async fn eight_bits_that_were_not_declared() {
    let (lacking, senders, relay) = world("8BITMIME").await;
    let mut peer = peer(&relay).await;
    peer.deliver("a@sender.example", &["b@dest.example"], "Subject: gr\u{fc}n\r\n\r\nx\r\n").await;
    relay.empty().await;
    let mail = lacking.mails().pop().unwrap();
    assert!(mail.content.ends_with("Subject: =?utf-8?q?gr=C3=BCn?=\r\n\r\nx\r\n"), "{mail:?}");
    assert_eq!(senders.mails(), []);
}

#[tokio::test]
async fn seven_bits_declared_as_eight_are_sent() {
    let (lacking, senders, relay) = world("8BITMIME").await;
    let mut peer = peer(&relay).await;
    peer.expect("MAIL FROM:<a@sender.example> BODY=8BITMIME", "250 2.1.0").await;
    peer.expect("RCPT TO:<b@dest.example>", "250 2.1.5").await;
    assert!(peer.data("Subject: x\r\n\r\ngreen\r\n").await.starts_with("250"));
    relay.empty().await;
    assert_eq!((lacking.mails().len(), senders.mails().len()), (1, 0));
    assert!(!lacking.heard().contains("BODY="), "{}", lacking.heard());
}

#[tokio::test]
async fn international_addresses_to_a_server_without_them() {
    let (lacking, senders, relay) = world("SMTPUTF8").await;
    let mut peer = peer(&relay).await;
    peer.expect("MAIL FROM:<a@sender.example> SMTPUTF8", "250 2.1.0").await;
    peer.expect("RCPT TO:<b\u{e4}r@dest.example>", "250 2.1.5").await;
    assert!(peer.data("Subject: x\r\n\r\ny\r\n").await.starts_with("250"));
    relay.empty().await;
    notice(&senders, "a@sender.example", "5.6.7");
    assert_eq!(lacking.mails(), []);
    assert!(!lacking.heard().contains("MAIL FROM"), "{}", lacking.heard());
}

/// From who submits here: this relay is the one that may write the header anew (RFC 6531 §3.2).
#[tokio::test]
async fn international_headers_of_a_submitter_to_a_server_without_them() {
    let (lacking, senders, relay) = world("SMTPUTF8").await;
    let mut peer = peer(&relay).await;
    peer.expect("MAIL FROM:<a@sender.example> SMTPUTF8 BODY=8BITMIME", "250 2.1.0").await;
    peer.expect("RCPT TO:<b@dest.example>", "250 2.1.5").await;
    let content = "From: J\u{fc}rgen <a@b\u{fc}cher.example>\r\nSubject: gr\u{fc}n\r\n\r\ny\r\n";
    assert!(peer.data(content).await.starts_with("250"));
    relay.empty().await;
    let mail = lacking.mails().pop().unwrap();
    let wanted = "From: =?utf-8?q?J=C3=BCrgen?= <a@xn--bcher-kva.example>\r\n\
        Subject: =?utf-8?q?gr=C3=BCn?=\r\n\r\ny\r\n";
    assert!(mail.content.ends_with(wanted), "{}", mail.content);
    assert!(!lacking.heard().contains("SMTPUTF8"), "{}", lacking.heard());
    assert_eq!(senders.mails(), []);
}

/// A stranger's mail is passed on as it is, or not at all.
#[tokio::test]
async fn international_headers_of_a_stranger_to_a_server_without_them() {
    let (lacking, senders) = (Upstream::new().without("SMTPUTF8"), Upstream::new());
    let home = Home::new()
        .set("relay", "domains", "[\"dest.example\"]")
        .route("dest.example", lacking.listen().await.unwrap())
        .route("*", senders.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = peer(&relay).await;
    peer.expect("MAIL FROM:<a@sender.example> SMTPUTF8 BODY=8BITMIME", "250 2.1.0").await;
    peer.expect("RCPT TO:<b@dest.example>", "250 2.1.5").await;
    assert!(peer.data("Subject: gr\u{fc}n\r\n\r\ny\r\n").await.starts_with("250"));
    relay.empty().await;
    notice(&senders, "a@sender.example", "5.6.9");
    assert_eq!(lacking.mails(), []);
}

/// A server that has both gets both, with the parameters that say so.
#[tokio::test]
async fn a_server_that_can_take_it_gets_it() {
    let upstream = Upstream::new();
    let relay = Home::new().trusting().route("*", upstream.listen().await.unwrap()).start().await;
    let mut peer = peer(&relay).await;
    peer.expect("MAIL FROM:<a@sender.example> SMTPUTF8 BODY=8BITMIME", "250 2.1.0").await;
    peer.expect("RCPT TO:<b\u{e4}r@dest.example>", "250 2.1.5").await;
    let content = "Subject: gr\u{fc}n\r\n\r\ngr\u{fc}n\r\n";
    assert!(peer.data(content).await.starts_with("250"));
    relay.empty().await;
    let mail = upstream.mails().pop().unwrap();
    assert_eq!(mail.to, ["b\u{e4}r@dest.example"]);
    assert!(mail.content.ends_with(content), "{}", mail.content);
    let heard = upstream.heard();
    let line = heard.lines().find(|line| line.starts_with("MAIL FROM")).unwrap();
    assert!(line.contains(" SMTPUTF8") && line.contains(" BODY=8BITMIME"), "{line}");
}
