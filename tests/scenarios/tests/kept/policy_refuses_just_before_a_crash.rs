//! What policy refused at the end of data is in no record: a crash right after it delivers nothing.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use waypost_harness::hooks::{RecordingHooks, Stage};
use waypost_harness::upstream::{Act, Upstream};
use waypost_scenarios::{Door, Home};
use waypost_smtp::Phase;

/// What is on the disk at this moment, as a crash would leave it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A message that is gathered in memory, one that is gathered in a file, and one whose body would be
/// a file of its own.
#[tokio::test]
async fn it_is_not_delivered_after_the_restart() {
    for size in [10, 600 * 1024, 9 << 20] {
        for accepted in [false, true] {
            crash_after(size, accepted).await;
        }
    }
}

async fn crash_after(size: usize, accepted: bool) {
    let silent = Upstream::new().on(Phase::Greeting, Act::Hang);
    let policy = Arc::new(RecordingHooks::new());
    let home = Home::new()
        .trusting()
        .route("*", silent.listen().await.unwrap())
        .set("delivery", "reply-timeout", "\"300ms\"")
        .hooks(policy.clone());
    let relay = home.start().await;
    if !accepted {
        policy.refuse(Stage::Message, "550 5.7.1 we do not want this");
    }
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.envelope("a@sender.example", &["b@there.example"]).await;
    let content = format!("Subject: judged\r\n\r\n{}", "text\r\n".repeat(size / 6 + 1));
    let reply = peer.data(&content).await;
    let image = Home::new().trusting();
    copy(&home.spool(), &image.spool());
    let wanted = if accepted { "250 2.0.0" } else { "550 5.7.1" };
    assert!(reply.starts_with(wanted), "{size}: {reply}");

    let image = image.route("*", silent.listen().await.unwrap()).set(
        "delivery",
        "reply-timeout",
        "\"300ms\"",
    );
    let after = image.start().await;
    assert_eq!(after.queued().len(), usize::from(accepted), "{size}");
    for directory in ["incoming", "bodies"] {
        let left = fs::read_dir(image.spool().join(directory)).unwrap().count();
        let wanted = usize::from(accepted && directory == "bodies" && size > 8 << 20);
        assert_eq!(left, wanted, "{size}: {directory}");
    }
    after.stop().await;
    relay.stop().await;
}
