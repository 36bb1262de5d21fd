//! The story of a message outlives the relay that was killed, and is read without one.

use waypost_harness::upstream::Upstream;

use crate::daemon::{Home, text, until};

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_read_without_a_relay_and_by_the_next_one() {
    let upstream = Upstream::new().refusing("b@there.example", "451 4.3.2 not now");
    let home = Home::new(upstream.listen().await.unwrap(), "");
    let relay = home.start();
    relay.peer().submit("a@peer.example", "b@there.example", "told").unwrap();
    let id = home.queue()[0]["id"].as_str().unwrap().to_owned();
    let why = || {
        let output = home.command(&["why", &id]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    // Told, and by that written.
    until("an attempt", || why().contains("< 451 4.3.2 not now").then_some(()));
    relay.kill();

    let told = why();
    assert!(told.contains("accepted from 127.0.0.1"), "{told}");
    assert!(told.contains("< 451 4.3.2 not now"), "{told}");
    assert!(told.contains("no relay runs"), "{told}");
    let json = home.json(&["why", &id]);
    assert_eq!(json["id"].as_str(), Some(id.as_str()));
    assert_eq!(json["is_running"].as_bool(), Some(false));

    let relay = home.start();
    let told = why();
    assert_eq!(told.matches("the relay started").count(), 1, "the first began before: {told}");
    assert!(!told.contains("the relay ended"), "it did not end, it was killed: {told}");
    assert!(told.contains("< 451 4.3.2 not now"), "{told}");
    upstream.relent();
    assert!(home.command(&["queue", "retry", &id]).status.success());
    until("an empty queue", || home.queue().is_empty().then_some(()));
    let told = until("the end of the story", || {
        let told = why();
        told.contains("<b@there.example> delivered").then_some(told)
    });
    assert!(told.contains("an operator said retry"), "{told}");
    assert!(told.contains("nothing of it is in the queue any more"), "{told}");
    relay.kill();

    let output = home.command(&["why", "0000000000001"]);
    assert!(!output.status.success());
    let error = text(&output.stderr);
    assert!(error.contains("nothing is known of the message 0000000000001"), "{error}");
    assert!(!home.command(&["why", "elephant"]).status.success());
}
