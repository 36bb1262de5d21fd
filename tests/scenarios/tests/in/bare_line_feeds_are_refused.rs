//! Only CRLF.CRLF ends a message: nothing that other servers may take for an end smuggles a second
//! message in.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home};

const ENDINGS: [&str; 7] =
    ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\r\n.\r\r\n"];

#[tokio::test]
async fn nothing_is_smuggled() {
    let upstream = Upstream::new();
    let home = Home::new()
        .trusting()
        .set("limits", "errors", "1000")
        .route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    for ending in ENDINGS {
        peer.envelope("a@sender.example", &["b@dest.example"]).await;
        peer.expect("DATA", "354").await;
        let inner = "MAIL FROM:<evil@sender.example>\r\nRCPT TO:<c@dest.example>\r\nDATA\r\n\
                     Subject: smuggled\r\n\r\nx";
        peer.send(format!("Subject: outer\r\n\r\nbody{ending}{inner}\r\n.\r\n")).await;
        let reply = peer.reply().await;
        assert!(reply.starts_with("554 5.6.0 "), "{ending:?}: {reply}");
        // One reply and no more: the line is free for commands.
        peer.expect("NOOP", "250 2.0.0").await;
    }
    relay.empty().await;
    assert_eq!(upstream.mails(), []);
}

#[tokio::test]
async fn in_commands_too() {
    let relay = Home::new().trusting().start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.send("MAIL FROM:<a@sender.example>\nRCPT TO:<b@dest.example>\r\n").await;
    peer.hear("500 5.5.2").await;
    peer.expect("RCPT TO:<b@dest.example>", "503 5.5.1").await;
}
