//! What was refused at its end is not in the spool, not even for a moment.

use waypost_harness::upstream::Upstream;

use crate::daemon::{Home, until};

/// A message that was passed on too often: refused when all of it is here.
fn wanderer(size: usize) -> String {
    let received = "Received: from a.example by b.example; Mon, 1 Jan 2024 00:00:00 +0000\r\n";
    format!("{}Subject: refused\r\n\r\n{}", received.repeat(4), "text\r\n".repeat(size / 6))
}

/// Sizes that are gathered in memory, in a file, and in the file that a body is kept in.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_message_is_not_delivered_after_the_restart() {
    let upstream = Upstream::new();
    let home = Home::new(upstream.listen().await.unwrap(), "[limits]\nhops = 3\n");
    for size in [100, 1 << 20, 9 << 20] {
        let relay = home.start();
        let reply =
            relay.peer().send("a@peer.example", "b@there.example", &wanderer(size)).unwrap();
        relay.kill();
        assert!(reply.starts_with("554"), "{reply}");
    }
    let relay = home.start();
    relay.peer().submit("a@peer.example", "b@there.example", "accepted").unwrap();
    until("an empty queue", || home.queue().is_empty().then_some(()));
    let mails = upstream.mails();
    assert_eq!(mails.len(), 1, "only what was accepted");
    assert!(mails[0].content.contains("Subject: accepted"));
}
