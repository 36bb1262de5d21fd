//! Messages go by BDAT to who offers CHUNKING, unless the configuration says otherwise.

use waypost_harness::upstream::Upstream;

use crate::way::{Way, home_to};

fn by_bdat_and_data(upstream: &Upstream) -> (bool, bool) {
    let heard = upstream.heard();
    (heard.contains("BDAT "), heard.contains("DATA\r\n"))
}

#[tokio::test]
async fn where_they_are_offered() {
    for (upstream, expected) in [
        (Upstream::new(), (true, false)),
        (Upstream::new().without("CHUNKING"), (false, true)),
        // It offers them and does not know what they are.
        (Upstream::new().once_at_bdat("500 5.5.1 unrecognized command"), (true, true)),
    ] {
        let way = Way::to(&upstream).await;
        let id = way.send().await;
        way.settled(&id).await;
        assert_eq!(by_bdat_and_data(&upstream), expected);
        let mails = upstream.mails();
        assert_eq!(mails.len(), 1);
        assert!(mails[0].content.ends_with("Subject: Hello\r\n\r\nThe text.\r\n"), "{mails:?}");
        way.relay.stop().await;
    }
}

#[tokio::test]
async fn unless_the_configuration_says_otherwise() {
    let upstream = Upstream::new();
    let home = home_to(upstream.listen().await.unwrap()).set("delivery", "chunking", "false");
    let way = Way::through(home).await;
    let id = way.send().await;
    way.settled(&id).await;
    assert_eq!((by_bdat_and_data(&upstream), upstream.mails().len()), ((false, true), 1));
    way.relay.stop().await;
}
