//! A message that cannot be delivered within its lifetime goes back.

use waypost_harness::upstream::{Act, Upstream};
use waypost_smtp::Phase;

use crate::way::{Way, home_to};

#[tokio::test]
async fn the_sender_hears_the_last_reason() {
    let never = Act::Say("450 4.2.2 mailbox full".to_owned());
    let upstream = Upstream::new().on(Phase::Rcpt, never);
    let home = home_to(upstream.listen().await.unwrap()).set("queue", "lifetime", "\"600ms\"");
    let way = Way::through(home).await;
    let id = way.send().await;
    way.settled(&id).await;
    let tries = upstream.heard().matches("RCPT TO:").count();
    assert!(tries >= 2, "it was tried again before: {tries}");
    let notice = way.notices(1).await.remove(0).content;
    assert!(notice.contains("Status: 5.4.7\r\n"), "{notice}");
    assert!(notice.contains("Diagnostic-Code: smtp; 450 4.2.2 mailbox full\r\n"), "{notice}");
    way.relay.empty().await;
    assert_eq!(way.alice.mails().len(), 1);
    way.relay.stop().await;
}
