//! A peer on a raw socket that tries every short mixture of CR, LF and dots around a smuggled message,
//! and all that is known against BDAT and STARTTLS. What the next hop gets is compared.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, Peer, Running};

const LETTERS: [char; 3] = ['\r', '\n', '.'];
const INNER: &str = "MAIL FROM:<evil@sender.example>\r\nRCPT TO:<victim@dest.example>\r\nDATA\r\n\
                     Subject: smuggled\r\n\r\nx";

fn mixtures(longest: u32) -> Vec<String> {
    let all = (1..=longest).flat_map(|length| {
        (0..3_usize.pow(length)).map(move |number| {
            (0..length).map(|place| LETTERS[number / 3_usize.pow(place) % 3]).collect()
        })
    });
    all.collect()
}

/// What RFC 5321 makes of a body: nothing when it is not one whole message without bare CR and LF.
fn content(wire: &str) -> Option<String> {
    let whole = format!("\r\n{wire}");
    let text = whole.strip_suffix(".\r\n")?;
    if text.contains("\r\n.\r\n") || text.replace("\r\n", "").contains(['\r', '\n']) {
        return None;
    }
    let lines = text[2..].split_inclusive("\r\n");
    Some(lines.map(|line| line.strip_prefix('.').unwrap_or(line)).collect())
}

async fn start(upstream: &Upstream) -> Running {
    let home = Home::new()
        .trusting()
        .set("limits", "errors", "1000000")
        .set("limits", "commands", "1000000")
        .route("*", upstream.listen().await.unwrap());
    home.start().await
}

async fn begin(peer: &mut Peer) {
    peer.send("MAIL FROM:<a@sender.example>\r\nRCPT TO:<b@dest.example>\r\nDATA\r\n").await;
    for reply in ["250 2.1.0", "250 2.1.5", "354"] {
        peer.hear(reply).await;
    }
}

#[tokio::test]
async fn by_no_mixture_of_line_ends_and_dots() {
    let upstream = Upstream::new();
    let relay = start(&upstream).await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let mut expected = Vec::new();
    for mixture in mixtures(5) {
        let wire = format!("Subject: outer\r\n\r\nbody{mixture}{INNER}\r\n.\r\n");
        // The true end in the middle is no smuggling: these are two messages, and both are ours.
        if wire[..wire.len() - 5].contains("\r\n.\r\n") {
            continue;
        }
        begin(&mut peer).await;
        peer.send(&wire).await;
        let reply = peer.reply().await;
        match content(&wire) {
            Some(content) => {
                assert!(reply.starts_with("250 2.0.0 "), "{mixture:?}: {reply}");
                expected.push(content);
            }
            None => assert!(reply.starts_with("554 5.6.0 "), "{mixture:?}: {reply}"),
        }
        // One reply and no more: the line is free for commands.
        peer.expect("NOOP", "250 2.0.0").await;
    }
    relay.empty().await;
    let mut got: Vec<String> = Vec::new();
    for mail in upstream.mails() {
        assert_eq!((mail.from.as_str(), mail.to.len()), ("a@sender.example", 1), "{mail:?}");
        let (_, rest) = mail.content.split_once("Subject: outer").unwrap();
        got.push(format!("Subject: outer{rest}"));
    }
    got.sort();
    expected.sort();
    assert!(expected.len() >= 18, "only {} mixtures are clean", expected.len());
    assert_eq!(got, expected);
}

#[tokio::test]
async fn by_no_chunk() {
    let upstream = Upstream::new();
    let relay = start(&upstream).await;
    let smuggled = "MAIL FROM:<evil@sender.example>\r\nRCPT TO:<victim@dest.example>\r\n\
                    BDAT 6 LAST\r\nevil\r\n";
    let size = smuggled.len();
    let envelope = "MAIL FROM:<a@sender.example>\r\nRCPT TO:<b@dest.example>\r\n";
    for (what, words, replies) in [
        ("no envelope", format!("BDAT {size} LAST\r\n{smuggled}NOOP\r\n"), vec!["503", "250"]),
        (
            "no recipient",
            format!("MAIL FROM:<>\r\nBDAT {size}\r\n{smuggled}BDAT 0 LAST\r\nNOOP\r\n"),
            vec!["250", "503", "503", "250"],
        ),
        (
            "RSET between",
            format!("{envelope}BDAT 3\r\na\r\nRSET\r\nBDAT {size} LAST\r\n{smuggled}NOOP\r\n"),
            vec!["250", "250", "250", "250", "503", "250"],
        ),
        ("too big", format!("{envelope}BDAT 99999999999\r\n{smuggled}"), vec!["250", "250", "552"]),
        ("no size", format!("{envelope}BDAT LAST\r\n{smuggled}"), vec!["250", "250", "501"]),
        ("negative", format!("{envelope}BDAT -1\r\n{smuggled}"), vec!["250", "250", "501"]),
        (
            "mixed with DATA",
            format!("{envelope}BDAT 3\r\na\r\nDATA\r\n"),
            vec!["250", "250", "250", "503"],
        ),
    ] {
        let mut peer = relay.peer(Door::Relay).await;
        peer.hello().await;
        peer.send(words).await;
        for wanted in replies {
            let reply = peer.reply().await;
            assert!(reply.starts_with(wanted), "{what}: {reply}");
        }
    }
    assert!(relay.queued().is_empty());
    assert_eq!(upstream.mails(), []);
}

#[tokio::test]
async fn by_no_words_before_a_reply() {
    let upstream = Upstream::new();
    let home = Home::new()
        .trusting()
        .certificate(&["relay.example"])
        .route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mail = "MAIL FROM:<evil@sender.example>\r\nRCPT TO:<b@dest.example>\r\nDATA\r\nx\r\n.\r\n";
    let hello = "EHLO peer.example\r\n";

    let mut early = Peer::to(relay.address(Door::Relay)).await;
    early.send(format!("{hello}{mail}")).await;
    // Whether it was faster than the greeting is the network's affair: it is refused either way.
    let first = early.reply().await;
    if first.starts_with("220") {
        early.hear("554 5.5.1").await;
    } else {
        assert!(first.starts_with("554 5.5.1"), "{first}");
    }
    assert!(early.is_over().await);

    for together in [format!("{hello}{mail}"), format!("NOOP\r\n{hello}")] {
        let mut peer = relay.peer(Door::Relay).await;
        peer.send(together).await;
        peer.hear("554 5.5.1").await;
        assert!(peer.is_over().await);
    }
    for together in
        [format!("STARTTLS\r\n{mail}"), "EHLO a\r\nQUIT\r\n".to_owned(), mail.to_owned()]
    {
        let mut peer = relay.peer(Door::Relay).await;
        peer.hello().await;
        peer.send(together).await;
        let mut last = peer.reply().await;
        while last.starts_with("250") {
            last = peer.reply().await;
        }
        assert!(last.starts_with("554 5.5.1"), "{last}");
        assert!(peer.is_over().await);
    }
    assert!(relay.queued().is_empty());
    assert_eq!(upstream.mails(), []);
}

#[tokio::test]
async fn floods_of_header_and_long_lines_are_refused() {
    let upstream = Upstream::new();
    let relay = start(&upstream).await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    for (content, wanted) in [
        ("X: y\r\n".repeat(1001), "552 5.3.4 Too many header fields"),
        (format!("X: {}\r\n", "y\r\n ".repeat(100_000)), "552 5.3.4 Message header too long"),
        (format!("Subject: x\r\n\r\n{}\r\n", "x".repeat(999)), "554 5.6.0 Line over 998"),
        ("Received: from a by b; x\r\n".repeat(101), "554 5.4.6 Too many hops"),
        ("X: a\0b\r\n".to_owned(), "554 5.6.0 NUL"),
    ] {
        begin(&mut peer).await;
        peer.send(format!("{content}.\r\n")).await;
        peer.hear(wanted).await;
    }
    peer.deliver("a@sender.example", &["b@dest.example"], "Subject: good\r\n\r\nx\r\n").await;
    relay.empty().await;
    assert_eq!(upstream.mails().len(), 1);
}

#[tokio::test]
async fn long_lines_are_folded_where_that_is_wanted() {
    let upstream = Upstream::new();
    let home = Home::new()
        .trusting()
        .set("strictness", "long-lines", "\"fold\"")
        .route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let content = format!("Subject: x\r\n\r\n{}\r\n", "x".repeat(1000));
    peer.deliver("a@sender.example", &["b@dest.example"], &content).await;
    relay.empty().await;
    let folded = format!("\r\n\r\n{}\r\n xx\r\n", "x".repeat(998));
    assert!(upstream.mails()[0].content.ends_with(&folded));
}
